//! How often something happened of late.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

/// The times of the latest events, as many as a rule asks for.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<i64>);

impl Recent {
    /// It happened again; whether that is the `count`th time within the window.
    pub(super) fn happens(&mut self, at: Timestamp, count: u32, window: Duration) -> bool {
        let count = count.max(1) as usize;
        self.0.push_back(at.as_microsecond());
        while self.0.len() > count {
            self.0.pop_front();
        }
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else { return false };
        let span = u128::try_from(last.saturating_sub(*first)).unwrap_or(0);
        self.0.len() == count && span <= window.as_micros()
    }
}

/// How many parts a window is counted in.
const PARTS: usize = 6;

/// How many events a window has, to a sixth of its length.
#[derive(Debug, Default)]
pub(super) struct Rolling {
    counts: [u64; PARTS],
    /// The number of the part that runs.
    part: i64,
}

impl Rolling {
    /// It happened again; how often it did within the window.
    pub(super) fn happens(&mut self, at: Timestamp, window: Duration) -> u64 {
        let length = i64::try_from(window.as_micros()).unwrap_or(i64::MAX) / PARTS as i64;
        let part = at.as_microsecond().div_euclid(length.max(1));
        let passed = part.saturating_sub(self.part).clamp(0, PARTS as i64);
        for step in 0..passed {
            self.counts[index(part - step)] = 0;
        }
        self.part = self.part.max(part);
        self.counts[index(self.part)] += 1;
        self.counts.iter().sum()
    }
}

fn index(part: i64) -> usize {
    usize::try_from(part.rem_euclid(PARTS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    #[test]
    fn enough_within_the_window_is_noticed_and_the_same_in_a_longer_time_is_not() {
        let window = Duration::from_secs(10);
        let mut close = Recent::default();
        assert_eq!([0, 5, 10].map(|second| close.happens(at(second), 3, window)), [false, false, true]);
        let mut far = Recent::default();
        assert_eq!([0, 5, 11].map(|second| far.happens(at(second), 3, window)), [false, false, false]);
    }

    #[test]
    fn a_rolling_count_forgets_what_is_past() {
        let window = Duration::from_secs(60);
        let mut rolling = Rolling::default();
        let counts = [0, 10, 20, 50, 65, 300].map(|second| rolling.happens(at(second), window));
        assert_eq!(counts, [1, 2, 3, 4, 4, 1]);
    }
}
