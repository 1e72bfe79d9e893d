//! What is known of a key, such as models and networks: the latest of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many are known of one key.
const MOST: usize = 32;

/// Things that are not new, and when they were last seen.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound(deserialize = "T: Ord + Deserialize<'de>"))]
pub(super) struct Known<T: Ord>(BTreeMap<T, Timestamp>);

impl<T: Ord> Default for Known<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Known<T> {
    /// Whether it is known; then it has been seen again.
    pub(super) fn sees<Q: Ord + ?Sized>(&mut self, thing: &Q, at: Timestamp) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.0.get_mut(thing).is_some_and(|seen| {
            *seen = at;
            true
        })
    }

    /// It is known from now on; what was not seen for longest gives way.
    pub(super) fn add(&mut self, thing: T, at: Timestamp) {
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, seen)| **seen).map(|(thing, _)| thing.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(thing, at);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recent_gives_way() {
        let mut known = Known::default();
        let at = |second| Timestamp::from_second(second).expect("a time");
        for number in 0..MOST {
            known.add(number, at(number as i64));
        }
        assert!(known.sees(&0, at(1000)));
        known.add(MOST, at(1001));
        assert!(known.sees(&0, at(1002)) && !known.sees(&1, at(1002)));
        assert_eq!(known.len(), MOST);
    }
}
