//! Roots and proofs over stored complete subtrees.
//!
//! Node `(level, index)` covers the leaves `index * 2^level .. (index + 1) * 2^level` and is stored once all of them
//! exist. Because stores are asynchronous and this crate is not, each computation has a `needed_for_…` twin that names the nodes
//! to fetch first.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Hash, empty_root, node_hash};

/// A complete subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// 0 for leaves.
    pub level: u8,
    /// Counts from the left.
    pub index: u64,
}

/// Fetched nodes.
pub type NodeMap = BTreeMap<NodeId, Hash>;

/// Why a proof cannot be made or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A stored node is missing.
    #[error("node {} at level {} is missing", .0.index, .0.level)]
    MissingNode(NodeId),
    /// The index or sizes are impossible.
    #[error("index or size out of range")]
    OutOfRange,
    /// The proof has too few or too many hashes.
    #[error("the proof has the wrong length")]
    WrongLength,
    /// The proof leads to another root.
    #[error("the proof leads to another root")]
    RootMismatch,
}

/// Largest power of two smaller than `n`, for `n` > 1.
const fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Where node hashes come from: fetched nodes, or a recorder that only learns which are needed.
trait Nodes {
    fn node(&mut self, id: NodeId) -> Result<Hash, ProofError>;
}

impl Nodes for &NodeMap {
    fn node(&mut self, id: NodeId) -> Result<Hash, ProofError> {
        self.get(&id).copied().ok_or(ProofError::MissingNode(id))
    }
}

#[derive(Default)]
struct Recorder(BTreeSet<NodeId>);

impl Nodes for Recorder {
    fn node(&mut self, id: NodeId) -> Result<Hash, ProofError> {
        self.0.insert(id);
        Ok(Hash::default())
    }
}

/// Root of the leaves `start .. start + size`; `start` is a multiple of the largest complete subtree inside.
fn range_root(nodes: &mut impl Nodes, start: u64, size: u64) -> Result<Hash, ProofError> {
    if size == 0 {
        return Ok(empty_root());
    }
    if size.is_power_of_two() {
        #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
        let level = size.trailing_zeros() as u8;
        return nodes.node(NodeId {
            level,
            index: start >> level,
        });
    }
    let k = split(size);
    let left = range_root(nodes, start, k)?;
    let right = range_root(nodes, start + k, size - k)?;
    Ok(node_hash(&left, &right))
}

fn path(
    nodes: &mut impl Nodes,
    index: u64,
    start: u64,
    size: u64,
    proof: &mut Vec<Hash>,
) -> Result<(), ProofError> {
    if size <= 1 {
        return Ok(());
    }
    let k = split(size);
    if index < k {
        path(nodes, index, start, k, proof)?;
        proof.push(range_root(nodes, start + k, size - k)?);
    } else {
        path(nodes, index - k, start + k, size - k, proof)?;
        proof.push(range_root(nodes, start, k)?);
    }
    Ok(())
}

fn subproof(
    nodes: &mut impl Nodes,
    old: u64,
    start: u64,
    size: u64,
    whole: bool,
    proof: &mut Vec<Hash>,
) -> Result<(), ProofError> {
    if old == size {
        if !whole {
            proof.push(range_root(nodes, start, size)?);
        }
        return Ok(());
    }
    let k = split(size);
    if old <= k {
        subproof(nodes, old, start, k, whole, proof)?;
        proof.push(range_root(nodes, start + k, size - k)?);
    } else {
        subproof(nodes, old - k, start + k, size - k, false, proof)?;
        proof.push(range_root(nodes, start, k)?);
    }
    Ok(())
}

fn inclusion_with(nodes: &mut impl Nodes, index: u64, size: u64) -> Result<Vec<Hash>, ProofError> {
    if index >= size || size > i64::MAX.unsigned_abs() {
        return Err(ProofError::OutOfRange);
    }
    let mut proof = Vec::new();
    path(nodes, index, 0, size, &mut proof)?;
    Ok(proof)
}

fn consistency_with(nodes: &mut impl Nodes, old: u64, new: u64) -> Result<Vec<Hash>, ProofError> {
    if old > new || new > i64::MAX.unsigned_abs() {
        return Err(ProofError::OutOfRange);
    }
    let mut proof = Vec::new();
    if old > 0 {
        subproof(nodes, old, 0, new, true, &mut proof)?;
    }
    Ok(proof)
}

fn recorded(run: impl FnOnce(&mut Recorder) -> Result<(), ProofError>) -> Vec<NodeId> {
    let mut recorder = Recorder::default();
    match run(&mut recorder) {
        Ok(()) => recorder.0.into_iter().collect(),
        // Out of range: nothing to fetch; the computation itself reports it.
        Err(_) => Vec::new(),
    }
}

/// The nodes that [`root`] reads.
#[must_use]
pub fn needed_for_root(size: u64) -> Vec<NodeId> {
    recorded(|nodes| range_root(nodes, 0, size).map(drop))
}

/// The tree's root.
///
/// # Errors
/// A node is missing.
pub fn root(size: u64, nodes: &NodeMap) -> Result<Hash, ProofError> {
    range_root(&mut &*nodes, 0, size)
}

/// The nodes that [`append`] reads when the tree has `size` leaves.
#[must_use]
pub fn needed_for_append(size: u64) -> Vec<NodeId> {
    let mut needed = Vec::new();
    let (mut level, mut index) = (0, size);
    while index & 1 == 1 {
        needed.push(NodeId {
            level,
            index: index - 1,
        });
        level += 1;
        index >>= 1;
    }
    needed
}

/// The nodes to store when a leaf is appended to a tree of `size` leaves.
///
/// # Errors
/// A node is missing.
pub fn append(size: u64, leaf: Hash, nodes: &NodeMap) -> Result<Vec<(NodeId, Hash)>, ProofError> {
    let mut id = NodeId {
        level: 0,
        index: size,
    };
    let mut hash = leaf;
    let mut stored = vec![(id, hash)];
    while id.index & 1 == 1 {
        let sibling = NodeId {
            level: id.level,
            index: id.index - 1,
        };
        let left = nodes
            .get(&sibling)
            .ok_or(ProofError::MissingNode(sibling))?;
        hash = node_hash(left, &hash);
        id = NodeId {
            level: id.level + 1,
            index: id.index >> 1,
        };
        stored.push((id, hash));
    }
    Ok(stored)
}

/// The nodes that [`inclusion_proof`] reads.
#[must_use]
pub fn needed_for_inclusion(index: u64, size: u64) -> Vec<NodeId> {
    recorded(|nodes| inclusion_with(nodes, index, size).map(drop))
}

/// Proof that leaf `index` is in the tree of `size` leaves; sibling first (RFC 6962 section 2.1.1).
///
/// # Errors
/// Out of range, or a node is missing.
pub fn inclusion_proof(index: u64, size: u64, nodes: &NodeMap) -> Result<Vec<Hash>, ProofError> {
    inclusion_with(&mut &*nodes, index, size)
}

/// The nodes that [`consistency_proof`] reads.
#[must_use]
pub fn needed_for_consistency(old: u64, new: u64) -> Vec<NodeId> {
    recorded(|nodes| consistency_with(nodes, old, new).map(drop))
}

/// Proof that the tree of `old` leaves is a prefix of the one of `new` leaves (RFC 6962 section 2.1.2).
///
/// # Errors
/// Out of range, or a node is missing.
pub fn consistency_proof(old: u64, new: u64, nodes: &NodeMap) -> Result<Vec<Hash>, ProofError> {
    consistency_with(&mut &*nodes, old, new)
}

/// Checks an inclusion proof (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// Out of range, wrong length, or another root.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: Hash,
    proof: &[Hash],
    root: Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    if proof.len() > 63 {
        return Err(ProofError::WrongLength);
    }
    let (mut number, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if number & 1 == 1 || number == last {
            hash = node_hash(sibling, &hash);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    if last != 0 {
        Err(ProofError::WrongLength)
    } else if hash == root {
        Ok(())
    } else {
        Err(ProofError::RootMismatch)
    }
}

/// Checks a consistency proof (RFC 9162 section 2.1.4.2). From the empty tree only the empty proof holds.
///
/// # Errors
/// Out of range, wrong length, or another root.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: Hash,
    new_root: Hash,
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::OutOfRange);
    }
    if proof.len() > 63 {
        return Err(ProofError::WrongLength);
    }
    if old == 0 || old == new {
        let same = if old == 0 {
            old_root == empty_root()
        } else {
            old_root == new_root
        };
        return match (
            proof.is_empty(),
            same && (new != 0 || new_root == empty_root()),
        ) {
            (false, _) => Err(ProofError::WrongLength),
            (true, false) => Err(ProofError::RootMismatch),
            (true, true) => Ok(()),
        };
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() {
        old_root
    } else {
        *hashes.next().ok_or(ProofError::WrongLength)?
    };
    let (mut number, mut last) = (old - 1, new - 1);
    while number & 1 == 1 {
        number >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for sibling in hashes {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if number & 1 == 1 || number == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    if last != 0 {
        Err(ProofError::WrongLength)
    } else if from_old == old_root && from_new == new_root {
        Ok(())
    } else {
        Err(ProofError::RootMismatch)
    }
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
