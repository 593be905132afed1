//! Errors as the local API and the command line tell them.
//!
//! **Invariant:** every kind has its one row: name, HTTP status, exit code.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why something was not done; one row per kind gives the HTTP status and the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It could not be done, for a reason of this machine (port in use, file gone, a finding).
    Failed,
    /// The request makes no sense as written.
    Usage,
    /// The caller of the TCP listener did not show the token.
    Unauthorized,
    /// No agreement lets these two entities talk, or it is not active.
    NoAgreement,
    /// The counterpart refused, or the terms of the agreement do.
    Refused,
    /// No such group, message, envelope, agreement, peer or file.
    NotFound,
    /// The node does not run or does not answer.
    NotRunning,
    /// A file or the data directory is changed, cut short or of a newer version.
    Damaged,
    /// A passphrase is missing or wrong, or a key file is open to others.
    Locked,
    /// The time given for waiting is over; the work goes on.
    TimedOut,
    /// No space is left for this.
    Full,
    /// Something else is using it; the same request may succeed later.
    Busy,
    /// What is asked for contradicts what is already there.
    Conflict,
    /// The fingerprint that was typed is not the one of the file.
    FingerprintMismatch,
    /// The request body is larger than this route takes.
    TooLarge,
}

impl ErrorCode {
    /// Every code, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Failed,
        Self::Usage,
        Self::Unauthorized,
        Self::NoAgreement,
        Self::Refused,
        Self::NotFound,
        Self::NotRunning,
        Self::Damaged,
        Self::Locked,
        Self::TimedOut,
        Self::Full,
        Self::Busy,
        Self::Conflict,
        Self::FingerprintMismatch,
        Self::TooLarge,
    ];

    /// The table: name, HTTP status, exit code.
    const fn row(self) -> (&'static str, u16, u8) {
        match self {
            Self::Failed => ("failed", 500, 1),
            Self::Usage => ("usage", 400, 2),
            Self::Unauthorized => ("unauthorized", 401, 5),
            Self::NoAgreement => ("no_agreement", 403, 3),
            Self::Refused => ("refused", 403, 3),
            Self::NotFound => ("not_found", 404, 4),
            Self::NotRunning => ("not_running", 503, 5),
            Self::Damaged => ("damaged", 422, 6),
            Self::Locked => ("locked", 423, 6),
            Self::TimedOut => ("timed_out", 504, 7),
            Self::Full => ("full", 507, 1),
            Self::Busy => ("busy", 503, 1),
            Self::Conflict => ("conflict", 409, 1),
            Self::FingerprintMismatch => ("fingerprint_mismatch", 409, 1),
            Self::TooLarge => ("too_large", 413, 1),
        }
    }

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of a [`Problem`] with this code.
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// The exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        self.row().2
    }
}

/// An error as people and scripts read it: what kind, what is wrong, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceError {
    /// The kind, which decides HTTP status and exit code.
    #[serde(rename = "error")]
    pub code: ErrorCode,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do next, or empty.
    pub hint: String,
}

impl ServiceError {
    /// An error of kind `code` that says `message` and what to do.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}

/// The error body of the API: RFC 9457 problem details with our code and hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:pakt:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// The code that scripts compare.
    pub error: ErrorCode,
    /// What to do next, or empty.
    pub hint: String,
}

impl From<ServiceError> for Problem {
    fn from(e: ServiceError) -> Self {
        Self {
            kind: format!("urn:pakt:error:{}", e.code.as_str()),
            title: e.code.as_str().replace('_', " "),
            status: e.code.http_status(),
            detail: e.message,
            error: e.code,
            hint: e.hint,
        }
    }
}

impl From<Problem> for ServiceError {
    fn from(p: Problem) -> Self {
        Self { code: p.error, message: p.detail, hint: p.hint }
    }
}
