//! Nodes that may only go out through a proxy.

use pakt_tests::mesh::{agree, free_port, peer, wait_sees};
use pakt_tests::node::{Setup, TestNode};
use pakt_tests::proxy::{Kind, Proxy};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};

const CREDENTIALS: &str = "clinic:canary-proxy-password";

/// A node that does not listen and dials through `proxy` only, and one that only the proxy finds.
fn behind(proxy: &Proxy, credentials: Option<&str>) -> (TestNode, TestNode, tempfile::TempDir) {
    let desk = tempfile::tempdir().unwrap();
    let mut a = Setup::new("Fjordbyen sykehus", "NO:ORGNR:999000101");
    a.listen = "none".into();
    a.init_args = vec!["--proxy".into(), proxy.url()];
    if let Some(credentials) = credentials {
        use std::os::unix::fs::PermissionsExt as _;
        let file = desk.path().join("credentials");
        std::fs::write(&file, credentials).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        a.init_args.extend(["--proxy-credentials-file".into(), file.to_str().unwrap().into()]);
    }
    let port = free_port();
    let mut b = Setup::new("Kliniek De Vaart", "NL:KVK:99000102");
    b.listen = format!("127.0.0.1:{port}");
    b.advertise = vec![format!("node.vaart.example:{port}")];
    let (mut a, mut b) = (TestNode::init(a), TestNode::init(b));
    a.start();
    b.start();
    agree(&a, &b, desk.path(), "");
    (a, b, desk)
}

fn delivers(kind: Kind, credentials: Option<&str>) {
    let proxy = Proxy::start(kind, credentials);
    let (a, b, desk) = behind(&proxy, credentials);
    wait_sees(&a, &b, 30);
    let file = desk.path().join("study.bin");
    std::fs::write(&file, vec![7; 3 << 20]).unwrap();
    let to = format!("{}/Reception", b.number());
    let sent = ["send", "--to", &to, "--subject", "through", "--wait", "delivered", file.to_str().unwrap()];
    a.cli(&sent).expect(0);
    let asked = proxy.asked();
    assert!(asked.len() >= 2, "control and content: {asked:?}");
    assert!(asked.iter().all(|target| target.starts_with("node.vaart.example:")), "names go to the proxy: {asked:?}");
    for log in [a.log(), std::fs::read_to_string(a.dir().join("config.toml")).unwrap()] {
        assert!(!log.contains("canary-proxy"), "credentials where they do not belong");
    }
    let doctor = a.cli_json(&["doctor"]).json().to_string();
    assert!(doctor.contains("every dial goes through") && !doctor.contains("canary-proxy"), "{doctor}");
}

#[test]
fn a_message_goes_through_an_http_proxy() {
    let _turn = turn::beside();
    delivers(Kind::Http, Some(CREDENTIALS));
}

#[test]
fn a_message_goes_through_a_socks_proxy() {
    let _turn = turn::beside();
    delivers(Kind::Socks5, None);
    delivers(Kind::Socks5, Some(CREDENTIALS));
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_reason() {
    let _turn = turn::beside();
    for (kind, says) in [(Kind::Http, "407"), (Kind::Socks5, "wants credentials")] {
        let proxy = Proxy::start(kind, Some(CREDENTIALS));
        let (a, b, _desk) = behind(&proxy, Some("clinic:wrong"));
        until(secs(20), "the refusal is shown", || {
            let reason = peer(&a, b.number())["reason"].as_str()?.to_owned();
            assert!(!reason.contains("wrong"), "{reason}");
            reason.contains(says).then_some(())
        });
    }
    let refused = TestNode::init(Setup::new("X", "NO:ORGNR:999000101")).cli(&["address", "list"]);
    assert_eq!(refused.code, 5);
    let desk = tempfile::tempdir().unwrap();
    let mut setup = Setup::new("X", "NO:ORGNR:999000101");
    setup.dir = Some(desk.path().join("d"));
    let node = TestNode::init(setup);
    for bad in ["ftp://h:1", "http://h", "http://user:secret@h:1"] {
        let dir = desk.path().join("none");
        let args = ["init", "--name", "Y", "--number", "NO:ORGNR:1", "--proxy", bad, "--json", "--dir"];
        let args = [&args[..], &[dir.to_str().unwrap()]].concat();
        let refused = node.plain(&args);
        assert_eq!(refused.code, 2, "{bad}");
        assert!(!refused.complaint().contains("secret"), "{bad}");
    }
}
