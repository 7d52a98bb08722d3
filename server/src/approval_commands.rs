//! Acts at the command line that a supervisor has to approve first.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use sallyport_server::approvals::{self, Asked, Pass};
use sallyport_server::state::AppState;

use super::ACTOR;

/// How often `--wait` looks for the answer.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Options of an act that needs a second person.
#[derive(Args)]
pub(super) struct Second {
    /// Wait here until a supervisor has decided on the console's page Approvals, and go on at once. Without it give the same command
    /// again after the approval, within 15 minutes.
    #[arg(long)]
    wait: bool,
}

/// Goes on only when a supervisor has approved exactly this, or none is there who could.
pub(super) async fn approved(
    state: &AppState,
    asked: &Asked,
    second: &Second,
) -> anyhow::Result<()> {
    let mut told = false;
    loop {
        match approvals::pass(state, asked, ACTOR).await? {
            Pass::Approved(index) => {
                println!("Approved by a second person; log entry {index}.");
                return Ok(());
            }
            Pass::Alone(index) => {
                println!(
                    "Note: no supervisor with a security key has an account who could approve this, so one person does it alone; log entry {index} says so."
                );
                return Ok(());
            }
            Pass::Declined { request } => bail!(
                "nothing was done: a supervisor declined request {request}; the reason stands sealed beside that answer in the log. With another reason it is another request"
            ),
            Pass::Waits { request, until } if second.wait => {
                if !told {
                    println!(
                        "Request {request} waits until {} for a supervisor, who decides on the console's page Approvals. Ctrl-C ends the waiting, not the request.",
                        until.to_rfc3339()
                    );
                    told = true;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Pass::Waits { request, until } => bail!(
                "nothing was done yet: a supervisor decides about request {request} on the console's page Approvals, until {}. Then give the same command again, word for word, within 15 minutes of the approval; with --wait it waits for it",
                until.to_rfc3339()
            ),
        }
    }
}
