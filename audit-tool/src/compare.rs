//! `diff`: does a later export continue an earlier one?

use std::io::Write;
use std::path::Path;

use sallyport_transparency::{CompactTree, Files as _, Hash, TILE_WIDTH, TilePath, decode_bundle};

use crate::check::{Trusted, unreadable, verified};
use crate::place::Place;
use crate::{Export, Failure, Trust, put};

pub(crate) fn diff(
    earlier: &Path,
    later: &Path,
    trust: &Trust,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let later = Export {
        folder: later.to_owned(),
        trust: trust.clone(),
    };
    let (note, mut entries) = if earlier.is_dir() || Place::is_tar(earlier) {
        let export = Export {
            folder: earlier.to_owned(),
            trust: trust.clone(),
        };
        let done = verified(&export, |_, _| {})
            .map_err(|failure| prefixed("the earlier export", failure))?;
        if done.selected.is_some() {
            return Err(selection());
        }
        let place = Place::open(earlier)?;
        let note = place.bytes("checkpoint")?;
        (note, Some(Entries::new(place, done.checkpoint.size)))
    } else {
        let note = std::fs::read(earlier).map_err(|error| unreadable(earlier, &error))?;
        (note, None)
    };
    let (old, _) = Trusted::new(trust, Some(&Place::open(&later.folder)?))?
        .open(&note)
        .map_err(|failure| prefixed("the earlier checkpoint", failure))?;
    let (mut tree, mut at_old, mut first) = (CompactTree::default(), None, None);
    if old.size == 0 {
        at_old = Some(tree.root());
    }
    let mut failed = None;
    let done = verified(&later, |index, entry| {
        tree.push(entry, |_, _| {});
        if tree.size() == old.size {
            at_old = Some(tree.root());
        }
        if first.is_none() && index < old.size && failed.is_none() {
            match entries.as_mut().map(|entries| entries.is(index, entry)) {
                Some(Ok(false)) => first = Some(index),
                Some(Err(failure)) => failed = Some(failure),
                Some(Ok(true)) | None => {}
            }
        }
    })
    .map_err(|failure| prefixed("the later export", failure))?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if done.selected.is_some() {
        return Err(selection());
    }
    let new = done.checkpoint;
    verdict(&old.origin, old.size, old.root, new.size, at_old, first)?;
    put(
        out,
        &format!(
            "VERIFIED: the later log of {} entries continues the earlier one of {}: {} entries were added, none was changed, removed or moved.\n",
            new.size,
            old.size,
            new.size - old.size
        ),
    )
}

fn verdict(
    origin: &str,
    old: u64,
    old_root: Hash,
    new: u64,
    at_old: Option<Hash>,
    first: Option<u64>,
) -> Result<(), Failure> {
    if new < old {
        return Err(Failure::Tampered(format!(
            "the later log of {origin} has {new} entries, the earlier one had {old}: entries were removed"
        )));
    }
    if at_old == Some(old_root) {
        return Ok(());
    }
    Err(Failure::Tampered(match first {
        Some(index) => format!(
            "the later log of {origin} is not a continuation of the earlier one: they differ from entry {index} on, although both are signed. One of them was shown to you falsely; keep both"
        ),
        None => format!(
            "the later log of {origin} is not a continuation of the {old} entries signed earlier, although both are signed. One of them was shown to you falsely; keep both"
        ),
    }))
}

fn selection() -> Failure {
    Failure::Unable("a selection cannot be compared; export the whole log".to_owned())
}

fn prefixed(what: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Tampered(why) => Failure::Tampered(format!("{what}: {why}")),
        Failure::Unable(why) => Failure::Unable(format!("{what}: {why}")),
    }
}

/// Entries of a verified export in order, one bundle in memory.
struct Entries {
    files: Place,
    size: u64,
    bundle: Option<(u64, Vec<u8>)>,
}

impl Entries {
    fn new(files: Place, size: u64) -> Self {
        Self {
            files,
            size,
            bundle: None,
        }
    }

    fn is(&mut self, index: u64, entry: &[u8]) -> Result<bool, Failure> {
        let number = index / TILE_WIDTH as u64;
        if self.bundle.as_ref().is_none_or(|(at, _)| *at != number) {
            let left = self.size - number * TILE_WIDTH as u64;
            let width = usize::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
            let path = TilePath::entries(number, width);
            let bytes = (&self.files)
                .read(path.as_str())
                .map_err(|error| unreadable(Path::new(path.as_str()), &error))?
                .unwrap_or_default();
            self.bundle = Some((number, bytes));
        }
        let within = usize::try_from(index % TILE_WIDTH as u64).unwrap_or_default();
        Ok(self
            .bundle
            .as_ref()
            .and_then(|(_, bytes)| decode_bundle(bytes))
            .and_then(|entries| entries.get(within).map(|old| *old == entry))
            .unwrap_or(false))
    }
}
