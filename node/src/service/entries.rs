//! Entries of this node's audit log: pages of them, exports, and what the operator must know about the log itself.

use std::io;

use bytes::Bytes;
use futures::Stream;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pakt_protocol::audit::Event;
use pakt_protocol::time::Time;

use super::{Answer, Node, blocking, words};
use crate::ambient;
use crate::api::types::*;
use crate::audit::export::{Format, UnknownFormat};
use crate::audit::keep::{Looks, Unread};
use crate::audit::{self, Log};
use crate::store::StoreError;

/// Entries of one page, where nothing else is asked for, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Entries that an export reads at once.
const EXPORT_ENTRIES: usize = 500;

/// Which entries leave, and how.
#[derive(Clone, Copy, Debug)]
struct Export {
    format: Format,
    next: u64,
    end: u64,
    since: Time,
}

impl Node {
    /// Entries from a number on, or the newest ones.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_entries(&self, from: Option<u64>, limit: Option<usize>) -> Answer<LogPage> {
        let log = self.inner.exchange.log().clone();
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        blocking(move || {
            let size = log.size()?;
            let from = from.unwrap_or(size.saturating_sub(limit as u64));
            let entries = log.store().read(|tx| audit::page(tx, from, limit))?;
            let next = from.saturating_add(entries.len() as u64);
            let entries = entries.iter().map(|(number, entry)| view(*number, entry)).collect();
            Ok(LogPage { entries, size, next: (next < size).then_some(next) })
        })
        .await
    }

    /// Streams entries as lines; that it was done is an entry itself, which comes after those that leave.
    ///
    /// # Errors
    /// `usage` for an unknown format or moment.
    pub async fn log_export(
        &self,
        asked: LogExport,
    ) -> Answer<(Format, impl Stream<Item = io::Result<Bytes>> + use<>)> {
        let export = self.export_of(&asked)?;
        let log = self.inner.exchange.log().clone();
        let event = Event::LogExported { from: export.next, to: export.end };
        let noted: Result<(), StoreError> = log.store().write(move |tx| audit::append(tx, event)).await;
        noted?;
        let own = self.inner.entity.id();
        let lines = futures::stream::try_unfold(export, move |export| {
            let log = log.clone();
            async move {
                let read = tokio::task::spawn_blocking(move || next_lines(&log, &own, export)).await;
                read.map_err(io::Error::other)?.map_err(io::Error::other)
            }
        });
        Ok((export.format, lines))
    }

    fn export_of(&self, asked: &LogExport) -> Answer<Export> {
        let format = asked.format.parse().map_err(|error: UnknownFormat| {
            ServiceError::new(ErrorCode::Usage, error.to_string(), "see `pakt log export --help`")
        })?;
        let size = self.inner.exchange.log().size()?;
        let end = asked.to.map_or(size, |last| last.saturating_add(1).min(size));
        let since = asked.since.as_deref().map(|text| moment(text, ambient::now())).transpose()?;
        let next = asked.from.unwrap_or(0).min(end);
        Ok(Export { format, next, end, since: since.unwrap_or(Time(0)) })
    }

    /// How the log is.
    pub(super) fn log_status(&self) -> Answer<LogStatus> {
        let log = self.inner.exchange.log();
        Ok(log_status_of(log.size()?, log.looks()))
    }

    /// What the operator must know about this node's own log.
    pub(super) fn own_log_warnings(&self, now: Time) -> Answer<Vec<String>> {
        let log = self.inner.exchange.log();
        let mut warnings = look_warnings(&log.looks());
        if self.inner.config.log.syslog.is_some()
            && let Some(count) = log.feed_behind(now)?
        {
            warnings.push(format!(
                "{count} entries of the audit log wait for the syslog socket for more than an hour: see [log] syslog"
            ));
        }
        Ok(warnings)
    }
}

fn log_status_of(entries: u64, looks: Looks) -> LogStatus {
    let Looks { looked, unread } = looks;
    LogStatus {
        entries,
        verified_at: looked.as_ref().map(|looked| time_text(looked.at)),
        fault: looked.and_then(|looked| looked.fault),
        unread: unread.map(|unread| unread.why),
    }
}

/// What is said of a log that is not what it was, and of one that could not be read.
fn look_warnings(looks: &Looks) -> Vec<String> {
    let fault = looks.looked.as_ref().and_then(|looked| looked.fault.as_ref()).map(|fault| {
        format!(
            "ALARM: the audit log of this node is not what it was: {fault}. Keep this data directory as it is, and compare \
             with the heads that counterparts hold: `pakt log verify --head`"
        )
    });
    let unread = looks.unread.as_ref().map(|Unread { at, why }| {
        format!(
            "the audit log of this node could not be read to its end at {}: {why}; it is tried again every hour; \
             `pakt log verify` reads it now",
            words::moment(*at)
        )
    });
    fault.into_iter().chain(unread).collect()
}

/// The next lines and what is left; none at the end.
fn next_lines(log: &Log, own: &pakt_keys::EntityId, export: Export) -> Result<Option<(Bytes, Export)>, StoreError> {
    let limit = usize::try_from(export.end - export.next).unwrap_or(usize::MAX).min(EXPORT_ENTRIES);
    if limit == 0 {
        return Ok(None);
    }
    let entries = log.store().read(|tx| audit::page(tx, export.next, limit))?;
    let mut text = String::new();
    for (number, entry) in entries.iter().filter(|(_, entry)| entry.at >= export.since) {
        text.push_str(&export.format.line(own, *number, entry));
        text.push('\n');
    }
    let next = if entries.len() < limit { export.end } else { export.next + limit as u64 };
    Ok(Some((Bytes::from(text), Export { next, ..export })))
}

fn view(number: u64, entry: &audit::Entry) -> LogEntry {
    let class = entry.event.class();
    LogEntry {
        number,
        at: time_text(entry.at),
        kind: class.kind.as_str().to_owned(),
        action: class.action.to_owned(),
        ids: entry.event.ids().into_iter().map(|(what, id)| (what.to_owned(), id)).collect(),
    }
}

/// A moment as people write it: RFC 3339, a date (UTC), or how long ago.
fn moment(text: &str, now: Time) -> Answer<Time> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now - ago);
    }
    let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let at = text.parse::<jiff::Timestamp>().ok().or_else(date);
    at.and_then(|at| u64::try_from(at.as_microsecond()).ok()).map(Time).ok_or_else(|| {
        let message = format!("{text} is no moment");
        ServiceError::new(ErrorCode::Usage, message, "write 2026-11-22, 2026-11-22T08:00:00Z, or how long ago: 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::keep::Looked;
    use crate::service::health::alarms;

    /// Neither a log that was changed nor one that cannot be read may pass for one that is whole.
    #[test]
    fn a_look_that_went_wrong_shows_in_status_and_warnings() {
        let at = Time::from_seconds(1_795_000_000);
        let check = |fault: Option<&str>, unread: Option<&str>, is_faulty: bool, says: &[&str]| {
            let looks = Looks {
                looked: Some(Looked { at, entries: 7, fault: fault.map(str::to_owned) }),
                unread: unread.map(|why| Unread { at, why: why.to_owned() }),
            };
            let warnings = look_warnings(&looks);
            let status = log_status_of(7, looks);
            assert_eq!((status.is_faulty(), warnings.len()), (is_faulty, says.len()), "{status:?} {warnings:?}");
            assert!(warnings.iter().zip(says).all(|(warning, begin)| warning.starts_with(begin)), "{warnings:?}");
            assert!(status.verified_at.is_some());
        };
        let (changed, unread) = ("ALARM: the audit log", "the audit log of this node could not be read");
        check(None, None, false, &[]);
        check(Some("entry 3 was changed"), None, true, &[changed]);
        check(None, Some("the disk failed"), true, &[unread]);
        check(Some("entry 3 was changed"), Some("the disk failed"), true, &[changed, unread]);
    }

    #[tokio::test]
    async fn a_log_that_was_tampered_with_is_an_alarm_for_monitoring() {
        let warnings = look_warnings(&audit::tests::tampered_log().await.looks());
        assert_eq!(alarms(&warnings), 1, "{warnings:?}");
    }

    #[test]
    fn moments_are_dates_times_or_ages() {
        let now = Time::from_seconds(1_795_000_000);
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(moment(text, now).ok(), seconds.map(Time::from_seconds), "{text}");
        };
        check("2026-11-22", Some(1_795_305_600));
        check("2026-11-22T08:00:00Z", Some(1_795_334_400));
        check("2026-11-22T08:00:00+01:00", Some(1_795_330_800));
        check("7d", Some(1_795_000_000 - 7 * 86_400));
        check("yesterday", None);
        check("", None);
    }
}
