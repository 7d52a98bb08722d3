//! An export: the static tile tree with checkpoint, written and verified as a stream.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Checkpoint, CheckpointError, Hash, TILE_WIDTH, TileBuilder, TilePath, VerifierKey,
    decode_bundle, encode_bundle, leaf_hash,
};

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFile {
    /// Relative path with `/`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Writes an export entry by entry; hands out each file when it is complete.
#[derive(Debug, Default)]
pub struct ExportWriter {
    tiles: TileBuilder,
    bundle: Vec<Vec<u8>>,
    bundles: u64,
}

impl ExportWriter {
    /// Adds an entry; returns the files that became complete. `None` when the entry is too long.
    pub fn push(&mut self, entry: Vec<u8>) -> Option<Vec<ExportFile>> {
        if entry.len() > crate::MAX_ENTRY_BYTES {
            return None;
        }
        let mut files: Vec<ExportFile> = self
            .tiles
            .push(leaf_hash(&entry))
            .into_iter()
            .map(file)
            .collect();
        self.bundle.push(entry);
        if self.bundle.len() == TILE_WIDTH {
            files.push(self.take_bundle()?);
        }
        Some(files)
    }

    /// The remaining files and the root. The checkpoint is the caller's.
    pub fn finish(mut self) -> Option<(Vec<ExportFile>, u64, Hash)> {
        let (partial, root) = self.tiles.finish();
        let mut files: Vec<ExportFile> = partial.into_iter().map(file).collect();
        if !self.bundle.is_empty() {
            files.push(self.take_bundle()?);
        }
        Some((files, self.tiles.size(), root))
    }

    fn take_bundle(&mut self) -> Option<ExportFile> {
        let path = TilePath::entries(self.bundles, self.bundle.len());
        let bytes = encode_bundle(self.bundle.iter().map(Vec::as_slice))?;
        self.bundles += 1;
        self.bundle.clear();
        Some(file((path, bytes)))
    }
}

fn file((path, bytes): (TilePath, Vec<u8>)) -> ExportFile {
    ExportFile {
        path: path.as_str().to_owned(),
        bytes,
    }
}

/// Files to verify.
pub trait Files {
    /// Error of reading.
    type Error: std::error::Error;
    /// A file's content; `None` when it is not there. At most a few MiB are expected.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, Self::Error>;
    /// All paths below `tile/`.
    ///
    /// # Errors
    /// The folder cannot be listed.
    fn tiles(&mut self) -> Result<Vec<String>, Self::Error>;
}

/// Files in memory, for tests and small exports.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(pub BTreeMap<String, Vec<u8>>);

impl Files for MemoryFiles {
    type Error = std::convert::Infallible;
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(path).cloned())
    }
    fn tiles(&mut self) -> Result<Vec<String>, Self::Error> {
        Ok(self
            .0
            .keys()
            .filter(|path| path.starts_with("tile/"))
            .cloned()
            .collect())
    }
}

/// What is wrong with an export, in words for an inspector.
#[derive(Debug, thiserror::Error)]
pub enum Finding<E: std::error::Error> {
    /// A file could not be read.
    #[error("{path} could not be read: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: E,
    },
    /// A file is missing.
    #[error(
        "{0} is missing, so entries were removed from the export or the checkpoint claims too many"
    )]
    Missing(String),
    /// A file is not part of this log.
    #[error(
        "{0} does not belong to a log of this size; it was added, or the checkpoint was cut back"
    )]
    Surplus(String),
    /// The checkpoint is not accepted.
    #[error("the checkpoint is not acceptable: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// An entry bundle does not hold the right number of entries.
    #[error("{0} is damaged: it does not hold the number of entries that its place asks for")]
    Bundle(String),
    /// A tile differs from what the entries give.
    #[error("{0} does not fit the entries: an entry or the tile was changed after it was logged")]
    Tile(String),
    /// The entries give another root.
    #[error(
        "the entries do not give the signed root: at least one of the {0} entries was changed, added, removed or moved"
    )]
    Root(u64),
}

/// A verified export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedExport {
    /// The checkpoint that the entries were found to give.
    pub checkpoint: Checkpoint,
}

/// Recomputes every leaf, tile and the root from the entries alone, and compares. `each` sees every entry with its index, before
/// the whole is known to be right; use what it collected only after success.
///
/// # Errors
/// The first thing found wrong.
pub fn verify_export<F: Files>(
    files: &mut F,
    log: &VerifierKey,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<VerifiedExport, Finding<F::Error>> {
    let note = read(files, "checkpoint")?;
    let checkpoint = Checkpoint::open(&note, log)?;
    let mut expected = BTreeSet::new();
    let mut tiles = TileBuilder::default();
    let mut index = 0;
    while index < checkpoint.size {
        let left = checkpoint.size - index;
        let width = usize::try_from(left).unwrap_or(usize::MAX).min(TILE_WIDTH);
        let path = TilePath::entries(index / TILE_WIDTH as u64, width);
        let bytes = read(files, path.as_str())?;
        let entries = decode_bundle(&bytes)
            .filter(|entries| entries.len() == width)
            .ok_or_else(|| Finding::Bundle(path.as_str().to_owned()))?;
        for entry in entries {
            each(index, entry);
            for (path, bytes) in tiles.push(leaf_hash(entry)) {
                compare(files, &mut expected, path.as_str(), &bytes)?;
            }
            index += 1;
        }
        expected.insert(path.as_str().to_owned());
    }
    let (partial, root) = tiles.finish();
    for (path, bytes) in partial {
        compare(files, &mut expected, path.as_str(), &bytes)?;
    }
    if root != checkpoint.root {
        return Err(Finding::Root(checkpoint.size));
    }
    let listed = files.tiles().map_err(|source| Finding::Unreadable {
        path: "tile/".to_owned(),
        source,
    })?;
    match listed.into_iter().find(|path| !expected.contains(path)) {
        Some(path) => Err(Finding::Surplus(path)),
        None => Ok(VerifiedExport { checkpoint }),
    }
}

fn read<F: Files>(files: &mut F, path: &str) -> Result<Vec<u8>, Finding<F::Error>> {
    files
        .read(path)
        .map_err(|source| Finding::Unreadable {
            path: path.to_owned(),
            source,
        })?
        .ok_or_else(|| Finding::Missing(path.to_owned()))
}

fn compare<F: Files>(
    files: &mut F,
    expected: &mut BTreeSet<String>,
    path: &str,
    bytes: &[u8],
) -> Result<(), Finding<F::Error>> {
    expected.insert(path.to_owned());
    if read(files, path)? == bytes {
        Ok(())
    } else {
        Err(Finding::Tile(path.to_owned()))
    }
}

#[cfg(test)]
#[path = "export/tests.rs"]
mod tests;
