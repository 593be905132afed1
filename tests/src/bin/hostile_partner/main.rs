//! The hostile partner: a program that has a real agreement and keeps none of its rules.
//!
//! It takes over the data directories of two real nodes that have agreements with one victim, and speaks the wire with
//! their keys. On stdin it reads names of behaviours, one a line, and answers each with a line of JSON: what it met.
//! `--list` and `--list-slow` print the behaviours with what they have to meet, `--table` all for the documentation.
//!
//! Start reading at [`rows`].

mod bulk;
mod parcel;
mod partner;
mod rows;
mod session;
mod tls;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::path::Path;

use partner::Partner;
use rows::Stage;
use serde_json::json;
use wire::Ears;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
    match args.first().map(String::as_str) {
        Some("--list") => rows::all().for_each(|row| say(row.to_json().to_string())),
        Some("--list-slow") => rows::slow().for_each(|row| say(row.to_json().to_string())),
        Some("--table") => rows::all().chain(rows::slow()).for_each(|row| say(row.to_table())),
        _ => {
            let mut stage = stage(&args);
            for line in std::io::stdin().lock().lines() {
                let name = line.expect("names are text");
                let row = rows::all()
                    .chain(rows::slow())
                    .find(|row| row.name == name)
                    .unwrap_or_else(|| panic!("no behaviour `{name}`"));
                let met = (row.act)(&mut stage).to_string();
                say(json!({ "name": name, "met": met }).to_string());
            }
        }
    }
}

/// `--victim HOST:PORT --first DIR FILE --second DIR FILE --heard FILE`, in any order.
fn stage(args: &[String]) -> Stage {
    let mut given: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut key = "";
    for arg in args {
        match arg.strip_prefix("--") {
            Some(name) => key = name,
            None => given.entry(key).or_default().push(arg),
        }
    }
    let one = |name: &str, at: usize| {
        let value = given.get(name).and_then(|values| values.get(at));
        *value.unwrap_or_else(|| panic!("--{name} is missing"))
    };
    let victim = one("victim", 0).parse().expect("an address");
    let heard = File::create(one("heard", 0)).expect("the file can be made");
    let take = |name: &str, ears: Ears| {
        let (dir, agreement) = (Path::new(one(name, 0)), Path::new(one(name, 1)));
        Partner::take_over(dir, agreement, victim, ears)
    };
    Stage { first: take("first", Ears::into_file(heard)), second: take("second", Ears::deaf()) }
}
