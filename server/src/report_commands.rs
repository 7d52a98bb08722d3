//! `sallyport-server audit report …`, `evidence`, `receipt`. Each is an entry of the log before anything is written.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use sallyport_domain::{SubjectId, Timestamp};
use sallyport_server::reports::{self, Report as Written};
use sallyport_server::state::AppState;
use sallyport_server::{audit, erasure, evidence, profiles};
use sallyport_transparency::{Entry, SAMPLE_SIZE, Week};

use super::log_commands::moment;
use super::{Data, open};

/// A period.
#[derive(clap::Args)]
pub(super) struct Period {
    /// From this moment on, such as 2026-11-23T06:00:00Z.
    #[arg(long, value_parser = moment)]
    since: Timestamp,
    /// Until before this moment.
    #[arg(long, value_parser = moment)]
    until: Timestamp,
}

/// Where to.
#[derive(clap::Args)]
pub(super) struct Into {
    /// A new file: .pdf for reading, .json with the entries' numbers and, about a person, with proofs.
    file: PathBuf,
    #[command(flatten)]
    data: Data,
}

/// Reports for people.
#[derive(Subcommand)]
pub(super) enum Report {
    /// What is recorded about a person, for that person: passages, acts, and every look at the record.
    Subject {
        /// Pseudonym.
        subject: SubjectId,
        /// Why; written into the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        into: Into,
    },
    /// What one officer did.
    Officer {
        /// Id of the account.
        officer: String,
        /// Why; written into the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        period: Period,
        #[command(flatten)]
        into: Into,
    },
    /// One shift, both sides: officers' acts and passages.
    Shift {
        #[command(flatten)]
        period: Period,
        #[command(flatten)]
        into: Into,
    },
    /// The week's sample of consultations for the auditor, as a table with an empty column for findings. Nobody chooses what is in it:
    /// it follows from the log, and `sallyport-audit sample` draws the same from an export.
    Sample {
        /// The week, Monday to Monday in UTC, such as 2026-W48.
        #[arg(long)]
        week: Week,
        /// How many are drawn; emergencies and look-ups of the officer's own name are always in it.
        #[arg(long, default_value_t = SAMPLE_SIZE)]
        size: usize,
        /// The auditor's own word or dice, said only after the week was over and signed.
        #[arg(long, default_value = "", hide_default_value = true)]
        word: String,
        /// A new file: .csv.
        file: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// A month in figures, without anybody in it, for the public.
    Month {
        #[command(flatten)]
        period: Period,
        #[command(flatten)]
        into: Into,
    },
}

pub(super) async fn report(command: Report) -> anyhow::Result<()> {
    let (into, report) = match command {
        Report::Subject {
            subject,
            reason,
            into,
        } => {
            let state = open(&into.data).await?;
            let entry = Entry {
                subject: Some(subject.to_string()),
                ..exported(&state, "report_subject", Some(reason))?
            };
            audit::record(&state, entry).await?;
            profiles::current(&state).await?;
            (into, reports::of_subject(&state, subject).await?)
        }
        Report::Officer {
            officer,
            reason,
            period,
            into,
        } => {
            let state = open(&into.data).await?;
            let about = format!("report_officer {officer}");
            audit::record(&state, exported(&state, &about, Some(reason))?).await?;
            let report = reports::of_officer(&state, &officer, period.since, period.until);
            (into, report.await?)
        }
        Report::Shift { period, into } => {
            let state = open(&into.data).await?;
            audit::record(&state, exported(&state, "report_shift", None)?).await?;
            let report = reports::of_shift(&state, period.since, period.until);
            (into, report.await?)
        }
        Report::Sample {
            week,
            size,
            word,
            file,
            data,
        } => {
            anyhow::ensure!(
                file.extension().is_some_and(|end| end == "csv"),
                "name a file that ends in .csv"
            );
            let state = open(&data).await?;
            let about = format!("report_sample {week}");
            audit::record(&state, exported(&state, &about, None)?).await?;
            let sample = reports::sample::weekly(&state, week, size, &word).await?;
            new_file(&file, sample.to_csv().as_bytes())?;
            println!("{}\n{} written.", sample.about, file.display());
            return Ok(());
        }
        Report::Month { period, into } => {
            let state = open(&into.data).await?;
            audit::record(&state, exported(&state, "report_month", None)?).await?;
            profiles::current(&state).await?;
            let report = reports::of_month(&state, period.since, period.until);
            (into, report.await?)
        }
    };
    let path = &into.file;
    let bytes = in_form(path, &report)?;
    new_file(path, &bytes)?;
    println!("{} written.", path.display());
    Ok(())
}

fn in_form(path: &Path, report: &Written) -> anyhow::Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(report.to_json().into_bytes()),
        Some("pdf") => Ok(report.to_pdf()),
        _ => anyhow::bail!("name a file that ends in .pdf or .json"),
    }
}

fn exported(state: &AppState, about: &str, reason: Option<String>) -> anyhow::Result<Entry> {
    Ok(Entry {
        actor: Some(super::ACTOR.to_owned()),
        about: Some(about.to_owned()),
        reason: reason.or_else(|| Some("report".to_owned())),
        ..audit::entry("export", state.clock.now())?
    })
}

/// Never over an existing file, and readable by this user only: it may be about somebody.
fn new_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making {}; name a new file", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", path.display()))
}

pub(super) async fn bundle(
    data: &Data,
    transaction: &str,
    file: &Path,
    reason: String,
) -> anyhow::Result<()> {
    let state = open(data).await?;
    let about = format!("evidence {transaction}");
    audit::record(&state, exported(&state, &about, Some(reason))?).await?;
    let evidence = evidence::bundle(&state, transaction).await?;
    new_file(file, evidence.to_text().as_bytes())?;
    println!(
        "{} entries in {}. Check it anywhere: sallyport-audit verify-evidence {} --policy FILE",
        evidence.entries.len(),
        file.display(),
        file.display()
    );
    Ok(())
}

/// Gates cosign with each heartbeat; every so long it is looked whether enough have.
const COSIGNED_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) async fn erasure(
    data: &Data,
    subject: SubjectId,
    file: &Path,
    reason: &str,
    wait_seconds: u32,
) -> anyhow::Result<()> {
    anyhow::ensure!(!file.exists(), "{} exists; name a new file", file.display());
    let state = open(data).await?;
    let checked = erasure::check(&state, subject, reason, super::ACTOR).await?;
    print!("{}", checked.text);
    let mut bundle = erasure::bundle(&state, &checked, true).await?;
    if bundle.is_none() {
        println!(
            "Waiting for the gates to cosign entry {} ...",
            checked.log_index
        );
    }
    for _ in 0..wait_seconds {
        if bundle.is_some() {
            break;
        }
        tokio::time::sleep(COSIGNED_EVERY).await;
        bundle = erasure::bundle(&state, &checked, true).await?;
    }
    if bundle.is_none() {
        println!(
            "No gate or outside witness has cosigned entry {} yet: the proof is signed by the server only. Ask again when gates are connected.",
            checked.log_index
        );
        bundle = erasure::bundle(&state, &checked, false).await?;
    }
    let bundle = bundle.context("no checkpoint covers the entry yet; ask again")?;
    new_file(file, bundle.to_text().as_bytes())?;
    println!(
        "Proof in {}. Check it anywhere: sallyport-audit verify-evidence {} --policy FILE",
        file.display(),
        file.display()
    );
    Ok(())
}

pub(super) async fn slip(data: &Data, index: u64) -> anyhow::Result<()> {
    let state = open(data).await?;
    let entry = Entry {
        actor: Some(super::ACTOR.to_owned()),
        about: Some(index.to_string()),
        ..audit::entry("receipt", state.clock.now())?
    };
    let slip = evidence::slip(&state, index).await?;
    audit::record(&state, entry).await?;
    print!("{slip}");
    Ok(())
}
