//! Refusals of callers without a good key: the first few of a second, from each network and from all of them, are
//! told one by one, the rest is counted, so that a flood leaves a trace and takes no room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::json;
use synapse_core::audit::entry::{Entry, EntryKind};

/// How many a network may have told one by one in a second.
const PER_SECOND: u32 = 10;
/// And how many all networks may.
const PER_SECOND_IN_ALL: u32 = 100;
/// Networks that are told apart between two counts; all others are one.
const MAX_SOURCES: usize = 4096;
/// What those are called.
const OTHERS: &str = "others";

#[derive(Default)]
pub(super) struct Refusals(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: Rate,
    sources: HashMap<Arc<str>, Source>,
}

#[derive(Default)]
struct Source {
    rate: Rate,
    untold: Untold,
}

/// How many were told within a second.
#[derive(Default)]
struct Rate {
    second: i64,
    told: u32,
}

impl Rate {
    fn is_below(&mut self, most: u32, at: Timestamp) -> bool {
        if self.second != at.as_second() {
            (self.second, self.told) = (at.as_second(), 0);
        }
        self.told < most
    }
}

/// Refusals that were not told one by one, and when the first of them came.
#[derive(Default)]
pub(super) struct Untold {
    pub(super) count: u64,
    since: Option<Timestamp>,
}

impl Untold {
    fn add(&mut self, count: u64, since: Timestamp) {
        self.count += count;
        self.since = Some(self.since.map_or(since, |known| known.min(since)));
    }

    /// Their entry.
    pub(super) fn entry(&self, source: &Arc<str>, now: Timestamp) -> Entry {
        let mut entry = Entry::new(EntryKind::RefusalsCounted, now);
        entry.source = Some(Arc::clone(source));
        let since = self.since.unwrap_or(now);
        entry.detail = Some(json!({"count": self.count, "since": since}).to_string().into());
        entry
    }
}

impl Counts {
    fn source(&mut self, name: &Arc<str>) -> &mut Source {
        let is_new = !self.sources.contains_key(name);
        let name = if is_new && self.sources.len() >= MAX_SOURCES { OTHERS.into() } else { Arc::clone(name) };
        self.sources.entry(name).or_default()
    }
}

impl Refusals {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refusal of now may be told by itself; if not, it counts.
    pub(super) fn may_be_told(&self, source: &Arc<str>, at: Timestamp) -> bool {
        let mut counts = self.counts();
        let has_room = counts.all.is_below(PER_SECOND_IN_ALL, at);
        let source = counts.source(source);
        let is_told = source.rate.is_below(PER_SECOND, at) && has_room;
        if is_told {
            source.rate.told += 1;
            counts.all.told += 1;
        } else {
            source.untold.add(1, at);
        }
        is_told
    }

    /// Counts one that could not be told by itself.
    pub(super) fn count(&self, source: &Arc<str>, at: Timestamp) {
        self.counts().source(source).untold.add(1, at);
    }

    /// What was only counted, network by network. Counting begins anew.
    pub(super) fn take(&self) -> Vec<(Arc<str>, Untold)> {
        let sources = std::mem::take(&mut self.counts().sources);
        let untold = sources.into_iter().map(|(name, source)| (name, source.untold));
        untold.filter(|(_, untold)| untold.count > 0).collect()
    }

    /// Counts on: there was no room to tell of it.
    pub(super) fn put_back(&self, source: &Arc<str>, untold: &Untold) {
        if let Some(since) = untold.since {
            self.counts().source(source).untold.add(untold.count, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    #[test]
    fn a_flood_is_told_in_part_and_counted_as_a_whole() {
        let refusals = Refusals::default();
        let (flood, other) = ("192.0.2.0/24".into(), "198.51.100.0/24".into());
        let told = (0..1000).filter(|_| refusals.may_be_told(&flood, at(0))).count();
        assert_eq!(told, 10);
        assert!(refusals.may_be_told(&other, at(0)), "nobody else is silenced");
        assert!(refusals.may_be_told(&flood, at(1)), "the next second is another one");
        let untold = refusals.take();
        assert_eq!(untold.len(), 1);
        let (source, untold) = &untold[0];
        assert_eq!((source, untold.count, untold.since), (&flood, 990, Some(at(0))));
        assert!(refusals.take().is_empty());
        refusals.put_back(&flood, untold);
        assert_eq!(refusals.take()[0].1.count, 990);
    }

    #[test]
    fn a_flood_from_everywhere_is_told_in_part_and_takes_no_more_room() {
        let refusals = Refusals::default();
        let all = 3 * MAX_SOURCES;
        let told = (0..all).filter(|n| refusals.may_be_told(&format!("source {n}").into(), at(0))).count();
        assert_eq!((told, refusals.counts().sources.len()), (100, MAX_SOURCES + 1));
        let untold = refusals.take();
        assert_eq!(untold.iter().map(|(_, untold)| untold.count).sum::<u64>(), (all - told) as u64);
        assert!(untold.iter().any(|(name, _)| &**name == OTHERS));
    }
}
