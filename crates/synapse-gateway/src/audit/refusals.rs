//! Refusals of callers without a good key: the first few of a second from each network are told one by one, the
//! rest is counted, so that a flood leaves a trace and takes no room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde_json::json;
use synapse_core::audit::entry::{Entry, EntryKind};

/// How many a network may have told one by one in a second.
const PER_SECOND: u32 = 10;
/// Networks that are told apart between two counts; all others are one.
const MAX_SOURCES: usize = 4096;
/// What those are called.
const OTHERS: &str = "others";

#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Arc<str>, Source>>);

#[derive(Default)]
struct Source {
    second: i64,
    told: u32,
    /// Those that were not told, and when the first of them came.
    counted: u64,
    since: Option<Timestamp>,
}

impl Refusals {
    /// Whether a refusal of now may be told by itself; if not, it counts.
    pub(super) fn may_be_told(&self, source: &Arc<str>, at: Timestamp) -> bool {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !sources.contains_key(source);
        let name = if is_new && sources.len() >= MAX_SOURCES { OTHERS.into() } else { Arc::clone(source) };
        let source = sources.entry(name).or_default();
        if source.second != at.as_second() {
            (source.second, source.told) = (at.as_second(), 0);
        }
        if source.told < PER_SECOND {
            source.told += 1;
            return true;
        }
        source.counted += 1;
        source.since.get_or_insert(at);
        false
    }

    /// An entry for each network of which some were only counted. Counting begins anew.
    pub(super) fn counted(&self, now: Timestamp) -> Vec<Entry> {
        let sources = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let counted = sources.into_iter().filter(|(_, source)| source.counted > 0);
        let entry = |(name, source): (Arc<str>, Source)| {
            let mut entry = Entry::new(EntryKind::RefusalsCounted, now);
            entry.source = Some(name);
            let since = source.since.unwrap_or(now);
            entry.detail = Some(json!({"count": source.counted, "since": since}).to_string().into());
            entry
        };
        counted.map(entry).collect()
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
        let counted = refusals.counted(at(60));
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].source.as_ref(), Some(&flood));
        assert!(counted[0].detail.as_deref().is_some_and(|detail| detail.contains("\"count\":990")));
        assert!(refusals.counted(at(120)).is_empty());
    }

    #[test]
    fn a_flood_from_everywhere_takes_no_more_room() {
        let refusals = Refusals::default();
        for n in 0..3 * MAX_SOURCES {
            refusals.may_be_told(&format!("source {n}").into(), at(0));
        }
        assert_eq!(refusals.0.lock().expect("a map").len(), MAX_SOURCES + 1);
        let counted = refusals.counted(at(60));
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].source.as_deref(), Some(OTHERS));
    }
}
