//! What the local API says and hears: every request and response body, and the one error shape.
//!
//! The command line, the web client and integrations all speak these types. Field names are stable from the first
//! release: fields may be added, none is renamed. Times are RFC 3339 in UTC, ids are their text form, sizes are bytes.
//!
//! **Invariant:** nothing here carries a private key, and `Debug` of a type that holds subject, text or file names
//! never shows them.
//!
//! Start reading at [`ErrorCode`] and [`ServiceError`], then [`Sent`] and [`OutboxEnvelope`].

mod address;
mod agreement;
mod backup;
mod directory;
mod error;
mod inbox;
mod introduction;
mod keep;
mod keys;
mod list;
mod log;
mod node;
mod outbox;
mod quarantine;
mod reconcile;
mod signing;

pub use address::*;
pub use agreement::*;
pub use backup::*;
pub use directory::*;
pub use error::*;
pub use inbox::*;
pub use introduction::*;
pub use keep::*;
pub use keys::*;
pub use list::*;
pub use log::*;
pub use node::*;
pub use outbox::*;
pub use quarantine::*;
pub use reconcile::*;
pub use signing::*;

use pakt_protocol::time::Time;

/// RFC 3339 text in UTC of `at`, to the microsecond (trailing zeros are left out).
pub fn time_text(at: Time) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_row() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).expect("an enum serialises");
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert!((400..600).contains(&code.http_status()), "{json}");
            assert!((1..=7).contains(&code.exit_code()), "{json}");
        }
    }

    #[test]
    fn time_is_rfc_3339_in_utc() {
        let check = |micros: u64, text: &str| assert_eq!(time_text(Time(micros)), text);
        check(0, "1970-01-01T00:00:00Z");
        check(1_790_000_000_000_000, "2026-09-21T14:13:20Z");
        check(1_790_000_000_250_000, "2026-09-21T14:13:20.25Z");
        assert!(time_text(Time(u64::MAX)).starts_with("9999-"));
    }

    #[test]
    fn a_problem_carries_an_error_there_and_back() {
        let error = ServiceError::new(ErrorCode::NotFound, "no such group", "see `pakt peers`");
        let problem = Problem::from(error.clone());
        assert_eq!(problem.status, 404);
        assert_eq!(problem.kind, "urn:pakt:error:not_found");
        assert_eq!(ServiceError::from(problem), error);
    }

    #[test]
    fn debug_shows_no_content() {
        let message = NewMessage {
            from: None,
            to: vec!["canary".into()],
            subject: "canary".into(),
            body: "canary".into(),
            priority: Priority::Normal,
            purpose: None,
            bytes: None,
            files: None,
            folders: None,
            forwards: None,
            corrects: None,
        };
        assert!(!format!("{message:?}").contains("canary"));
    }
}
