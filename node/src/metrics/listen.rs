//! `[metrics]` of `config.toml`, and the listener that it opens: `/metrics`, `/livez`, `/readyz` and nothing else.
//!
//! **Invariant:** there is no listener unless the operator asks for one; without an address it is on loopback only.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Deserializer, de};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::service::Node;

/// Where the listener is when only `true` is said.
pub const DEFAULT_PORT: u16 = 4180;
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Settings of the listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where it listens, if it does.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Enabled(bool),
        Port(u16),
        Address(String),
    }
    let loopback = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let what = "`listen` of [metrics] is true, a port, or an address such as \"10.0.0.5:4180\"";
    match Written::deserialize(from).map_err(|_| de::Error::custom(what))? {
        Written::Enabled(false) => Ok(None),
        Written::Enabled(true) => Ok(loopback(DEFAULT_PORT)),
        Written::Port(port) => Ok(loopback(port)),
        Written::Address(text) => text.parse().map(Some).map_err(|_| de::Error::custom(what)),
    }
}

/// The running listener.
#[derive(Debug)]
pub struct MetricsServer {
    task: JoinHandle<()>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl MetricsServer {
    /// Listens as configured, if at all, until `shutdown`.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(
        config: MetricsConfig,
        node: Node,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Option<MetricsServer>> {
        let Some(wanted) = config.listen else { return Ok(None) };
        let listener =
            TcpListener::bind(wanted).await.with_context(|| format!("[metrics] listen: cannot listen on {wanted}"))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, router(node)).with_graceful_shutdown(shutdown.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the listener for metrics stopped");
            }
        });
        Ok(Some(MetricsServer { task, address }))
    }

    /// Ends it; nobody waits for a scrape.
    pub fn stop(self) {
        self.task.abort();
    }
}

fn router(node: Node) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(node)
}

async fn metrics(State(node): State<Node>) -> Response {
    match node.measure().await {
        Ok(measured) => {
            let text = super::render(super::counted(), &measured);
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
        }
        // What it says is for the log: it may name a path.
        Err(error) => {
            tracing::warn!(%error, "the state of the node could not be measured");
            (StatusCode::SERVICE_UNAVAILABLE, "the node cannot be measured\n").into_response()
        }
    }
}

async fn ready(State(node): State<Node>) -> Response {
    readiness(node.ready().await)
}

/// The answer of `/readyz`: `ok`, or 503 with why not.
pub(crate) fn readiness(ready: Result<(), &'static str>) -> Response {
    match ready {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_only_where_it_is_told_to() {
        let check = |text: &str, expected: Option<&str>| {
            let config: MetricsConfig = toml::from_str(text).unwrap();
            assert_eq!(config.listen.map(|address| address.to_string()).as_deref(), expected, "{text}");
        };
        check("", None);
        check("listen = false", None);
        check("listen = true", Some("127.0.0.1:4180"));
        check("listen = 9100", Some("127.0.0.1:9100"));
        check("listen = \"10.0.0.5:4180\"", Some("10.0.0.5:4180"));
        check("listen = \"[::1]:4180\"", Some("[::1]:4180"));
        for wrong in ["listen = \"everywhere\"", "listen = 70000", "listen = \"0.0.0.0\"", "at = true"] {
            assert!(toml::from_str::<MetricsConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
