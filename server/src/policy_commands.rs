//! `sallyport-server gate policy …`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use sallyport_domain::GateId;
use sallyport_server::{audit, policies};

use super::approval_commands::{Second, approved};
use super::{ACTOR, Data, open};

/// Arguments of `gate policy`.
#[derive(Args)]
pub(super) struct Policy {
    /// Which gate.
    gate: GateId,
    /// File with the next policy, JSON. Its version ends in a higher number than every version that this gate ever had.
    #[arg(long)]
    set: Option<PathBuf>,
    /// Only say what the file would change.
    #[arg(long, requires = "set", conflicts_with = "reason")]
    dry_run: bool,
    /// Why; the supervisor who approves reads it.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Print the policy that holds as a file to change and set.
    #[arg(long, conflicts_with = "set")]
    json: bool,
    #[command(flatten)]
    second: Second,
    #[command(flatten)]
    data: Data,
}

pub(super) async fn run(arguments: Policy) -> anyhow::Result<()> {
    let Policy {
        gate,
        set,
        dry_run,
        reason,
        json,
        second,
        data,
    } = arguments;
    let Some(path) = set else {
        return show(&gate, json, &data).await;
    };
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let policy = policies::parse(&text).with_context(|| path.display().to_string())?;
    anyhow::ensure!(
        dry_run || !reason.trim().is_empty(),
        "say why with --reason; whoever approves reads it. With --dry-run nothing is asked or changed"
    );
    let state = open(&data).await?;
    let change = policies::change(&state, &gate, &policy).await?;
    for line in change.in_words() {
        println!("{line}");
    }
    if dry_run {
        println!("Nothing was asked or changed.");
        return Ok(());
    }
    approved(&state, &change.asked(&reason), &second).await?;
    let index = policies::set(&state, &change, ACTOR).await?;
    audit::publish(&state).await?;
    println!("It holds from the gate's next passage on: log entry {index}.");
    Ok(())
}

async fn show(gate: &GateId, json: bool, data: &Data) -> anyhow::Result<()> {
    let state = open(data).await?;
    let held = policies::held(&state, gate).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&held.policy)?);
        return Ok(());
    }
    for line in held.policy.in_words() {
        println!("{line}");
    }
    println!(
        "Set by log entry {}; SHA-256 of its text {}. The next one ends in a number above {}.",
        held.set_by,
        policies::sha256(&held.text),
        held.highest
    );
    Ok(())
}
