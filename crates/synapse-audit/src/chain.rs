//! The chain: every entry's hash covers the hash of the one before it.

use sha2::{Digest as _, Sha256};
use synapse_core::{
    audit::{
        canonical::encode,
        entry::{Digest, Entry, Sealed},
    },
    store::audit::Head,
};
use uuid::Uuid;

/// What stands in for the hash before the first entry.
pub const BEFORE_FIRST: Digest = [0; 32];

/// The hash of an entry from its canonical bytes and the hash of the one before. It is also the entry's leaf hash
/// in a Merkle tree of RFC 6962, whose leaf is the canonical bytes followed by that hash.
pub fn hash(canonical: &[u8], prev: &Digest) -> Digest {
    Sha256::new().chain_update([0]).chain_update(canonical).chain_update(prev).finalize().into()
}

/// The hash that a sealed entry ought to have by what else it says.
pub fn expected_hash(sealed: &Sealed) -> Digest {
    let mut canonical = Vec::with_capacity(512);
    encode(sealed.chain, sealed.seq, &sealed.entry, &mut canonical);
    hash(&canonical, &sealed.prev)
}

/// Where a chain goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The chain.
    pub id: Uuid,
    /// The place of its next entry.
    pub next: u64,
    /// The hash of its last entry.
    pub head: Digest,
}

impl Chain {
    /// One without entries.
    pub fn new(id: Uuid) -> Self {
        Self { id, next: 0, head: BEFORE_FIRST }
    }

    /// The last entry; none in a chain without entries.
    pub fn last(&self) -> Option<Head> {
        self.next.checked_sub(1).map(|seq| Head { seq, hash: self.head })
    }

    /// Puts an entry in its place.
    pub fn seal(&mut self, entry: Entry) -> Sealed {
        let mut canonical = Vec::with_capacity(512);
        encode(self.id, self.next, &entry, &mut canonical);
        let (seq, prev) = (self.next, self.head);
        let hash = hash(&canonical, &prev);
        self.advance(hash);
        Sealed { chain: self.id, seq, prev, hash, entry }
    }

    /// Moves on behind an entry with this hash.
    pub(crate) fn advance(&mut self, hash: Digest) {
        self.next += 1;
        self.head = hash;
    }
}
