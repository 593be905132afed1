//! The routes of what takes messages away and what keeps them, as one part of the router.

use axum::Router;
use axum::routing::post;

use super::{ApiState, routes};

/// Recalls, returns, deletions and holds.
pub(super) fn router() -> Router<ApiState> {
    Router::new()
        .route("/v1/outbox/{id}/recall", post(routes::outbox_recall))
        .route("/v1/inbox/{id}/return", post(routes::inbox_return))
        .route("/v1/inbox/{id}/delete", post(routes::inbox_delete))
        .route("/v1/inbox/{id}/hold", post(routes::inbox_hold))
        .route("/v1/inbox/{id}/unhold", post(routes::inbox_unhold))
}
