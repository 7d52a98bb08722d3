//! A tree that grows by appending and keeps only its right edge: for checking a log of any size in little memory.

use crate::{Hash, NodeId, empty_root, leaf_hash, node_hash};

/// A tree's right edge: the complete subtrees by the binary digits of its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactTree {
    size: u64,
    /// Largest first.
    edge: Vec<(u8, Hash)>,
}

impl CompactTree {
    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry; hands each node that becomes complete to `completed`, the leaf first.
    pub fn push(&mut self, entry: &[u8], mut completed: impl FnMut(NodeId, Hash)) {
        let (mut level, mut hash) = (0_u8, leaf_hash(entry));
        completed(
            NodeId {
                level,
                index: self.size,
            },
            hash,
        );
        while let Some((_, left)) = self.edge.pop_if(|(top, _)| *top == level) {
            hash = node_hash(&left, &hash);
            level += 1;
            completed(
                NodeId {
                    level,
                    index: self.size >> level,
                },
                hash,
            );
        }
        self.edge.push((level, hash));
        self.size += 1;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.edge
            .iter()
            .rev()
            .map(|(_, hash)| *hash)
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }

    /// How many complete subtrees a log of this size stores.
    #[must_use]
    pub const fn stored_nodes(size: u64) -> u64 {
        // n + n/2 + n/4 + … (each rounded down) = 2n - popcount(n).
        2 * size - size.count_ones() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeMap, append, root};

    #[test]
    fn it_makes_the_nodes_and_roots_of_the_stored_tree() {
        let (mut compact, mut nodes, mut made) =
            (CompactTree::default(), NodeMap::new(), NodeMap::new());
        assert_eq!(compact.root(), empty_root());
        for index in 0..600_u64 {
            let entry = index.to_be_bytes();
            let stored = append(index, leaf_hash(&entry), &nodes).unwrap();
            nodes.extend(stored);
            compact.push(&entry, |id, hash| assert!(made.insert(id, hash).is_none()));
            assert_eq!(compact.root(), root(index + 1, &nodes).unwrap());
            assert_eq!(CompactTree::stored_nodes(index + 1), nodes.len() as u64);
        }
        assert_eq!(made, nodes);
    }
}
