//! Routes of what the malware check holds.

use axum::Json;
use axum::extract::{Path, State};

use super::types::*;
use super::{ApiError, ApiState};

type Answer<T> = Result<Json<T>, ApiError>;

/// What the malware check holds, at most the newest 1,000 of each kind: no subjects, no content.
#[utoipa::path(get, path = "/v1/quarantine",
    responses((status = 200, body = Vec<QuarantineItem>), (status = "default", body = Problem)))]
pub async fn list(State(api): State<ApiState>) -> Answer<Vec<QuarantineItem>> {
    Ok(Json(api.node.quarantine_list().await?))
}

/// Let a message out, unscanned, on the operator's word.
#[utoipa::path(post, path = "/v1/quarantine/{id}/release", params(("id" = String, Path)),
    responses((status = 200), (status = "default", body = Problem)))]
pub async fn release(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<()> {
    Ok(Json(api.node.quarantine_release(id).await?))
}

/// Delete a message in which something was found.
#[utoipa::path(post, path = "/v1/quarantine/{id}/delete", params(("id" = String, Path)),
    responses((status = 200), (status = "default", body = Problem)))]
pub async fn delete(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<()> {
    Ok(Json(api.node.quarantine_delete(id).await?))
}
