//! Workers that come and go: the third session within a minute has to hold for a while before it gets
//! requests.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::session::Identity;

/// Sessions within [`WITHIN`] that count as flapping.
const SESSIONS: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);
/// Workers whose comings are remembered.
const REMEMBERED: usize = 16 * 1024;

/// When each worker has come lately.
#[derive(Default)]
pub(super) struct Comings(HashMap<Identity, VecDeque<Instant>>);

impl Comings {
    /// Notes a session that begins; whether the worker flaps.
    pub(super) fn note(&mut self, identity: &Identity, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WITHIN;
        if self.0.len() >= REMEMBERED && !self.0.contains_key(identity) {
            self.0.retain(|_, comings| comings.back().is_some_and(is_recent));
            if self.0.len() >= REMEMBERED {
                return false;
            }
        }
        let comings = self.0.entry(identity.clone()).or_default();
        comings.retain(is_recent);
        comings.push_back(now);
        if comings.len() > SESSIONS {
            comings.pop_front();
        }
        comings.len() >= SESSIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_session_within_a_minute_is_flapping() {
        let mut comings = Comings::default();
        let start = Instant::now();
        let worker = Identity { group: "g".into(), name: "w".into() };
        let other = Identity { group: "h".into(), name: "w".into() };
        let mut note = |identity, second| comings.note(identity, start + Duration::from_secs(second));
        assert!(!note(&worker, 0));
        assert!(!note(&worker, 30));
        assert!(!note(&other, 31), "another group's worker is another worker");
        assert!(note(&worker, 59));
        assert!(note(&worker, 60), "the first is forgotten, the others count");
        assert!(!note(&worker, 200));
    }

    #[test]
    fn names_that_come_once_do_not_pile_up() {
        let mut comings = Comings::default();
        let start = Instant::now();
        let note = |comings: &mut Comings, n: usize, second| {
            let identity = Identity { group: "g".into(), name: n.to_string().into() };
            comings.note(&identity, start + Duration::from_secs(second));
        };
        (0..REMEMBERED + 10).for_each(|n| note(&mut comings, n, 0));
        assert_eq!(comings.0.len(), REMEMBERED);
        note(&mut comings, REMEMBERED + 11, 61);
        assert_eq!(comings.0.len(), 1);
    }
}
