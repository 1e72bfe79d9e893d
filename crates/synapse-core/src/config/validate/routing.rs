//! How a request finds its backend.

use std::time::Duration;

use super::{raw, seconds};
use crate::config::snapshot::{Breaker, Queue, Routing, Strategy};

pub(super) fn check(raw: &raw::Routing) -> Routing {
    Routing {
        strategy: match raw.strategy {
            raw::Strategy::LeastLoaded | raw::Strategy::Prefix => Strategy::LeastLoaded,
            raw::Strategy::RoundRobin => Strategy::RoundRobin,
            raw::Strategy::Weighted => Strategy::Weighted,
            raw::Strategy::Latency => Strategy::Latency,
        },
        prefix_affinity: raw.affinity == raw::Affinity::Prefix
            || matches!(raw.strategy, raw::Strategy::Prefix),
        retries: raw.retries,
        retry_budget: raw.retry_budget,
        breaker: Breaker {
            failures: raw.breaker.failures,
            open_for: seconds(raw.breaker.open_s),
            success_rate: raw.breaker.success_rate,
        },
        spill_after: Duration::from_millis(raw.spill_after_ms.into()),
        slow_start: seconds(raw.slow_start_s),
        queue: Queue {
            max_waiting: raw.queue.max_waiting,
            max_wait: seconds(raw.queue.max_wait_s),
            max_bytes: raw.queue.max_mb * 1024 * 1024,
        },
    }
}
