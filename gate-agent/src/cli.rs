//! The command line.

mod devices;
mod import;
mod models;
mod probe;
mod reencode;
mod run;
mod spot;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sallyport_protocol::JoinToken;

use crate::deps::Deps;
use crate::join::Again;
use models::ModelFlags;

const EXAMPLES: &str = "\
Examples:
  sallyport-gate join --server centre.example:8441 --token-file token.txt --state state
  sallyport-gate run --config gate.toml
  sallyport-gate import people/ --state state --category visitor
  sallyport-gate probe picture.jpg --out seen.png --development
  sallyport-gate probe --iris eye.png --eye left --json

A gate joins once with a token from `sallyport-server gate token`, then runs. The decisions are the
server's; without it the door stays shut and the person is told to call an officer.";

/// One gate or enrolment station: cameras, capture, uplink, door.
#[derive(Debug, Parser)]
#[command(name = "sallyport-gate", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// Write operator logs as JSON lines (to standard error).
    #[arg(long, global = true)]
    pub log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a server: make the device key, get the certificate.
    #[command(after_help = "\
Example:
  sallyport-gate join --server centre.example:8441 --token-file token.txt --state /var/lib/sallyport-gate

The token is printed once by `sallyport-server gate token` and is good for one use and a short time.
Prefer --token-file (or `--token-file -` for standard input): a command line can be seen by others.")]
    Join(JoinArgs),
    /// Run the gate.
    #[command(after_help = "\
Examples:
  sallyport-gate run --config gate.toml
  sallyport-gate run --config demo.toml --once --json

Prints what the gate shows and does, one line each. deploy/gate.example.toml explains every key.
With --once it ends when all replays are over, every passage is answered and every report is
delivered; the exit status is then 0, or 3 when something went wrong on the way.")]
    Run(run::RunArgs),
    /// Enrol people from existing pictures.
    #[command(after_help = "\
Examples:
  sallyport-gate import people/ --state state --category visitor
  sallyport-gate import people.csv --state state

A folder holds one sub-folder a person, named as the person is shown to officers. A CSV file has the
columns path,person,category; paths start at its folder. Run the same command again to go on after
an interruption: the report file remembers what is done. Refused pictures are named with what to do
about them and don't stop the rest. Exit status: 0 all enrolled, 2 something was refused.")]
    Import(import::ImportArgs),
    /// While models change: encode the photographs that may be kept by the new face model.
    #[command(after_help = "\
Example:
  sallyport-gate reencode --state state --successor models/next/manifest.toml

The server hands out one photograph after the other, for a change that was begun with
`sallyport-server model-change begin --station THIS`. Nothing is written here; run the same command again
to go on after an interruption. Exit status: 0 all encoded, 2 some gave nothing and wait for the
person's next passage.")]
    Reencode(reencode::ReencodeArgs),
    /// Show what the face or iris pipeline sees in one picture.
    #[command(after_help = "\
Examples:
  sallyport-gate probe picture.jpg
  sallyport-gate probe picture.jpg --out seen.png --development
  sallyport-gate probe picture.jpg --json
  sallyport-gate probe --iris eye.png --eye left --out seen/ --development
  sallyport-gate probe --iris strip-with-both-eyes.png --json

Exit status: 0 when exactly one usable face, or only usable eyes, were found, 2 otherwise. A picture is
written only where the rules of the gate that --state or --config names permit it, or with --development.")]
    Probe(probe::ProbeArgs),
    /// List USB cameras, or check the configured ones.
    #[command(after_help = "\
Examples:
  sallyport-gate devices
  sallyport-gate devices --config gate.toml

With --config each camera is opened and must give a frame; exit status 2 when one does not.")]
    Devices(devices::DevicesArgs),
    /// Say how a joined gate is: identity, spool, server.
    #[command(after_help = "\
Example:
  sallyport-gate status --state /var/lib/sallyport-gate

Reads the state folder beside a running agent and asks the server whether it accepts this gate. Exit status 2 when something is wrong.")]
    Status(status::StatusArgs),
    /// Free the doors for life safety, as an officer at the gate machine, or end that.
    #[command(after_help = "\
Examples:
  sallyport-gate release --state /var/lib/sallyport-gate --officer 4711 --reason 'smoke in corridor B'
  sallyport-gate release --state /var/lib/sallyport-gate --end

For danger to life only. It needs no server and no network, raises an alarm, and goes into the audit log with its begin and end.
The way that works with this software dead is the hardwired one; this is no substitute for it.")]
    Release(spot::ReleaseArgs),
    /// Write down what an officer decided on the spot while the system could not decide. Opens nothing.
    #[command(after_help = "\
Example:
  sallyport-gate decided --state /var/lib/sallyport-gate --decision admitted --officer 4711 --reason 'known by sight, server away'

The gate sends it to the audit log as soon as the server is there.")]
    Decided(spot::DecidedArgs),
}

#[derive(Debug, clap::Args)]
struct JoinArgs {
    /// Gate interface of the server, HOST:PORT.
    #[arg(long)]
    server: String,
    /// The join token.
    #[arg(
        long,
        required_unless_present = "token_file",
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// File with the join token; `-` for standard input.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// State folder to make.
    #[arg(long)]
    state: PathBuf,
    /// Join again with the same gate and state folder, after its certificate ended; what waits in the spool stays.
    #[arg(long)]
    again: bool,
}

/// Operator logs to standard error; `RUST_LOG` chooses the level.
pub fn start_logging(json: bool) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call (in tests) keeps the first subscriber.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
}

/// The error with its causes, each said once: many of our sentences already contain their cause.
#[must_use]
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Runs one command.
///
/// # Errors
/// What went wrong and what to do, for the terminal.
pub fn run(cli: Cli, deps: Deps) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Join(args) => join(&args, &deps),
        Command::Run(args) => run::run(&args, deps),
        Command::Import(args) => import::import(&args, &deps),
        Command::Reencode(args) => reencode::reencode(&args, &deps),
        Command::Probe(args) => probe::probe(&args, &deps),
        Command::Devices(args) => devices::devices(&args, &deps),
        Command::Status(args) => status::status(&args, &deps),
        Command::Release(args) => spot::release(&args),
        Command::Decided(args) => spot::decided(&args, &deps),
    }
}

fn join(args: &JoinArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let text = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())
            .context("cannot read the token from standard input")?,
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the token from {}", path.display()))?,
        (None, None) => anyhow::bail!("give the token with --token-file"),
    };
    let token: JoinToken = text.parse()?;
    let again = if args.again {
        Again::SameGate
    } else {
        Again::No
    };
    let identity = crate::join::join(&args.server, &token, &args.state, deps.clock.clone(), again)?;
    say(&format!(
        "The gate {} has joined {} ({}). Its key and certificate lie in {}.\nFingerprint of its key: {}\n\
         An officer compares it on the console's page Gates and approves this device; until then the server refuses it.\nThen write a configuration \
         (see deploy/gate.example.toml) and start it with `sallyport-gate run --config gate.toml`.",
        identity.gate,
        identity.server,
        identity.answer.direction.code(),
        args.state.display(),
        identity.fingerprint()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a line; a closed terminal is an error, not a panic.
fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_consistent_and_every_command_has_an_example() {
        use clap::CommandFactory as _;
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            let help = sub
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{}", sub.get_name());
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let inner = crate::uplink::UplinkError::Unreachable("no route".to_owned());
        let joined = anyhow::Error::from(crate::join::JoinError::Uplink(inner));
        let text = error_text(&joined);
        assert_eq!(text.matches("no route").count(), 1, "{text}");
        let text = error_text(&joined.context("outer"));
        assert!(text.starts_with("outer: joining failed"), "{text}");
        assert_eq!(text.matches("no route").count(), 1, "{text}");
    }
}
