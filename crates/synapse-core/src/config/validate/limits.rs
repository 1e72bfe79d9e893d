//! How limits are counted.

use super::raw;
use crate::config::snapshot::{Counting, OnRedisFailure};

pub(super) fn counting(raw: &raw::Limits) -> Counting {
    Counting {
        on_redis_failure: match raw.on_redis_failure {
            raw::OnRedisFailure::Closed => OnRedisFailure::Closed,
            raw::OnRedisFailure::Open => OnRedisFailure::Open,
        },
        assumed_output_tokens: raw.assumed_output_tokens,
    }
}
