//! Exports that `sallyport-audit` checks offline: the whole log as static files, or a selection of entries with a proof each.
//! Everything is written as it is read, so that a log of any size needs little memory. A tar of the same log, wanted entries and
//! checkpoint has the same bytes each time, but for details, which are encrypted anew.

mod details;
mod output;

use age::x25519::Recipient;
use sallyport_domain::Timestamp;
use sallyport_transparency::{
    CSV_HEADER, Checkpoint, Entry, ExportWriter, Policy, Selected, csv_row, inclusion_proof,
    json_line, needed_for_inclusion,
};

use output::Output;

pub use details::{Details, fingerprint, recipient};
pub use output::Target;

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::witness;

/// Entries read at once.
const PAGE: u32 = 1_024;

/// Which entries; nothing set means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// About this person, by pseudonym.
    pub subject: Option<String>,
    /// At this gate.
    pub gate: Option<String>,
    /// An act of this officer.
    pub officer: Option<String>,
}

impl Wanted {
    /// Everything?
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Is this entry wanted?
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        let time = Timestamp::from_micros(entry.time);
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
            && (self.subject.is_none() || self.subject == entry.subject)
            && (self.gate.is_none() || self.gate == entry.gate)
            && (self.officer.is_none()
                || self.officer == entry.actor
                || self.officer == entry.actor2)
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Entries in the export.
    pub entries: u64,
    /// Entries of the log that its checkpoint covers.
    pub size: u64,
    /// Entries that are newer than that checkpoint.
    pub newer: u64,
    /// Does the checkpoint satisfy the site's witness policy?
    pub witnessed: bool,
}

/// Writes the export into a new or empty folder or a new tar. `progress` hears entries done and entries to do.
///
/// With `witnessed`, the newest checkpoint with enough cosignatures is taken where there is one, otherwise always the newest.
///
/// # Errors
/// The folder is not empty, the file is there, or database or disk refuse.
pub async fn write(
    state: &AppState,
    target: &Target,
    wanted: &Wanted,
    witnessed: bool,
    progress: impl FnMut(u64, u64),
) -> Result<Exported, AuditError> {
    let output = Output::new(target)?;
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (note, size) = chosen(state, &policy, witnessed).await?;
    write_to(state, output, wanted, (&policy, note, size), None, progress).await
}

/// As [`write()`], with the sealed details of the entries, encrypted for `recipient`. Who has them made, why, of what, how many and for
/// which key is in the log before anything is written; that entry itself is newer than the export.
///
/// # Errors
/// As [`write()`], or a detail does not open.
pub async fn write_with_details(
    state: &AppState,
    target: &Target,
    wanted: &Wanted,
    witnessed: bool,
    (recipient, mut entry): (&Recipient, Entry),
    progress: impl FnMut(u64, u64),
) -> Result<(Exported, Details), AuditError> {
    let output = Output::new(target)?;
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (note, size) = chosen(state, &policy, witnessed).await?;
    let counted = details::count(state, wanted, size).await?;
    let moment = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), Timestamp::to_rfc3339);
    entry.decision = Some("with_details".to_owned());
    entry.about = Some(format!(
        "details={} withheld={} recipient={} since={} until={} officer={} entries_below={size}",
        counted.given,
        counted.withheld,
        fingerprint(recipient),
        moment(wanted.since),
        moment(wanted.until),
        wanted.officer.as_deref().unwrap_or("-"),
    ));
    audit::record(state, entry).await?;
    let details = details::Writer::new(&output, recipient)?;
    let from = (&policy, note, size);
    let done = write_to(
        state,
        output,
        wanted,
        from,
        Some((details, counted)),
        progress,
    )
    .await?;
    Ok((done, counted))
}

async fn write_to(
    state: &AppState,
    mut output: Output,
    wanted: &Wanted,
    (policy, note, size): (&Policy, String, u64),
    mut details: Option<(details::Writer, Details)>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Exported, AuditError> {
    let newer = state.store.log_size().await? - size;
    let mut csv = output.open("view/entries.csv")?;
    let mut json = output.open("view/entries.jsonl")?;
    csv.put(CSV_HEADER.as_bytes())?;
    let mut whole = wanted.is_all().then(ExportWriter::default);
    let mut selection = match whole {
        Some(_) => None,
        None => Some(output.open("selection.jsonl")?),
    };
    let (mut next, mut entries) = (0, 0);
    while next < size {
        let rows = state.store.log_entries(next, PAGE).await?;
        if rows.is_empty() {
            return Err(missing(next));
        }
        if let Some((writer, _)) = &mut details {
            let end = next + rows.len() as u64;
            writer.page(state, next, end.min(size)).await?;
        }
        for (index, bytes) in rows.into_iter().take_while(|(index, _)| *index < size) {
            if index != next {
                return Err(missing(next));
            }
            next += 1;
            let taken = match &selection {
                None => true,
                Some(_) => Entry::from_bytes(&bytes).is_ok_and(|entry| wanted.takes(&entry)),
            };
            if !taken {
                continue;
            }
            entries += 1;
            csv.put(csv_row(index, &bytes).as_bytes())?;
            json.put(json_line(index, &bytes).as_bytes())?;
            if let Some((writer, _)) = &mut details {
                writer.push(state, wanted, index, &bytes).await?;
            }
            if let Some(writer) = &mut whole {
                let files = writer
                    .push(bytes)
                    .ok_or_else(|| audit::refused("an entry is too large"))?;
                output.put_all(files)?;
            } else if let Some(selection) = &mut selection {
                let nodes = state
                    .store
                    .log_nodes(&needed_for_inclusion(index, size))
                    .await?;
                let proof = inclusion_proof(index, size, &nodes).map_err(audit::refused)?;
                let selected = Selected::new(index, bytes, &proof)
                    .ok_or_else(|| audit::refused("an entry is not text"))?;
                selection.put(selected.to_line().as_bytes())?;
                selection.put(b"\n")?;
            }
        }
        progress(next, size);
    }
    if let Some(writer) = whole {
        let (rest, _, computed) = writer
            .finish()
            .ok_or_else(|| audit::refused("an entry is too large"))?;
        output.put_all(rest)?;
        let checkpoint =
            Checkpoint::open(note.as_bytes(), state.keys.log.verifier()).map_err(audit::refused)?;
        if checkpoint.root != computed {
            return Err(AuditError::Damaged(
                "the entries do not give the signed checkpoint".to_owned(),
            ));
        }
    }
    if let Some(selection) = selection {
        output.take(selection)?;
    }
    output.take(csv)?;
    output.take(json)?;
    if let Some((writer, counted)) = details {
        // An erasure in between: the entry would name another number than was given.
        if writer.written != counted {
            return Err(audit::refused(
                "a person was erased while the details were being written; do not use this export, make it again",
            ));
        }
        output.take(writer.done()?)?;
    }
    let vkey = format!("{}\n", state.keys.log.verifier());
    output.put("checkpoint", note.as_bytes())?;
    output.put("log.vkey", vkey.as_bytes())?;
    output.put("policy", policy.to_text().as_bytes())?;
    output.put("README.txt", README.as_bytes())?;
    output.done()?;
    Ok(Exported {
        entries,
        size,
        newer,
        witnessed: policy.asks_for_witnesses() && policy.open(note.as_bytes()).is_ok(),
    })
}

const README: &str = "\
An export of the audit log of a Sallyport site.

Check it with: sallyport-audit verify THIS --vkey KEY --policy FILE
The key and the policy must come to you another way than in this folder; the copies here (log.vkey, policy) are for comparison only.

checkpoint       the signed size and hash of the log, with the cosignatures of gates and outside witnesses
tile/            hash tree and entries (C2SP tlog-tiles); any program for that format can check them
selection.jsonl  instead of tile/, when only some entries were exported: each with its proof. It cannot show that none was left out
details.jsonl.age  only in an export for somebody entitled: the sealed details, for his key. sallyport-audit show --identity FILE THIS INDEX
view/            the same entries as a table and as JSON Lines, for reading; not protected by themselves
";

fn missing(index: u64) -> AuditError {
    AuditError::Damaged(format!("entry {index} is missing"))
}

/// The checkpoint to export, with all cosignatures, and its size.
pub(crate) async fn chosen(
    state: &AppState,
    policy: &Policy,
    witnessed: bool,
) -> Result<(String, u64), AuditError> {
    let cosigned = state.store.cosigned().await?;
    let full = |note: &str, lines: &[String]| note.to_owned() + &lines.concat();
    if witnessed && policy.asks_for_witnesses() {
        for (size, note, lines) in &cosigned {
            let note = full(note, lines);
            if policy.open(note.as_bytes()).is_ok() {
                return Ok((note, *size));
            }
        }
    }
    let Some(note) = state.store.checkpoint().await? else {
        return Ok((audit::signed(state, 0).await?, 0));
    };
    let checkpoint =
        Checkpoint::open(note.as_bytes(), state.keys.log.verifier()).map_err(audit::refused)?;
    let lines = cosigned
        .iter()
        .find(|(size, _, _)| *size == checkpoint.size)
        .map_or(&[][..], |(_, _, lines)| lines);
    Ok((full(&note, lines), checkpoint.size))
}
