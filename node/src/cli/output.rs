//! How results and errors reach people and scripts.
//!
//! **Invariant:** with `--json` exactly one JSON value goes to stdout; without it, when a command's result is a file, exactly
//! that file does. All else goes to stderr.
//! **Invariant:** text from outside is shown so that it cannot move the cursor or reorder what stands beside it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::api::types::{ErrorCode, ServiceError};
use crate::files;

/// How this run answers.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON value on stdout.
    pub json: bool,
    /// No questions.
    pub yes: bool,
    /// Whole ids in tables.
    pub wide: bool,
    /// Files of the same name are replaced.
    pub force: bool,
}

/// Digits of an id in a table: commands take so many for the whole, and a row fits a terminal.
const ID_DIGITS_SHOWN: usize = 12;

impl Output {
    /// Prints `value` as JSON, or what `text` makes of it.
    pub fn result<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        let line = if self.json { serde_json::to_string_pretty(value).unwrap_or_default() } else { text(value) };
        print_out(&line);
    }

    /// Says something that is no result.
    pub fn note(self, text: &str) {
        eprintln!("{text}");
    }

    /// A result that is a file: to `out` or to stdout; with `--json` the file is also in `value`.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn file<T: Serialize>(self, value: &T, file: &str, out: Option<&Path>) -> Result<(), ServiceError> {
        if let Some(path) = out {
            self.write(path, file.as_bytes())?;
            if !self.json {
                self.note(&format!("wrote {}", path.display()));
            }
        }
        if self.json {
            self.result(value, |_| String::new());
        } else if out.is_none() {
            print_out(file.trim_end_matches('\n'));
        }
        Ok(())
    }

    /// Writes a file, and replaces one of the same name only if that was said.
    ///
    /// # Errors
    /// `conflict` when there is one, or when it cannot be written.
    pub fn write(self, path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
        // What is no file, such as /dev/stdout, holds nothing that could be lost.
        if path.is_file() && !self.force {
            let message = format!("{} exists already", path.display());
            return Err(ServiceError::new(
                ErrorCode::Conflict,
                message,
                "name another file, or give --force to replace it",
            ));
        }
        files::write_result(path, bytes)
    }

    /// An id in a table: its first digits, or the whole one with `--wide`.
    pub fn id(self, id: &str) -> String {
        if self.wide { id.to_owned() } else { id.chars().take(ID_DIGITS_SHOWN).collect() }
    }

    /// Reports an error and gives its exit code.
    pub fn error(self, error: &ServiceError) -> u8 {
        let error = &with_hint(error.clone());
        if self.json {
            print_out(&serde_json::to_string_pretty(error).unwrap_or_default());
        }
        report(error);
        error.code.exit_code()
    }

    /// Asks a yes-or-no question if a person sits there; else the answer is yes.
    ///
    /// # Errors
    /// `failed` when the person says no.
    pub fn confirm(self, question: &str) -> Result<(), ServiceError> {
        if self.yes || !std::io::stdin().is_terminal() {
            return Ok(());
        }
        eprint!("{question} (yes/no) ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(ServiceError::new(ErrorCode::Failed, "nothing was done", "answer yes, or give --yes"))
    }
}

/// Every error says what to do next.
pub fn with_hint(mut error: ServiceError) -> ServiceError {
    if error.hint.is_empty() {
        error.hint = "see `pakt doctor` and the log of the node".into();
    }
    error
}

/// Prints an error for people.
pub fn report(error: &ServiceError) {
    let safe_lines = |text: &str| text.lines().map(safe).collect::<Vec<_>>().join("\n");
    eprintln!("error: {}", safe_lines(&error.message));
    if !error.hint.is_empty() {
        eprintln!("hint: {}", safe_lines(&error.hint));
    }
}

/// Prints to stdout; a reader that went away is no error of ours.
fn print_out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = if text.is_empty() { Ok(()) } else { writeln!(stdout, "{text}") };
    let _ = stdout.flush();
}

/// Rows under a header; fitted to the terminal, or one line per row when there is none.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header.to_vec());
    let arrangement =
        if std::io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Two columns: a label and its value.
pub fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let line = |(label, value): &(&str, String)| {
        let indented = value.replace('\n', &format!("\n{:width$}  ", ""));
        format!("{label:width$}  {indented}")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A size for people: three digits and a decimal unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// How many of something: `1 file`, `2 files`.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A time span for people: its two largest units.
pub fn span(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = duration.as_secs();
    let mut parts = Vec::new();
    for (seconds, unit) in UNITS {
        if left >= seconds {
            parts.push(format!("{} {unit}", left / seconds));
        } else if !parts.is_empty() {
            break;
        }
        left %= seconds;
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".into() } else { parts.join(" ") }
}

/// A point in time for people: to the second, in UTC.
pub fn moment(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A point in time for people, if it is still to come.
pub fn coming(text: &str) -> Option<String> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let is_ahead = u64::try_from(at.as_microsecond()).is_ok_and(|at| at > crate::ambient::now().0);
    is_ahead.then(|| moment(text))
}

/// Text from outside, safe to show.
pub fn safe(text: &str) -> String {
    pakt_protocol::content::name::display_safe(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let check = |bytes: u64, text: &str| assert_eq!(size(bytes), text);
        check(0, "0 B");
        check(999, "999 B");
        check(1_000, "1.0 kB");
        check(120_400_000, "120 MB");
        check(999_900_000, "1.0 GB");
        check(u64::MAX, "18447 PB");
    }

    #[test]
    fn one_thing_is_no_plural() {
        let check = |count: u64, text: &str| assert_eq!(counted(count, "file"), text);
        check(0, "0 files");
        check(1, "1 file");
        check(2, "2 files");
    }

    #[test]
    fn spans_have_two_units() {
        let check = |seconds: u64, text: &str| assert_eq!(span(Duration::from_secs(seconds)), text);
        check(0, "0 s");
        check(61, "1 min 1 s");
        check(90_061, "1 d 1 h");
        check(86_405, "1 d");
    }

    #[test]
    fn only_what_is_still_to_come_is_coming() {
        let check = |text: &str, shown: Option<&str>| assert_eq!(coming(text).as_deref(), shown);
        check("2020-01-01T00:00:00Z", None);
        check("soon", None);
        check("9000-01-01T00:00:00.5Z", Some("9000-01-01 00:00:00 UTC"));
    }

    #[test]
    fn ids_in_tables_are_as_long_as_commands_need() {
        let output = |wide| Output { json: false, yes: true, wide, force: false };
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!((output(false).id(id), output(true).id(id)), ("0123456789ab".into(), id.to_owned()));
    }

    #[test]
    fn nothing_is_replaced_unless_that_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.card");
        let write = |text: &str, force| {
            Output { json: false, yes: true, wide: false, force }.write(&path, text.as_bytes()).map_err(|e| e.code)
        };
        assert_eq!(write("first", false), Ok(()));
        assert_eq!(write("second", false), Err(ErrorCode::Conflict));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(write("third", true), Ok(()));
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
    }

    #[test]
    fn facts_line_up() {
        let text = facts(&[("name", "a".into()), ("number", "b\nc".into())]);
        assert_eq!(text, "name    a\nnumber  b\n        c");
    }
}
