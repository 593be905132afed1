//! The OpenAPI document of the local API, made from the handlers and types themselves.

use axum::Json;
use utoipa::OpenApi;

use super::{events, quarantine, routes};

/// The document that `GET /v1/openapi.json` serves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Pakt local API", description = "The one interface for everything on this machine."),
    paths(
        routes::status,
        routes::card,
        routes::peers,
        routes::agreements,
        routes::propose,
        routes::accept,
        routes::import,
        routes::agreement,
        routes::export,
        routes::end,
        routes::amend,
        routes::renew,
        routes::accept_amendment,
        routes::withdraw,
        routes::suspend,
        routes::resume,
        routes::confirm,
        routes::verify,
        routes::rotate,
        routes::bundle,
        routes::directory,
        routes::directory_publish,
        routes::introductions,
        routes::introduce_card,
        routes::introduce,
        routes::accept_received,
        routes::decline_received,
        routes::give_card,
        routes::groups,
        routes::group_add,
        routes::group_show,
        routes::group_hide,
        routes::addresses,
        routes::set_addresses,
        routes::draft,
        routes::draft_progress,
        routes::submit,
        routes::outbox_list,
        routes::outbox_show,
        routes::receipt,
        routes::inbox_list,
        routes::inbox_show,
        routes::inbox_content,
        routes::inbox_take,
        quarantine::list,
        quarantine::release,
        quarantine::delete,
        routes::outbox_recall,
        routes::inbox_return,
        routes::inbox_delete,
        routes::inbox_hold,
        routes::inbox_unhold,
        routes::log_head,
        routes::log_verify,
        routes::log_entries,
        routes::log_export,
        routes::backup_state,
        routes::backup,
        routes::backup_kept,
        routes::gaps,
        routes::gap_seen,
        routes::reconciliations,
        routes::reconcile,
        routes::reconciliation_seen,
        routes::reconciliation_file,
        events::outbox_events,
        events::changes,
    )
)]
pub struct ApiDocument;

/// Serves the document.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(ApiDocument::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_versioned_route() {
        let text = serde_json::to_string(&ApiDocument::openapi()).expect("a document serialises");
        let source = include_str!("mod.rs");
        let routes = source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next());
        let mut seen = 0;
        for route in routes.filter(|route| route.starts_with("/v1/") && !route.ends_with("openapi.json")) {
            assert!(text.contains(&format!("\"{route}\":")), "{route} is not documented");
            seen += 1;
        }
        assert!(seen > 15);
    }
}
