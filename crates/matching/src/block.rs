//! The references of one model and modality: rows in locked memory, and whose they are.

use sallyport_domain::ReferenceId;
use zeroize::Zeroize;

use crate::locked::{LockedSlice, Plain};

/// Rows of one chunk. A gallery grows by whole chunks, so no template is ever copied to grow.
const CHUNK_ROWS: usize = 512;

/// Whose row it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) reference: ReferenceId,
    /// Where the gallery keeps the subject.
    pub(crate) slot: u32,
}

/// Rows of `WIDTH` numbers.
pub(crate) struct Block<T: Plain, const WIDTH: usize> {
    chunks: Vec<LockedSlice<T>>,
    owners: Vec<Owner>,
    unprotected_bytes: usize,
}

impl<T: Plain, const WIDTH: usize> Default for Block<T, WIDTH> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            owners: Vec::new(),
            unprotected_bytes: 0,
        }
    }
}

impl<T: Plain, const WIDTH: usize> Block<T, WIDTH> {
    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    pub(crate) fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// Bytes that could not be locked.
    pub(crate) const fn unprotected_bytes(&self) -> usize {
        self.unprotected_bytes
    }

    /// Makes room for one row more.
    pub(crate) fn reserve(&mut self) {
        if self.owners.len() == self.chunks.len() * CHUNK_ROWS {
            let chunk = LockedSlice::zeroed(CHUNK_ROWS * WIDTH);
            self.unprotected_bytes += chunk.unprotected_bytes();
            self.chunks.push(chunk);
        }
    }

    /// Appends a row, written in place by `fill`; returns its place.
    pub(crate) fn push(&mut self, owner: Owner, fill: impl FnOnce(&mut [T; WIDTH])) -> usize {
        let at = self.owners.len();
        self.reserve();
        if let Some(row) = self.row_mut(at) {
            fill(row);
        }
        self.owners.push(owner);
        at
    }

    /// Removes a row by moving the last one into its place; returns the reference that moved, if one did. What is left
    /// of the row is zeroised, and so is an empty chunk.
    pub(crate) fn swap_remove(&mut self, at: usize) -> Option<ReferenceId> {
        let last = self.owners.len().checked_sub(1)?;
        if at > last {
            return None;
        }
        self.owners.swap_remove(at);
        if at != last {
            let (from, to) = (last / CHUNK_ROWS * CHUNK_ROWS, at / CHUNK_ROWS * CHUNK_ROWS);
            let place = |row: usize, chunk: usize| (row - chunk) * WIDTH..(row - chunk + 1) * WIDTH;
            if from == to {
                if let Some(chunk) = self.chunks.get_mut(from / CHUNK_ROWS) {
                    chunk.copy_within(place(last, from), (at - to) * WIDTH);
                }
            } else {
                let (front, back) = self.chunks.split_at_mut(from / CHUNK_ROWS);
                let source = back.first().and_then(|chunk| chunk.get(place(last, from)));
                let target = front
                    .get_mut(to / CHUNK_ROWS)
                    .and_then(|chunk| chunk.get_mut(place(at, to)));
                if let (Some(source), Some(target)) = (source, target) {
                    target.copy_from_slice(source);
                }
            }
        }
        if let Some(row) = self.row_mut(last) {
            row.as_mut_slice().zeroize();
        }
        for chunk in self.chunks.drain(last.div_ceil(CHUNK_ROWS)..) {
            self.unprotected_bytes -= chunk.unprotected_bytes();
        }
        self.owners.get(at).map(|owner| owner.reference)
    }

    /// The rows from `from` on, at most `count` of them.
    pub(crate) fn rows(&self, from: usize, count: usize) -> impl Iterator<Item = &[T; WIDTH]> {
        self.chunks
            .iter()
            .skip(from / CHUNK_ROWS)
            .flat_map(|chunk| chunk.as_chunks::<WIDTH>().0)
            .skip(from % CHUNK_ROWS)
            .take(count.min(self.owners.len().saturating_sub(from)))
    }

    /// The row at a place.
    pub(crate) fn row(&self, at: usize) -> Option<&[T; WIDTH]> {
        let chunk = self.chunks.get(at / CHUNK_ROWS)?;
        let row = chunk.as_chunks::<WIDTH>().0.get(at % CHUNK_ROWS);
        row.filter(|_| at < self.owners.len())
    }

    fn row_mut(&mut self, at: usize) -> Option<&mut [T; WIDTH]> {
        let chunk = self.chunks.get_mut(at / CHUNK_ROWS)?;
        chunk.as_chunks_mut::<WIDTH>().0.get_mut(at % CHUNK_ROWS)
    }
}

/// Scores every row with `score` on so many threads, in the rows' order. `score` is given the row's place, the row and
/// room for as many results as `results` says, filled with its value.
pub(crate) fn scan<T: Plain, S: Copy + Send + Sync, const WIDTH: usize>(
    block: &Block<T, WIDTH>,
    threads: usize,
    results: (usize, S),
    score: impl Fn(usize, &[T; WIDTH], &mut [S]) + Sync,
) -> Vec<S> {
    /// Below this many rows a thread costs more than it brings.
    const ROWS_PER_THREAD: usize = 2_048;
    let (per_row, empty) = results;
    let threads = threads.clamp(1, block.len().div_ceil(ROWS_PER_THREAD).max(1));
    let share = block.len().div_ceil(threads).max(1);
    let mut scores = vec![empty; block.len() * per_row];
    if per_row == 0 {
        return scores;
    }
    let work = |part: usize, scores: &mut [S]| {
        let first = part * share;
        scores
            .chunks_exact_mut(per_row)
            .zip(block.rows(first, share))
            .enumerate()
            .for_each(|(at, (scores, row))| score(first + at, row, scores));
    };
    std::thread::scope(|scope| {
        let mut parts = scores.chunks_mut(share * per_row).enumerate();
        let own = parts.next();
        let work = &work;
        for (part, scores) in parts {
            scope.spawn(move || work(part, scores));
        }
        if let Some((part, scores)) = own {
            work(part, scores);
        }
    });
    scores
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn owner(n: u128) -> Owner {
        Owner {
            reference: ReferenceId::from_uuid(Uuid::from_u128(n)),
            slot: n as u32,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a plain vector, over several chunks, whatever is removed.
        #[test]
        fn it_is_a_vector_of_rows(
            first in 0..1_400_usize,
            removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..200),
            more in 0..50_usize,
            threads in 1..4_usize,
        ) {
            let mut block: Block<u64, 3> = Block::default();
            let mut plain: Vec<u64> = Vec::new();
            let push = |n: usize, block: &mut Block<u64, 3>, plain: &mut Vec<u64>| {
                let n = n as u64 + 1;
                assert_eq!(block.push(owner(n.into()), |row| *row = [n, n * 2, n * 3]), plain.len());
                plain.push(n);
            };
            (0..first).for_each(|n| push(n, &mut block, &mut plain));
            for at in removed {
                if plain.is_empty() {
                    break;
                }
                let at = at.index(plain.len());
                plain.swap_remove(at);
                let moved = block.swap_remove(at);
                prop_assert_eq!(moved, plain.get(at).map(|n| owner(u128::from(*n)).reference));
            }
            (0..more).for_each(|n| push(n + 10_000, &mut block, &mut plain));
            prop_assert_eq!(block.len(), plain.len());
            let rows: Vec<_> = block.rows(0, usize::MAX).copied().collect();
            let expected: Vec<_> = plain.iter().map(|n| [*n, n * 2, n * 3]).collect();
            prop_assert_eq!(rows, expected);
            let scores = scan(&block, threads, (1, 0.0), |_, row, score| score[0] = row[0] as f32);
            prop_assert_eq!(scores, plain.iter().map(|n| *n as f32).collect::<Vec<_>>());
            // What lies behind the last row is zero.
            let held: Vec<u64> = block.chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
            prop_assert!(held[plain.len() * 3..].iter().all(|word| *word == 0));
        }
    }

    #[test]
    fn many_rows_are_shared_among_threads() {
        let mut block: Block<u64, 1> = Block::default();
        for n in 0..10_000_u64 {
            block.push(owner(n.into()), |row| *row = [n]);
        }
        for threads in [1, 2, 3, 7] {
            let scores = scan(&block, threads, (2, 0.0), |at, row, score| {
                score[0] = row[0] as f32;
                score[1] = at as f32;
            });
            assert!(
                scores
                    .iter()
                    .enumerate()
                    .all(|(n, score)| *score == (n / 2) as f32)
            );
        }
    }
}
