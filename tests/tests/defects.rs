//! Seeded defects are for those who judge a judge: nobody who builds or installs Pakt gets one.

use std::fs;

use pakt_tests::binary::{pakt, workspace};

fn text(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).expect("the file belongs to the project")
}

fn manifest(member: &str) -> toml::Table {
    text(&format!("{member}/Cargo.toml")).parse().expect("the file is TOML")
}

/// The texts in a value, however deep.
fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Array(values) => values.iter().flat_map(texts).collect(),
        toml::Value::Table(table) => table.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn asks(value: &toml::Value) -> bool {
    texts(value).iter().any(|text| text == "defects" || text.ends_with("/defects"))
}

/// What asks for them in a manifest, but for the feature of that name itself.
fn who_asks(mut manifest: toml::Table) -> Vec<String> {
    if let Some(features) = manifest.get_mut("features").and_then(toml::Value::as_table_mut) {
        features.remove("defects");
    }
    manifest.into_iter().filter(|(_, section)| asks(section)).map(|(name, _)| name).collect()
}

#[test]
fn no_default_and_no_dependency_asks_for_defects() {
    for member in [".", "keys", "protocol", "node", "simulations", "tests"] {
        assert_eq!(who_asks(manifest(member)), Vec::<String>::new(), "{member}/Cargo.toml");
    }
    let asked = |text: &str| who_asks(text.parse().expect("TOML"));
    assert_eq!(asked("[features]\ndefects = ['a/defects']"), Vec::<String>::new());
    assert_eq!(asked("[features]\ndefects = []\ndefault = ['defects']"), ["features"]);
    assert_eq!(asked("[features]\nbench = ['a/defects']"), ["features"]);
    assert_eq!(asked("[dependencies]\na = { version = '1', features = ['defects'] }"), ["dependencies"]);
    assert_eq!(asked("[workspace.dependencies]\na = { path = 'a', features = ['defects'] }"), ["workspace"]);
}

#[test]
fn nothing_that_is_released_is_built_with_defects() {
    for path in [".ci/run", "README.md", "node/docs/operating.md"] {
        for line in text(path).lines().filter(|line| line.contains("cargo")) {
            let is_test = line.contains("cargo test") && !line.contains("--release");
            assert!(!line.contains("--all-features"), "{path}: {line}");
            assert!(!line.contains("defects") || is_test, "{path}: {line}");
        }
    }
}

/// The names of all defects, as the protocol's source lists them.
fn names() -> Vec<String> {
    let source = text("protocol/src/defect.rs");
    let list = source.split("named! {").nth(1).and_then(|rest| rest.split('}').next()).expect("the list of names");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_program_knows_no_defect() {
    let names = names();
    assert!(names.len() >= 30, "{names:?}");
    let program = fs::read(pakt()).expect("the program can be read");
    let is_in = |name: &str| program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    assert!(is_in("not_confirmed_may_have_been_delivered"), "a word that it knows is found");
    let known: Vec<&String> = names.iter().filter(|name| is_in(name)).collect();
    assert!(known.is_empty(), "{known:?}");
}
