//! `init`, unlocking, settings, `doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{init, listing, pakt};

const NUMBER: &str = "NO:ORGNR:999000101";

/// A file that only its owner reads, as a passphrase must be.
fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    set_mode(path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn init_makes_a_private_node_and_names_the_next_steps() {
    let home = tempfile::tempdir().unwrap();
    let args = ["init", "--dir", "n", "--name", "Klinikk Ø", "--number", NUMBER, "--listen", "127.0.0.1:0"];
    let told = pakt(home.path(), &args).expect(0);
    for part in ["pakt run", "pakt card", "pakt agreement propose", "WITHOUT a passphrase", "recovery.pakt"] {
        assert!(told.out.contains(part), "{part}: {}", told.out);
    }
    for entry in walkdir::WalkDir::new(home.path().join("n")) {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let wanted = match entry.file_name().to_str() {
            Some("card.pakt") => 0o644,
            _ if entry.file_type().is_dir() => 0o700,
            _ => 0o600,
        };
        assert_eq!(mode, wanted, "{}", entry.path().display());
    }
    let config = fs::read_to_string(home.path().join("n/config.toml")).unwrap();
    assert!(!config.contains("127.0.0.1:0\""), "the port that was picked is kept: {config}");
    let before = listing(home.path());
    pakt(home.path(), &args).expect(1);
    assert_eq!(listing(home.path()), before);
}

#[test]
fn the_card_is_public_whatever_the_umask() {
    let home = tempfile::tempdir().unwrap();
    let init = "umask 077; exec \"$0\" init --dir n --name A --number NO:ORGNR:999000101 --listen 127.0.0.1:0";
    let mut shell = std::process::Command::new("sh");
    let made = shell.args(["-c", init, env!("CARGO_BIN_EXE_pakt")]).current_dir(home.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let mode = |name: &str| fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("n/card.pakt"), mode("n/config.toml")), (0o644, 0o600));
}

#[test]
fn init_refuses_what_no_node_can_be_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("used")).unwrap();
    fs::write(home.path().join("used/file"), "x").unwrap();
    fs::write(home.path().join("taken"), "x").unwrap();
    write_private(&home.path().join("empty"), "\n");
    write_private(&home.path().join("shared"), "riktig hest\n");
    set_mode(&home.path().join("shared"), 0o640);
    let before = listing(home.path());
    let check = |code: i32, says: &str, change: &[&str]| {
        let mut args =
            vec!["init", "--dir", "n", "--name", "A", "--number", NUMBER, "--listen", "127.0.0.1:0", "--json"];
        for pair in change.chunks(2) {
            match args.iter().position(|arg| *arg == pair[0]) {
                Some(at) => args[at + 1] = pair[1],
                None => args.extend(pair),
            }
        }
        let told = pakt(home.path(), &args).expect(code);
        assert!(told.complaint().contains(says), "{}", told.out);
        assert_eq!(listing(home.path()), before, "{change:?}");
    };
    check(1, "not empty", &["--dir", "used"]);
    check(2, "--name", &["--name", " A"]);
    check(2, "--number", &["--number", "999"]);
    check(2, "--listen", &["--listen", "somewhere"]);
    check(2, "--listen", &["--listen", "127.0.0.1:70000"]);
    check(1, "--listen", &["--listen", "192.0.2.1:0"]);
    check(2, "--advertise", &["--advertise", "no port"]);
    check(2, "--allow-range", &["--allow-range", "10.0.0.0/40"]);
    check(1, "taken", &["--recovery-file", "taken"]);
    check(6, "holds no passphrase", &["--passphrase-file", "empty"]);
    check(6, "chmod 600 shared", &["--passphrase-file", "shared"]);
    check(6, "absent", &["--passphrase-file", "absent"]);
}

#[test]
fn an_empty_folder_may_become_a_node() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("n")).unwrap();
    set_mode(&home.path().join("n"), 0o755);
    init(home.path(), "n", NUMBER);
    assert_eq!(fs::metadata(home.path().join("n")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_locked_or_open_or_damaged_keystore_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let right = home.path().join("right");
    write_private(&right, "riktig hest\n");
    write_private(&home.path().join("wrong"), "feil hest\n");
    let args = ["init", "--dir", "n", "--name", "A", "--number", NUMBER, "--listen", "127.0.0.1:0"];
    pakt(home.path(), &[&args[..], &["--passphrase-file", "right", "--recovery-file", "r"]].concat()).expect(0);
    let keystore = home.path().join("n/keys/keystore");
    let good = fs::read(&keystore).unwrap();
    let config = home.path().join("n/config.toml");
    let settings = fs::read_to_string(&config).unwrap();
    let without = settings.lines().filter(|line| !line.starts_with("passphrase_file")).collect::<Vec<_>>().join("\n");
    fs::write(&config, &without).unwrap();

    let check = |says: &str, args: &[&str]| {
        let before = listing(&home.path().join("n"));
        let told = pakt(home.path(), &[&["run", "--dir", "n"], args].concat()).expect(6);
        assert!(told.err.contains(says), "{says}: {}", told.err);
        assert_eq!(listing(&home.path().join("n")), before);
    };
    check("passphrase", &[]);
    check("passphrase", &["--passphrase-file", "wrong"]);
    check("absent", &["--passphrase-file", "absent"]);
    for mode in [0o640, 0o604, 0o666] {
        set_mode(&right, mode);
        check("chmod 600 right", &["--passphrase-file", "right"]);
    }
    set_mode(&right, 0o600);

    for mode in [0o640, 0o604, 0o660] {
        set_mode(&keystore, mode);
        check("keystore", &["--passphrase-file", "right"]);
    }
    set_mode(&keystore, 0o600);
    fs::write(home.path().join("n/keys/slots"), "x").unwrap();
    set_mode(&home.path().join("n/keys/slots"), 0o644);
    check("slots", &["--passphrase-file", "right"]);
    fs::remove_file(home.path().join("n/keys/slots")).unwrap();
    set_mode(&home.path().join("n/keys"), 0o750);
    check("keys", &["--passphrase-file", "right"]);
    set_mode(&home.path().join("n/keys"), 0o700);

    let damaged: [Vec<u8>; 4] = [
        vec![],
        good[..good.len() / 2].to_vec(),
        good.iter().enumerate().map(|(at, byte)| if at == good.len() / 2 { byte ^ 4 } else { *byte }).collect(),
        vec![0; 2 << 20],
    ];
    for bytes in damaged {
        fs::write(&keystore, bytes).unwrap();
        check("keystore", &["--passphrase-file", "right"]);
    }
    let mut newer = good.clone();
    newer[8] = 200;
    fs::write(&keystore, newer).unwrap();
    check("newer", &["--passphrase-file", "right"]);
    fs::remove_file(&keystore).unwrap();
    check("keystore", &["--passphrase-file", "right"]);
    fs::write(&keystore, &good).unwrap();
    set_mode(&keystore, 0o600);
    fs::write(&config, without.replace("format = 1", "format = 2\nfrom_the_future = true")).unwrap();
    check("newer", &["--passphrase-file", "right"]);
}

#[test]
fn settings_that_cannot_be_are_named() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), "n", NUMBER);
    let config = home.path().join("n/config.toml");
    let good = fs::read_to_string(&config).unwrap();
    for (bad, says) in [
        (format!("surprise = 1\n{good}"), "surprise"),
        (good.replace("listen = ", "listen = 7 #"), "listen"),
        (good.replace("format = 1", ""), "format"),
        (format!("{good}\n[["), "config.toml"),
    ] {
        fs::write(&config, bad).unwrap();
        let told = pakt(home.path(), &["run", "--dir", "n"]).expect(6);
        assert!(told.err.contains(says) && told.err.contains("config.toml"), "{}", told.err);
    }
    let told = pakt(home.path(), &["card", "--dir", "nowhere"]).expect(4);
    assert!(told.err.contains("pakt init"), "{}", told.err);
}

#[test]
fn doctor_names_each_finding_with_its_remedy() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), "n", NUMBER);
    let findings = |code: i32| {
        let told = pakt(home.path(), &["doctor", "--dir", "n", "--json"]).expect(code).json();
        let rows = told.as_array().expect("an array").clone();
        let bad = rows.iter().filter(|row| row["ok"] == false);
        bad.map(|row| {
            assert!(row["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{row}");
            row["check"].as_str().expect("a check").to_owned()
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(findings(1), ["keystore"]);
    fs::copy(home.path().join("n.recovery"), home.path().join("n/recovery.pakt")).unwrap();
    assert_eq!(findings(1), ["recovery", "keystore"]);
    set_mode(&home.path().join("n/recovery.pakt"), 0o600);
    set_mode(&home.path().join("n"), 0o755);
    // What keeps the keystore from being opened is said once.
    assert_eq!(findings(1), ["permissions", "recovery"]);
    set_mode(&home.path().join("n"), 0o700);
    fs::write(home.path().join("n/card.pakt"), "x").unwrap();
    assert_eq!(findings(1), ["recovery", "keystore", "card"]);
    let config = fs::read_to_string(home.path().join("n/config.toml")).unwrap();
    let listen = config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned();
    let taken = std::net::TcpListener::bind(&listen).unwrap();
    assert_eq!(findings(1), ["recovery", "keystore", "card", "listen"]);
    drop(taken);
    pakt(home.path(), &["doctor", "--dir", "absent"]).expect(4);
}

#[test]
fn the_passphrase_is_found_where_init_was_told() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("other disk")).unwrap();
    let right = home.path().join("other disk/right");
    write_private(&right, "riktig hest\n");
    let args = ["init", "--dir", "n", "--name", "A", "--number", NUMBER, "--listen", "127.0.0.1:0"];
    let file = ["--passphrase-file", "other disk/right", "--recovery-file", "r"];
    let told = pakt(home.path(), &[&args[..], &file].concat()).expect(0);
    assert!(!told.out.contains("--passphrase-file"), "{}", told.out);
    let config = fs::read_to_string(home.path().join("n/config.toml")).unwrap();
    assert!(config.contains(right.to_str().unwrap()), "{config}");
    assert!(!config.contains("hest"), "{config}");
    // From any folder, as the path is a whole one.
    let keystore = |args: &[&str]| {
        let dir = home.path().join("n");
        let told = pakt(
            &home.path().join("other disk"),
            &[&["doctor", "--json", "--dir", dir.to_str().unwrap()], args].concat(),
        );
        let rows = told.json();
        let rows = rows.as_array().unwrap().iter().filter(|row| row["ok"] == false);
        rows.map(|row| format!("{}: {}", row["check"], row["finding"])).collect::<Vec<_>>()
    };
    assert!(keystore(&[]).iter().all(|found| !found.contains("keystore")), "{:?}", keystore(&[]));
    write_private(&home.path().join("other disk/wrong"), "feil hest\n");
    assert!(keystore(&["--passphrase-file", "wrong"]).iter().any(|found| found.contains("keystore")));
    set_mode(&right, 0o644);
    let found = keystore(&[]).join("\n");
    assert!(found.contains("permissions") && !found.contains("keystore"), "said once: {found}");
    pakt(home.path(), &["run", "--dir", "n"]).expect(6);
}

#[test]
fn what_needs_a_node_says_so_with_five() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), "n", NUMBER);
    fs::write(home.path().join("x"), "x").unwrap();
    let rows: [&[&str]; 9] = [
        &["status"],
        &["peers"],
        &["agreement", "list"],
        &["agreement", "export", "00"],
        &["group", "list"],
        &["inbox", "list"],
        &["outbox", "list"],
        &["receipt", "export", "00"],
        &["send", "--to", "A/B", "--subject", "s", "x"],
    ];
    for args in rows {
        let told = pakt(home.path(), &[args, &["--dir", "n", "--json"]].concat()).expect(5);
        assert!(told.complaint().starts_with("not_running"), "{}", told.out);
        let told = pakt(home.path(), &[args, &["--dir", "n"]].concat()).expect(5);
        assert!(told.out.is_empty() && told.err.contains("pakt run --dir"), "{}", told.err);
    }
    let told = pakt(home.path(), &["send", "--to", "A/B", "--subject", "s", "gone", "--dir", "n"]).expect(1);
    assert!(told.err.contains("gone does not exist"), "{}", told.err);
}

#[test]
fn usage_is_two_and_help_has_examples() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["nonsense"][..],
        &["send"],
        &["status", "--nonsense"],
        &["send", "--to", "a", "--subject", "s", "--timeout", "9s"],
    ] {
        pakt(home.path(), args).expect(2);
        let told = pakt(home.path(), &[args, &["--json"]].concat()).expect(2);
        assert!(told.complaint().starts_with("usage"), "{}", told.out);
    }
    for command in [
        "demo",
        "init",
        "run",
        "card",
        "agreement",
        "group",
        "peers",
        "send",
        "inbox",
        "outbox",
        "receipt",
        "rotate",
        "recover",
        "root",
        "approver",
        "status",
        "doctor",
    ] {
        let told = pakt(home.path(), &[command, "--help"]).expect(0);
        assert!(told.out.contains("Examples:\n  pakt "), "{}", told.out);
    }
    // Later rounds bring these; until then they do not exist.
    for command in ["backup", "log", "directory", "introduce", "user", "address"] {
        pakt(home.path(), &[command]).expect(2);
    }
}
