//! An entry as plain JSON, with the leaf in hexadecimal: `SHA-256(00 ‖ leaf)` is its hash in the tree.

use pakt_keys::EntityId;
use pakt_protocol::audit::Entry;
use serde_json::{Map, Value, json};

use crate::api::types::time_text;

pub(super) fn line(own: &EntityId, number: u64, entry: &Entry) -> Value {
    let class = entry.event.class();
    let ids: Map<String, Value> =
        entry.event.ids().into_iter().map(|(what, id)| (what.to_owned(), id.into())).collect();
    json!({
        "log": own.to_string(),
        "number": number,
        "at": time_text(entry.at),
        "kind": class.kind.as_str(),
        "action": class.action,
        "ids": ids,
        "leaf": hex::encode(entry.to_bytes()),
    })
}
