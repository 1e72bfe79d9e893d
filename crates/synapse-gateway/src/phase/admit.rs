//! Has the caller's key, and its team, enough left for this request? It is reserved before anything is done.

use std::time::Duration;

use jiff::Timestamp;
use synapse_core::{error::Fault, ledger::Amounts, limits::Money, usage::Usage};
use synapse_dialect::openai::estimate;

use super::bind::Bound;
use crate::{
    audit::Record,
    gateway::{Gateway, Live},
    limits::{self, Denied, Standing},
    metrics::LimitLabels,
    route::plan,
};

/// What a token of reply is taken to need of a machine that is paid for by time.
const TIME_PER_TOKEN: Duration = Duration::from_millis(20);

/// A call that is within its caller's limits, and counted.
pub struct Admitted {
    pub(super) bound: Bound,
}

/// Reserves what the call may need. The record holds the reservation, and settles it.
///
/// # Errors
/// `rate_limit_exceeded` and its kin; `limits_unavailable` where nobody can tell.
pub async fn admit(
    gateway: &Gateway,
    live: &Live,
    bound: Bound,
    record: &mut Record,
) -> Result<Admitted, Fault> {
    let prompt = bound.call.body.json().map_or(0, |body| estimate::prompt(body));
    record.prompt(prompt);
    let caller = bound.call.caller.principal();
    let meters = limits::meters_of(caller);
    if meters.is_empty() {
        return Ok(Admitted { bound });
    }
    let counting = &live.snapshot.counting;
    let is_money = meters.iter().any(|meter| meter.measure.is_money());
    let (usage, tokens) = expected(&bound, prompt, counting.assumed_output_tokens);
    let cost = if is_money { cost(live, &bound, &usage) } else { Money::default() };
    let amounts = Amounts { requests: 1, tokens, cost, running: 1 };
    match gateway.limits.reserve(meters, amounts, counting.on_redis_failure).await {
        Ok((ticket, standing)) => {
            record.stand(standing);
            record.hold(ticket);
            Ok(Admitted { bound })
        }
        Err(Denied::Unavailable) => Err(limits::unavailable()),
        Err(Denied::Over { meters, meter, wait_ms, readings }) => {
            record.stand(Standing::of(&meters, &readings));
            let (meter, reading) = (&meters[meter], &readings[meter]);
            let labels = LimitLabels { team: caller.team.as_str().into(), limit: meter.measure.name() };
            gateway.metrics.rate_limited.get_or_create(&labels).inc();
            let currency = &live.snapshot.prices.currency;
            Err(limits::over(meter, reading, &amounts, wait_ms, currency, Timestamp::now()))
        }
    }
}

/// The most that the call is likely to take, by what it asks for; and what of that counts as tokens.
fn expected(bound: &Bound, prompt: u64, assumed_output: u32) -> (Usage, u64) {
    let shape = &bound.call.shape;
    let operation = bound.call.operation;
    let output = if estimate::generates(operation) {
        u64::from(shape.max_output.unwrap_or(assumed_output)) * u64::from(shape.choices)
    } else {
        0
    };
    let usage = Usage { input_tokens: prompt, output_tokens: output, cached_tokens: 0 };
    (usage, if estimate::has_tokens(operation) { usage.total() } else { 0 })
}

/// What that costs where it costs most, of all places that the call may come to.
fn cost(live: &Live, bound: &Bound, usage: &Usage) -> Money {
    let busy = TIME_PER_TOKEN.saturating_mul(u32::try_from(usage.output_tokens).unwrap_or(u32::MAX));
    let preferences = bound.call.shape.preferences.as_deref();
    let ways = plan::ways(live, bound.call.caller.principal(), &bound.route, preferences);
    let places = ways.iter().flat_map(|route| &route.candidates);
    let prices =
        places.filter(|place| bound.reach.includes(&place.endpoint)).filter_map(|place| place.price.as_ref());
    prices.map(|price| price.cost(usage, busy)).max().unwrap_or_default()
}
