//! Entries of a chain on their way from journal to database to verification: many, side by side in memory, in the
//! bytes that their hashes cover. None of these needs more, and so they go several times faster than entries.

use std::ops::Range;

use uuid::Uuid;

use super::{
    canonical,
    entry::{Digest, Link, Sealed, Value},
};

/// Some entries of one chain, in the order of their places.
#[derive(Clone, Debug)]
pub struct Stretch {
    chain: Uuid,
    rows: Vec<Row>,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Row {
    seq: u64,
    /// Nothing, where the row is none of an entry any more.
    content: Option<(Digest, Digest, Range<usize>)>,
}

/// An entry as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'s> {
    /// Its place, and the hashes that it has; whether they are right is not said.
    pub link: Link,
    /// The canonical bytes of what it says.
    pub canonical: &'s [u8],
}

impl Stretch {
    /// One entry alone.
    pub fn of(sealed: &Sealed) -> Self {
        let mut stretch = Self::new(sealed.chain);
        stretch.push(sealed.seq, sealed.prev, sealed.hash, sealed.entry.values());
        stretch
    }

    /// The chain.
    pub fn chain(&self) -> Uuid {
        self.chain
    }

    /// One without entries.
    pub fn new(chain: Uuid) -> Self {
        Self { chain, rows: Vec::new(), bytes: Vec::new() }
    }

    /// Adds an entry by the values of its columns.
    pub fn push<'v>(
        &mut self,
        seq: u64,
        prev: Digest,
        hash: Digest,
        values: impl IntoIterator<Item = Value<'v>>,
    ) {
        let start = self.bytes.len();
        canonical::encode_values(self.chain, seq, values, &mut self.bytes);
        self.rows.push(Row { seq, content: Some((prev, hash, start..self.bytes.len())) });
    }

    /// Adds an entry by its canonical bytes.
    pub fn push_canonical(&mut self, seq: u64, prev: Digest, hash: Digest, canonical: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(canonical);
        self.rows.push(Row { seq, content: Some((prev, hash, start..self.bytes.len())) });
    }

    /// Adds a row that cannot be read as an entry.
    pub fn push_unreadable(&mut self, seq: u64) {
        self.rows.push(Row { seq, content: None });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The last place; none where there are no entries.
    pub fn last(&self) -> Option<u64> {
        self.rows.last().map(|row| row.seq)
    }

    /// All of them: the place, and the entry where it can be read.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Option<Standing<'_>>)> {
        self.rows.iter().map(|Row { seq, content }| {
            let standing = content.as_ref().map(|(prev, hash, canonical)| Standing {
                link: Link { chain: self.chain, seq: *seq, prev: *prev, hash: *hash },
                canonical: &self.bytes[canonical.clone()],
            });
            (*seq, standing)
        })
    }
}
