//! The checkpoints of one source, compared with the entries as they pass by.

use std::collections::VecDeque;

use synapse_core::audit::entry::Digest;

use super::{Damage, DamageKind, Vouched};
use crate::{anchor::Anchor, checkpoint::Checkpoint, merkle::Tree};

/// What is needed of a checkpoint.
#[derive(Clone, Copy, Debug)]
struct Statement {
    hash: Digest,
    first: u64,
    last: u64,
    root: Digest,
    head: Digest,
}

/// A source of checkpoints.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    /// The first entry that is not covered where verification begins.
    start: u64,
    /// The tree over the entries from there on that are not kept, until the checkpoint comes that covers them.
    begun: Option<Tree>,
    /// The last checkpoint whose entries have passed by, by its hash.
    behind: Digest,
    /// The last checkpoint that was given: what it covers up to, and its hash. Unknown at the beginning of a source
    /// that need not have all.
    last: Option<(u64, Digest)>,
    /// Those whose entries have not passed by.
    ahead: VecDeque<Statement>,
    /// Over the entries of the first of them so far.
    tree: Tree,
    /// Something is wrong with those already, and found.
    is_lost: bool,
    checkpoints: u64,
    /// Entries before this place were compared.
    compared: u64,
}

impl Source {
    /// A complete source begins with the first checkpoint behind the anchor.
    pub(super) fn new(name: &str, anchor: &Anchor, is_complete: bool) -> Self {
        Self {
            name: name.to_owned(),
            start: anchor.first,
            begun: Some(anchor.tree.clone()),
            behind: anchor.previous,
            last: is_complete.then_some((anchor.first, anchor.previous)),
            ahead: VecDeque::new(),
            tree: Tree::default(),
            is_lost: false,
            checkpoints: 0,
            compared: anchor.next,
        }
    }

    /// What an anchor at this place, which all entries before have passed, says of the checkpoints.
    pub(super) fn anchored(&self, next: u64) -> (u64, Digest, Tree) {
        match self.ahead.front() {
            Some(statement) if statement.first < next => (statement.first, self.behind, self.tree.clone()),
            _ => (next, self.behind, Tree::default()),
        }
    }

    /// Before which place entries are covered.
    pub(super) fn covered(&self) -> u64 {
        self.last.map_or(self.start, |(end, _)| end)
    }

    /// The last place that is promised and has not passed by.
    pub(super) fn promised(&self) -> Option<u64> {
        self.ahead.back().map(|statement| statement.last)
    }

    pub(super) fn vouches_for(&self, place: u64) -> bool {
        self.checkpoints > 0 && place < self.compared
    }

    pub(super) fn vouched(&self) -> Vouched {
        Vouched { source: self.name.clone(), checkpoints: self.checkpoints, before: self.compared }
    }

    fn damage(&self, kind: DamageKind, seq: u64, through: u64) -> Damage {
        Damage { seq, through, kind, source: Some(self.name.clone()) }
    }

    /// What was given is no checkpoint of ours.
    pub(super) fn mismatch(&self) -> Damage {
        self.damage(DamageKind::CheckpointMismatch, self.covered(), self.covered())
    }

    /// Takes the next checkpoint; entries before `passed` are gone by.
    pub(super) fn add(&mut self, given: &Checkpoint, passed: u64) -> Option<Damage> {
        let hash = given.hash();
        let end = given.last.saturating_add(1);
        // Sinks are given each at least once, so that some may come again. What was said first is what was compared.
        if self.last.is_some_and(|(covered, last)| end < covered || hash == last) {
            return None;
        }
        if end <= self.start {
            return None; // It vouches for what is not looked at.
        }
        let damage = match self.last {
            Some((covered, _)) if given.first > covered => {
                Some(self.damage(DamageKind::CheckpointMissing, covered, given.first - 1))
            }
            Some((covered, previous)) if given.first != covered || given.previous != previous => {
                return Some(self.damage(DamageKind::CheckpointMismatch, given.first, given.last));
            }
            _ => None,
        };
        self.last = Some((end, hash));
        let begun = self.begun.take().filter(|_| given.first == self.start && passed <= self.compared);
        if given.first < passed && begun.is_none() {
            // Its entries went by before it came, so it says nothing any more. Where a sink began in the middle of
            // what is looked at, that is no damage.
            let is_first = self.checkpoints == 0 && self.ahead.is_empty() && given.first < self.start;
            return damage.or_else(|| {
                (!is_first).then(|| self.damage(DamageKind::CheckpointMismatch, given.first, given.last))
            });
        }
        if let Some(begun) = begun {
            self.tree = begun;
        }
        let Checkpoint { first, last, root, head, .. } = *given;
        self.ahead.push_back(Statement { hash, first, last, root, head });
        damage
    }

    /// An entry passes by, with its hash where that is certain.
    pub(super) fn leaf(&mut self, place: u64, hash: Option<Digest>) -> Option<Damage> {
        while self.ahead.front().is_some_and(|statement| statement.last < place) {
            self.next();
        }
        let statement = *self.ahead.front()?;
        if place < statement.first {
            return None;
        }
        match hash {
            Some(hash) => self.tree.push(hash),
            None => self.is_lost = true,
        }
        if place < statement.last {
            return None;
        }
        let is_right = self.tree.root() == statement.root && hash == Some(statement.head);
        let was_lost = self.is_lost;
        self.next();
        if is_right && !was_lost {
            self.checkpoints += 1;
            self.compared = statement.last.saturating_add(1);
        }
        (!is_right && !was_lost).then(|| self.damage(DamageKind::Forked, statement.first, statement.last))
    }

    /// Entries from one place to before another do not pass by.
    pub(super) fn pass_over(&mut self, from: u64, to: u64) {
        while let Some(statement) = self.ahead.front() {
            if statement.first >= to {
                return;
            }
            if statement.last >= to {
                self.is_lost |= statement.last >= from;
                return;
            }
            self.next();
        }
    }

    /// The entries around this place cannot be compared any more.
    pub(super) fn lose(&mut self, place: u64) {
        if let Some(statement) = self.ahead.front() {
            self.is_lost |= statement.first <= place.saturating_add(1);
        }
    }

    /// Goes on to the next checkpoint.
    fn next(&mut self) {
        if let Some(statement) = self.ahead.pop_front() {
            self.behind = statement.hash;
        }
        self.tree = Tree::default();
        self.is_lost = false;
    }
}
