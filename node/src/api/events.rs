//! Live changes as server-sent events: a client that listens never polls.
//!
//! Events carry the present state, not a difference, so a client that missed some is right again with the next one.
//! **Invariant:** a stream ends when the node shuts down, and sends at most [`EVENTS_PER_SECOND_MAX`] events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use tokio::sync::watch;

use super::types::{Change, OutboxMessage, Problem};
use super::{ApiError, ApiState};

/// More than a person can see and a progress bar can use.
pub const EVENTS_PER_SECOND_MAX: u32 = 10;

type EventStream = Result<Event, Infallible>;

/// One outgoing message whenever it has changed: each event is an `OutboxMessage`.
#[utoipa::path(get, path = "/v1/outbox/{id}/events", params(("id" = String, Path)),
    responses((status = 200, body = OutboxMessage, content_type = "text/event-stream"), (status = "default", body = Problem)))]
pub async fn outbox_events(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = EventStream>>, ApiError> {
    // Subscribed before the first read, so that no change falls in between.
    let watcher = Watcher::new(&api);
    let first = api.node.outbox_show(id.clone()).await?;
    let stream = futures::stream::unfold((api, watcher, id, Some(first)), |(api, mut watcher, id, first)| async move {
        if let Some(message) = first {
            let event = json_event("outbox", &message);
            return Some((event, (api, watcher, id, None)));
        }
        watcher.changed(&api).await?;
        let event = match api.node.outbox_show(id.clone()).await {
            Ok(message) => json_event("outbox", &message),
            Err(error) => json_event("error", &Problem::from(error)),
        };
        Some((event, (api, watcher, id, None)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// A counter whenever anything visible has changed: each event is a `Change`.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, body = Change, content_type = "text/event-stream")))]
pub async fn changes(State(api): State<ApiState>) -> Sse<impl Stream<Item = EventStream>> {
    let watcher = Watcher::new(&api);
    let stream = futures::stream::unfold((api, watcher, true), |(api, mut watcher, first)| async move {
        if !first {
            watcher.changed(&api).await?;
        }
        let event = json_event("change", &Change { revision: *watcher.receiver.borrow() });
        Some((event, (api, watcher, false)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// Waits for changes, not more often than the limit allows.
struct Watcher {
    receiver: watch::Receiver<u64>,
}

impl Watcher {
    fn new(api: &ApiState) -> Self {
        let mut receiver = api.node.changes();
        receiver.mark_unchanged();
        Self { receiver }
    }

    /// Returns after the next change, or `None` at the end.
    async fn changed(&mut self, api: &ApiState) -> Option<()> {
        tokio::select! {
            () = api.shutdown.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1) / EVENTS_PER_SECOND_MAX) => {}
        }
        tokio::select! {
            () = api.shutdown.cancelled() => None,
            changed = self.receiver.changed() => changed.ok(),
        }
    }
}

fn json_event<T: serde::Serialize>(name: &str, value: &T) -> EventStream {
    let data = serde_json::to_string(value).unwrap_or_default();
    Ok(Event::default().event(name).data(data))
}
