//! `sallyport-server gate …`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use sallyport_domain::{Direction, GateId};
use sallyport_server::{gates, policies, profiles};

use super::{ACTOR, Data, open, policy_commands};

#[derive(Subcommand)]
pub(super) enum Gate {
    /// Add a gate or enrolment station.
    Add {
        /// Its name: a-z, 0-9 and '-'.
        gate: GateId,
        /// Which way it leads: entry or exit.
        #[arg(long, value_parser = direction)]
        direction: Direction,
        /// Policy file, JSON; without it staff, officials and visitors may pass at any time.
        #[arg(long)]
        policy: Option<PathBuf>,
        #[command(flatten)]
        data: Data,
    },
    /// List gates and when they were last heard of.
    List(Data),
    /// Print a join token: one use, 15 minutes.
    Token {
        /// For which gate.
        gate: GateId,
        #[command(flatten)]
        data: Data,
    },
    /// Let a device that joined speak for its gate, after comparing the fingerprint that the device itself shows.
    Approve {
        /// Which gate.
        gate: GateId,
        /// The fingerprint, as `sallyport-gate join` and `status` print it on the gate.
        #[arg(required = true, num_args = 1..)]
        fingerprint: Vec<String>,
        #[command(flatten)]
        data: Data,
    },
    /// Show the policy that holds at a gate, or set the next one; a supervisor approves exactly that text first.
    Policy(policy_commands::Policy),
    /// Revoke all keys of a gate at once.
    Revoke {
        /// Which gate.
        gate: GateId,
        #[command(flatten)]
        data: Data,
    },
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "entry" => Ok(Direction::Entry),
        "exit" => Ok(Direction::Exit),
        _ => Err("use entry or exit".to_owned()),
    }
}

pub(super) async fn run(command: Gate) -> anyhow::Result<()> {
    match command {
        Gate::Add {
            gate,
            direction,
            policy,
            data,
        } => {
            let policy = match policy {
                Some(path) => {
                    let text = std::fs::read_to_string(&path)
                        .with_context(|| format!("reading {}", path.display()))?;
                    policies::parse(&text).with_context(|| path.display().to_string())?
                }
                None => gates::default_policy(),
            };
            let state = open(&data).await?;
            profiles::current(&state).await?;
            gates::add(&state, &gate, direction, &policy, ACTOR).await?;
            println!(
                "Gate {gate} added. Next: sallyport-server gate token {gate} --data {}",
                data.data.display()
            );
        }
        Gate::List(data) => {
            let state = open(&data).await?;
            for gate in gates::list(&state).await? {
                let seen = gate.last_seen.map_or_else(
                    || "never".to_owned(),
                    sallyport_domain::Timestamp::to_rfc3339,
                );
                println!("{}\t{}\tlast heard of: {seen}", gate.id, gate.direction);
            }
            for (gate, key) in sallyport_server::rights::waiting(&state).await? {
                println!(
                    "{gate}\twaits for approval: a device with fingerprint {}",
                    sallyport_protocol::key_fingerprint(&key)
                );
            }
        }
        Gate::Token { gate, data } => {
            let token = gates::token(&open(&data).await?, &gate, ACTOR).await?;
            println!(
                "On the gate, within 15 minutes: sallyport-gate join --server HOST:PORT --state DIR --token-file -\n\
                 Then compare the fingerprint that the gate shows, and approve the device on the console's page Gates, or here: sallyport-server gate approve {gate} FINGERPRINT\n\
                 The gate asks for this line; it works once:\n{token}"
            );
        }
        Gate::Approve {
            gate,
            fingerprint,
            data,
        } => {
            gates::approve(&open(&data).await?, &gate, &fingerprint.concat(), ACTOR).await?;
            println!("The device may speak for {gate} from now on.");
        }
        Gate::Policy(arguments) => policy_commands::run(arguments).await?,
        Gate::Revoke { gate, data } => {
            let keys = gates::revoke(&open(&data).await?, &gate, ACTOR).await?;
            println!("{keys} keys of {gate} revoked; it is refused from its next request on.");
        }
    }
    Ok(())
}
