//! What verification finds.

use std::fmt;

use uuid::Uuid;

/// How many findings a report lists.
const LISTED: usize = 1_000;

/// What was done to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// An entry is not as it was sealed.
    Modified,
    /// Entries are missing before others.
    Deleted,
    /// Entries stand where none were.
    Inserted,
    /// An entry stands in another one's place.
    Reordered,
    /// Entries were sealed anew: they fit together, but they are not those that were vouched for.
    Forked,
    /// Entries are missing at the end.
    Truncated,
    /// A checkpoint is missing.
    CheckpointMissing,
    /// A checkpoint is not one that the gateway made, or does not go with those beside it.
    CheckpointMismatch,
    /// No checkpoint vouches for entries that are not new.
    Unvouched,
}

impl DamageKind {
    /// Its name, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Forked => "forked",
            Self::Truncated => "truncated",
            Self::CheckpointMissing => "checkpoint missing",
            Self::CheckpointMismatch => "checkpoint mismatch",
            Self::Unvouched => "unvouched",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first place that is wrong.
    pub seq: u64,
    /// The last one of a row of such places.
    pub through: u64,
    /// What was done.
    pub kind: DamageKind,
    /// Whose checkpoints show it, where the entries alone do not.
    pub source: Option<String>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seq, self.through) {
            (seq, through) if seq == through => write!(f, "entry {seq}: {}", self.kind.name())?,
            (seq, through) => write!(f, "entries {seq} to {through}: {}", self.kind.name())?,
        }
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " (by the checkpoints of {source})"))
    }
}

/// What the checkpoints of one source vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The source.
    pub source: String,
    /// How many of its checkpoints hold.
    pub checkpoints: u64,
    /// The entries before this place were compared with them; those from there on none of them covers.
    pub before: u64,
}

/// The outcome for one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The chain.
    pub chain: Uuid,
    /// How many entries there were.
    pub entries: u64,
    /// The first findings, in the order in which they came to light.
    pub damages: Vec<Damage>,
    /// How many there are in all.
    pub count: u64,
    /// What each source vouches for.
    pub vouched: Vec<Vouched>,
}

impl Report {
    /// Whether all is as it should be.
    pub fn is_sound(&self) -> bool {
        self.count == 0
    }

    /// The finding with the lowest place.
    pub fn first(&self) -> Option<&Damage> {
        self.damages.iter().min_by_key(|damage| damage.seq)
    }
}

impl Report {
    /// Adds findings.
    pub(super) fn add(&mut self, damages: impl IntoIterator<Item = Damage>) {
        for damage in damages {
            self.count += 1;
            if self.damages.len() < LISTED {
                self.damages.push(damage);
            }
        }
    }
}
