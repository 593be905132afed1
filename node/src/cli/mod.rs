//! The command line: a client of the local API, plus the few commands that need no node.
//!
//! **Invariant:** exit codes, flags and JSON fields are what `pakt --help` and the design say; scripts rely on them.
//! **Invariant:** results go to stdout, all else to stderr, and no question is asked unless a person sits there.
//!
//! Start reading at [`main`], then [`args::Cli`].

// The one place where printing is the purpose.
#![allow(clippy::print_stdout)]

pub mod address;
pub mod agreement;
pub mod args;
pub mod backup;
pub mod client;
mod comparisons;
pub mod directory;
pub mod doctor;
pub mod introduce;
pub mod keep;
pub mod keys;
pub mod keystore;
pub mod life;
pub mod lists;
pub mod log;
mod log_entries;
pub mod output;
pub mod page;
pub mod progress;
pub mod quarantine;
pub mod reconcile;
pub mod records;
pub mod renew;
pub mod run;
pub mod save;
pub mod send;
pub mod signing;
pub mod tar_out;
pub mod walk;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::api::types::{ErrorCode, ServiceError};
use crate::{demo, files, setup};
use args::{Cli, Command, InitArgs};
use client::Client;
use output::{Output, facts};

/// The exit code of a command that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All went well.
    pub const DONE: Self = Self(0);
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error).0),
    };
    let output = Output { json: cli.json, yes: cli.yes, wide: cli.wide, force: cli.force };
    let is_named = cli.dir.is_some();
    let exit = match dispatch(cli, output) {
        Ok(exit) => exit,
        Err(error) if is_named => Exit(output.error(&error)),
        Err(error) => Exit(output.error(&with_place(error))),
    };
    ExitCode::from(exit.0)
}

/// Help and version go to stdout with 0, anything else is a usage error.
fn usage(error: &clap::Error) -> Exit {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = std::env::args_os().any(|argument| argument == "--json");
    if asked_for || !json {
        let _ = error.print();
        return if asked_for { Exit::DONE } else { Exit(ErrorCode::Usage.exit_code()) };
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let message = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let message = message.trim_start_matches("error: ").to_owned();
    let error = ServiceError::new(ErrorCode::Usage, message, "see `pakt --help`");
    Exit(Output { json, yes: false, wide: false, force: false }.error(&error))
}

fn dispatch(cli: Cli, output: Output) -> Result<Exit, ServiceError> {
    let dir = match cli.dir {
        Some(dir) => dir,
        None => default_dir()?,
    };
    match cli.command {
        Command::Init(args) => init(dir, output, args),
        Command::Card(args) => agreement::card(&dir, output, &args),
        Command::Run(args) => run::run(&dir, output, args),
        Command::Recover(args) => keys::recover(&dir, output, &args),
        Command::Root(command) => keys::root(&dir, output, command),
        Command::Approver(command) => keys::approver(&dir, output, command),
        Command::Keystore(command) => keystore::keystore(&dir, output, command),
        Command::Demo(args) => runtime()?.block_on(demo::run(output, &args)),
        command => runtime()?.block_on(ask(&dir, output, command)),
    }
}

/// The commands that are clients of a node.
async fn ask(dir: &Path, output: Output, command: Command) -> Result<Exit, ServiceError> {
    let client = Client::new(dir);
    match command {
        Command::Agreement(command) => agreement::agreement(&client, dir, output, command).await,
        Command::Directory(command) => directory::directory(&client, dir, output, command).await,
        Command::Introduce(args) => introduce::introduce(&client, dir, output, args).await,
        Command::Group(command) => lists::group(&client, output, command).await,
        Command::Address(command) => address::address(&client, output, command).await,
        Command::Peers => lists::peers(&client, output).await,
        Command::Send(args) => send::send(&client, output, args).await,
        Command::Inbox(command) => lists::inbox(&client, output, command).await,
        Command::Outbox(command) => lists::outbox(&client, output, command).await,
        Command::Receipt(command) => lists::receipt(&client, output, command).await,
        Command::Quarantine(command) => quarantine::quarantine(&client, output, command).await,
        Command::Log(command) => log::log(&client, dir, output, command).await,
        Command::Reconcile(args) => reconcile::reconcile(&client, output, args).await,
        Command::Backup(command) => backup::backup(&client, dir, output, command).await,
        Command::Status => lists::status(&client, output).await,
        Command::Doctor(args) => doctor::doctor(&client, dir, output, &args).await,
        Command::Rotate(args) => keys::rotate(&client, dir, output, &args).await,
        Command::Init(_)
        | Command::Card(_)
        | Command::Run(_)
        | Command::Demo(_)
        | Command::Recover(_)
        | Command::Root(_)
        | Command::Keystore(_)
        | Command::Approver(_) => Ok(Exit::DONE),
    }
}

/// Two threads are enough for a client: one reads files, one talks to the node.
fn runtime() -> Result<tokio::runtime::Runtime, ServiceError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| ServiceError::new(ErrorCode::Failed, format!("cannot start: {e}"), ""))
}

/// Where nobody named a data directory and there is none in the usual place, that is the likely reason of any error.
fn with_place(error: ServiceError) -> ServiceError {
    let Ok(dir) = default_dir() else { return error };
    if error.code == ErrorCode::Usage || dir.join(crate::config::CONFIG_NAME).exists() {
        return error;
    }
    let hint = format!("no data directory was named, and {} is none: give --dir DIR or set PAKT_DIR", dir.display());
    ServiceError { hint, ..error }
}

/// Where a node lives when nobody says so.
fn default_dir() -> Result<PathBuf, ServiceError> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    match data.or_else(home) {
        Some(data) => Ok(data.join("pakt")),
        None => {
            Err(ServiceError::new(ErrorCode::Usage, "no data directory is named", "give --dir DIR or set PAKT_DIR"))
        }
    }
}

/// Reads a text file of the caller; `-` is stdin.
fn read_text(path: &Path, bytes_max: u64) -> Result<String, ServiceError> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|e| files::read_error(path, &e))?;
        if bytes.len() as u64 > bytes_max {
            let message = format!("the text on stdin is longer than {bytes_max} bytes");
            return Err(ServiceError::new(ErrorCode::Usage, message, "send long texts as files"));
        }
        bytes
    } else {
        files::read_bounded(path, bytes_max)?
    };
    String::from_utf8(bytes).map_err(|_| {
        let message = format!("{} is not UTF-8 text", path.display());
        ServiceError::new(ErrorCode::Usage, message, "save it as UTF-8")
    })
}

fn init(dir: PathBuf, output: Output, args: InitArgs) -> Result<Exit, ServiceError> {
    let options = setup::InitOptions {
        dir,
        name: args.name,
        number: args.number,
        listen: args.listen,
        advertise: args.advertise,
        allow_range: args.allow_range,
        proxy: args.proxy,
        proxy_credentials_file: args.proxy_credentials_file,
        passphrase_file: args.passphrase_file,
        recovery_file: args.recovery_file,
        root_file: args.root_file,
        root_passphrase_file: args.root_passphrase_file,
    };
    let made = setup::init(&options)?;
    output.result(&made, init_text);
    Ok(Exit::DONE)
}

fn init_text(made: &setup::Initialised) -> String {
    let dir = shell_word(&made.dir.display().to_string());
    let addresses = match made.addresses.as_slice() {
        [] => "none in the card: this node can only dial out (see --advertise)".to_owned(),
        some => some.join("\n"),
    };
    let mut lines = vec![facts(&[
        ("name", format!("{}, {}", made.name, made.number)),
        ("entity", made.entity.clone()),
        ("fingerprint", made.fingerprint.clone()),
        ("listens on", made.listen.clone()),
        ("reached at", addresses),
        ("card", made.card.display().to_string()),
        (
            "recovery file",
            format!(
                "{}\nmove it to another place: it is the way back when this one is lost",
                made.recovery_file.display()
            ),
        ),
    ])];
    if made.unprotected {
        lines.push(
            "The keys lie on disk WITHOUT a passphrase: whoever reads this disk is this entity.\n\
             For patient data, give them one before the node runs: pakt keystore passphrase --new-passphrase-file FILE"
                .to_owned(),
        );
    }
    let passphrase = if made.passphrase_unnamed { " --passphrase-file FILE" } else { "" };
    lines.push(format!(
        "Next:\n  pakt run --dir {dir}{passphrase}\n  pakt card --dir {dir} --out my.card\n  \
         pakt agreement propose --dir {dir} --with their.card --out our.proposal"
    ));
    lines.join("\n\n")
}

/// `text` as one word of a shell command.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shell_words_survive_a_shell() {
        let check = |text: &str, word: &str| assert_eq!(shell_word(text), word);
        check("/var/lib/pakt", "/var/lib/pakt");
        check("my node", "'my node'");
        check("it's", "'it'\\''s'");
        check("", "''");
    }
}
