//! `sallyport-server officer break-glass …`.

use std::io::BufRead as _;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use sallyport_domain::Timestamp;
use sallyport_server::approvals::{Asked, Kind};
use sallyport_server::break_glass;
use zeroize::Zeroizing;

use super::approval_commands::{Second, approved};
use super::{ACTOR, Data, open};

/// The sealed credential for an emergency in which nobody can sign in.
#[derive(Subcommand)]
pub(super) enum BreakGlass {
    /// Print a new credential, once, on a sheet for the envelope; the one of before opens nothing any more. A supervisor approves it first.
    /// Send it straight to a printer.
    Prepare {
        /// Why, such as "used on 3 May"; the supervisor who approves reads it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Whether a credential stands, when it was tried last, what is open, and whether a review is outstanding.
    Status(Data),
    /// Try whether the credential of the envelope, typed in one line, is the one that stands. It opens nothing and goes on standing.
    Drill(Data),
    /// End emergency access that is open, at once.
    End(Data),
}

pub(super) async fn run(command: BreakGlass) -> anyhow::Result<()> {
    match command {
        BreakGlass::Prepare {
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let asked = Asked {
                kind: Kind::BreakGlass,
                subject: None,
                officer: None,
                what: "Print a new sealed credential for emergency access. The one of before, if there is one, opens nothing any more.".to_owned(),
                reason,
            };
            approved(&state, &asked, &second).await?;
            let listen = state.config.console_listen;
            if !listen.ip().is_unspecified() && !listen.ip().is_loopback() {
                tracing::warn!(%listen, "console_listen in server.toml does not answer at localhost, so the credential cannot be used; change it to 0.0.0.0 or [::]");
            }
            let (credential, entry) = break_glass::prepare(&state, ACTOR).await?;
            let sheet = break_glass::sheet(
                &credential,
                state.config.site.as_str(),
                listen.port(),
                state.clock.now(),
                entry,
            );
            println!("{}", Zeroizing::new(sheet).as_str());
        }
        BreakGlass::Status(data) => status(&data).await?,
        BreakGlass::Drill(data) => {
            let state = open(&data).await?;
            eprint_question();
            let mut typed = Zeroizing::new(String::new());
            std::io::stdin()
                .lock()
                .read_line(&mut typed)
                .context("reading the credential")?;
            if !break_glass::drill(&state, &typed, ACTOR).await? {
                bail!(
                    "this is NOT the credential that stands: it was used, or a newer one was made. Look for the newest envelope, or make a new one: sallyport-server officer break-glass prepare"
                );
            }
            println!(
                "This is the credential that stands. Nothing was opened and it goes on standing: seal it again, or make a new one if somebody may have kept it."
            );
        }
        BreakGlass::End(data) => {
            let state = open(&data).await?;
            match break_glass::end_all(&state, ACTOR).await? {
                0 => bail!("no emergency access is open"),
                ended => println!(
                    "{ended} emergency access ended; an auditor reviews it in the console."
                ),
            }
        }
    }
    Ok(())
}

/// On standard error, so that standard output has the answer alone.
#[expect(
    clippy::print_stderr,
    reason = "a question to the person at the terminal"
)]
fn eprint_question() {
    eprintln!("Type the credential of the envelope, seven groups of five:");
}

async fn status(data: &Data) -> anyhow::Result<()> {
    let state = open(data).await?;
    let now = state.clock.now();
    match break_glass::envelope(&state).await? {
        Some(envelope) => {
            let drilled = envelope
                .drilled
                .map_or_else(|| "never".to_owned(), Timestamp::to_rfc3339);
            let due = if envelope.drill_due {
                " (DUE: sallyport-server officer break-glass drill)"
            } else {
                ""
            };
            println!(
                "credential\tstands since {}, log entry {}\tlast tried: {drilled}{due}",
                envelope.at.to_rfc3339(),
                envelope.entry
            );
        }
        None => println!(
            "credential\tNONE stands\tmake one: sallyport-server officer break-glass prepare"
        ),
    }
    let uses = break_glass::uses(&state).await?;
    if uses.is_empty() {
        println!("use\tnever");
    }
    for used in uses {
        let ended = match (used.open_until, used.ended) {
            (Some(until), _) => format!("OPEN until {}", until.to_rfc3339()),
            (None, Some(at)) => format!("ended {}", at.to_rfc3339()),
            (None, None) => "ended by itself".to_owned(),
        };
        let review = match used.reviewed {
            Some(entry) => format!("reviewed, log entry {entry}"),
            None if used.is_late(now) => {
                format!("review LATE, was due {}", used.due.to_rfc3339())
            }
            None => format!("review due {}", used.due.to_rfc3339()),
        };
        println!(
            "use\topened {}, log entry {}\t{ended}\t{review}",
            used.at.to_rfc3339(),
            used.entry
        );
    }
    Ok(())
}
