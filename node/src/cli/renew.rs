//! `pakt agreement renew --bundle|--ending-within`: many at once, one signature each.

use std::time::Duration;

use serde::Serialize;

use super::Exit;
use super::client::{Client, escaped};
use super::output::{Output, safe, table};
use super::signing::SigningArgs;
use crate::api::types::*;

/// Which agreements are to be renewed.
pub struct Many {
    /// Those proposed in this bundle.
    pub bundle: Option<String>,
    /// Those that end within this time.
    pub ending_within: Option<Duration>,
    /// Until when; without it each for as long again.
    pub until: Option<String>,
    /// How the root is opened.
    pub signing: SigningArgs,
}

/// What became of one of them.
#[derive(Serialize)]
struct Renewed {
    id: String,
    name: String,
    number: String,
    offered: bool,
    delivered: bool,
    note: String,
}

impl Many {
    /// Whether this agreement is one of them: in force, and a later end not offered already.
    fn has(&self, agreement: &AgreementSummary) -> bool {
        let of_bundle = self.bundle.is_none() || agreement.bundle == self.bundle;
        let days = self.ending_within.map(|within| i64::try_from(within.as_secs() / 86_400).unwrap_or(i64::MAX));
        let in_time = days.is_none_or(|days| agreement.ends_in_days.is_some_and(|left| left <= days));
        let offered = agreement.amendments.iter().any(|amendment| amendment.ours);
        agreement.state == AgreementState::Active && of_bundle && in_time && !offered
    }
}

/// Offers to renew each of them.
///
/// # Errors
/// When the list cannot be had; what goes wrong with one agreement stands in its row.
pub async fn many(client: &Client, output: Output, many: Many) -> Result<Exit, ServiceError> {
    let mut agreements: Vec<AgreementSummary> = client.get("/v1/agreements").await?;
    agreements.retain(|agreement| many.has(agreement));
    if !agreements.is_empty() {
        output.confirm(&format!("Sign {} renewals?", agreements.len()))?;
    }
    let signing = if agreements.is_empty() { Signing::default() } else { many.signing.read()? };
    let mut all = Vec::with_capacity(agreements.len());
    for agreement in agreements {
        let request = RenewRequest { until: many.until.clone(), signing: signing.clone() };
        let path = format!("/v1/agreements/{}/renewal", escaped(&agreement.id));
        let (offered, delivered, note) = match client.post::<_, Accepted>(&path, &request).await {
            Ok(accepted) => (true, accepted.delivered, accepted.note),
            Err(error) => (false, false, error.message),
        };
        let AgreementSummary { id, name, number, .. } = agreement;
        all.push(Renewed { id, name, number, offered, delivered, note });
    }
    output.result(&all, |all| text(output, all));
    Ok(if all.iter().all(|one| one.offered) { Exit::DONE } else { Exit(ErrorCode::Failed.exit_code()) })
}

fn text(output: Output, all: &[Renewed]) -> String {
    if all.is_empty() {
        return "nothing to renew: none is in force that fits, or each was offered already".into();
    }
    let row = |one: &Renewed| {
        let outcome = if one.offered { "offered" } else { "FAILED" };
        vec![output.id(&one.id), safe(&one.name), safe(&one.number), outcome.to_owned(), safe(&one.note)]
    };
    table(&["ID", "NAME", "NUMBER", "OUTCOME", "NOTE"], all.iter().map(row).collect())
}
