//! `status`: how a joined gate is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::say;
use crate::camera::CameraHealth;
use crate::deps::Deps;
use crate::renewal::{Life, Phase};
use crate::rules::Rules;
use crate::spool::{FileDisk, Spool};
use crate::state::StateFolder;
use crate::tls;
use crate::uplink::Uplink;
use crate::witness::standing_alarm;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// State folder of the gate.
    #[arg(long)]
    state: PathBuf,
}

pub(super) fn status(args: &StatusArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let state = StateFolder::existing(&args.state);
    let identity = state.identity()?;
    say(&format!(
        "gate {} ({}), server {}",
        identity.gate,
        identity.answer.direction.code(),
        identity.server
    ))?;
    say(&format!(
        "fingerprint of its key: {}",
        identity.fingerprint()
    ))?;
    let (waiting, torn) = Spool::count(&state.spool(), Arc::new(FileDisk))?;
    say(&format!(
        "spool: {waiting} reports wait for the server, {torn} damaged"
    ))?;
    say(&Rules::open(Some(&state), None).sentence())?;
    let alarm = standing_alarm(&state.witness());
    if let Some(alarm) = &alarm {
        say(&format!(
            "ALARM about the audit log: {alarm}. The gate opens on no grant; see docs/auditing.md"
        ))?;
    }
    let cameras = state.health();
    for (name, health) in &cameras {
        say(&format!(
            "camera {name}: {health} (as the agent saw it last)"
        ))?;
    }
    let seeing = cameras
        .iter()
        .all(|(_, health)| health == "ok" || *health == CameraHealth::Finished.text());
    let life = Life::of_pem(&identity.answer.certificate_pem)?;
    let now = deps.clock.wall();
    let lives = life.phase(now) < Phase::Ending;
    say(&life.sentence(now))?;
    let uplink = Uplink::new(
        &identity.server,
        tls::joined(&identity)?,
        deps.clock.clone(),
    );
    let reached = match uplink.ping() {
        Ok(()) => {
            say("server: answers and accepts this gate")?;
            true
        }
        Err(error) => {
            say(&format!("server: {error}"))?;
            false
        }
    };
    Ok(
        if reached && lives && seeing && torn == 0 && alarm.is_none() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        },
    )
}
