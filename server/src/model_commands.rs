//! `sallyport-server model-change …`.

use clap::Subcommand;
use sallyport_domain::{GateId, ModelDigest};
use sallyport_server::model_change::{self, Plan, Progress, Waits};

use super::{ACTOR, Data, open};

/// A change of models:
///   1. `begin` it, and start the gates with the new models beside the old ones (`[vision] successor`).
///   2. Photographs that may be kept are encoded again by a station: `sallyport-gate reencode`. Everybody else gets new references at
///      the next passage that the old models grant.
///   3. `report` says who is left. When nobody is, start the gates with the new models only, and `end` the change.
#[derive(Subcommand)]
#[command(verbatim_doc_comment)]
pub(super) enum ModelChange {
    /// Begin a change from one face model or iris encoder to another.
    Begin {
        /// SHA-256 of the model that is left.
        #[arg(long)]
        from: ModelDigest,
        /// SHA-256 of the model that comes.
        #[arg(long)]
        to: ModelDigest,
        /// Station that encodes photographs again. Without it, references come from passages only.
        #[arg(long)]
        station: Option<GateId>,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
    /// Say how far each change is and who is left, by pseudonym.
    Report(Data),
    /// End a change: whoever has new references loses the old ones. After an interruption run it again.
    End {
        /// Its name, as `report` says it.
        change: String,
        /// So many people are left behind and must be enrolled again; the exact number, so that nobody is forgotten.
        #[arg(long, default_value_t = 0)]
        leave: usize,
        #[command(flatten)]
        data: Data,
    },
}

pub(super) async fn run(command: ModelChange) -> anyhow::Result<()> {
    match command {
        ModelChange::Begin {
            from,
            to,
            station,
            reason,
            data,
        } => {
            let plan = Plan {
                from,
                to,
                station,
                reason,
            };
            let id = model_change::begin(&open(&data).await?, &plan, ACTOR).await?;
            println!(
                "Change {id} goes on. Next: start the gates with both models ([vision] successor), then watch: sallyport-server model-change report"
            );
        }
        ModelChange::Report(data) => {
            let all = model_change::report(&open(&data).await?, ACTOR).await?;
            if all.is_empty() {
                println!("No change of models goes on.");
            }
            for progress in all {
                print(&progress);
            }
        }
        ModelChange::End {
            change,
            leave,
            data,
        } => {
            let ended = model_change::end(&open(&data).await?, &change, leave, ACTOR).await?;
            println!(
                "Change {change} ended: {} people lost {} old references, {} were left behind and must be enrolled again.",
                ended.people, ended.references, ended.left
            );
        }
    }
    Ok(())
}

fn print(progress: &Progress) {
    let change = &progress.change;
    println!(
        "change {}\n  from {}\n  to   {}\n  since {}\n  {} of {} people have new references; {} photographs wait for a station, {} gave nothing",
        change.id,
        change.from,
        change.to,
        change.begun_at.to_rfc3339(),
        progress.people - progress.left.len(),
        progress.people,
        progress.photographs,
        progress.unusable,
    );
    for (subject, waits) in &progress.left {
        let waits = match waits {
            Waits::Photograph => "a photograph waits for the station",
            Waits::Passage => "at the next passage, or enrol again",
        };
        println!("  left: {subject}: {waits}");
    }
}
