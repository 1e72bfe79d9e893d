//! A signed statement of what a chain had: the Merkle root over the entries since the statement before.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use synapse_core::{
    audit::entry::{Digest, Link},
    store::audit::StoredCheckpoint,
};
use uuid::Uuid;

use crate::{
    anchor::Anchor,
    chain::BEFORE_FIRST,
    merkle::Tree,
    note::{self, NoteError, PublicKey, SigningKey},
};

const TITLE: &str = "synapse audit checkpoint 1";

/// What a chain had, up to one of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain.
    pub chain: Uuid,
    /// The first entry that it covers.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The Merkle root over the hashes of those.
    pub root: Digest,
    /// The hash of the last one.
    pub head: Digest,
    /// The checkpoint before, by [`Checkpoint::hash`]; zeros before the first.
    pub previous: Digest,
    /// When it was made.
    pub at: Timestamp,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{TITLE}\nchain {}\nentries {} {}\n", self.chain, self.first, self.last);
        for (name, digest) in [("root", &self.root), ("head", &self.head), ("previous", &self.previous)] {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{name} {}", STANDARD.encode(digest));
        }
        let _ = writeln!(text, "at {:.6}", self.at);
        text
    }

    /// The SHA-256 of its text, by which the next one names it.
    pub fn hash(&self) -> Digest {
        Sha256::digest(self.text()).into()
    }

    /// How many entries it covers.
    pub fn size(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Signs it.
    pub fn sign(&self, key: &SigningKey) -> StoredCheckpoint {
        StoredCheckpoint { chain: self.chain, seq: self.last, at: self.at, note: key.sign(&self.text()) }
    }

    /// Reads a note that one of these keys has signed.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(note: &str, keys: &[PublicKey]) -> Result<Self, NoteError> {
        Self::read(note::open(note, keys)?).ok_or(NoteError::Malformed)
    }

    /// The chain that a note names, whoever signed it.
    pub fn chain_of(note: &str) -> Option<Uuid> {
        note.strip_prefix(TITLE)?.strip_prefix("\nchain ")?.get(..36)?.parse().ok()
    }

    /// What a note says, whoever has signed it: for those who pass it on. Nothing where it is no checkpoint's.
    pub fn unverified(note: &str) -> Option<Self> {
        Self::read(note::text(note)?)
    }

    /// Reads the text. Only the one way of writing it is accepted, so that its hash says all.
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let is_ours = field("synapse") == TITLE.strip_prefix("synapse ");
        let chain = field("chain")?.parse().ok()?;
        let (first, last) = field("entries")?.split_once(' ')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        let mut digest = |name| STANDARD.decode(field(name)?).ok()?.try_into().ok();
        let (root, head, previous) = (digest("root")?, digest("head")?, digest("previous")?);
        let at = field("at")?.parse().ok()?;
        let read = Self { chain, first, last, root, head, previous, at };
        (is_ours && first <= last && read.text() == text).then_some(read)
    }
}

/// Makes the checkpoints of one chain from its entries, in order and in constant memory. When one is due is the
/// caller's business: every 1,000 entries, say, and at least once a minute.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    chain: Uuid,
    first: u64,
    head: Digest,
    previous: Digest,
    tree: Tree,
}

impl Checkpointer {
    /// For a chain without checkpoints.
    pub fn new(chain: Uuid) -> Self {
        Self { chain, first: 0, head: BEFORE_FIRST, previous: BEFORE_FIRST, tree: Tree::default() }
    }

    /// For a chain whose last checkpoint is this one.
    pub fn after(last: &Checkpoint) -> Self {
        Self {
            chain: last.chain,
            first: last.last + 1,
            head: last.head,
            previous: last.hash(),
            tree: Tree::default(),
        }
    }

    /// For a chain that has come as far as this says.
    pub fn behind(anchor: &Anchor) -> Self {
        let Anchor { chain, first, head, previous, .. } = *anchor;
        Self { chain, first, head, previous, tree: anchor.tree.clone() }
    }

    /// How far the chain has come.
    pub fn anchor(&self, at: Timestamp) -> Anchor {
        let Self { chain, first, head, previous, .. } = *self;
        Anchor { chain, next: self.next(), head, first, previous, tree: self.tree.clone(), at }
    }

    /// Whether another one is about the same checkpoint, and at least as far.
    pub fn leads_to(&self, other: &Self) -> bool {
        (self.chain, self.first, self.previous) == (other.chain, other.first, other.previous)
            && self.next() <= other.next()
    }

    /// The entry that comes next, by its place: entries before it are covered.
    pub fn next(&self) -> u64 {
        self.first + self.tree.size()
    }

    /// How many entries the next checkpoint would cover.
    pub fn pending(&self) -> u64 {
        self.tree.size()
    }

    /// Takes the next entry. One that is already covered is passed over.
    ///
    /// # Errors
    /// The entry, when it is not the next one of this chain: then some are missing before it.
    pub fn push(&mut self, link: Link) -> Result<(), Link> {
        if link.chain == self.chain && link.seq < self.next() {
            return Ok(());
        }
        if link.chain != self.chain || link.seq != self.next() || link.prev != self.head {
            return Err(link);
        }
        self.tree.push(link.hash);
        self.head = link.hash;
        Ok(())
    }

    /// The checkpoint over the entries since the last one; none where there are none.
    pub fn checkpoint(&mut self, at: Timestamp) -> Option<Checkpoint> {
        if self.pending() == 0 {
            return None;
        }
        // What is written has microseconds.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        let made = Checkpoint {
            chain: self.chain,
            first: self.first,
            last: self.next() - 1,
            root: self.tree.root(),
            head: self.head,
            previous: self.previous,
            at,
        };
        *self = Self::after(&made);
        Some(made)
    }
}
