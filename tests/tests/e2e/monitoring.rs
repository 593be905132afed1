//! What a monitoring system reads, and lists in parts: counts without names, from a listener that is there only if asked for.

use pakt_tests::http::{get, listen_for_monitoring, metrics};
use pakt_tests::pair::{Pair, id_of};
use pakt_tests::wait::{secs, until};
use pakt_tests::{tree, turn};

fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[test]
fn p22_metrics_count_what_happens_and_name_nobody() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let port = listen_for_monitoring(&pair.a);
    assert!(get(port, "/metrics").is_none(), "it is there from the next start on");
    pair.a.terminate();
    pair.a.start();
    pair.wait_online();

    let study = pair.path("CANARY-FOLDER");
    tree::make_strange(&study, 3, 20_000);
    let mut ids = Vec::new();
    for subject in ["CANARY-ONE", "CANARY-TWO", "CANARY-THREE"] {
        let id = id_of(&pair.send(subject, &[&study]));
        pair.wait_delivered(&id, secs(30));
        ids.push(id);
    }

    let body = until(secs(10), "three deliveries are counted", || {
        metrics(port).filter(|body| value(body, "pakt_envelopes_total{state=\"delivered\"}") == Some(3.0))
    });
    for (sample, expected) in [
        ("pakt_messages_submitted_total", 3.0),
        ("pakt_queue_envelopes", 0.0),
        ("pakt_ready", 1.0),
        ("pakt_peers_online", 1.0),
        ("pakt_log_fault", 0.0),
        ("pakt_lanes{kind=\"control\"}", 1.0),
    ] {
        assert_eq!(value(&body, sample), Some(expected), "{sample}\n{body}");
    }
    let mut secrets = vec!["CANARY".to_owned(), "Reception".to_owned(), pair.agreement.clone()];
    secrets.extend([&pair.a, &pair.b].iter().flat_map(|node| [node.name().to_owned(), node.number().to_owned()]));
    secrets.extend(ids.iter().cloned());
    for secret in &secrets {
        assert!(!body.contains(secret.as_str()), "{secret} is in the metrics");
    }

    for (path, status) in [("/livez", "200"), ("/readyz", "200"), ("/v1/status", "404"), ("/", "404")] {
        let (line, _) = get(port, path).unwrap();
        assert!(line.contains(status), "{path}: {line}");
    }
    parts_of_lists_meet(&pair, &ids);
    let (status, _) = pair.a.terminate();
    assert!(status.success());
    assert!(get(port, "/livez").is_none(), "it ends with the node");
}

/// The command line's side of lists in parts; `ids` are the messages in the order in which they were sent.
fn parts_of_lists_meet(pair: &Pair, ids: &[String]) {
    for (node, command) in [(&pair.a, "outbox"), (&pair.b, "inbox")] {
        let listed = |more: &[&str]| -> Vec<String> {
            let list = node.json(&[&[command, "list"], more].concat());
            list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(listed(&["--limit", "1"]), [ids[2].clone()]);
        assert_eq!(listed(&["--limit", "1", "--before", &ids[2]]), [ids[1].clone()]);
        assert_eq!(listed(&["--group", "Reception", "--before", &ids[1][..12]]), [ids[0].clone()]);
        assert_eq!(listed(&["--before", &ids[0]]), [] as [String; 0]);
        node.cli(&[command, "list", "--group", "Nobody"]).expect(4);
        node.cli(&[command, "list", "--before", &"0".repeat(32)]).expect(4);
        node.cli(&[command, "list", "--limit", "0"]).expect(2);
    }
}
