//! Tiles and entry bundles (<https://c2sp.org/tlog-tiles>).

use crate::{Hash, empty_root, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: usize = 256;

/// What a tile or bundle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSpot {
    /// Level of a tile, 0 to 7; `None` for a bundle of entries.
    pub level: Option<u8>,
    /// Number at its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to 256.
    pub width: usize,
}

/// Where a tile or bundle lies in the static tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TilePath(String);

impl TilePath {
    /// `tile/<L>/<N>` with `.p/<W>` for a partial tile of `width` hashes.
    #[must_use]
    pub fn tile(level: u8, index: u64, width: usize) -> Self {
        Self(format!(
            "tile/{level}/{}{}",
            path_number(index),
            partial(width)
        ))
    }

    /// `tile/entries/<N>` with `.p/<W>` for a partial bundle.
    #[must_use]
    pub fn entries(index: u64, width: usize) -> Self {
        Self(format!(
            "tile/entries/{}{}",
            path_number(index),
            partial(width)
        ))
    }

    /// Reads a path as this type writes it; anything else is refused, so that a path has one spelling.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        Self::locate(path).map(|(path, _)| path)
    }

    /// As [`TilePath::parse`], with what the path names.
    #[must_use]
    pub fn locate(path: &str) -> Option<(Self, TileSpot)> {
        // Enough for the largest number that fits 64 bits.
        if path.len() > 64 {
            return None;
        }
        let rest = path.strip_prefix("tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, decimal(width)?),
            None => (rest, TILE_WIDTH as u64),
        };
        let mut index = 0_u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            index = index
                .checked_mul(1_000)?
                .checked_add(digits.parse().ok()?)?;
        }
        let width = usize::try_from(width).ok()?;
        if !(1..=TILE_WIDTH).contains(&width) {
            return None;
        }
        let (level, parsed) = if level == "entries" {
            (None, Self::entries(index, width))
        } else {
            let level = u8::try_from(decimal(level)?).ok()?;
            // Level 7 covers 2^64 entries.
            (level <= 7).then(|| (Some(level), Self::tile(level, index, width)))?
        };
        let spot = TileSpot {
            level,
            index,
            width,
        };
        // Leading zero groups, missing `x` and `.p/256` are other spellings of the same place.
        (parsed.as_str() == path).then_some((parsed, spot))
    }

    /// The relative path with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn decimal(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn partial(width: usize) -> String {
    if width == TILE_WIDTH {
        String::new()
    } else {
        format!(".p/{width}")
    }
}

/// Groups of three digits, all but the last with an `x`: 1234067 becomes `x001/x234/067`.
#[must_use]
pub fn path_number(mut number: u64) -> String {
    let mut text = format!("{:03}", number % 1_000);
    while number >= 1_000 {
        number /= 1_000;
        text = format!("x{:03}/{text}", number % 1_000);
    }
    text
}

/// Entries with a two-byte big-endian length before each; `None` when one is too long.
#[must_use]
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Some(bytes)
}

/// The entries of a bundle; `None` when it ends early or holds more than a full bundle.
#[must_use]
pub fn decode_bundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bytes = rest;
        if entries.len() > TILE_WIDTH {
            return None;
        }
    }
    bytes.is_empty().then_some(entries)
}

/// Builds hash tiles from leaf hashes, one after the other, with little memory.
#[derive(Debug, Default)]
pub struct TileBuilder {
    size: u64,
    levels: Vec<(u64, Vec<Hash>)>,
}

impl TileBuilder {
    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; returns the tiles that became full.
    pub fn push(&mut self, leaf: Hash) -> Vec<(TilePath, Vec<u8>)> {
        self.size += 1;
        let mut full = Vec::new();
        let mut hash = leaf;
        for level in 0..=u8::MAX {
            if self.levels.len() <= usize::from(level) {
                self.levels.push((0, Vec::new()));
            }
            let Some((index, hashes)) = self.levels.get_mut(usize::from(level)) else {
                break;
            };
            hashes.push(hash);
            if hashes.len() < TILE_WIDTH {
                break;
            }
            full.push((
                TilePath::tile(level, *index, TILE_WIDTH),
                tile_bytes(hashes),
            ));
            hash = subtree_root(hashes);
            *index += 1;
            hashes.clear();
        }
        full
    }

    /// The partial tiles at the right edge, and the root.
    #[must_use]
    pub fn finish(&self) -> (Vec<(TilePath, Vec<u8>)>, Hash) {
        let mut partial = Vec::new();
        let mut right: Option<Hash> = None;
        for (level, (index, hashes)) in self.levels.iter().enumerate() {
            if hashes.is_empty() {
                continue;
            }
            let level = u8::try_from(level).unwrap_or(u8::MAX);
            partial.push((
                TilePath::tile(level, *index, hashes.len()),
                tile_bytes(hashes),
            ));
            // Fold this level's complete subtrees with what lies to their right, from the right.
            right = Some(fold(hashes, right));
        }
        (partial, right.unwrap_or_else(empty_root))
    }
}

fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Root of a full tile's complete subtree.
fn subtree_root(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                _ => None,
            })
            .collect();
    }
    row.first().copied().unwrap_or_default()
}

/// Root of `hashes` (each a complete subtree of equal size) followed by `right`, a smaller remainder.
fn fold(hashes: &[Hash], right: Option<Hash>) -> Hash {
    let mut rest = right;
    let mut end = hashes.len();
    // Complete subtrees by the binary digits of the count, smallest (rightmost) first.
    while end > 0 {
        let width = 1 << end.trailing_zeros();
        let part = subtree_root(hashes.get(end - width..end).unwrap_or_default());
        rest = Some(rest.map_or(part, |rest| node_hash(&part, &rest)));
        end -= width;
    }
    rest.unwrap_or_else(empty_root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf_hash;
    use proptest::prelude::*;

    #[test]
    fn paths_of_the_specification() {
        assert_eq!(path_number(1_234_067), "x001/x234/067");
        assert_eq!(path_number(0), "000");
        assert_eq!(path_number(1_000), "x001/000");
        assert_eq!(TilePath::tile(1, 0, 17).as_str(), "tile/1/000.p/17");
    }

    #[test]
    fn seventy_thousand_entries_make_the_golden_tiles_and_root() {
        let mut builder = TileBuilder::default();
        let mut full = Vec::new();
        for index in 0..70_000 {
            full.extend(builder.push(leaf_hash(format!("sallyport entry {index}").as_bytes())));
        }
        let (partial, root) = builder.finish();
        assert_eq!(
            root.to_base64(),
            "+u4vGYQDFdaiQP4QU6ifEPRb7JXm9oq0tsm8AmM5fW4="
        );
        let at = |level: &str| {
            full.iter()
                .filter(|(path, _)| path.as_str().starts_with(level))
                .count()
        };
        assert_eq!((at("tile/0/"), at("tile/1/"), at("tile/2/")), (273, 1, 0));
        let edge: Vec<_> = partial
            .iter()
            .map(|(path, _)| path.as_str().to_owned())
            .collect();
        assert_eq!(
            edge,
            ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
        );
    }

    proptest! {
        #[test]
        fn tiles_and_stored_nodes_agree(size in 0_u64..2_000) {
            let (mut builder, mut nodes) = (TileBuilder::default(), crate::NodeMap::new());
            for index in 0..size {
                let leaf = leaf_hash(&index.to_be_bytes());
                builder.push(leaf);
                let stored = crate::append(index, leaf, &nodes).unwrap();
                nodes.extend(stored);
            }
            prop_assert_eq!(builder.finish().1, crate::root(size, &nodes).unwrap());
        }

        #[test]
        fn bundles_round_trip(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..256)) {
            let bytes = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(decode_bundle(&bytes).unwrap(), entries);
        }

        #[test]
        fn hostile_bundles_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = decode_bundle(&bytes);
        }
    }
}
