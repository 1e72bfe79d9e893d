//! A signed statement in place of the first entries of a chain, which are too old to be kept: verification begins
//! with it instead of with them.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use synapse_core::{audit::entry::Digest, store::retention::StoredAnchor};
use uuid::Uuid;

use crate::{
    chain::BEFORE_FIRST,
    merkle::Tree,
    note::{self, NoteError, PublicKey, SigningKey},
};

const TITLE: &str = "synapse audit anchor 1";

/// All that verification needs to know of the entries before a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The chain.
    pub chain: Uuid,
    /// The place that verification begins at.
    pub next: u64,
    /// The hash of the entry before it; zeros before the first.
    pub head: Digest,
    /// The first entry that no checkpoint before this place covers.
    pub first: u64,
    /// The last checkpoint before that, by its hash; zeros if there was none.
    pub previous: Digest,
    /// The tree over the entries from there to this place: a later checkpoint covers them.
    pub tree: Tree,
    /// When it was made.
    pub at: Timestamp,
}

impl Anchor {
    /// The beginning of a chain.
    pub fn beginning(chain: Uuid) -> Self {
        let (head, previous) = (BEFORE_FIRST, BEFORE_FIRST);
        Self { chain, next: 0, head, first: 0, previous, tree: Tree::default(), at: Timestamp::UNIX_EPOCH }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{TITLE}\nchain {}\nnext {}\nfirst {}\n", self.chain, self.next, self.first);
        let digests = [("head", &self.head), ("previous", &self.previous)].into_iter();
        for (name, digest) in digests.chain(self.tree.peaks().iter().map(|peak| ("peak", peak))) {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{name} {}", STANDARD.encode(digest));
        }
        let _ = writeln!(text, "at {:.6}", self.at);
        text
    }

    /// Signs it.
    pub fn sign(&self, key: &SigningKey) -> StoredAnchor {
        StoredAnchor { chain: self.chain, next: self.next, at: self.at, note: key.sign(&self.text()) }
    }

    /// Reads a note that one of these keys has signed.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(note: &str, keys: &[PublicKey]) -> Result<Self, NoteError> {
        Self::read(note::open(note, keys)?).ok_or(NoteError::Malformed)
    }

    /// Reads the text. Only the one way of writing it is accepted.
    fn read(text: &str) -> Option<Self> {
        let (title, rest) = text.split_once('\n')?;
        let mut lines = rest.lines().peekable();
        let mut field = |name: &str| {
            lines.next_if(|line| line.starts_with(name))?.split_once(' ').map(|(_, value)| value)
        };
        let chain = field("chain ")?.parse().ok()?;
        let (next, first): (u64, u64) = (field("next ")?.parse().ok()?, field("first ")?.parse().ok()?);
        let digest = |value: &str| Digest::try_from(STANDARD.decode(value).ok()?).ok();
        let (head, previous) = (digest(field("head ")?)?, digest(field("previous ")?)?);
        let mut peaks = Vec::new();
        while let Some(peak) = field("peak ") {
            peaks.push(digest(peak)?);
        }
        let at = field("at ")?.parse().ok()?;
        let tree = Tree::grown(next.checked_sub(first)?, peaks)?;
        let read = Self { chain, next, head, first, previous, tree, at };
        (title == TITLE && read.text() == text).then_some(read)
    }
}
