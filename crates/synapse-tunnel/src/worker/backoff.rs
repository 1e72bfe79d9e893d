//! How long a worker waits before it comes again.

use std::time::Duration;

/// The shortest wait.
const LEAST: Duration = Duration::from_millis(100);
/// The longest wait where trying again is all there is to do.
const MOST: Duration = Duration::from_secs(30);
/// The longest wait where somebody has to do something first; and for a worker that another one has
/// taken the place of.
const UNTIL_HELPED: Duration = Duration::from_secs(300);
/// What has held for so long was no failure.
const HELD: Duration = Duration::from_secs(30);

/// What the end of a session says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It may well work.
    Again,
    /// Not before this time has passed.
    NotBefore(Duration),
    /// Somebody has to do something first: the key is refused, the versions do not fit, the gateway has
    /// a session already.
    NeedsHelp,
    /// Another worker has this one's name.
    Superseded,
}

/// Waits that grow with each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a session that held for `held`; `luck` is a random number from 0 to 1, so that
    /// many workers do not come all at once.
    pub(super) fn wait(&mut self, outlook: Outlook, held: Duration, luck: f64) -> Duration {
        if held >= HELD {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let most = if outlook == Outlook::NeedsHelp { UNTIL_HELPED } else { MOST };
        // The first wait is up to 1 s: a gateway that restarts loses all of its workers at once.
        let grown = Duration::from_millis(500) * 2u32.saturating_pow(self.failures.min(16));
        let wait = LEAST + grown.min(most).saturating_sub(LEAST).mul_f64(luck);
        match outlook {
            Outlook::Again | Outlook::NeedsHelp => wait,
            Outlook::NotBefore(least) => least + wait,
            Outlook::Superseded => UNTIL_HELPED,
        }
    }
}

/// A random number from 0 to 1, so that many workers do not do the same thing at once.
pub fn luck() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness, half the wait is as good as any.
    getrandom::fill(&mut bytes).map_or(0.5, |()| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_begin_anew_after_a_session_that_held() {
        let mut backoff = Backoff::default();
        let mut wait = |held| backoff.wait(Outlook::Again, Duration::from_secs(held), 1.0).as_secs_f64();
        let waits: Vec<_> = (0..8).map(|_| wait(0)).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(wait(31), 1.0);
    }

    #[test]
    fn no_wait_is_shorter_than_a_tenth_of_a_second_or_longer_than_it_may_be() {
        for (outlook, most) in [(Outlook::Again, 30), (Outlook::NeedsHelp, 300)] {
            let mut backoff = Backoff::default();
            for _ in 0..100 {
                assert_eq!(backoff.wait(outlook, Duration::ZERO, 0.0), LEAST);
                assert!(backoff.wait(outlook, Duration::ZERO, 1.0) <= Duration::from_secs(most));
            }
        }
    }

    #[test]
    fn a_gateway_that_asks_for_time_gets_it() {
        let asked = Duration::from_secs(20);
        let wait = Backoff::default().wait(Outlook::NotBefore(asked), Duration::ZERO, 0.5);
        assert!(wait > asked, "{wait:?}");
    }

    #[test]
    fn luck_is_a_share() {
        assert!((0..1000).map(|_| luck()).all(|luck| (0.0..=1.0).contains(&luck)));
    }
}
