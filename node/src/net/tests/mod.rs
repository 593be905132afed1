//! Two nodes and everything between them that must, or must never, happen.

mod hostile;
mod keeper;
mod lanes;
mod strangers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use keeper::Keeper;

/// Deadlines short enough for a test, long enough for a busy machine.
fn config(seed: u8) -> NetConfig {
    let mut config = NetConfig::new([seed; 32]);
    config.listen = Some(([127, 0, 0, 1], 0).into());
    config.dial_rules = DialRules { own: vec![[127, 0, 0, 1].into()], allowed: vec![] }.into();
    config.deadlines.door = Duration::from_millis(1500);
    config
}

/// A running node of a test.
struct Node {
    net: Net,
    lanes: mpsc::Receiver<Lane>,
    keeper: Arc<Keeper>,
}

impl Node {
    async fn start(config: NetConfig, keeper: Keeper) -> Node {
        let keeper = Arc::new(keeper);
        let (net, lanes) = Net::start(config, keeper.clone()).await.unwrap();
        Node { net, lanes, keeper }
    }

    fn addr(&self) -> SocketAddr {
        self.net.listening().unwrap()
    }

    async fn dial(&self, other: &Node, kind: LaneKind) -> Result<Lane, DialError> {
        let target = self.keeper.target(other.addr().to_string());
        self.net.dial(target, kind).await
    }

    /// A lane to another node: this node's end and the other's.
    async fn lane(&self, other: &mut Node, kind: LaneKind) -> (Lane, Lane) {
        let dialled = self.dial(other, kind).await.unwrap();
        (dialled, other.lanes.recv().await.unwrap())
    }
}

/// Two nodes that have an agreement.
async fn pair() -> (Node, Node) {
    let (a, b) = Keeper::pair();
    (Node::start(config(1), a).await, Node::start(config(2), b).await)
}
