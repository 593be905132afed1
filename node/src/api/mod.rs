//! The local HTTP API: the one interface for everything on this machine.
//!
//! The command line, the web client, plug-ins and integrations are all clients of it. It decides nothing: each route
//! reads its request, calls [`Node`], and writes the answer or a [`types::Problem`].
//!
//! **Invariant:** every body is bounded, except message content, which is streamed and never held.
//! **Invariant:** what changes something runs to its end, also when the client goes away meanwhile.
//! **Invariant:** whatever listens beyond the Unix socket asks for the token (see [`listen`]).
//!
//! Start reading at [`router`].

pub mod events;
mod keep;
pub mod listen;
pub mod openapi;
pub mod quarantine;
pub mod review;
pub mod routes;
pub mod terms;
pub mod types;

use axum::Router;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::{Node, errors};
use types::{ErrorCode, Problem, ServiceError};

/// The largest request body besides message content: a long letter as message text fits, a study does not.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;

/// What every route can reach.
#[derive(Clone)]
pub struct ApiState {
    /// The node that answers.
    pub node: Node,
    /// Path of the Unix socket, for `status`.
    pub socket: String,
    /// URL of the loopback listener, for `status`.
    pub tcp: Option<String>,
    /// Ends the streams that would otherwise never end.
    pub shutdown: CancellationToken,
    /// Changes under way, whether their clients wait for them or not.
    pub work: TaskTracker,
}

/// All routes of the API.
pub fn router(state: ApiState) -> Router {
    let work = state.work.clone();
    Router::new()
        .route("/livez", get(routes::livez))
        .route("/readyz", get(routes::readyz))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/v1/status", get(routes::status))
        .route("/v1/card", get(routes::card))
        .route("/v1/peers", get(routes::peers))
        .route("/v1/rotate", post(routes::rotate))
        .route("/v1/groups", get(routes::groups).post(routes::group_add))
        .route("/v1/groups/{name}/show", post(routes::group_show))
        .route("/v1/groups/{name}/hide", post(routes::group_hide))
        .route("/v1/addresses", get(routes::addresses).post(routes::set_addresses))
        .route("/v1/events", get(events::changes))
        .merge(of_agreements())
        .merge(of_messages())
        .merge(of_evidence())
        .fallback(routes::no_such_route)
        .method_not_allowed_fallback(routes::no_such_method)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(work, to_the_end))
        .with_state(state)
}

/// Agreements, and the ways to new ones: bundles, directory, introductions.
fn of_agreements() -> Router<ApiState> {
    Router::new()
        .route("/v1/agreements", get(routes::agreements))
        .route("/v1/agreements/proposals", post(routes::propose))
        .route("/v1/agreements/acceptances", post(routes::accept))
        .route("/v1/agreements/imports", post(routes::import))
        .route("/v1/agreements/{id}", get(routes::agreement))
        .route("/v1/agreements/{id}/file", get(routes::export))
        .route("/v1/agreements/{id}/end", post(routes::end))
        .route("/v1/agreements/{id}/amendment", post(routes::amend))
        .route("/v1/agreements/{id}/renewal", post(routes::renew))
        .route("/v1/agreements/{id}/acceptance", post(routes::accept_amendment))
        .route("/v1/agreements/{id}/withdrawal", post(routes::withdraw))
        .route("/v1/agreements/{id}/suspension", post(routes::suspend))
        .route("/v1/agreements/{id}/resumption", post(routes::resume))
        .route("/v1/agreements/{id}/confirmation", post(routes::confirm))
        .route("/v1/agreements/{id}/fingerprint", post(routes::verify))
        .route("/v1/bundles/{name}", get(routes::bundle))
        .route("/v1/directory", get(routes::directory))
        .route("/v1/directory/listings", post(routes::directory_publish))
        .route("/v1/introductions", get(routes::introductions))
        .route("/v1/introductions/cards", post(routes::introduce_card))
        .route("/v1/introductions/proposals", post(routes::introduce))
        .route("/v1/introductions/{id}/accept", post(routes::accept_received))
        .route("/v1/introductions/{id}/decline", post(routes::decline_received))
        .route("/v1/introductions/{id}/card", post(routes::give_card))
}

/// Messages on their way out, and those that came in.
fn of_messages() -> Router<ApiState> {
    Router::new()
        .route("/v1/drafts", post(routes::draft))
        .route("/v1/drafts/{id}", get(routes::draft_progress))
        .route("/v1/drafts/{id}/content", put(routes::submit))
        .route("/v1/outbox", get(routes::outbox_list))
        .route("/v1/outbox/{id}", get(routes::outbox_show))
        .route("/v1/outbox/{id}/events", get(events::outbox_events))
        .route("/v1/outbox/{id}/receipt", get(routes::receipt))
        .route("/v1/inbox", get(routes::inbox_list))
        .route("/v1/inbox/{id}", get(routes::inbox_show))
        .route("/v1/inbox/{id}/content", get(routes::inbox_content))
        .route("/v1/inbox/{id}/take", post(routes::inbox_take))
        .route("/v1/quarantine", get(quarantine::list))
        .route("/v1/quarantine/{id}/release", post(quarantine::release))
        .route("/v1/quarantine/{id}/delete", post(quarantine::delete))
        .merge(keep::router())
}

/// What is kept to prove and to bring back: log, backup, gaps, reconciliation.
fn of_evidence() -> Router<ApiState> {
    Router::new()
        .route("/v1/log/head", get(routes::log_head))
        .route("/v1/log/entries", get(routes::log_entries))
        .route("/v1/log/export", get(routes::log_export))
        .route("/v1/log/verification", post(routes::log_verify))
        .route("/v1/backup", get(routes::backup_state))
        .route("/v1/backup/content", get(routes::backup))
        .route("/v1/backup/kept", post(routes::backup_kept))
        .route("/v1/gaps", get(routes::gaps))
        .route("/v1/gaps/{counterpart}/seen", post(routes::gap_seen))
        .route("/v1/reconciliations", get(routes::reconciliations).post(routes::reconcile))
        .route("/v1/reconciliations/{counterpart}/seen", post(routes::reconciliation_seen))
        .route("/v1/reconciliations/{counterpart}/file", get(routes::reconciliation_file))
}

/// Runs each POST on a task of its own: a server drops the answer's future when the client goes away, which would leave a
/// change half done.
async fn to_the_end(State(work): State<TaskTracker>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match work.spawn(next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError(errors::broken_off()).into_response(),
    }
}

/// A [`ServiceError`] on its way out as problem details.
#[derive(Debug)]
pub struct ApiError(pub ServiceError);

impl From<ServiceError> for ApiError {
    fn from(e: ServiceError) -> Self {
        Self(e)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
            _ => ErrorCode::Usage,
        };
        Self(ServiceError::new(code, rejection.body_text(), "see /v1/openapi.json for the request body"))
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self(ServiceError::new(ErrorCode::Usage, rejection.body_text(), "see /v1/openapi.json for the parameters"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        problem_response(&Problem::from(self.0))
    }
}

/// Problem details with the status that they name.
fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_change_runs_to_its_end_when_the_client_goes_away() {
        let (begun, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let handler = {
            let (begun, done) = (begun.clone(), done.clone());
            move || async move {
                begun.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                done.fetch_add(1, SeqCst);
            }
        };
        let work = TaskTracker::new();
        let layer = axum::middleware::from_fn_with_state(work.clone(), to_the_end);
        let router = Router::new().route("/x", get(handler.clone()).post(handler)).layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        for (method, finished) in [("GET", 0), ("POST", 1)] {
            let before = begun.load(SeqCst);
            let mut client = TcpStream::connect(address).await.unwrap();
            let request = format!("{method} /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            while begun.load(SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(client);
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(done.load(SeqCst), finished, "{method}");
        }
        work.close();
        work.wait().await;
        server.abort();
    }
}
