//! `sallyport-server registry merge | unmerge | duplicates`.

use clap::Subcommand;
use sallyport_domain::SubjectId;
use sallyport_server::approvals::{Asked, Kind};
use sallyport_server::duplicates;
use sallyport_server::merging::{self, Plan};
use sallyport_server::registry;
use sallyport_server::state::AppState;

use super::approval_commands::{Second, approved};
use super::{ACTOR, Data, open};

/// Two records of one person.
#[derive(Subcommand)]
pub(super) enum Merging {
    /// List pairs of people whose references look alike, so that they may be enrolled twice: a consultation, logged.
    Duplicates(Data),
    /// Make two records one person's, after a supervisor's approval: the references of the first become the second's.
    ///
    /// Only where their references look alike and both have one status. The first record stays, closed, until the second is
    /// removed; `registry unmerge` gives its references back.
    Merge {
        /// Whose references move.
        from: SubjectId,
        /// The person who goes on.
        #[arg(long)]
        into: SubjectId,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Take a merger back, after a supervisor's approval: the references that moved are the first person's again.
    ///
    /// What gates captured of the person since then is deleted, because nobody can say whose it is.
    Unmerge {
        /// Whose references had moved.
        from: SubjectId,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
}

async fn may(state: &AppState, plan: &Plan, reason: &str, second: &Second) -> anyhow::Result<()> {
    let asked = Asked {
        kind: Kind::Merger,
        subject: Some(plan.from),
        officer: None,
        what: plan.what.clone(),
        reason: reason.to_owned(),
    };
    approved(state, &asked, second).await
}

async fn duplicates(data: &Data) -> anyhow::Result<()> {
    let state = open(data).await?;
    registry::load(&state).await?;
    let pairs = duplicates::find(&state, ACTOR, |done, all| {
        if done % 1_000 == 0 && done > 0 && done < all {
            eprintln!("{done} of {all} people compared");
        }
    })
    .await?;
    for (one, other) in &pairs {
        println!("{one}\t{other}");
    }
    match pairs.len() {
        0 => println!("Nobody looks enrolled twice."),
        1 => println!("One pair looks alike. Look at both records before anything is merged."),
        more => {
            println!("{more} pairs look alike. Look at both records before anything is merged.")
        }
    }
    Ok(())
}

pub(super) async fn run(command: Merging) -> anyhow::Result<()> {
    match command {
        Merging::Duplicates(data) => duplicates(&data).await,
        Merging::Merge {
            from,
            into,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let plan = merging::plan(&state, from, into).await?;
            may(&state, &plan, &reason, &second).await?;
            let done = merging::merge(&state, &plan, &reason, ACTOR).await?;
            println!(
                "{} references of {from} are {into}'s now; log entry {}. To take it back: sallyport-server registry unmerge {from}",
                done.moved, done.log_index
            );
            Ok(())
        }
        Merging::Unmerge {
            from,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let plan = merging::plan_back(&state, from).await?;
            may(&state, &plan, &reason, &second).await?;
            let done = merging::unmerge(&state, &plan, &reason, ACTOR).await?;
            println!(
                "{} references are {from}'s again; log entry {}.",
                done.moved, done.log_index
            );
            if done.deleted > 0 {
                println!(
                    "{} references that gates captured since the merger were deleted; the next passages bring new ones while a change of models goes on, otherwise enrol the person again.",
                    done.deleted
                );
            }
            if done.moved == 0 {
                println!(
                    "{from} has no references any more: no gate knows this person until an enrolment."
                );
            }
            Ok(())
        }
    }
}
