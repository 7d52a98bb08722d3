//! The audit log: one sequencer, entries in the transaction of what they record, signed checkpoints soon after.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sallyport_domain::{Timestamp, TransactionId};
use sallyport_transparency::{
    Checkpoint, Entry, ExportWriter, Hash, append as append_leaf, detail_hash, empty_root,
    leaf_hash, needed_for_append, needed_for_root, root, sign_checkpoint, verify_consistency,
};
use zeroize::Zeroizing;

use crate::clock::random;
use crate::export::{self, Target};
use crate::keys::{self, DataKeyError, KeyError};
use crate::log_codes;
use crate::state::AppState;
use crate::store::{StoreError, Write};
use crate::witness;

/// The server build that stands in every entry.
pub const BUILD: &str = concat!("sallyport-server/", env!("CARGO_PKG_VERSION"));

/// Entries read at once while exporting or checking.
const PAGE: u32 = 1_024;

/// Why something was not logged; what was to be logged then must not happen.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry is too large or the tree's stored nodes have gaps.
    #[error("the audit log cannot take the entry: {0}")]
    Refused(String),
    /// The log in the database is shorter than, or differs from, what was signed before.
    #[error(
        "the audit log in the database does not continue the signed checkpoint of {size} entries ({place}): {what}. The database \
         was rolled back, restored from an old copy, or changed. The server does not start with it; keep both for the investigation"
    )]
    RolledBack {
        /// Size of the signed checkpoint.
        size: u64,
        /// Which checkpoint.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The stored log does not fit itself.
    #[error(
        "the audit log in the database was changed behind the server's back: {0}. Keep the database as it is for the investigation"
    )]
    Damaged(String),
    /// The checkpoint file or export could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No randomness.
    #[error("the operating system gives no random numbers")]
    Random,
    /// The key for the entry's detail is not to be had.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<DataKeyError> for AuditError {
    fn from(error: DataKeyError) -> Self {
        match error {
            DataKeyError::Store(error) => error.into(),
            DataKeyError::Key(error) => error.into(),
        }
    }
}

pub(crate) fn refused(error: impl std::fmt::Display) -> AuditError {
    AuditError::Refused(error.to_string())
}

/// Who did something: one person, or whoever proposed it and the second one who approved it.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Who acted, or proposed it.
    pub actor: &'a str,
    /// Who approved it.
    pub second: Option<&'a str>,
}

impl<'a> By<'a> {
    /// One person.
    #[must_use]
    pub const fn one(actor: &'a str) -> Self {
        Self {
            actor,
            second: None,
        }
    }

    /// The same entry with both names in it.
    pub(crate) fn sign(self, entry: Entry) -> Entry {
        Entry {
            actor: Some(self.actor.to_owned()),
            actor2: self.second.map(str::to_owned),
            ..entry
        }
    }
}

/// A new entry of this kind, with an event id of its own.
///
/// # Errors
/// No randomness.
pub fn entry(kind: &str, now: Timestamp) -> Result<Entry, AuditError> {
    let id = TransactionId::new(now, random().map_err(|_| AuditError::Random)?);
    Ok(Entry {
        build: Some(BUILD.to_owned()),
        ..Entry::new(id.to_string(), kind, now.as_micros())
    })
}

/// Appends an entry inside the transaction of what it records; returns its index. `detail` is sealed beside the entry, which
/// then carries only its salted hash.
///
/// # Errors
/// The transaction must be dropped then.
pub async fn append(
    state: &AppState,
    write: &mut Write<'_>,
    mut entry: Entry,
    detail: Option<&[u8]>,
) -> Result<u64, AuditError> {
    let index = write.log_size().await?;
    let detail = match detail {
        Some(plain) => {
            let salt: [u8; 32] = random().map_err(|_| AuditError::Random)?;
            let sealed =
                keys::audit_detail(state, write, entry.subject.as_deref(), index, plain).await?;
            entry.detail_hash = Some(detail_hash(&salt, &sealed));
            Some((salt, sealed))
        }
        None => None,
    };
    let bytes = entry.to_bytes().map_err(refused)?;
    let leaf = leaf_hash(&bytes);
    let nodes = write.log_nodes(&needed_for_append(index)).await?;
    let new = append_leaf(index, leaf, &nodes).map_err(refused)?;
    write
        .log_insert(
            index,
            entry.time,
            bytes,
            leaf,
            &log_codes::code(state, index, &leaf),
            &new,
        )
        .await?;
    if let Some((salt, sealed)) = detail {
        write
            .log_detail_insert(index, salt.to_vec(), sealed)
            .await?;
    }
    Ok(index)
}

/// The sealed detail of an entry, opened; `None` when the entry has none, or its subject was erased.
///
/// # Errors
/// The database failed, or the detail was changed.
pub async fn detail(
    state: &AppState,
    index: u64,
) -> Result<Option<Zeroizing<Vec<u8>>>, AuditError> {
    let rows = state.store.log_entries(index, 1).await?;
    let Some((_, bytes)) = rows.into_iter().find(|(at, _)| *at == index) else {
        return Ok(None);
    };
    let entry = Entry::from_bytes(&bytes).map_err(refused)?;
    match keys::open_audit_detail(state, entry.subject.as_deref(), index).await {
        Err(DataKeyError::Key(KeyError::Seal(_))) => Err(AuditError::Damaged(format!(
            "the sealed detail of entry {index} cannot be opened"
        ))),
        other => Ok(other?),
    }
}

/// Appends one entry in a transaction of its own.
///
/// # Errors
/// Not logged.
pub async fn record(state: &AppState, entry: Entry) -> Result<u64, AuditError> {
    finish(state, state.store.write().await?, entry, None).await
}

/// Appends an entry as the last act of a transaction, and commits all of it; returns the entry's index.
///
/// # Errors
/// Nothing was stored.
pub async fn finish(
    state: &AppState,
    mut write: Write<'_>,
    entry: Entry,
    detail: Option<&[u8]>,
) -> Result<u64, AuditError> {
    let time = Timestamp::from_micros(entry.time);
    let index = append(state, &mut write, entry, detail).await?;
    write.commit().await?;
    state.logged_at(time);
    Ok(index)
}

/// Where the last checkpoint is kept outside the database.
#[must_use]
pub fn checkpoint_file(data: &Path) -> PathBuf {
    data.join("checkpoint")
}

/// Signs and stores a checkpoint when there are new entries; returns its size then.
///
/// # Errors
/// The log has gaps, or database or file refuse.
pub async fn publish(state: &AppState) -> Result<Option<u64>, AuditError> {
    let size = state.store.log_size().await?;
    let stored = match state.store.checkpoint().await? {
        Some(note) => {
            Some(Checkpoint::open(note.as_bytes(), state.keys.log.verifier()).map_err(refused)?)
        }
        None => None,
    };
    // Never sign what does not continue the last checkpoint: neither the stored one, nor the one in this process' memory, which a
    // restored old copy of the database does not have.
    let remembered = state.watch.last_signed();
    for (last, place) in [(&stored, "in the database"), (&remembered, "signed before")] {
        if let Some(last) = last {
            continues(state, last, size, place).await?;
        }
    }
    if stored.as_ref().map_or(0, |last| last.size) >= size {
        return Ok(None);
    }
    let note = signed(state, size).await?;
    let mut write = state.store.write().await?;
    write.checkpoint_insert(size, &note).await?;
    write.commit().await?;
    let path = checkpoint_file(&state.data);
    replace_file(&path, note.as_bytes()).map_err(|source| AuditError::File {
        path: path.display().to_string(),
        source,
    })?;
    state
        .watch
        .has_signed(Checkpoint::open(note.as_bytes(), state.keys.log.verifier()).map_err(refused)?);
    Ok(Some(size))
}

/// The stored tree of `size` entries must continue `last`.
async fn continues(
    state: &AppState,
    last: &Checkpoint,
    size: u64,
    place: &str,
) -> Result<(), AuditError> {
    let broken = |what: String| AuditError::RolledBack {
        size: last.size,
        place: place.to_owned(),
        what,
    };
    if size < last.size {
        return Err(broken(format!("it has only {size} entries")));
    }
    let proof = witness::proof(state, last.size, size)
        .await?
        .map_err(|error| broken(error.to_string()))?;
    let root = root_of(state, size).await?;
    verify_consistency(last.size, size, &proof, last.root, root)
        .map_err(|error| broken(error.to_string()))
}

async fn root_of(state: &AppState, size: u64) -> Result<Hash, AuditError> {
    if size == 0 {
        return Ok(empty_root());
    }
    let nodes = state.store.log_nodes(&needed_for_root(size)).await?;
    root(size, &nodes).map_err(refused)
}

pub(crate) async fn signed(state: &AppState, size: u64) -> Result<String, AuditError> {
    let checkpoint = Checkpoint {
        origin: state.config.log_origin(),
        size,
        root: root_of(state, size).await?,
    };
    sign_checkpoint(&checkpoint, &state.keys.log).map_err(refused)
}

/// Replaces a file so that a power cut leaves either the old or the new content.
fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A name of its own for each process: the command line and the server may both sign.
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The stored log must continue every checkpoint that was ever signed and kept. Quick: reads a few tree nodes.
///
/// # Errors
/// Rolled back or shortened.
pub async fn check_checkpoints(state: &AppState) -> Result<u64, AuditError> {
    // Checkpoints before the size: another process may append and sign in between.
    let mut known = Vec::new();
    if let Some(note) = state.store.checkpoint().await? {
        known.push(("in the database", note.into_bytes()));
    }
    let path = checkpoint_file(&state.data);
    match std::fs::read(&path) {
        Ok(note) => known.push(("in the file 'checkpoint'", note)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(AuditError::File {
                path: path.display().to_string(),
                source,
            });
        }
    }
    let size = state.store.log_size().await?;
    for (place, note) in known {
        let rolled_back = |size, what: String| AuditError::RolledBack {
            size,
            place: place.to_owned(),
            what,
        };
        let checkpoint = Checkpoint::open(&note, state.keys.log.verifier())
            .map_err(|error| rolled_back(0, error.to_string()))?;
        if checkpoint.size > size {
            return Err(rolled_back(
                checkpoint.size,
                format!("it has only {size} entries"),
            ));
        }
        let stored = root_of(state, checkpoint.size)
            .await
            .map_err(|error| rolled_back(checkpoint.size, error.to_string()))?;
        if stored != checkpoint.root {
            return Err(rolled_back(
                checkpoint.size,
                "its root is another".to_owned(),
            ));
        }
    }
    Ok(size)
}

/// Before serving: the checkpoints, and every entry hashed anew and compared with the tree.
///
/// # Errors
/// Rolled back, shortened or changed.
pub async fn check(state: &AppState) -> Result<u64, AuditError> {
    let size = check_checkpoints(state).await?;
    check_rows(state, size).await?;
    Ok(size)
}

/// Every entry's bytes must give the stored leaf: finds entries that were changed behind the tree's back.
async fn check_rows(state: &AppState, size: u64) -> Result<(), AuditError> {
    let mut writer = ExportWriter::default();
    let mut next = 0;
    while next < size {
        let rows = state.store.log_entries(next, PAGE).await?;
        if rows.is_empty() {
            break;
        }
        // Another process may have appended meanwhile.
        for (index, bytes) in rows.into_iter().take_while(|(index, _)| *index < size) {
            if index != next {
                return Err(gap(size, next));
            }
            writer
                .push(bytes)
                .ok_or_else(|| refused("an entry is too large"))?;
            next += 1;
        }
    }
    let (_, count, computed) = writer
        .finish()
        .ok_or_else(|| refused("an entry is too large"))?;
    if count != size {
        return Err(gap(size, next));
    }
    let stored = root_of(state, size).await?;
    if size > 0 && stored != computed {
        return Err(AuditError::RolledBack {
            size,
            place: "the stored tree".to_owned(),
            what: "an entry was changed after it was logged".to_owned(),
        });
    }
    Ok(())
}

fn gap(size: u64, at: u64) -> AuditError {
    AuditError::RolledBack {
        size,
        place: "the stored tree".to_owned(),
        what: format!("entry {at} is missing"),
    }
}

/// Writes the whole log, up to its newest entry, as static files (tiles, entries, checkpoint, keys, policy, readable views) that
/// `sallyport-audit verify` checks offline. Returns the number of entries.
///
/// # Errors
/// The folder is not empty, or database or disk refuse.
pub async fn export(state: &AppState, folder: &Path) -> Result<u64, AuditError> {
    let all = export::Wanted::default();
    let to = Target::Folder(folder.to_owned());
    let exported = export::write(state, &to, &all, false, |_, _| {}).await?;
    Ok(exported.entries)
}
