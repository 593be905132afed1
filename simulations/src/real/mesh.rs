//! All nodes of the mesh, their agreements, and how their links are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pakt_node::api::types::{AcceptRequest, AgreementState, Peer, ProposeRequest, Signing};
use pakt_node::service::{Node, Shared};
use tokio::time::{Instant, sleep};

use super::site::Site;
use crate::outcome::LinkState;

/// Nodes that start at the same time.
const STARTING_MAX: usize = 8;
/// Nodes that stop at the same time: each waits a little for its counterparts.
const STOPPING_MAX: usize = 64;
/// Nodes that propose at the same time, and acceptances under way at each.
const PROPOSING_MAX: usize = 4;
/// Cards in one proposal, as the node takes them.
const CARDS_MAX: usize = 256;
/// How often is looked whether everybody is online.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Complete nodes, and who of them has an agreement with whom.
pub(super) struct Mesh {
    folder: PathBuf,
    shared: Shared,
    pub(super) sites: Vec<Site>,
    /// Each with the smaller number first.
    pub(super) links: Vec<(usize, usize)>,
    /// The place of each link.
    places: HashMap<(usize, usize), usize>,
    /// The agreement of each link, by its place.
    pub(super) agreements: Vec<String>,
}

/// How a counterpart is seen by one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    online: bool,
    /// Its groups are known, so that it can be written to.
    writable: bool,
    state: AgreementState,
    /// On the lanes that are up.
    bytes: u64,
}

impl Mesh {
    /// No nodes yet, below `folder`.
    pub(super) fn new(folder: PathBuf, links: Vec<(usize, usize)>) -> Result<Mesh> {
        let places = links.iter().enumerate().map(|(place, link)| (*link, place)).collect();
        let agreements = vec![String::new(); links.len()];
        Ok(Mesh { folder, shared: Shared::start()?, sites: Vec::new(), links, places, agreements })
    }

    /// Sets up and starts so many nodes.
    pub(super) async fn start(&mut self, nodes: usize) -> Result<()> {
        let (folder, shared) = (self.folder.clone(), self.shared.clone());
        let one = |index| Site::create(folder.clone(), index, shared.clone());
        let mut started = stream::iter(0..nodes).map(one).buffered(STARTING_MAX);
        while let Some(site) = started.try_next().await? {
            self.sites.push(site);
        }
        Ok(())
    }

    /// Starts a node again that was stopped.
    pub(super) async fn start_again(&mut self, node: usize) -> Result<()> {
        let shared = self.shared.clone();
        self.sites[node].start(shared).await
    }

    /// Makes the agreements of all links: the smaller number proposes.
    pub(super) async fn agree(&mut self, hold: Duration) -> Result<()> {
        let mut of: Vec<Vec<usize>> = vec![Vec::new(); self.sites.len()];
        self.links.iter().for_each(|(a, b)| of[*a].push(*b));
        let mut cards = Vec::with_capacity(self.sites.len());
        for site in &self.sites {
            cards.push(site.up()?.card().await?);
        }
        let batches = of.iter().enumerate().flat_map(|(a, all)| all.chunks(CARDS_MAX).map(move |some| (a, some)));
        let (sites, cards, terms) = (&self.sites, &cards, &format!("hold = \"{}s\"\n", hold.as_secs()));
        let agreed = stream::iter(batches).map(|(a, some)| async move {
            let cards = some.iter().map(|b| cards[*b].clone()).collect();
            let counterparts = some.iter().map(|b| Ok((*b, sites[*b].up()?))).collect::<Result<Vec<_>>>()?;
            let made = agree_with(&sites[a].up()?, cards, counterparts, terms).await;
            made.with_context(|| format!("the agreements of node {a}")).map(|made| (a, made))
        });
        let agreed: Vec<_> = agreed.buffer_unordered(PROPOSING_MAX).try_collect().await?;
        for (a, made) in agreed {
            for (b, id) in made {
                self.agreements[self.places[&(a, b)]] = id;
            }
        }
        Ok(())
    }

    /// Waits until every link is up, seen from both sides, and each side knows the other's groups; tells how many were not in
    /// time.
    pub(super) async fn online(&self, within: Duration) -> Result<usize> {
        let deadline = Instant::now() + within;
        loop {
            let missing = self.seen().await?.iter().filter(|seen| !seen.iter().all(is_up)).count();
            if missing == 0 || Instant::now() >= deadline {
                return Ok(missing);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Every link from both its sides; nothing where a side does not run.
    async fn seen(&self) -> Result<Vec<[Option<Seen>; 2]>> {
        let mut all = vec![[None; 2]; self.links.len()];
        for (index, site) in self.sites.iter().enumerate() {
            for peer in site.peers().await? {
                let Some(other) = index_of(&peer.name) else { continue };
                let Some(place) = self.place(index, other) else { continue };
                all[place][usize::from(index > other)] = Some(seen(&peer));
            }
        }
        Ok(all)
    }

    /// The states of all links, where `busy` says whether messages are under way on each, and the bytes of the lanes that are
    /// up.
    pub(super) async fn states(&self, busy: impl Fn(usize) -> bool) -> Result<Vec<(LinkState, u64)>> {
        let all = self.seen().await?;
        Ok(all.iter().enumerate().map(|(place, sides)| (state(sides, busy(place)), bytes(sides))).collect())
    }

    /// The place of the link between two nodes, if they have one.
    pub(super) fn place(&self, a: usize, b: usize) -> Option<usize> {
        self.places.get(&(a.min(b), a.max(b))).copied()
    }

    /// Stops every node in order; the first failure is told, after all have stopped.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let ended: Vec<Result<()>> =
            stream::iter(self.sites.iter_mut()).map(Site::stop).buffer_unordered(STOPPING_MAX).collect().await;
        ended.into_iter().collect()
    }
}

/// The number of a node, by its entity's name.
pub(super) fn index_of(name: &str) -> Option<usize> {
    name.strip_prefix("Mesh ")?.parse().ok()
}

/// Proposes to all these counterparts, and lets them accept; gives the agreements' ids.
async fn agree_with(
    proposer: &Node,
    cards: Vec<String>,
    counterparts: Vec<(usize, Node)>,
    terms: &str,
) -> Result<Vec<(usize, String)>> {
    let terms_toml = Some(terms.to_owned());
    let request = ProposeRequest { cards, terms_toml, fingerprint: None, signing: Signing::default(), bundle: None };
    let proposals = proposer.propose(request).await?;
    let accepting = stream::iter(proposals.into_iter().zip(counterparts)).map(|(proposal, (index, node))| async move {
        let request = AcceptRequest { file: proposal.file, fingerprint: None, signing: Signing::default() };
        // That the proposer was not reached within ten seconds is no failure: the node keeps trying.
        let accepted = node.accept(request).await?;
        anyhow::Ok((index, accepted.summary.id))
    });
    accepting.buffer_unordered(PROPOSING_MAX).try_collect().await
}

fn seen(peer: &Peer) -> Seen {
    Seen {
        online: peer.online,
        writable: !peer.groups.is_empty(),
        state: peer.agreement.state,
        bytes: peer.lanes.iter().map(|lane| lane.bytes_sent + lane.bytes_received).sum(),
    }
}

fn is_up(side: &Option<Seen>) -> bool {
    side.is_some_and(|seen| seen.online && seen.writable)
}

fn bytes(sides: &[Option<Seen>; 2]) -> u64 {
    sides.iter().flatten().map(|seen| seen.bytes).max().unwrap_or(0)
}

fn state(sides: &[Option<Seen>; 2], busy: bool) -> LinkState {
    let any = |state| sides.iter().flatten().any(|seen| seen.state == state);
    let up = sides.iter().all(|side| side.is_some_and(|seen| seen.online));
    match (up, busy) {
        _ if any(AgreementState::Ended) || any(AgreementState::Expired) => LinkState::Ended,
        _ if any(AgreementState::Suspended) || any(AgreementState::Unconfirmed) => LinkState::Suspended,
        (true, true) => LinkState::Busy,
        (true, false) => LinkState::Online,
        (false, true) => LinkState::Waiting,
        (false, false) => LinkState::Offline,
    }
}
