//! `enrolment`: opening and closing enrolments on the server itself. Deciding is for the console only: there the second officer
//! is signed in and sees what is decided.

use anyhow::{Context, bail};
use clap::Subcommand;
use sallyport_domain::{Act, EnrolmentId, GateId};
use sallyport_server::enrolments::{self, OrderDetail};
use sallyport_server::officers;

use crate::{ACTOR, Data, open};

/// Commands about enrolments.
#[derive(Subcommand)]
pub(crate) enum Enrolment {
    /// Open an enrolment or a batch for a station; prints the one-time code. Another officer decides in the console.
    Open {
        /// The enroller for whom it is opened, by name; this officer cannot decide about it.
        #[arg(long)]
        officer: String,
        /// Which station may use the code.
        #[arg(long)]
        station: GateId,
        /// Many people from existing pictures, instead of one.
        #[arg(long)]
        batch: bool,
        /// Why they must be enrolled.
        #[arg(long)]
        reason: String,
        /// Kind and number of the document that shows who the person is; of a batch its file number.
        #[arg(long)]
        document: String,
        #[command(flatten)]
        data: Data,
    },
    /// List what is open or under review; no names.
    List(Data),
    /// End submission; of a batch the server then draws whom the second officer looks at.
    Close {
        /// Which.
        enrolment: EnrolmentId,
        #[command(flatten)]
        data: Data,
    },
}

pub(crate) async fn run(command: Enrolment) -> anyhow::Result<()> {
    match command {
        Enrolment::Open {
            officer,
            station,
            batch,
            reason,
            document,
            data,
        } => {
            let state = open(&data).await?;
            let accounts = officers::list(&state).await?;
            let account = accounts
                .iter()
                .find(|account| account.name == officer && account.disabled_at.is_none())
                .context("no account has this name; see: sallyport-server officer list")?;
            if !account
                .role
                .is_some_and(|role| role.may(Act::ProposeEnrolment))
            {
                bail!("this officer's role may not open enrolments; name an enroller");
            }
            let detail = OrderDetail { reason, document };
            let order =
                enrolments::open(&state, account.id, &station, batch, detail, Some(ACTOR)).await?;
            println!(
                "{}\nGive the station this code; it is shown only now:\n{}",
                order.id, order.code
            );
            state.store.close().await;
        }
        Enrolment::List(data) => {
            for listed in enrolments::list(&open(&data).await?).await? {
                let doubtful = listed
                    .pending
                    .iter()
                    .filter(|(_, doubtful)| *doubtful)
                    .count();
                println!(
                    "{}\t{}\t{}\t{}\t{} under review, {doubtful} with a possible double",
                    listed.order.id,
                    if listed.order.batch {
                        "batch"
                    } else {
                        "single"
                    },
                    listed.order.gate,
                    if listed.order.closed_at.is_none() {
                        "open"
                    } else {
                        "closed"
                    },
                    listed.pending.len(),
                );
            }
        }
        Enrolment::Close { enrolment, data } => {
            enrolments::close(&open(&data).await?, enrolment, ACTOR).await?;
            println!("Submission has ended. A second officer decides in the console.");
        }
    }
    Ok(())
}
