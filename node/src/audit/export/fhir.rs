//! An entry as AuditEvent of FHIR R4 (4.0.1), in the codes of DICOM (PS3.15 A.5) that its value sets name.
//!
//! Who acted and who else took part are agents, named by entity ids, or as the other side of an agreement by its id; the entry and what it is about are entities, named by
//! their ids. There are no references, because nothing here is a resource of any server, and no names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pakt_keys::EntityId;
use pakt_protocol::audit::{Entry, Kind, Outcome, Side};
use serde_json::{Value, json};

use crate::api::types::time_text;

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
/// Where the words of this program are defined: `protocol/src/audit/kind.rs`.
const STEP: &str = "urn:pakt:audit-step";

/// A code and its display.
type Code = (&'static str, &'static str);

const APPLICATION: Code = ("110100", "Application Activity");
const LOG_USED: Code = ("110101", "Audit Log Used");
const EXPORT: Code = ("110106", "Export");
const IMPORT: Code = ("110107", "Import");
const PATIENT_RECORD: Code = ("110110", "Patient Record");
const SECURITY: Code = ("110113", "Security Alert");

/// The kind of event, the action (create, read, update, delete, execute), and what becomes of what it is about.
fn coded(kind: Kind) -> (Code, &'static str, Code) {
    match kind {
        Kind::Send => (EXPORT, "R", ("11", "Disclosure")),
        Kind::Recall => (PATIENT_RECORD, "U", ("14", "Logical deletion")),
        Kind::Change => (PATIENT_RECORD, "U", ("3", "Amendment")),
        Kind::DeleteAtSender | Kind::Delete => {
            (PATIENT_RECORD, "D", ("15", "Permanent erasure / Physical destruction"))
        }
        Kind::Receive => (IMPORT, "C", ("12", "Receipt of disclosure")),
        Kind::Read => (PATIENT_RECORD, "R", ("6", "Access / Use")),
        Kind::Forward => (EXPORT, "R", ("11", "Disclosure")),
        Kind::Delivery => (EXPORT, "E", ("9", "Report")),
        Kind::Account | Kind::Rights => (SECURITY, "U", ("3", "Amendment")),
        Kind::Key => (SECURITY, "U", ("3", "Amendment")),
        Kind::Agreement | Kind::Administrator | Kind::Control => (APPLICATION, "U", ("3", "Amendment")),
        Kind::Directory | Kind::Introduction => (APPLICATION, "E", ("9", "Report")),
        Kind::Backup => (EXPORT, "R", ("13", "Archiving")),
        Kind::Reconciliation => (APPLICATION, "E", ("4", "Verification")),
        Kind::Restore => (APPLICATION, "E", ("2", "Import / Copy")),
        Kind::Log => (LOG_USED, "R", ("10", "Export")),
    }
}

pub(super) fn event(own: &EntityId, number: u64, entry: &Entry) -> Value {
    let (class, ids) = (entry.event.class(), entry.event.ids());
    let (code, action, lifecycle) = coded(class.kind);
    let named_by = |sort: &str| ids.iter().find(|(what, id)| *what == sort && id != "all");
    // A counterpart that is named by no entity id is the other side of the agreement.
    let by_agreement = || named_by("agreement").filter(|_| class.side == Side::Peer);
    let peer = named_by("entity").or_else(by_agreement).map(|(what, id)| (*what, id.as_str()));
    let mut entities = vec![log_entry(number, entry, &ids)];
    entities.extend(ids.iter().filter_map(|(what, id)| about(what, id, lifecycle)));
    json!({
        "resourceType": "AuditEvent",
        "id": format!("pakt-{number}"),
        "type": coding(DCM, code),
        "subtype": [{ "system": STEP, "code": format!("{}.{}", class.kind, class.action) }],
        "action": action,
        "recorded": time_text(entry.at),
        "outcome": outcome(class.outcome),
        "agent": agents(&own.to_string(), peer, class.side),
        "source": {
            "observer": named("entity", &own.to_string()),
            "type": [coding(SOURCE_TYPE, ("4", "Application Server"))],
        },
        "entity": entities,
    })
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fine => "0",
        Outcome::Failed => "4",
        Outcome::Alarm => "8",
    }
}

/// This entity and the counterpart, if there is one; who acted is the requestor.
fn agents(own: &str, peer: Option<(&str, &str)>, side: Side) -> Vec<Value> {
    let agent = |(what, who): (&str, &str), acted: bool| {
        let role = if acted { ("110153", "Source Role ID") } else { ("110152", "Destination Role ID") };
        json!({ "type": { "coding": [coding(DCM, role)] }, "who": named(what, who), "requestor": acted })
    };
    let own_acted = side == Side::Own || peer.is_none();
    let others = peer.map(|peer| agent(peer, !own_acted));
    std::iter::once(agent(("entity", own), own_acted)).chain(others).collect()
}

/// The entry itself: its leaf, and what it says that is no id of anything.
fn log_entry(number: u64, entry: &Entry, ids: &[(&'static str, String)]) -> Value {
    let leaf = json!({ "type": "leaf", "valueBase64Binary": BASE64.encode(entry.to_bytes()) });
    let said = ids.iter().filter(|(what, _)| role_of(what).is_none() && *what != "entity");
    let details = said.map(|(what, value)| json!({ "type": what, "valueString": value }));
    json!({
        "what": named("log-entry", &number.to_string()),
        "type": coding(ENTITY_TYPE, ("2", "System Object")),
        "role": coding(OBJECT_ROLE, ("13", "Security Resource")),
        "detail": std::iter::once(leaf).chain(details).collect::<Vec<_>>(),
    })
}

/// Something that the entry is about.
fn about(what: &str, id: &str, lifecycle: Code) -> Option<Value> {
    let role = role_of(what)?;
    Some(json!({
        "what": named(what, id),
        "type": coding(ENTITY_TYPE, ("2", "System Object")),
        "role": coding(OBJECT_ROLE, role),
        "lifecycle": coding(LIFECYCLE, lifecycle),
    }))
}

/// The role of what has an id of this sort; none for what is a number.
fn role_of(what: &str) -> Option<Code> {
    match what {
        "envelope" | "message" | "by" => Some(("3", "Report")),
        "agreement" | "approver" => Some(("13", "Security Resource")),
        "group" => Some(("12", "Security User Group")),
        _ => None,
    }
}

fn coding(system: &str, (code, display): Code) -> Value {
    json!({ "system": system, "code": code, "display": display })
}

fn named(what: &str, id: &str) -> Value {
    json!({ "identifier": { "system": format!("urn:pakt:{what}"), "value": id } })
}
