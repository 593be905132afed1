//! The lines that the architecture draws, held by a test: who may name what, how long things may get, what must not
//! lie about. Each rule says what to do instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pakt_tests::binary::workspace;
use pakt_tests::source;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Names that belong to one module: (name, where it may stand, what to use elsewhere).
const RESERVED: [(&str, &[&str], &str); 8] = [
    ("libp2p", &["node/src/net"], "node::net"),
    ("rustls", &["node/src/net"], "node::net"),
    ("futures_rustls", &["node/src/net"], "node::net"),
    ("redb", &["node/src/store"], "node::store"),
    ("dicom_core", &["node/src/demo", "node/src/gateway"], "a gateway"),
    ("dicom_object", &["node/src/demo", "node/src/gateway"], "a gateway"),
    ("dicom_ul", &["node/src/gateway"], "a gateway"),
    ("bincode", &["keys/src/codec"], "pakt_keys::codec"),
];

/// What the sans-I/O crates do not touch; addresses are data and allowed, sockets are not.
const AMBIENT: [&str; 20] = [
    "tokio",
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "std::os",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "SystemTime",
    "Instant",
    "getrandom",
    "OsRng",
    "SysRng",
    "thread_rng",
    "rustix",
    "socket2",
];

/// Which of our crates each one may depend on.
const ARROWS: [(&str, &[&str]); 5] = [
    ("keys", &[]),
    ("protocol", &["pakt-keys"]),
    ("node", &["pakt-keys", "pakt-protocol"]),
    ("simulations", &["pakt-keys", "pakt-protocol", "pakt-node"]),
    ("tests", &["pakt-keys", "pakt-protocol", "pakt-node"]),
];

#[test]
fn each_name_stays_in_its_module() {
    let mut broken = Vec::new();
    for (path, text) in rust_files(&["keys", "protocol", "node", "simulations"]) {
        let code = source::code(&text);
        for (name, homes, instead) in RESERVED {
            if !homes.iter().any(|home| is_in(&path, home)) && source::names(&code, name) {
                broken.push(format!("{path}: names {name}; use {instead}"));
            }
        }
    }
    report(broken);
}

#[test]
fn keys_and_protocol_touch_nothing_outside() {
    let mut broken = Vec::new();
    let files = rust_files(&["keys/src", "protocol/src"]);
    let for_tests: Vec<String> = files.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    for (path, text) in files.iter().filter(|(path, _)| !for_tests.contains(path)) {
        let code = source::without_tests(&source::code(text));
        // `use std::{fs, …}` says the same in other words.
        let spread = code.replace("std::{", "std::{ std::").replace(", ", ", std::");
        let says = |name: &str| source::names(&code, name) || name.starts_with("std::") && source::names(&spread, name);
        broken.extend(
            AMBIENT
                .iter()
                .filter(|name| says(name))
                .map(|name| format!("{path}: names {name}; time, randomness and I/O are arguments here")),
        );
    }
    report(broken);
}

/// Who speaks to counterparts in the node, and whose words those are. Nobody else does: a message is picked by a machine
/// or a pure function of `protocol`, so that whatever else drives them, such as a simulation, says the same.
const SPEAKERS: [(&str, &str); 19] = [
    ("addresses", "a record of the book"),
    ("directory", "records of the directory; answers by protocol::directory"),
    ("early", "withdraws what was given up; the rest by transfer::outgoing"),
    ("grants", "records of the book"),
    ("heads", "heads of the log"),
    ("introductions", "records of the introductions"),
    ("lanes", "asks for content lanes"),
    ("mod", "what another counterpart's actor wants said"),
    ("owed", "protocol::owed, protocol::settling"),
    ("recalling", "protocol::recalls"),
    ("receiving", "transfer::incoming"),
    ("reconcile", "protocol::reconcile"),
    ("restored", "records of the book"),
    ("seeking", "protocol::deposit"),
    ("sending", "transfer::outgoing"),
    ("session", "protocol::session"),
    ("settling", "protocol::settling"),
    ("standing", "protocol::agreement"),
    ("terms", "protocol::controls"),
];

/// What says how something ends or whether it begins.
const DECISIONS: [&str; 13] = [
    "Refusal::",
    "Verdict::",
    "Answer::Accept",
    "Answer::Refuse",
    "Announce {",
    "AskEnded {",
    "EpochGone {",
    "PurgedBefore {",
    "Ready {",
    "ReceiptHeld {",
    "ReceiptMessage {",
    "Withdraw {",
    "Withdrawn {",
];

/// Where in the node such a word stands all the same, and why.
const DECIDED_ELSEWHERE: [(&str, &str, &str); 12] = [
    ("node/src/exchange/peer/session.rs", "Answer::Refuse", "counts what a machine refuses"),
    (
        "node/src/exchange/peer/early.rs",
        "Withdraw {",
        "the machine of what was given up is gone, at times since a restart",
    ),
    ("node/src/exchange/peer/settling.rs", "ReceiptMessage {", "carries the answer that settling::answer picked"),
    ("node/src/exchange/peer/sending.rs", "ReceiptHeld {", "the machine is gone once its end is durable"),
    ("node/src/exchange/peer/sending.rs", "Verdict::", "shows a message that is held as moved whole"),
    ("node/src/exchange/peer/receiving.rs", "Verdict::", "never commits as held what it has not read"),
    ("node/src/mailroom/outbox.rs", "Refusal::", "words for people"),
    ("node/src/mailroom/outbox.rs", "Verdict::", "looks for a receipt of one kind"),
    ("node/src/mailroom/journal.rs", "Verdict::", "counts what was stated"),
    ("node/src/mailroom/purge.rs", "Verdict::", "names why a person or a request had something purged"),
    ("node/src/mailroom/recall.rs", "Verdict::", "signs what recalls::Request says"),
    ("node/src/mailroom/receipts.rs", "Verdict::", "the receipt of each stage that a message reaches"),
];

#[test]
fn the_node_drives_machines_and_decides_nothing_that_counterparts_are_told() {
    let mut broken = Vec::new();
    let files = rust_files(&["node/src/exchange", "node/src/mailroom"]);
    let for_tests: Vec<String> = files.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let is_test = |path: &String| for_tests.contains(path) || path.contains("/tests/");
    let code = |text: &str| source::without_tests(&source::code(text));
    let files: BTreeMap<String, String> =
        files.into_iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| (path, code(&text))).collect();
    let speaks = |code: &str| code.contains(".transmit(") || code.contains("live.lane.send(");
    for (path, code) in &files {
        let listed = SPEAKERS.iter().any(|(name, _)| *path == format!("node/src/exchange/peer/{name}.rs"));
        match (speaks(code), listed) {
            (true, false) => broken.push(format!(
                "{path}: speaks to a counterpart; let a machine in protocol/src pick the message, drive it from exchange/peer, and list the driver in SPEAKERS"
            )),
            (false, true) => broken.push(format!("{path}: says nothing any more; take it out of SPEAKERS")),
            _ => {}
        }
        for word in DECISIONS {
            let listed = DECIDED_ELSEWHERE.iter().any(|(file, listed, _)| file == path && *listed == word);
            match (says(code, word), listed) {
                (true, false) => broken.push(format!(
                    "{path}: says {word}; decide it in a machine of protocol/src, with a test there, and hand the node what follows from it"
                )),
                (false, true) => broken.push(format!("{path}: does not say {word} any more; take it out of DECIDED_ELSEWHERE")),
                _ => {}
            }
        }
    }
    assert!(files.len() > 30, "the node was read");
    report(broken);
}

/// Whether `code` holds `word` as something that it makes or compares; what is only taken apart does not count.
fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = &code[..at];
        let is_longer = before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_longer && !before.ends_with("let ")
    })
}

#[test]
fn decisions_are_found_and_what_is_taken_apart_is_none() {
    let rows = [
        ("self.transmit(ReceiptHeld { envelope, verdict }.into())", "ReceiptHeld {", true),
        ("let ReceiptHeld { envelope, verdict } = held;", "ReceiptHeld {", false),
        ("Message::ReceiptHeld(held) => self.take(held)", "ReceiptHeld {", false),
        ("HelloRefusal::Malformed", "Refusal::", false),
        ("offer::Refusal::Busy", "Refusal::", true),
    ];
    for (code, word, found) in rows {
        assert_eq!(says(code, word), found, "{code}");
    }
}

/// The files that `#[cfg(test)] mod name;` in `path` stands for.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let file = Path::new(path);
    let dir = file.parent().expect("a source file lies in a folder");
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let below = if ["mod", "lib", "main"].contains(&stem) { dir.to_path_buf() } else { dir.join(stem) };
    let mut found = Vec::new();
    for after in text.split("#[cfg(test)]").skip(1) {
        let declared: String = after.chars().take_while(|&c| c != ';' && c != '{').collect();
        if let Some(name) = declared.split('"').nth(1) {
            found.push(dir.join(name));
        } else if let Some(name) = declared.trim().strip_prefix("mod ") {
            found.push(below.join(format!("{name}.rs")));
            found.push(below.join(name).join("mod.rs"));
        }
    }
    found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

#[test]
fn arrows_between_crates_never_point_back() {
    let mut broken = Vec::new();
    for (member, allowed) in ARROWS {
        for (section, name, row) in dependencies(member) {
            if name.starts_with("pakt-") && !allowed.contains(&name.as_str()) {
                broken.push(format!("{member} must not depend on {name} ({section})"));
            }
            if row.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                broken.push(format!("{member}: {name} in {section} takes its version from the workspace"));
            }
        }
    }
    report(broken);
}

#[test]
fn files_and_functions_stay_readable() {
    let mut broken = Vec::new();
    for (path, text) in rust_files(&["."]) {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            broken.push(format!("{path}: {lines} lines; split it along its steps"));
        }
        if !text.trim_start().starts_with("//!") {
            broken.push(format!("{path}: the first line says what the file is for (//!)"));
        }
        for (name, line, lines) in source::functions(&source::code(&text)) {
            if lines > FUNCTION_LINES_MAX {
                broken.push(format!("{path}:{line}: {name} has {lines} lines; name its steps"));
            }
        }
    }
    report(broken);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    // Put together here, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
        concat!("#[igno", "re"),
        concat!("allow(unsafe", "_code)"),
        concat!("in production ", "one would"),
    ];
    let mut broken = Vec::new();
    for (path, text) in text_files() {
        for (line, content) in text.lines().enumerate() {
            broken.extend(
                words.iter().filter(|word| content.contains(**word)).map(|word| format!("{path}:{}: {word}", line + 1)),
            );
        }
    }
    report(broken);
}

#[test]
fn no_machine_is_named() {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/home/", "user"),
        concat!("CARGO_REG", "ISTRY"),
        concat!("index-", "url"),
        concat!("--extra-", "index"),
        concat!("replace-", "with"),
        concat!("registry.", "npmjs"),
    ];
    let mut broken = Vec::new();
    for (path, text) in text_files() {
        for (line, content) in text.lines().enumerate() {
            broken.extend(
                words.iter().filter(|word| content.contains(**word)).map(|word| format!("{path}:{}: {word}", line + 1)),
            );
        }
        if path == "Cargo.lock" {
            let foreign = |line: &&str| line.starts_with("source = ") && !line.contains("rust-lang/crates.io-index");
            broken.extend(text.lines().filter(foreign).map(|line| format!("{path}: {line}")));
        }
    }
    report(broken);
}

#[test]
fn between_nodes_there_are_no_masters() {
    let mut broken = Vec::new();
    for (path, text) in text_files() {
        if !is_in(&path, "protocol") {
            continue;
        }
        let code = source::code(&text);
        // What stands in quotes may be somebody else's word.
        let comment = |line: &str| line.trim_start().starts_with("//") || !path.ends_with(".rs");
        for (line, (content, code)) in text.lines().zip(code.lines()).enumerate() {
            let content = if comment(content) { content } else { code }.to_lowercase();
            broken.extend(
                ["client", "server", "clients", "servers"]
                    .iter()
                    .filter(|word| source::names(&content, word))
                    .map(|word| format!("{path}:{}: {word}; say dialer, listener, sender, receiver", line + 1)),
            );
        }
    }
    report(broken);
}

#[test]
fn licences_and_sources_are_those_we_allow() {
    let rules = manifest("deny.toml");
    let strings = |table: &str, key: &str| -> Vec<String> {
        let list = rules[table][key].as_array().into_iter().flatten();
        list.filter_map(|item| item.as_str().or_else(|| item["crate"].as_str()).map(str::to_owned)).collect()
    };
    let (allowed, banned) = (strings("licenses", "allow"), strings("bans", "deny"));
    let mut broken = Vec::new();
    for package in metadata()["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or("none stated");
        if !licence_allows(licence, &allowed) {
            broken.push(format!("{name}: licence {licence} is not in deny.toml"));
        }
    }
    // The lock file also names what no feature switches on; the tree is what is built.
    let tree = cargo(&["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--locked"]);
    let built: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains(&"pakt-node"), "the tree was read");
    broken.extend(
        banned.iter().filter(|ban| built.contains(&ban.as_str())).map(|ban| format!("{ban} is banned in deny.toml")),
    );
    report(broken);
}

/// Whether an SPDX expression can be met with `allowed` licences: any of `OR`, all of `AND`.
fn licence_allows(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.trim().replace('/', " OR ");
    if let Some(parts) = split_outside(&expression, " AND ") {
        return parts.iter().all(|part| licence_allows(part, allowed));
    }
    if let Some(parts) = split_outside(&expression, " OR ") {
        return parts.iter().any(|part| licence_allows(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => licence_allows(inner, allowed),
        None => allowed.contains(&expression),
    }
}

/// Splits at `operator` where no parenthesis is open.
fn split_outside(text: &str, operator: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut depth = 0i32;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 && text[at..].starts_with(operator) {
            parts.push(String::new());
        }
        parts.last_mut().expect("there is always one").push(c);
    }
    let trimmed = parts.iter().map(|part| part.strip_prefix(operator).unwrap_or(part).to_owned());
    (parts.len() > 1).then(|| trimmed.collect())
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "BSD-3-Clause".to_owned()];
    let rows = [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only/MIT", true),
        ("(GPL-3.0-only OR MIT) AND BSD-3-Clause", true),
        ("(GPL-3.0-only OR MIT) AND ISC", false),
    ];
    for (expression, wanted) in rows {
        assert_eq!(licence_allows(expression, &allowed), wanted, "{expression}");
    }
}

#[track_caller]
fn report(broken: Vec<String>) {
    assert!(broken.is_empty(), "{} findings:\n{}", broken.len(), broken.join("\n"));
}

fn is_in(path: &str, home: &str) -> bool {
    path.strip_prefix(home).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
}

fn manifest(path: &str) -> toml::Value {
    let text = fs::read_to_string(workspace().join(path)).expect("the file belongs to the project");
    toml::from_str(&text).expect("the file is TOML")
}

fn dependencies(member: &str) -> Vec<(String, String, toml::Value)> {
    let manifest = manifest(&format!("{member}/Cargo.toml"));
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|section| Some((section, manifest.get(section)?.as_table()?.clone())))
        .flat_map(|(section, table)| table.into_iter().map(move |(name, row)| (section.to_owned(), name, row)))
        .collect()
}

fn metadata() -> serde_json::Value {
    let told = cargo(&["metadata", "--format-version", "1", "--locked"]);
    serde_json::from_str(&told).expect("cargo speaks JSON")
}

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told =
        std::process::Command::new(cargo).current_dir(workspace()).args(args).output().expect("cargo can be started");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).expect("cargo speaks UTF-8")
}

fn rust_files(below: &[&str]) -> BTreeMap<String, String> {
    let wanted = |path: &str| below.iter().any(|part| *part == "." || is_in(path, part));
    text_files().into_iter().filter(|(path, _)| path.ends_with(".rs") && wanted(path)).collect()
}

/// Every text file of the project by its path, build products and git's own files left out.
fn text_files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = vec![workspace().to_path_buf()];
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(&dir).expect("the project can be read").flatten() {
            let path = item.path();
            let name = item.file_name().to_string_lossy().into_owned();
            if is_foreign(&path, &name) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let relative = path.strip_prefix(workspace()).expect("it lies below");
                found.insert(relative.to_string_lossy().into_owned(), text);
            }
        }
    }
    found
}

/// Cargo marks its target directory only if it made it itself; `tests/prepare-python` may have come first.
fn is_foreign(path: &Path, name: &str) -> bool {
    let built = path == workspace().join("target");
    built
        || name == ".git"
        || name == "__pycache__"
        || path.join("CACHEDIR.TAG").exists()
        || path.join("pyvenv.cfg").exists()
}
