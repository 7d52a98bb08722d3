//! `sallyport-server promise …`.

use clap::Subcommand;
use sallyport_domain::{GateId, SubjectId, Timestamp};
use sallyport_server::promises::{self, Kind};

use super::log_commands::moment;
use super::{ACTOR, Data, log_commands, open};

/// Rounds, counts, reviews and deletions that shall happen in a window of time.
#[derive(Subcommand)]
pub(super) enum Promise {
    /// Promise something; what is not kept in time becomes an entry of the log by clock.
    Make {
        /// round (kept by the person's passage at the gate), count, review or deletion.
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Where; a round needs it.
        #[arg(long)]
        gate: Option<GateId>,
        /// Who, by pseudonym; a round needs it.
        #[arg(long)]
        subject: Option<SubjectId>,
        /// From when on, such as 2026-11-23T22:00:00Z.
        #[arg(long, value_parser = moment)]
        opens: Timestamp,
        /// Until when.
        #[arg(long, value_parser = moment)]
        closes: Timestamp,
        #[command(flatten)]
        data: Data,
    },
    /// List the newest promises and how each stands.
    List(Data),
    /// Report that a count, review or deletion was done.
    Keep {
        /// Its id.
        id: String,
        #[command(flatten)]
        data: Data,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_code(text).ok_or_else(|| "use round, count, review or deletion".to_owned())
}

pub(super) async fn run(command: Promise) -> anyhow::Result<()> {
    match command {
        Promise::Make {
            kind,
            gate,
            subject,
            opens,
            closes,
            data,
        } => {
            let state = open(&data).await?;
            let id = promises::make(&state, kind, gate, subject, (opens, closes), ACTOR).await?;
            println!("{id}");
        }
        Promise::List(data) => {
            let state = open(&data).await?;
            log_commands::consulted(&state, "promise_list").await?;
            let now = state.clock.now();
            for promise in state.store.promises(200).await? {
                let standing = match (promise.kept_at, promise.missed) {
                    (Some(at), true) => format!("late, {}", at.to_rfc3339()),
                    (Some(at), false) => format!("kept {}", at.to_rfc3339()),
                    (None, true) => "missed".to_owned(),
                    (None, false) if now < promise.opens_at => "to come".to_owned(),
                    (None, false) => "open".to_owned(),
                };
                println!(
                    "{}\t{}\t{}\t{} to {}\t{standing}",
                    promise.id,
                    promise.kind,
                    promise
                        .gate
                        .map(|gate| gate.to_string())
                        .unwrap_or_default(),
                    promise.opens_at.to_rfc3339(),
                    promise.closes_at.to_rfc3339()
                );
            }
        }
        Promise::Keep { id, data } => {
            let state = open(&data).await?;
            if promises::keep(&state, &id, ACTOR).await? {
                println!("Noted, and marked late: the window had closed.");
            } else {
                println!("Noted, in time.");
            }
        }
    }
    Ok(())
}
