//! Checks the stored log from its entries alone: every hash, every tree node, every checkpoint and every sealed detail.
//!
//! [`Fsck`] goes page by page with the tree's right edge as its only memory, so that it can run beside the server, a page at a time,
//! and over a log of any size.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_transparency::{
    Checkpoint, CompactTree, Entry, Hash, NodeId, detail_hash, leaf_hash,
};

use crate::audit::AuditError;
use crate::log_codes;
use crate::state::AppState;
use crate::store::log::LogRow;

/// Entries per page.
const PAGE: u32 = 1_024;

fn damaged(what: String) -> AuditError {
    AuditError::Damaged(what)
}

/// A check of the first entries of the log, in progress.
#[derive(Debug)]
pub struct Fsck {
    tree: CompactTree,
    until: u64,
    details: u64,
    checkpoints: u64,
}

/// What a finished check counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Entries.
    pub entries: u64,
    /// Signed checkpoints.
    pub checkpoints: u64,
    /// Sealed details.
    pub details: u64,
}

impl Fsck {
    /// Begins a check of everything that is stored now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn begin(state: &AppState) -> Result<Self, AuditError> {
        Ok(Self {
            tree: CompactTree::default(),
            until: state.store.log_size().await?,
            details: 0,
            checkpoints: 0,
        })
    }

    /// Entries checked so far, and how many there are.
    #[must_use]
    pub const fn progress(&self) -> (u64, u64) {
        (self.tree.size(), self.until)
    }

    /// Checks the next page; `false` when there is none left.
    ///
    /// # Errors
    /// The database failed, or something was changed: the sentence says what.
    pub async fn step(&mut self, state: &AppState) -> Result<bool, AuditError> {
        let start = self.tree.size();
        if start >= self.until {
            return Ok(false);
        }
        let rows: Vec<LogRow> = state
            .store
            .log_rows(start, PAGE)
            .await?
            .into_iter()
            .take_while(|row| row.index < self.until)
            .collect();
        if rows.is_empty() {
            return Err(damaged(format!("entry {start} is missing")));
        }
        let end = start + rows.len() as u64;
        let checkpoints = state.store.checkpoints_between(start, end).await?;
        let mut details = state.store.log_details(start, end).await?;
        self.details += details.len() as u64;
        let mut nodes = BTreeMap::new();
        let mut roots: BTreeMap<u64, Hash> = BTreeMap::new();
        let asked: BTreeSet<u64> = checkpoints.iter().map(|(size, _)| *size).collect();
        for row in &rows {
            let at = self.tree.size();
            if row.index != at {
                return Err(damaged(format!("entry {at} is missing")));
            }
            check_row(row, details.remove(&at))?;
            if !log_codes::is_ours(state, at, &row.bytes, row.code.as_deref()) {
                return Err(damaged(format!(
                    "entry {at} does not carry the server's code: somebody appended it, or changed its code"
                )));
            }
            self.tree.push(&row.bytes, |id, hash| {
                nodes.insert(id, hash);
            });
            if asked.contains(&self.tree.size()) {
                roots.insert(self.tree.size(), self.tree.root());
            }
        }
        if let Some(index) = details.keys().next() {
            return Err(damaged(format!(
                "a sealed detail was added to entry {index}, which has none"
            )));
        }
        compare_nodes(state, start, end, &nodes).await?;
        for (size, note) in checkpoints {
            let checkpoint = Checkpoint::open(note.as_bytes(), state.keys.log.verifier())
                .map_err(|error| damaged(format!("the checkpoint of {size} entries: {error}")))?;
            if checkpoint.size != size || Some(&checkpoint.root) != roots.get(&size) {
                return Err(damaged(format!(
                    "the entries do not give the signed checkpoint of {size} entries: at least one of them was changed, added or moved"
                )));
            }
            self.checkpoints += 1;
        }
        Ok(true)
    }

    /// After the last page: nothing may be there beside what was checked.
    ///
    /// # Errors
    /// The database failed, or something was added.
    pub async fn finish(self, state: &AppState) -> Result<Checked, AuditError> {
        let counts = state.store.log_counts().await?;
        let size = state.store.log_size().await?;
        if counts.entries != counts.newest || size < self.until {
            return Err(damaged(
                "entries were removed, or added under numbers of their own".to_owned(),
            ));
        }
        if counts.nodes != CompactTree::stored_nodes(counts.entries) {
            return Err(damaged("tree nodes were added or removed".to_owned()));
        }
        if counts.largest_checkpoint > counts.entries || counts.smallest_checkpoint == 0 {
            return Err(damaged(format!(
                "a checkpoint of {} entries is stored, but the log has {}",
                counts.largest_checkpoint, counts.entries
            )));
        }
        if counts.details_outside > 0 {
            return Err(damaged(
                "sealed details were added to entries that are not there".to_owned(),
            ));
        }
        Ok(Checked {
            entries: self.until,
            checkpoints: self.checkpoints,
            details: self.details,
        })
    }
}

/// The whole check at once; `progress` hears entries done and entries to do.
///
/// # Errors
/// See [`Fsck`].
pub async fn run(
    state: &AppState,
    mut progress: impl FnMut(u64, u64),
) -> Result<Checked, AuditError> {
    let mut fsck = Fsck::begin(state).await?;
    while fsck.step(state).await? {
        let (done, all) = fsck.progress();
        progress(done, all);
    }
    fsck.finish(state).await
}

fn check_row(row: &LogRow, detail: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), AuditError> {
    let index = row.index;
    if leaf_hash(&row.bytes) != row.leaf {
        return Err(damaged(format!(
            "entry {index} was changed after it was logged"
        )));
    }
    let entry = Entry::from_bytes(&row.bytes)
        .map_err(|error| damaged(format!("entry {index} is {error}")))?;
    if entry.time != row.time {
        return Err(damaged(format!(
            "the time beside entry {index} was changed"
        )));
    }
    let found = detail.map(|(salt, sealed)| detail_hash(&salt, &sealed));
    if entry.detail_hash == found {
        Ok(())
    } else {
        Err(damaged(format!(
            "the sealed detail of entry {index} was changed, added or removed"
        )))
    }
}

/// The stored nodes that these entries completed must be exactly the computed ones.
async fn compare_nodes(
    state: &AppState,
    start: u64,
    end: u64,
    computed: &BTreeMap<NodeId, Hash>,
) -> Result<(), AuditError> {
    for level in 0..64_u8 {
        let (from, to) = (start >> level, end >> level);
        if from == to {
            continue;
        }
        let stored = state.store.log_nodes_between(level, from, to).await?;
        let expected: Vec<(u64, Hash)> = computed
            .range(NodeId { level, index: from }..NodeId { level, index: to })
            .map(|(id, hash)| (id.index, *hash))
            .collect();
        if stored != expected {
            return Err(damaged(format!(
                "the tree at level {level} does not fit the entries {start} to {}: a node was changed, added or removed",
                end - 1
            )));
        }
    }
    Ok(())
}
