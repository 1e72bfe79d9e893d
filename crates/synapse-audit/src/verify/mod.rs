//! Verification: the entries of one chain, as a database has them, against their hashes and against what signed
//! checkpoints say, in the database and outside it. In constant memory, as a stream.
//!
//! A finding names the first place that is wrong and the kind of damage. The kind is what explains the traces best:
//! who rewrites enough leaves no trace but the one that the checkpoints show.

mod report;
mod source;

use std::ops::RangeInclusive;

use jiff::Timestamp;
use synapse_core::audit::{
    canonical,
    entry::{Digest, Link, Value},
    stretch::Standing,
};
use uuid::Uuid;

pub use self::report::{Damage, DamageKind, Report, Vouched};
use self::source::Source;
use crate::{anchor::Anchor, chain, checkpoint::Checkpoint, note::PublicKey};

/// Where the time stands among the values of an entry.
const AT: usize = 1;
/// How far from where it stands the place of an entry is always looked for.
const NEAR: u64 = 64;
/// How far it is looked for while there is patience left, and how many places are tried in all.
const FAR: u64 = 1 << 20;
const PATIENCE: u64 = 4 << 20;

/// What the hashes of an entry say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its hash covers what it says.
    Sound,
    /// Only the hash of the one before is another one.
    Relinked,
    /// It was sealed at the place that is so far from here.
    Moved(i64),
    /// Its hash covers something else.
    Broken,
}

/// An entry, or a row of broken ones, of which the next entry will tell more.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    from: u64,
    seq: u64,
    verdict: Verdict,
    /// What its hash may have been: the one that it has, or the one that it ought to have.
    hashes: Option<[Digest; 2]>,
}

/// The log as it passes by.
#[derive(Clone, Debug)]
struct Walk {
    chain: Uuid,
    /// The place that the next entry should have.
    next: u64,
    /// How far entries stand before or behind the places that they were sealed at, since some are gone or too many.
    shift: i64,
    /// The hash of the last entry, where it is certain.
    head: Option<Digest>,
    suspect: Option<Suspect>,
    /// The sum of how far reordered entries were moved; 0 when all of them were found.
    displaced: i64,
    patience: u64,
    /// The last place that there is, as far as is known.
    horizon: u64,
    canonical: Vec<u8>,
}

/// Verifies one chain.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<PublicKey>,
    walk: Walk,
    sources: Vec<Source>,
    /// When entries were made that need no checkpoint yet.
    new: Option<RangeInclusive<Timestamp>>,
    /// The first entry that no source covers, and whether it is new.
    uncovered: Option<(u64, bool)>,
    report: Report,
}

impl Verifier {
    /// For a chain from its first entry on. The sources of checkpoints are named for reports; the first one is the
    /// database, which should have all of them, whereas a sink may have been added later.
    pub fn new(chain: Uuid, keys: Vec<PublicKey>, sources: &[&str]) -> Self {
        Self::after(&Anchor::beginning(chain), keys, sources)
    }

    /// For the rest of a chain, of whose beginning an anchor is kept.
    pub fn after(anchor: &Anchor, keys: Vec<PublicKey>, sources: &[&str]) -> Self {
        let Anchor { chain, next, head, .. } = *anchor;
        let source = |(at, name): (usize, &&str)| Source::new(name, anchor, at == 0);
        Self {
            keys,
            walk: Walk {
                chain,
                next,
                shift: 0,
                head: Some(head),
                suspect: None,
                displaced: 0,
                patience: PATIENCE,
                horizon: next,
                canonical: Vec::with_capacity(1 << 10),
            },
            sources: sources.iter().enumerate().map(source).collect(),
            new: None,
            uncovered: None,
            report: Report { chain, entries: 0, damages: Vec::new(), count: 0, vouched: Vec::new() },
        }
    }

    /// An anchor in place of all entries that were given, as the first source vouches for them; none where something is
    /// wrong with them, or may be.
    pub fn anchor(&self, at: Timestamp) -> Option<Anchor> {
        let Walk { chain, next, head, suspect: None, shift: 0, .. } = self.walk else { return None };
        let (head, source) = (head.filter(|_| self.report.is_sound())?, self.sources.first()?);
        let (first, previous, tree) = source.anchored(next);
        // What is written has microseconds.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        Some(Anchor { chain, next, head, first, previous, tree, at })
    }

    /// The checkpoints of this source that were given so far cover the entries before this place. Before an entry
    /// is given, so should be the checkpoints that cover it, as far as there are any.
    pub fn covered(&self, source: usize) -> u64 {
        self.sources.get(source).map_or(u64::MAX, Source::covered)
    }

    /// The next checkpoint of a source, as the signed note that it is. Those of other chains are passed over, and so
    /// is one that is given twice.
    pub fn checkpoint(&mut self, source: usize, note: &str) {
        let Some(of) = self.sources.get_mut(source) else { return };
        // Before its signature is looked at: a file has the checkpoints of many chains.
        if Checkpoint::chain_of(note).is_some_and(|chain| chain != self.walk.chain) {
            return;
        }
        let opened = Checkpoint::open(note, &self.keys);
        let passed = self.walk.passed();
        if let Ok(checkpoint) = &opened {
            self.walk.horizon = self.walk.horizon.max(checkpoint.last);
        }
        let damage = match opened {
            Ok(checkpoint) => of.add(&checkpoint, passed),
            Err(_) => Some(of.mismatch()),
        };
        self.report.add(damage);
    }

    /// Says which entry is the last one, where that is known beforehand: how far entries may have been moved. Without
    /// it, only what checkpoints cover so far is looked at.
    pub fn expect_last(&mut self, seq: u64) {
        self.walk.horizon = self.walk.horizon.max(seq);
    }

    /// Says that all entries need a checkpoint but those that were made at these times.
    pub fn expect_vouched(&mut self, new: RangeInclusive<Timestamp>) {
        self.new = Some(new);
    }

    /// Says that there is an anchor which is to stand in place of the entries before this one, and is none.
    pub fn distrust(&mut self, next: u64) {
        let source = Some("the anchors".to_owned());
        self.report.add([Damage { seq: next, through: next, kind: DamageKind::CheckpointMismatch, source }]);
    }

    /// The next entry by its place; nothing, where there is one that cannot be read.
    pub fn entry(&mut self, seq: u64, standing: Option<Standing<'_>>) {
        self.report.entries += 1;
        if seq < self.walk.next {
            let damage = Damage { seq, through: seq, kind: DamageKind::Inserted, source: None };
            return self.report.add([damage]);
        }
        if seq > self.walk.next {
            self.settle(None);
            self.missing(self.walk.next, seq);
            self.walk.next = seq;
        }
        if self.uncovered.is_none() && self.sources.iter().all(|source| source.covered() <= seq) {
            self.uncovered = Some((seq, standing.is_some_and(|standing| self.is_new(standing))));
        }
        let verdict = standing.map_or(Verdict::Broken, |standing| self.walk.judge(standing));
        let verdict = self.settle(Some((verdict, standing)));
        match (verdict, standing) {
            (Verdict::Sound, Some(standing)) => self.sound(standing.link),
            _ => self.suspect(verdict, standing),
        }
        self.walk.next += 1;
    }

    /// All entries and checkpoints were given.
    pub fn finish(mut self) -> Report {
        self.settle(None);
        let end = self.walk.place(self.walk.next);
        let promised = self.sources.iter().filter_map(Source::promised).max();
        if let Some(through) = promised.filter(|last| *last >= end) {
            let by = self.sources.iter().find(|source| source.promised() == promised);
            let source = by.map(|source| source.name.clone());
            self.report.add([Damage { seq: end, through, kind: DamageKind::Truncated, source }]);
        }
        if let [store, sinks @ ..] = self.sources.as_slice() {
            let furthest = sinks.iter().max_by_key(|sink| sink.covered());
            if let Some(sink) = furthest.filter(|sink| sink.covered() > store.covered()) {
                let (seq, through) = (store.covered(), sink.covered() - 1);
                let source = Some(sink.name.clone());
                self.report.add([Damage { seq, through, kind: DamageKind::CheckpointMissing, source }]);
            }
        }
        if let Some((seq, false)) = self.uncovered {
            let through = self.walk.next.saturating_sub(1);
            self.report.add([Damage { seq, through, kind: DamageKind::Unvouched, source: None }]);
        }
        self.report.vouched = self.sources.iter().map(Source::vouched).collect();
        self.report
    }

    fn is_new(&self, standing: Standing<'_>) -> bool {
        let Some(new) = &self.new else { return true };
        let values = canonical::values(standing.canonical).ok();
        let at = values.and_then(|values| match values[AT] {
            Value::Integer(at) => Timestamp::from_microsecond(at).ok(),
            _ => None,
        });
        at.is_some_and(|at| new.contains(&at))
    }

    /// An entry whose hash covers what it says.
    fn sound(&mut self, link: Link) {
        let seq = link.seq;
        if self.walk.head.is_some_and(|head| head != link.prev) {
            // It remembers that something else stood before it. Unless a checkpoint has vouched for what does.
            let before = self.walk.place(seq).saturating_sub(1);
            let is_vouched = self.sources.iter().any(|source| source.vouches_for(before));
            let at = if is_vouched || seq == 0 { seq } else { seq - 1 };
            let damage = Damage { seq: at, through: at, kind: DamageKind::Forked, source: None };
            self.report.add([damage]);
            self.leaf_is_lost(self.walk.place(at));
        }
        self.walk.head = Some(link.hash);
        self.leaf(self.walk.place(seq), Some(link.hash));
    }

    /// An entry that is not as it should be. What was done to it shows with the next one.
    fn suspect(&mut self, verdict: Verdict, standing: Option<Standing<'_>>) {
        let seq = self.walk.next;
        let from = self.walk.suspect.map_or(seq, |row| row.from);
        let hashes =
            standing.map(|Standing { link, .. }| [link.hash, chain::hash(&self.walk.canonical, &link.prev)]);
        self.walk.suspect = Some(Suspect { from, seq, verdict, hashes });
        self.walk.head = None;
    }

    /// Decides what was done to a suspect, now that the entry behind it is known, or that there is none. Tells what
    /// is to be thought of that entry.
    fn settle(&mut self, behind: Option<(Verdict, Option<Standing<'_>>)>) -> Verdict {
        let verdict = behind.map_or(Verdict::Sound, |(verdict, _)| verdict);
        let Some(suspect) = self.walk.suspect else { return verdict };
        if (suspect.verdict, verdict) == (Verdict::Broken, Verdict::Broken) && behind.is_some() {
            return verdict; // One row.
        }
        self.walk.suspect = None;
        let Suspect { from, seq, .. } = suspect;
        let row = i64::try_from(seq - from + 1).unwrap_or(i64::MAX);
        let (kind, first, last, shift) = match (suspect.verdict, verdict) {
            (Verdict::Moved(by), Verdict::Moved(next)) if by == next => shifted(seq, by),
            (Verdict::Moved(by), _) if behind.is_none() && self.walk.displaced != -by => shifted(seq, by),
            (Verdict::Moved(by), _) => {
                self.walk.displaced = self.walk.displaced.saturating_add(by);
                (DamageKind::Reordered, seq, seq, 0)
            }
            (Verdict::Broken, Verdict::Moved(next)) if next == -row => {
                (DamageKind::Inserted, from, seq, next)
            }
            _ => (DamageKind::Modified, from, seq, 0),
        };
        self.report.add([Damage { seq: first, through: last, kind, source: None }]);
        if shift != 0 {
            let place = self.walk.place(from);
            self.walk.shift = self.walk.shift.saturating_add(shift);
            self.pass_over(place, place.saturating_add_signed(shift));
            self.leaf_is_lost(place);
            if kind == DamageKind::Deleted {
                self.leaf(self.walk.place(seq), None);
            }
            // What stands behind was moved only because of that.
            return if behind.is_some() { Verdict::Sound } else { verdict };
        }
        let known = behind.and_then(|(_, standing)| standing).filter(|_| verdict == Verdict::Sound);
        for at in from..seq {
            self.leaf(self.walk.place(at), None);
        }
        self.leaf(self.walk.place(seq), known.map(|standing| standing.link.prev));
        verdict
    }

    /// Entries from one place to before another are not there.
    fn missing(&mut self, from: u64, to: u64) {
        let damage = Damage { seq: from, through: to - 1, kind: DamageKind::Deleted, source: None };
        self.report.add([damage]);
        self.walk.head = None;
        self.pass_over(self.walk.place(from), self.walk.place(to));
    }

    fn pass_over(&mut self, from: u64, to: u64) {
        self.sources.iter_mut().for_each(|source| source.pass_over(from, to));
    }

    fn leaf(&mut self, place: u64, hash: Option<Digest>) {
        for source in &mut self.sources {
            let damage = source.leaf(place, hash);
            self.report.add(damage);
        }
    }

    /// What stands at this place was another entry once, which is found already.
    fn leaf_is_lost(&mut self, place: u64) {
        self.sources.iter_mut().for_each(|source| source.lose(place));
    }
}

/// What it means that entries from here on were sealed so far from where they stand.
fn shifted(seq: u64, by: i64) -> (DamageKind, u64, u64, i64) {
    let distance = by.unsigned_abs();
    if by > 0 {
        (DamageKind::Deleted, seq, seq + distance - 1, by)
    } else {
        (DamageKind::Inserted, seq.saturating_sub(distance), seq.saturating_sub(1), by)
    }
}

impl Walk {
    /// Where the entry at this place was sealed.
    fn place(&self, seq: u64) -> u64 {
        seq.saturating_add_signed(self.shift)
    }

    /// Entries before this place are dealt with, but for a suspect.
    fn passed(&self) -> u64 {
        self.place(self.suspect.map_or(self.next, |suspect| suspect.from))
    }

    /// What the hashes of the next entry say. Leaves its canonical bytes.
    fn judge(&mut self, Standing { link, canonical }: Standing<'_>) -> Verdict {
        // Behind entries that are gone or too many, it was sealed at another place.
        let place = self.place(self.next);
        self.canonical.clear();
        self.canonical.extend_from_slice(canonical);
        canonical::set_place(&mut self.canonical, place);
        let fits = |canonical: &[u8], prev: &Digest| chain::hash(canonical, prev) == link.hash;
        if fits(&self.canonical, &link.prev) {
            return Verdict::Sound;
        }
        let before = self.suspect.and_then(|suspect| suspect.hashes);
        if self.head.iter().chain(before.iter().flatten()).any(|head| fits(&self.canonical, head)) {
            return Verdict::Relinked;
        }
        self.sealed_at(link).map_or(Verdict::Broken, Verdict::Moved)
    }

    /// How far from here the entry was sealed, if its hash covers all but its place.
    fn sealed_at(&mut self, link: Link) -> Option<i64> {
        let here = self.place(self.next);
        let reach = (self.patience / 2).clamp(NEAR, FAR);
        // Behind the end, there may be a few that no checkpoint covers yet.
        let last = self.horizon.max(here).saturating_add(NEAR).min(here.saturating_add(reach));
        let (before, behind) = (here.saturating_sub(reach)..here, here + 1..=last);
        let mut canonical = self.canonical.clone();
        let mut tried = 0;
        let found = alternate(before.rev(), behind).find(|place| {
            tried += 1;
            canonical::set_place(&mut canonical, *place);
            chain::hash(&canonical, &link.prev) == link.hash
        });
        self.patience = self.patience.saturating_sub(tried);
        found.map(|place| place.cast_signed().wrapping_sub(here.cast_signed()))
    }
}

/// One of these, one of those, and what is left of either.
fn alternate(
    mut these: impl Iterator<Item = u64>,
    mut those: impl Iterator<Item = u64>,
) -> impl Iterator<Item = u64> {
    let mut turn = false;
    std::iter::from_fn(move || {
        turn = !turn;
        if turn { these.next().or_else(|| those.next()) } else { those.next().or_else(|| these.next()) }
    })
}
