//! What is asked within an hour, and what is usual at that hour: a moving mean with its deviation, for each hour
//! of the day, of working days and of others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::{Clock, Slot};

/// How many hours of a kind must have been seen before one of them can be unusual.
pub(super) const ENOUGH: u32 = 3;
/// What the latest hour weighs.
const WEIGHT: f64 = 0.2;
/// Silence is made up for this far back; who was away for longer begins where they left off.
const LONGEST_SILENCE: i64 = 14 * 24;

/// A moving mean, and the mean square of what lies beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mean {
    mean: f32,
    variance: f32,
}

impl Mean {
    fn learn(&mut self, value: f64, weight: f64) {
        let (mean, variance) = (f64::from(self.mean), f64::from(self.variance));
        let beside = value - mean;
        self.mean = (mean + weight * beside) as f32;
        self.variance = ((1.0 - weight) * (variance + weight * beside * beside)) as f32;
    }

    pub(super) fn value(&self) -> f64 {
        self.mean.into()
    }

    /// At least what chance alone would make of it.
    pub(super) fn deviation(&self) -> f64 {
        f64::from(self.variance).sqrt().max(self.value().sqrt()).max(1.0)
    }

    /// What lies above is unusual.
    pub(super) fn bound(&self, factor: f64, deviations: f64) -> f64 {
        (self.value() * factor).max(self.value() + deviations * self.deviation())
    }
}

/// What is usual at an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub(super) struct Usual {
    /// How many such hours were seen.
    pub(super) seen: u32,
    pub(super) requests: Mean,
    pub(super) tokens: Mean,
}

/// The same, without names: there are up to 48 for each of thousands of keys.
type Packed = (u32, f32, f32, f32, f32);

impl From<Packed> for Usual {
    fn from((seen, mean, variance, tokens, variance_of_tokens): Packed) -> Self {
        let tokens = Mean { mean: tokens, variance: variance_of_tokens };
        Self { seen, requests: Mean { mean, variance }, tokens }
    }
}

impl From<Usual> for Packed {
    fn from(Usual { seen, requests, tokens }: Usual) -> Self {
        (seen, requests.mean, requests.variance, tokens.mean, tokens.variance)
    }
}

impl Usual {
    /// Learns from one more hour. What is unusual counts as if it were just not: it becomes usual in time, and not
    /// at once.
    fn learn(&mut self, requests: u64, tokens: u64, factor: f64, deviations: f64) {
        self.seen = self.seen.saturating_add(1);
        let weight = WEIGHT.max(1.0 / f64::from(self.seen));
        for (mean, count) in [(&mut self.requests, requests), (&mut self.tokens, tokens)] {
            let most = if self.seen > ENOUGH { mean.bound(factor, deviations) } else { f64::INFINITY };
            mean.learn((count as f64).min(most), weight);
        }
    }
}

/// The hour that runs, and those that were.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Hours {
    /// Since 1970; 0 before the first.
    hour: i64,
    pub(super) requests: u64,
    pub(super) tokens: u64,
    slots: BTreeMap<Slot, Usual>,
}

/// By what hours are told apart and learnt from.
pub(super) struct Lesson<'c> {
    pub(super) clock: &'c Clock,
    /// Hours before this one were not seen whole.
    pub(super) awake_since: i64,
    pub(super) factor: f64,
    pub(super) deviations: f64,
}

impl Hours {
    /// Counts a request; ends the hour before, if it was one.
    pub(super) fn count(&mut self, hour: i64, tokens: u64, lesson: &Lesson<'_>) {
        if self.hour != hour {
            self.end(hour, lesson);
        }
        self.requests += 1;
        self.tokens = self.tokens.saturating_add(tokens);
    }

    fn end(&mut self, now: i64, lesson: &Lesson<'_>) {
        // A clock that was put back has no hours to learn from.
        if self.hour > 0 && self.hour < now {
            let silent = (self.hour + 1).max(now - LONGEST_SILENCE)..now;
            let counted = [(self.hour, self.requests, self.tokens)];
            let hours = counted.into_iter().chain(silent.map(|hour| (hour, 0, 0)));
            for (hour, requests, tokens) in hours.filter(|(hour, ..)| *hour >= lesson.awake_since) {
                let usual = self.slots.entry(lesson.clock.slot(hour)).or_default();
                usual.learn(requests, tokens, lesson.factor, lesson.deviations);
            }
        }
        (self.hour, self.requests, self.tokens) = (now, 0, 0);
    }

    /// What is usual at an hour, once enough is known.
    pub(super) fn usual(&self, slot: Slot) -> Option<&Usual> {
        self.slots.get(&slot).filter(|usual| usual.seen >= ENOUGH)
    }

    /// The same; where not enough is known, what is usual at that hour of the other kind of day.
    pub(super) fn usual_or_alike(&self, slot: Slot) -> Option<&Usual> {
        self.usual(slot).or_else(|| self.usual((slot + 24) % 48))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_follows_what_it_is_told_and_knows_how_far_it_varies() {
        let mut usual = Usual::default();
        for count in [90, 110].into_iter().cycle().take(200) {
            usual.learn(count, 0, 3.0, 4.0);
        }
        let Usual { requests, .. } = usual;
        assert!((90.0..110.0).contains(&requests.value()), "{requests:?}");
        assert!((9.0..12.0).contains(&requests.deviation()), "{requests:?}");
        assert_eq!(requests.bound(1.0, 0.0), requests.value());
    }

    #[test]
    fn what_is_unusual_once_does_not_become_usual_at_once() {
        let mut usual = Usual::default();
        for _ in 0..20 {
            usual.learn(10, 0, 3.0, 4.0);
        }
        usual.learn(1_000_000, 0, 3.0, 4.0);
        assert!(usual.requests.value() < 20.0, "{usual:?}");
    }
}
