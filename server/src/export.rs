//! Exports that `sallyport-audit` checks offline: the whole log as static files, or a selection of entries with a proof each.
//! Everything is written as it is read, so that a log of any size needs little memory.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use sallyport_domain::Timestamp;
use sallyport_transparency::{
    CSV_HEADER, Checkpoint, Entry, ExportFile, ExportWriter, Policy, Selected, csv_row,
    inclusion_proof, json_line, needed_for_inclusion,
};

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

/// Writes the export into a new or empty folder. `progress` hears entries done and entries to do.
///
/// With `witnessed`, the newest checkpoint with enough cosignatures is taken where there is one, otherwise always the newest.
///
/// # Errors
/// The folder is not empty, or database or disk refuse.
pub async fn write(
    state: &AppState,
    folder: &Path,
    wanted: &Wanted,
    witnessed: bool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Exported, AuditError> {
    let folder = Folder::new(folder)?;
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (note, size) = chosen(state, &policy, witnessed).await?;
    let newer = state.store.log_size().await? - size;
    let mut csv = folder.open("view/entries.csv")?;
    let mut json = folder.open("view/entries.jsonl")?;
    csv.put(CSV_HEADER.as_bytes())?;
    let mut whole = wanted.is_all().then(ExportWriter::default);
    let mut selection = match whole {
        Some(_) => None,
        None => Some(folder.open("selection.jsonl")?),
    };
    let (mut next, mut entries) = (0, 0);
    while next < size {
        let rows = state.store.log_entries(next, PAGE).await?;
        if rows.is_empty() {
            return Err(missing(next));
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
            if let Some(writer) = &mut whole {
                let files = writer
                    .push(bytes)
                    .ok_or_else(|| audit::refused("an entry is too large"))?;
                folder.put_all(files)?;
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
    csv.done()?;
    json.done()?;
    if let Some(selection) = selection {
        selection.done()?;
    }
    if let Some(writer) = whole {
        let (rest, _, computed) = writer
            .finish()
            .ok_or_else(|| audit::refused("an entry is too large"))?;
        folder.put_all(rest)?;
        let checkpoint =
            Checkpoint::open(note.as_bytes(), state.keys.log.verifier()).map_err(audit::refused)?;
        if checkpoint.root != computed {
            return Err(AuditError::Damaged(
                "the entries do not give the signed checkpoint".to_owned(),
            ));
        }
    }
    let vkey = format!("{}\n", state.keys.log.verifier());
    folder.put("checkpoint", note.as_bytes())?;
    folder.put("log.vkey", vkey.as_bytes())?;
    folder.put("policy", policy.to_text().as_bytes())?;
    folder.put("README.txt", README.as_bytes())?;
    Ok(Exported {
        entries,
        size,
        newer,
        witnessed: policy.asks_for_witnesses() && policy.open(note.as_bytes()).is_ok(),
    })
}

const README: &str = "\
An export of the audit log of a Sallyport site.

Check it with: sallyport-audit verify THIS-FOLDER --vkey KEY --policy FILE
The key and the policy must come to you another way than in this folder; the copies here (log.vkey, policy) are for comparison only.

checkpoint       the signed size and hash of the log, with the cosignatures of gates and outside witnesses
tile/            hash tree and entries (C2SP tlog-tiles); any program for that format can check them
selection.jsonl  instead of tile/, when only some entries were exported: each with its proof. It cannot show that none was left out
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

/// The folder of the export.
struct Folder(PathBuf);

impl Folder {
    fn new(path: &Path) -> Result<Self, AuditError> {
        std::fs::create_dir_all(path).map_err(|source| failed(path, source))?;
        let mut there = std::fs::read_dir(path).map_err(|source| failed(path, source))?;
        if there.next().is_some() {
            return Err(failed(
                path,
                std::io::Error::other("the folder is not empty; name a new one"),
            ));
        }
        Ok(Self(path.to_owned()))
    }

    fn open(&self, name: &str) -> Result<Growing, AuditError> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
        }
        let file = File::create_new(&path).map_err(|source| failed(&path, source))?;
        Ok(Growing {
            file: BufWriter::new(file),
            path,
        })
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let mut file = self.open(name)?;
        file.put(bytes)?;
        file.done()
    }

    fn put_all(&self, files: Vec<ExportFile>) -> Result<(), AuditError> {
        for file in files {
            self.put(&file.path, &file.bytes)?;
        }
        Ok(())
    }
}

/// A file that is being written; without `done` it is not reported as written.
struct Growing {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Growing {
    fn put(&mut self, bytes: &[u8]) -> Result<(), AuditError> {
        self.file
            .write_all(bytes)
            .map_err(|source| failed(&self.path, source))
    }

    fn done(self) -> Result<(), AuditError> {
        let path = self.path;
        let file = self
            .file
            .into_inner()
            .map_err(|error| failed(&path, error.into_error()))?;
        // Not synced file by file: an export is checked before it is used, and can be made again.
        drop(file);
        Ok(())
    }
}

fn failed(path: &Path, source: std::io::Error) -> AuditError {
    AuditError::File {
        path: path.display().to_string(),
        source,
    }
}
