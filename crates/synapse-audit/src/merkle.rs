//! Merkle trees of RFC 6962 over the hashes of entries: a root for any number of them in constant memory, and
//! proofs that one of them is under it.

use sha2::{Digest as _, Sha256};
use synapse_core::audit::entry::Digest;

/// Two subtrees under one node.
fn node(left: &Digest, right: &Digest) -> Digest {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows leaf by leaf. It keeps the roots of its complete subtrees, one for each bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// From the largest to the smallest.
    peaks: Vec<Digest>,
}

impl Tree {
    /// Adds a leaf by its hash: that of an entry.
    pub fn push(&mut self, leaf: Digest) {
        let mut root = leaf;
        // Each one at the end of the size is a subtree as large as what has come together so far.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                root = node(&left, &root);
            }
        }
        self.peaks.push(root);
        self.size += 1;
    }

    /// One of this size that has these complete subtrees, from the largest to the smallest; none if no tree has.
    pub fn grown(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// The roots of its complete subtrees, from the largest to the smallest.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        let joined = self.peaks.iter().rev().copied().reduce(|right, left| node(&left, &right));
        joined.unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The root over these leaves.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The proof that leaf `index` is under the root over all of them: the hashes beside its way up, lowest first.
/// Nothing where there is no such leaf.
pub fn path(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether the path leads from the leaf at `index` of `size` to the root.
pub fn leads(leaf: Digest, index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(beside, &hash);
            // A last node without a neighbour goes up as it is.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}
