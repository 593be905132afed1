//! The receiver controls of this node: what it can show for each right now.
//!
//! [`Controls`] asks one [`Source`] per control whenever something is to be attested. A source speaks of the running
//! node: of the scanner that content really passes, of the deletion that really happens.
//!
//! **Invariant:** evidence comes from what the node does, never from configuration; a control without a source is off.

use std::sync::Arc;

use pakt_protocol::controls::{Attested, Control, Evidence};

use crate::mailroom::journal::Journal;
use crate::scan::Scanner;
use crate::store::Store;

/// What can show that one control is on.
pub trait Source: Send + Sync {
    /// What there is to show now.
    fn evidence(&self) -> Evidence;
}

/// Nothing is deleted before the time that its agreement says (`mailroom::purge`).
struct KeptAsAgreed;

impl Source for KeptAsAgreed {
    fn evidence(&self) -> Evidence {
        Evidence::KeptFor(None)
    }
}

/// All controls of a node; clones share them.
#[derive(Clone)]
pub struct Controls {
    sources: Arc<[(Control, Box<dyn Source>)]>,
}

impl Controls {
    /// The controls of this program: messages are kept as agreed, for nothing deletes them earlier; what was taken in time
    /// shows whether a routine takes what arrives; content passes the scanner that the operator set, if any.
    pub fn of_this_node(store: &Store, scanner: Option<Scanner>) -> Controls {
        let mut sources: Vec<(Control, Box<dyn Source>)> = vec![
            (Control::Journal, Box::new(Journal::new(store.clone()))),
            (Control::Retention, Box::new(KeptAsAgreed)),
        ];
        sources.extend(scanner.map(|scanner| (Control::MalwareScan, Box::new(scanner) as Box<dyn Source>)));
        Controls::from_sources(sources)
    }

    /// Controls with these sources.
    pub fn from_sources(sources: Vec<(Control, Box<dyn Source>)>) -> Controls {
        Controls { sources: sources.into() }
    }

    /// What there is to show for every control, in order.
    pub fn attested(&self) -> Vec<Attested> {
        Control::ALL.into_iter().map(|control| Attested { control, evidence: self.evidence(control) }).collect()
    }

    /// The controls among `wanted` that this node cannot attest, where messages are to be kept so long.
    pub fn lacking(&self, wanted: &[String], retention_seconds: Option<u64>) -> Vec<String> {
        let is_on = |word: &&String| {
            Control::named(word).is_some_and(|control| self.evidence(control).covers(control, retention_seconds))
        };
        wanted.iter().filter(|word| !is_on(word)).cloned().collect()
    }

    fn evidence(&self, control: Control) -> Evidence {
        let source = self.sources.iter().find(|(known, _)| *known == control);
        source.map_or(Evidence::None, |(_, source)| source.evidence())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pakt_keys::store_seal::StoreKey;

    use super::*;
    use crate::disk::FaultDisk;

    #[test]
    fn a_node_without_a_scanner_attests_none() {
        let key = StoreKey::from_bytes([7; 32]);
        let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), key).expect("a fresh disk");
        let controls = Controls::of_this_node(&store, None);
        let evidence: Vec<Evidence> = controls.attested().into_iter().map(|one| one.evidence).collect();
        assert_eq!(evidence, [Evidence::None, Evidence::None, Evidence::KeptFor(None)]);
        let wanted = ["journal", "malware-scan", "retention"].map(str::to_owned);
        assert_eq!(controls.lacking(&wanted, Some(u64::MAX)), ["journal", "malware-scan"]);
        assert_eq!(controls.lacking(&[], None), [""; 0]);
    }
}
