//! What came back, and the figures that are made of it.

use std::time::Duration;

use serde::Serialize;

use crate::{
    client::Answer,
    cpu::{ThreadUse, Used},
};

/// Answers and failures.
#[derive(Default)]
pub(crate) struct Tally {
    took: Vec<Duration>,
    first: Vec<Duration>,
    gaps: Vec<Duration>,
    events: u64,
    errors: u64,
    first_error: Option<String>,
    /// By how much the generator missed the times at which requests were due; part of what they took.
    pub(crate) late: Vec<Duration>,
}

impl Tally {
    pub(crate) fn add(&mut self, answer: anyhow::Result<Answer>) {
        match answer {
            Ok(answer) => {
                self.took.push(answer.took);
                self.first.push(answer.first);
                self.gaps.extend(answer.gaps);
                self.events += answer.events;
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.took.extend(other.took);
        self.first.extend(other.first);
        self.gaps.extend(other.gaps);
        self.events += other.events;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.late.extend(other.late);
    }

    pub(crate) fn report(self, used: &Used) -> Report {
        let cpu_us = used.total.as_secs_f64() * 1e6;
        let per = |count: u64| (count > 0).then(|| cpu_us / count as f64);
        Report {
            requests: self.took.len(),
            events: self.events,
            errors: self.errors,
            first_error: self.first_error,
            cpu_us,
            cpu_us_per_request: per(self.took.len() as u64),
            cpu_us_per_event: per(self.events),
            threads: used.threads.clone(),
            latency_us: percentiles(self.took),
            first_byte_us: percentiles(self.first),
            gap_us: percentiles(self.gaps),
            late_us: percentiles(self.late),
        }
    }
}

/// The printed result; times are microseconds.
#[derive(Serialize)]
pub(crate) struct Report {
    requests: usize,
    events: u64,
    errors: u64,
    first_error: Option<String>,
    cpu_us: f64,
    cpu_us_per_request: Option<f64>,
    cpu_us_per_event: Option<f64>,
    threads: Vec<ThreadUse>,
    latency_us: Option<Percentiles>,
    first_byte_us: Option<Percentiles>,
    gap_us: Option<Percentiles>,
    late_us: Option<Percentiles>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

fn percentiles(mut times: Vec<Duration>) -> Option<Percentiles> {
    times.sort_unstable();
    // Nearest rank: the smallest value that so many percent do not exceed.
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).map(|t| t.as_secs_f64() * 1e6)
    };
    Some(Percentiles { p50: at(50)?, p90: at(90)?, p99: at(99)?, max: at(100)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let expected = Percentiles { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 };
        let rounded = percentiles(times).map(|p| Percentiles {
            p50: p.p50.round(),
            p90: p.p90.round(),
            p99: p.p99.round(),
            max: p.max.round(),
        });
        assert_eq!(rounded, Some(expected));
    }

    #[test]
    fn no_answers_have_no_percentiles() {
        assert_eq!(percentiles(Vec::new()), None);
    }
}
