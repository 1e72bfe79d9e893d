//! What tokens, requests and time on one's own machines cost.

use std::{sync::Arc, time::Duration};

use crate::{config::snapshot::Locality, glob::Glob, limits::Money, usage::Usage};

/// A model's price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// For a million tokens of prompts.
    pub input: Money,
    /// For a million tokens of replies.
    pub output: Money,
    /// For a million tokens of prompts that the engine had cached.
    pub cached_input: Money,
    /// For each request.
    pub per_request: Money,
    /// For each second from the moment a request is sent to an engine to its last byte.
    pub per_gpu_second: Money,
}

const MILLION: u128 = 1_000_000;

impl Price {
    /// What these tokens and this much time cost, rounded up to a billionth.
    pub fn cost(&self, usage: &Usage, busy: Duration) -> Money {
        let times = |count: u64, price: Money| u128::from(count) * u128::from(price.nanos());
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let tokens = times(usage.input_tokens - cached, self.input)
            .saturating_add(times(cached, self.cached_input))
            .saturating_add(times(usage.output_tokens, self.output));
        let micros = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        let time = times(micros, self.per_gpu_second);
        let nanos = tokens
            .div_ceil(MILLION)
            .saturating_add(time.div_ceil(MILLION))
            .saturating_add(u128::from(self.per_request.nanos()));
        Money::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A price for the models that a pattern matches.
pub type Priced = (Glob, Arc<Price>);

/// All prices.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// What amounts are in.
    pub currency: Arc<str>,
    /// The operator's; the first match counts.
    pub own: Vec<Priced>,
    /// Those of providers. They mean models rented there, not ones of the same name in the house.
    pub providers: Vec<Priced>,
}

impl Prices {
    /// The price of a model: the operator's by its public name or by the name its backend has for it; a
    /// provider's by the latter, or by its last part (`gpt-4o` of `openai/gpt-4o`).
    pub fn of(&self, public: &str, upstream: &str, locality: Locality) -> Option<Arc<Price>> {
        let find = |list: &[Priced], name: &str| {
            list.iter().find(|(glob, _)| glob.matches(name)).map(|(_, price)| Arc::clone(price))
        };
        let own = find(&self.own, public).or_else(|| find(&self.own, upstream));
        own.or_else(|| {
            let last = upstream.rsplit('/').next().unwrap_or(upstream);
            let theirs = find(&self.providers, upstream).or_else(|| find(&self.providers, last));
            theirs.filter(|_| locality == Locality::Cloud)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().expect("an amount")
    }

    fn usage(input_tokens: u64, cached_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, cached_tokens }
    }

    #[test]
    fn a_cost_is_the_sum_of_tokens_time_and_the_request_itself() {
        let price = Price {
            input: money("2.5"),
            output: money("10"),
            cached_input: money("1.25"),
            per_request: money("0.01"),
            per_gpu_second: money("0.0005"),
        };
        let cost = price.cost(&usage(1_000_000, 400_000, 100_000), Duration::from_secs(2));
        assert_eq!(cost, money("3.011"));
        assert_eq!(price.cost(&usage(0, 0, 0), Duration::ZERO), money("0.01"));
        let cheap = Price { input: Money::from_nanos(1), ..Price::default() };
        assert_eq!(cheap.cost(&usage(1, 0, 0), Duration::ZERO), Money::from_nanos(1));
        let most = Money::from_nanos(u64::MAX);
        let dear =
            Price { input: most, output: most, cached_input: most, per_request: most, per_gpu_second: most };
        for price in [dear, Price { output: money("9000000000"), ..price }] {
            assert_eq!(price.cost(&usage(u64::MAX, u64::MAX / 2, u64::MAX), Duration::MAX), most);
        }
    }

    #[test]
    fn a_providers_price_is_for_what_is_rented_and_the_operators_for_all() {
        let price = |nanos| Arc::new(Price { input: Money::from_nanos(nanos), ..Price::default() });
        let prices = Prices {
            currency: "USD".into(),
            own: vec![(Glob::new("house*"), price(1))],
            providers: vec![(Glob::new("gpt-4o"), price(2)), (Glob::new("here/*"), price(3))],
        };
        let of = |public, upstream, locality| prices.of(public, upstream, locality).map(|p| p.input.nanos());
        assert_eq!(of("house-a", "gpt-4o", Locality::Cloud), Some(1));
        assert_eq!(of("smart", "house-b", Locality::OnPrem), Some(1));
        assert_eq!(of("smart", "openai/gpt-4o", Locality::Cloud), Some(2));
        assert_eq!(of("smart", "here/gpt-5", Locality::Cloud), Some(3));
        assert_eq!(of("gpt-4o", "gpt-4o", Locality::OnPrem), None);
        assert_eq!(of("smart", "other", Locality::Cloud), None);
    }
}
