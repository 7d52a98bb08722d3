//! What an officer does at the gate machine itself: free the doors for life safety, and write down what was decided without the system.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use sallyport_domain::TransactionId;
use sallyport_protocol::SpotDecision;

use super::say;
use crate::deps::Deps;
use crate::life_safety::{ReleaseRequest, SpotNote, ask, leave_note};
use crate::state::StateFolder;

/// Longer texts are refused by the server.
const TEXT_CHARS: usize = 500;

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// State folder of the joined gate.
    #[arg(long)]
    state: PathBuf,
    /// Who you are; it goes into the audit log, sealed.
    #[arg(long, required_unless_present = "end", default_value = "")]
    officer: String,
    /// Why; it goes into the audit log, sealed.
    #[arg(long, required_unless_present = "end", default_value = "")]
    reason: String,
    /// End the release that was asked for by this command. An alarm of the fire input goes on.
    #[arg(long, conflicts_with_all = ["officer", "reason"])]
    end: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decision {
    /// Let through by key or by hand.
    Admitted,
    /// Turned away.
    TurnedAway,
}

#[derive(Debug, Args)]
pub(super) struct DecidedArgs {
    /// State folder of the joined gate.
    #[arg(long)]
    state: PathBuf,
    /// What you decided.
    #[arg(long)]
    decision: Decision,
    /// Who you are; it goes into the audit log, sealed.
    #[arg(long)]
    officer: String,
    /// Why; it goes into the audit log, sealed.
    #[arg(long)]
    reason: String,
    /// The passage that could not be decided, as the gate printed it.
    #[arg(long)]
    transaction: Option<TransactionId>,
}

fn text(name: &str, value: &str) -> anyhow::Result<String> {
    let value = value.trim();
    if value.is_empty() || value.chars().count() > TEXT_CHARS {
        anyhow::bail!("--{name} must have between 1 and {TEXT_CHARS} characters");
    }
    Ok(value.to_owned())
}

pub(super) fn release(args: &ReleaseArgs) -> anyhow::Result<ExitCode> {
    // A folder without a gate would swallow the request.
    StateFolder::existing(&args.state).identity()?;
    if args.end {
        ask(&args.state, None).context("the request could not be withdrawn")?;
        say(
            "The request is withdrawn. The running gate lets its doors obey grants again, unless the fire input says otherwise.",
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = ReleaseRequest {
        officer: text("officer", &args.officer)?,
        reason: text("reason", &args.reason)?,
    };
    ask(&args.state, Some(&request)).context("the request could not be written")?;
    say(
        "Asked. A running gate frees its doors at once and says so; it raises an alarm and goes into the audit log. End it with --end.",
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn decided(args: &DecidedArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    StateFolder::existing(&args.state).identity()?;
    let at = deps.clock.wall();
    let (name, _) = deps.new_transaction(at)?;
    let note = SpotNote {
        transaction: args.transaction,
        decision: match args.decision {
            Decision::Admitted => SpotDecision::Admitted,
            Decision::TurnedAway => SpotDecision::TurnedAway,
        },
        officer: text("officer", &args.officer)?,
        reason: text("reason", &args.reason)?,
        at,
    };
    leave_note(&args.state, name, &note).context("the note could not be written")?;
    say(
        "Written down. The gate sends it to the audit log as soon as the server is there. No door was opened by this.",
    )?;
    Ok(ExitCode::SUCCESS)
}
