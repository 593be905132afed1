//! End-to-end tests: real `pakt` processes on loopback, talked to as a user does.
//!
//! Names carry the number of the promise that a test looks for the violation of (`p22_…`).
//! One program holds them all, so that [`pakt_tests::turn`] bounds what runs at the same time.

#![allow(clippy::unwrap_used, reason = "this whole program is a test")]

mod addresses;
mod agreement_files;
mod agreement_life;
mod audit_log;
mod backup;
mod bad_input;
mod bad_records;
mod big_file;
mod canaries;
mod clocks;
mod demo;
mod directory;
mod first_study;
mod full_disk;
mod hostile_partner;
mod introductions;
mod kills;
mod known_content;
mod lifecycle;
mod malware;
mod monitoring;
mod partners;
mod pipeline;
mod proxies;
mod queue;
mod quiet;
mod recalls;
mod receipts;
mod reconciliation;
mod refusals;
mod relays;
mod resume;
mod rotation;
mod second_reader;
mod snapshots;
mod storm;
mod strangers;
mod terms;
mod urgent;
