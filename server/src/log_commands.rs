//! `sallyport-server audit …`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use sallyport_domain::{SubjectId, Timestamp};
use sallyport_server::approvals::{Asked, Kind};
use sallyport_server::export::{self, Target, Wanted};
use sallyport_server::state::AppState;
use sallyport_server::{audit, fsck, streams, witness};
use sallyport_transparency::{Checkpoint, Entry, ProofFile, inclusion_proof, needed_for_inclusion};

use super::approval_commands::{Second, approved};
use super::{Data, open, report_commands};

/// Commands about the audit log.
#[derive(Subcommand)]
pub(super) enum Audit {
    /// Write the log, or some of its entries, as files that `sallyport-audit verify` checks offline.
    ///
    /// Without a filter the whole log is written. With one, each entry comes with its own proof; such a selection shows that these
    /// entries are in the log unchanged, not that none was left out. The export itself becomes an entry of the log.
    Export {
        /// A new folder.
        #[arg(required_unless_present = "tar")]
        folder: Option<PathBuf>,
        /// Instead of a folder, one new tar file; `sallyport-audit` reads it as it is.
        #[arg(long, value_name = "FILE", conflicts_with = "folder")]
        tar: Option<PathBuf>,
        /// Also the sealed details of the entries (names, officers' words), encrypted for the public key (age1…) of somebody who is
        /// entitled to them. Details of erased persons are gone. Needs a reason, and a supervisor approves
        /// it first; the log keeps who, why, what and for which key.
        #[arg(long, value_name = "AGE_KEY", requires = "reason", value_parser = export::recipient)]
        details_for: Option<age::x25519::Recipient>,
        #[command(flatten)]
        second: Second,
        /// Only entries from this moment on, such as 2026-11-23T08:00:00Z.
        #[arg(long, value_parser = moment)]
        since: Option<Timestamp>,
        /// Only entries before this moment.
        #[arg(long, value_parser = moment)]
        until: Option<Timestamp>,
        /// Only entries about this person (pseudonym).
        #[arg(long, requires = "reason")]
        subject: Option<String>,
        /// Only entries of this gate.
        #[arg(long)]
        gate: Option<String>,
        /// Only acts of this officer (id).
        #[arg(long, requires = "reason")]
        officer: Option<String>,
        /// Why; written into the log. Needed for a person or an officer.
        #[arg(long)]
        reason: Option<String>,
        /// Take the newest checkpoint that enough witnesses have cosigned, some seconds old, rather than the newest of all.
        #[arg(long)]
        witnessed: bool,
        #[command(flatten)]
        data: Data,
    },
    /// Print the log's public key. Hand it to auditors another way than with an export.
    Key(Data),
    /// Print the witness policy: which gates and outside witnesses must have cosigned. Hand it to auditors like the key.
    Policy(Data),
    /// Recompute every hash, tree node, checkpoint and sealed detail of the stored log and compare.
    Fsck(Data),
    /// List the alarms about the log.
    Alarms(Data),
    /// Write what the log holds about one passage into one file, for a court: `sallyport-audit verify-evidence` checks it.
    Evidence {
        /// Transaction of the passage.
        transaction: String,
        /// A new file.
        file: PathBuf,
        /// Why; written into the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
    /// Write the proof that somebody was erased into one file: what the database holds now, and whether backups still hold the person.
    ///
    /// `sallyport-audit verify-evidence` checks it. Ask again after the key versions it names were destroyed.
    Erasure {
        /// Pseudonym of whom was erased.
        subject: SubjectId,
        /// A new file.
        file: PathBuf,
        /// Case number of the request, no name: it is written into the log and stays there.
        #[arg(long)]
        reason: String,
        /// Wait so long for gates and outside witnesses to cosign; after that the proof is signed by the server only.
        #[arg(long, default_value_t = 15)]
        wait_seconds: u32,
        #[command(flatten)]
        data: Data,
    },
    /// Print the slip for an entry: the signed promise that it stands in the log. `sallyport-audit verify-receipt` checks it later.
    Receipt {
        /// Index of the entry.
        index: u64,
        #[command(flatten)]
        data: Data,
    },
    /// Write a report about a person, an officer, a shift or a month.
    #[command(subcommand)]
    Report(report_commands::Report),
    /// Show how far each stream of streams.toml has got.
    Streams(Data),
    /// Send a stream's receiver everything from this entry on once more.
    StreamFrom {
        /// Name of the stream.
        stream: String,
        /// Index of the first entry to send.
        index: u64,
        #[command(flatten)]
        data: Data,
    },
    /// Print a proof that an entry is in the log, with the cosignatures there are.
    Proof {
        /// Index of the entry.
        index: u64,
        #[command(flatten)]
        data: Data,
    },
}

pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::from_rfc3339_utc(text)
        .ok_or_else(|| "write it in UTC, like 2026-11-23T08:00:00Z".to_owned())
}

/// Says how far a long command is, at most every few percent.
fn progress(what: &'static str) -> impl FnMut(u64, u64) {
    let mut next = 100_000;
    move |done, all| {
        if done >= next {
            eprintln!("{what}: {done} of {all} entries");
            next = done + 100_000;
        }
    }
}

pub(super) async fn run(command: Audit) -> anyhow::Result<()> {
    match command {
        Audit::Export {
            folder,
            tar,
            details_for,
            second,
            since,
            until,
            subject,
            gate,
            officer,
            reason,
            witnessed,
            data,
        } => {
            let target = match (tar, folder) {
                (Some(file), _) => Target::Tar(file),
                (None, folder) => {
                    Target::Folder(folder.context("name a new folder, or --tar FILE")?)
                }
            };
            let state = open(&data).await?;
            let wanted = Wanted {
                since,
                until,
                subject,
                gate,
                officer,
            };
            let entry = Entry {
                actor: Some(super::ACTOR.to_owned()),
                subject: wanted.subject.clone(),
                gate: wanted.gate.clone(),
                about: wanted.officer.clone(),
                reason: reason.or_else(|| Some("audit".to_owned())),
                ..audit::entry("export", state.clock.now())?
            };
            if let Some(recipient) = &details_for {
                let asked = Asked {
                    kind: Kind::Export,
                    subject: None,
                    officer: None,
                    what: with_details(recipient, &wanted),
                    reason: entry.reason.clone().unwrap_or_default(),
                };
                approved(&state, &asked, &second).await?;
            }
            let progress = progress("exported");
            let done = match details_for {
                None => {
                    audit::record(&state, entry).await?;
                    export::write(&state, &target, &wanted, witnessed, progress).await?
                }
                Some(recipient) => {
                    let with = (&recipient, entry);
                    let (done, details) = export::write_with_details(
                        &state, &target, &wanted, witnessed, with, progress,
                    )
                    .await?;
                    println!(
                        "{} sealed details for {recipient}; {} are not in it, because their person was erased or they were sealed by an earlier version.",
                        details.given, details.withheld
                    );
                    done
                }
            };
            let path = target.path().display();
            println!(
                "{} entries in {path}. Check them: sallyport-audit verify {path}",
                done.entries,
            );
            if !done.witnessed {
                println!(
                    "Note: the checkpoint is signed by this server only. --witnessed takes the newest one that enough witnesses cosigned."
                );
            } else if done.newer > 0 {
                println!(
                    "Note: {} newer entries wait for their witnesses and are not in it.",
                    done.newer
                );
            }
            Ok(())
        }
        Audit::Key(data) => {
            println!("{}", open(&data).await?.keys.log.verifier());
            Ok(())
        }
        Audit::Policy(data) => {
            print!("{}", witness::policy(&open(&data).await?).await?.to_text());
            Ok(())
        }
        Audit::Fsck(data) => {
            let state = open(&data).await?;
            audit::check_checkpoints(&state).await?;
            let done = fsck::run(&state, progress("checked")).await?;
            println!(
                "The stored log is whole: {} entries, {} signed checkpoints and {} sealed details fit each other.",
                done.entries, done.checkpoints, done.details
            );
            Ok(())
        }
        Audit::Alarms(data) => {
            let state = open(&data).await?;
            consulted(&state, "log_alarms").await?;
            alarms(&state).await
        }
        Audit::Evidence {
            transaction,
            file,
            reason,
            data,
        } => report_commands::bundle(&data, &transaction, &file, reason).await,
        Audit::Erasure {
            subject,
            file,
            reason,
            wait_seconds,
            data,
        } => report_commands::erasure(&data, subject, &file, &reason, wait_seconds).await,
        Audit::Receipt { index, data } => report_commands::slip(&data, index).await,
        Audit::Report(report) => report_commands::report(report).await,
        Audit::Streams(data) => {
            let state = open(&data).await?;
            let size = state.store.log_size().await?;
            for (name, next) in state.store.streams().await? {
                println!(
                    "{name}\tnext: {next}\tbehind: {}",
                    size.saturating_sub(next)
                );
            }
            for stream in streams::configured(&state)? {
                println!("{}\tconfigured", stream.name);
            }
            println!("key of webhooks: {}", streams::webhook_key(&state));
            Ok(())
        }
        Audit::StreamFrom {
            stream,
            index,
            data,
        } => stream_from(&open(&data).await?, &stream, index).await,
        Audit::Proof { index, data } => {
            let state = open(&data).await?;
            consulted(&state, &format!("log_proof {index}")).await?;
            proof(&state, index).await
        }
    }
}

/// An export with details, in words for the second person.
fn with_details(recipient: &age::x25519::Recipient, wanted: &Wanted) -> String {
    let time =
        |at: Option<Timestamp>| at.map_or_else(|| "any time".to_owned(), Timestamp::to_rfc3339);
    let all = || "all".to_owned();
    format!(
        "Export entries of the log with their sealed details (names, officers' words), encrypted for {recipient}. From: {}. Until: {}. Person: {}. Gate: {}. Officer: {}.",
        time(wanted.since),
        time(wanted.until),
        wanted.subject.clone().unwrap_or_else(all),
        wanted.gate.clone().unwrap_or_else(all),
        wanted.officer.clone().unwrap_or_else(all),
    )
}

/// A look from the server's own command line, in the log before anything is shown.
pub(super) async fn consulted(state: &AppState, about: &str) -> anyhow::Result<()> {
    let entry = Entry {
        actor: Some(super::ACTOR.to_owned()),
        about: Some(about.to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(())
}

/// An act from the server's own command line that has no entry of its own.
pub(super) async fn done(state: &AppState, kind: &str) -> anyhow::Result<()> {
    let entry = Entry {
        actor: Some(super::ACTOR.to_owned()),
        ..audit::entry(kind, state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(())
}

async fn alarms(state: &AppState) -> anyhow::Result<()> {
    let alarms = state.store.alarms().await?;
    if alarms.is_empty() {
        println!("No alarm about the log.");
    }
    for alarm in alarms {
        println!(
            "{}  {}: {}\nseen before:\n{}\nshown:\n{}\n",
            alarm.at.to_rfc3339(),
            alarm.raised_by,
            alarm.what,
            alarm.kept.as_deref().unwrap_or("none"),
            alarm.shown.as_deref().unwrap_or("none")
        );
    }
    Ok(())
}

async fn stream_from(state: &AppState, stream: &str, index: u64) -> anyhow::Result<()> {
    let size = state.store.log_size().await?;
    anyhow::ensure!(
        index < size,
        "the log has no entry {index}; it has {size} entries, counted from 0"
    );
    let entry = Entry {
        actor: Some(super::ACTOR.to_owned()),
        about: Some(format!("{stream} from {index}")),
        ..audit::entry("stream_moved", state.clock.now())?
    };
    let mut write = state.store.write().await?;
    anyhow::ensure!(
        write.stream_put(stream, index).await?,
        "no stream named {stream} ever ran; see: sallyport-server audit streams"
    );
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    println!("{stream} is sent everything from entry {index} on.");
    Ok(())
}

async fn proof(state: &AppState, index: u64) -> anyhow::Result<()> {
    audit::publish(state).await?;
    let cosigned = state.store.cosigned().await?;
    let (note, size) = match cosigned.iter().find(|(size, _, _)| *size > index) {
        Some((size, note, lines)) => (note.clone() + &lines.concat(), *size),
        None => {
            let note = state
                .store
                .checkpoint()
                .await?
                .context("the log has no checkpoint yet; start the server once")?;
            let size = Checkpoint::open(note.as_bytes(), state.keys.log.verifier())?.size;
            (note, size)
        }
    };
    anyhow::ensure!(
        index < size,
        "the log has no entry {index}; it has {size} entries, counted from 0"
    );
    let nodes = state
        .store
        .log_nodes(&needed_for_inclusion(index, size))
        .await?;
    let file = ProofFile {
        index,
        hashes: inclusion_proof(index, size, &nodes)?,
        checkpoint: note,
    };
    print!("{}", file.to_text());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_nonsense_is_refused() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:30:01Z", 1_709_209_801_000_000),
            ("2026-11-23T08:00:00Z", 1_795_420_800_000_000),
        ] {
            assert_eq!(moment(text), Ok(Timestamp::from_micros(micros)), "{text}");
        }
        for text in [
            "",
            "2026-11-23",
            "2026-02-30T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T08:00:00+01:00",
            "2026-11-23T08:00:00",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
