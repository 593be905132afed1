//! P22, P25: every event in every format: the required fields and value sets of FHIR R4, the grammar of RFC 5424, and
//! nothing but ids.

use pakt_protocol::audit::{
    AdministratorStep, AgreementStep, BackupStep, DirectoryStep, Event, IntroductionStep, KeyStep, Kind, MessageStep,
    Side, tree,
};
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::record::receipt::{Tier, Verdict};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use serde_json::Value;

use super::*;

const OWN: EntityId = EntityId([9; 32]);
const PEER: EntityId = EntityId([4; 32]);
const AGREEMENT: AgreementId = AgreementId([3; 32]);

/// Events of every sort.
fn samples() -> Vec<Event> {
    let (entity, agreement) = (PEER, AGREEMENT);
    let mut all = vec![
        Event::Key { step: KeyStep::Rotated, root_generation: 1, serial: 2 },
        Event::Key { step: KeyStep::Recovered, root_generation: 2, serial: 3 },
        Event::Attested { agreement, counter: 1 },
        Event::PeerAttested { agreement, counter: 1 },
        Event::Restored,
        Event::LeftOut { agreement, entity, day: 20_779, count: 7 },
        Event::LogExported { from: 0, to: 9 },
        Event::Backup(BackupStep::Made),
        Event::Backup(BackupStep::BrokenOff),
        Event::Reconciled { agreement, sent: true, gaps: 2 },
        Event::Reconciled { agreement, sent: false, gaps: 0 },
    ];
    let steps = [
        AgreementStep::Proposed,
        AgreementStep::Amended,
        AgreementStep::EndedByPeer,
        AgreementStep::Forked,
        AgreementStep::KeysReplacedByPeer,
        AgreementStep::Frozen,
    ];
    all.extend(steps.map(|step| Event::Agreement { agreement, entity, version: 1, step }));
    all.extend(messages());
    all.extend(administrators());
    all.extend(introductions());
    all
}

/// One of every step of a message.
fn messages() -> Vec<Event> {
    let (entity, agreement) = (PEER, AGREEMENT);
    let (envelope, message) = (EnvelopeId([1; 16]), MessageId([2; 16]));
    let (core, blinder, by) = (CoreHash([5; 32]), [6; 32], MessageId([7; 16]));
    let steps = [
        MessageStep::Sent,
        MessageStep::Delivered,
        MessageStep::Refused,
        MessageStep::Expired,
        MessageStep::Received { core, blinder },
        MessageStep::RefusedHere { core, blinder },
        MessageStep::Read,
        MessageStep::Saved,
        MessageStep::Deleted,
        MessageStep::Released,
        MessageStep::Taken,
        MessageStep::Recalled,
        MessageStep::RecallAsked,
        MessageStep::RetentionOver,
        MessageStep::PurgedAgain,
        MessageStep::HoldSet,
        MessageStep::HoldLifted,
        MessageStep::LetOut,
        MessageStep::Erased,
        MessageStep::Corrected { by },
        MessageStep::Forwarded { by },
    ];
    let verdicts = [
        Verdict::Held(Tier::Released),
        Verdict::Held(Tier::Taken),
        Verdict::Quarantined,
        Verdict::Recalled,
        Verdict::Returned,
        Verdict::NotHeld,
    ];
    let stated = |verdict| MessageStep::Stated { verdict, core, blinder };
    let all = steps.into_iter().chain(verdicts.map(stated));
    all.map(|step| Event::Message { envelope, message, agreement, entity, step }).collect()
}

/// One of every step of an administrator.
fn administrators() -> Vec<Event> {
    let (group, entity) = (GroupId([8; 16]), PEER);
    let steps = [
        AdministratorStep::GroupAdded(group),
        AdministratorStep::GroupShown(group, Some(entity)),
        AdministratorStep::GroupHidden(group, None),
        AdministratorStep::AddressesSet,
        AdministratorStep::ConfigurationChanged([1; 32]),
        AdministratorStep::ApproverAdded([2; 32]),
        AdministratorStep::ApproverRemoved([2; 32]),
    ];
    steps.map(Event::Administrator).to_vec()
}

/// One of every step with listings and introductions.
fn introductions() -> Vec<Event> {
    let (entity, agreement) = (PEER, AGREEMENT);
    let steps = [
        DirectoryStep::Published,
        DirectoryStep::Withdrawn,
        DirectoryStep::Taken,
        DirectoryStep::Refused,
        DirectoryStep::Listed,
        DirectoryStep::Unlisted,
    ];
    let listed = steps.map(|step| Event::Directory { agreement, entity, counter: 1, step });
    let steps = [
        IntroductionStep::CardAsked,
        IntroductionStep::CardCame,
        IntroductionStep::RequestCame,
        IntroductionStep::CardGiven,
        IntroductionStep::CardDenied,
        IntroductionStep::ProposalSent,
        IntroductionStep::ProposalCame,
        IntroductionStep::Accepted,
        IntroductionStep::Declined,
        IntroductionStep::DeclinedByPeer,
        IntroductionStep::PassedOn,
    ];
    let introduced = steps.map(|step| Event::Introduction { agreement, entity, step });
    listed.into_iter().chain(introduced).collect()
}

fn entries() -> impl Iterator<Item = (u64, Entry)> {
    let at = |number: u64| Time(1_795_000_000_000_000 + number * 1_500_000);
    (0..).zip(samples()).map(move |(number, event)| (number, Entry { at: at(number), event }))
}

#[test]
fn every_kind_of_nta_7516_has_its_event() {
    let kinds: Vec<Kind> = samples().iter().map(|event| event.class().kind).collect();
    for kind in Kind::NTA_7516 {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

/// Value sets of AuditEvent in FHIR R4, as far as this program uses them: the path, the system, the codes.
const VALUE_SETS: [(&str, &str, &[&str]); 6] = [
    (
        "/type",
        "http://dicom.nema.org/resources/ontology/DCM",
        &["110100", "110101", "110106", "110107", "110110", "110112", "110113"],
    ),
    ("/source/type/0", "http://terminology.hl7.org/CodeSystem/security-source-type", &["4"]),
    ("/agent/*/type/coding/0", "http://dicom.nema.org/resources/ontology/DCM", &["110152", "110153"]),
    ("/entity/*/type", "http://terminology.hl7.org/CodeSystem/audit-entity-type", &["1", "2", "3", "4"]),
    ("/entity/*/role", "http://terminology.hl7.org/CodeSystem/object-role", &["3", "12", "13"]),
    (
        "/entity/*/lifecycle",
        "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle",
        &["2", "3", "4", "6", "9", "10", "11", "12", "13", "14", "15"],
    ),
];

/// Everything at a path in which `*` stands for each element of a list.
fn at<'v>(value: &'v Value, path: &str) -> Vec<&'v Value> {
    let Some((before, after)) = path.split_once("/*") else { return value.pointer(path).into_iter().collect() };
    let list = value.pointer(before).and_then(Value::as_array);
    list.into_iter().flatten().flat_map(|element| at(element, after)).collect()
}

/// Names of all fields, with the path of lists and objects above them.
fn fields(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                out.push(format!("{path}/{name}"));
                fields(value, &format!("{path}/{name}"), out);
            }
        }
        Value::Array(list) => list.iter().for_each(|element| fields(element, path, out)),
        _ => {}
    }
}

#[test]
fn every_event_is_a_valid_audit_event_of_fhir_r4() {
    let mut seen = [0; VALUE_SETS.len()];
    for (number, entry) in entries() {
        let event: Value = serde_json::from_str(&Format::Fhir.line(&OWN, number, &entry)).unwrap();
        // Elements that must be there (1..1, 1..*) and their types.
        assert_eq!(event["resourceType"], "AuditEvent");
        assert_eq!(event["id"], format!("pakt-{number}"));
        assert!(event["type"]["code"].is_string() && event["type"]["system"].is_string(), "{event}");
        let recorded = event["recorded"].as_str().unwrap();
        assert!(recorded.parse::<jiff::Timestamp>().is_ok() && recorded.ends_with('Z'), "an instant: {recorded}");
        let agents = event["agent"].as_array().unwrap();
        assert!(!agents.is_empty() && agents.iter().all(|agent| agent["requestor"].is_boolean()), "{event}");
        let acted = agents.iter().filter(|agent| agent["requestor"] == true).count();
        assert_eq!(acted, 1, "one who acted: {event}");
        let of_own = |agent: &&Value| agent["who"]["identifier"]["value"] == OWN.to_string();
        let own_acted = agents.iter().find(of_own).unwrap()["requestor"] == true;
        assert_eq!(own_acted, entry.event.class().side == Side::Own, "who did it: {event}");
        assert_eq!(event["source"]["observer"]["identifier"]["value"], OWN.to_string());
        // Codes that are fixed by the type `code` and by value sets.
        assert!(["C", "R", "U", "D", "E"].contains(&event["action"].as_str().unwrap()), "{event}");
        assert!(["0", "4", "8", "12"].contains(&event["outcome"].as_str().unwrap()), "{event}");
        for (seen, (path, system, codes)) in seen.iter_mut().zip(VALUE_SETS) {
            for coding in at(&event, path) {
                *seen += 1;
                assert_eq!(coding["system"], system, "{path}");
                assert!(codes.contains(&coding["code"].as_str().unwrap()), "{path}: {coding}");
            }
        }
        assert!(event["subtype"][0]["code"].as_str().unwrap().contains('.'));
        // sev-1: an entity has a name or a query, never both; these have neither. Nothing is an extension or a text.
        let mut names = Vec::new();
        fields(&event, "", &mut names);
        let forbidden = ["name", "query", "text", "extension", "altId", "outcomeDesc", "description", "network"];
        for name in &names {
            assert!(!forbidden.iter().any(|word| name.ends_with(&format!("/{word}"))), "{name} in {event}");
        }
        let leaf = event["entity"][0]["detail"][0]["valueBase64Binary"].as_str().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, leaf).unwrap();
        assert_eq!(Entry::from_bytes(&bytes), Ok(entry));
    }
    assert!(seen.iter().all(|count| *count > 0), "every path leads somewhere: {seen:?}");
}

/// Splits a line as RFC 5424 says: priority, version and header fields, and the one structured element.
fn parse_syslog(line: &str) -> (u8, Vec<&str>, Vec<(String, String)>) {
    let (priority, rest) = line.strip_prefix('<').unwrap().split_once('>').unwrap();
    let (header, data) = rest.split_once(" [").unwrap();
    let data = data.strip_suffix(']').unwrap();
    let (id, params) = data.split_once(' ').unwrap_or((data, ""));
    assert_eq!(id, "pakt@32473");
    let parse = |param: &str| {
        let (name, value) = param.split_once("=\"").unwrap();
        (name.to_owned(), value.strip_suffix('"').unwrap().to_owned())
    };
    (priority.parse().unwrap(), header.split(' ').collect(), params.split(' ').map(parse).collect())
}

#[test]
fn every_event_is_a_line_of_rfc_5424() {
    for (number, entry) in entries() {
        let line = Format::Syslog.line(&OWN, number, &entry);
        assert!(line.is_ascii() && !line.chars().any(|c| c.is_ascii_control()), "{line}");
        assert!(line.len() <= 2_048, "what every receiver takes (6.1): {}", line.len());
        let (priority, header, params) = parse_syslog(&line);
        assert_eq!(priority / 8, 13, "log audit");
        let [version, at, host, app, process, id] = header[..] else { panic!("{line}") };
        assert_eq!((version, host, app, process), ("1", "-", "pakt", "-"));
        assert!(id.len() <= 32 && id.bytes().all(|byte| (33..=126).contains(&byte)), "{id}");
        let fraction = at.trim_end_matches('Z').split_once('.').map_or(0, |(_, fraction)| fraction.len());
        assert!(at.parse::<jiff::Timestamp>().is_ok() && at.ends_with('Z') && fraction <= 6, "{at}");
        assert_eq!(params[..2], [("log".into(), OWN.to_string()), ("number".into(), number.to_string())]);
        assert!(params.iter().all(|(name, _)| name.len() <= 32), "{line}");
    }
}

#[test]
fn p25_the_tree_can_be_made_again_from_what_was_exported() {
    let mut hashes: Vec<Vec<tree::Hash>> = Vec::new();
    let mut exported: Vec<tree::Hash> = Vec::new();
    for (number, entry) in entries() {
        let stored = tree::completed::<()>(number, entry.hash(), |end, level| Ok(hashes[end as usize][level as usize]));
        hashes.push(stored.unwrap());
        let line: Value = serde_json::from_str(&Format::Json.line(&OWN, number, &entry)).unwrap();
        exported.push(tree::leaf_hash(&hex::decode(line["leaf"].as_str().unwrap()).unwrap()));
        assert_eq!(line["number"], number);
    }
    let size = exported.len() as u64;
    let root = tree::root::<()>(size, |end, level| Ok(hashes[end as usize][level as usize]));
    let again = tree::root::<()>(size, |end, level| {
        let leaves = &exported[(end + 1 - (1 << level)) as usize..=end as usize];
        Ok(folded(leaves))
    });
    assert_eq!(root, again);
}

fn folded(leaves: &[tree::Hash]) -> tree::Hash {
    match leaves {
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            tree::node_hash(&folded(left), &folded(right))
        }
    }
}

#[test]
fn a_blinder_leaves_in_the_leaf_only() {
    let blinder = hex::encode([6; 32]);
    for (number, entry) in entries() {
        assert!(!Format::Syslog.line(&OWN, number, &entry).contains(&blinder));
    }
}

#[test]
fn formats_are_named_by_their_words() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    assert_eq!("xml".parse::<Format>(), Err(UnknownFormat));
}
