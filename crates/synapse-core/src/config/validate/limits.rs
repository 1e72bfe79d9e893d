//! What may be spent, and how it is counted.

use super::{prices::money, raw};
use crate::{
    config::snapshot::{Counting, OnRedisFailure},
    limits::{Limits, RequestLimit},
};

pub(super) fn counting(raw: &raw::Limits) -> Counting {
    Counting {
        on_redis_failure: match raw.on_redis_failure {
            raw::OnRedisFailure::Closed => OnRedisFailure::Closed,
            raw::OnRedisFailure::Open => OnRedisFailure::Open,
        },
        assumed_output_tokens: raw.assumed_output_tokens,
    }
}

pub(super) fn of_key(raw: raw::KeyLimits) -> Limits {
    let requests = raw.requests.and_then(|r| Some(RequestLimit { count: r.count?, window_s: r.window_s }));
    Limits {
        requests,
        tokens_per_minute: raw.tokens_per_minute,
        tokens_per_day: raw.tokens_per_day,
        concurrent: raw.concurrent,
        cost_per_day: raw.cost_per_day.map(money),
        cost_per_month: raw.cost_per_month.map(money),
    }
}
