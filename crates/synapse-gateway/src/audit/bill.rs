//! What a request has used, once it is over: what its engine said, or what flowed.

use std::{sync::Arc, time::Instant};

use synapse_core::{
    config::snapshot::Locality, error::FaultKind, limits::Money, operation::Operation, price::Price,
    usage::Usage,
};
use synapse_dialect::openai::estimate;

use super::End;

/// The work that an attempt has begun.
#[derive(Clone)]
pub struct Work {
    /// What it costs, where that is known.
    pub price: Option<Arc<Price>>,
    /// Where it is done. Somebody else asks for money.
    pub zone: Locality,
    /// Since when.
    pub since: Instant,
}

/// What is to be paid.
#[derive(Default)]
pub(super) struct Bill {
    pub(super) usage: Option<Usage>,
    pub(super) is_estimate: bool,
    pub(super) cost: Option<Money>,
    pub(super) unpriced: bool,
}

/// What is known of a request at its end.
pub(super) struct Facts<'r> {
    pub(super) operation: Option<Operation>,
    /// Its last attempt, if there was any.
    pub(super) work: Option<&'r Work>,
    pub(super) end: &'r End,
    pub(super) cancelled: bool,
    /// Tokens of the prompt, as a guess.
    pub(super) prompt: u64,
    /// Bytes of the reply.
    pub(super) sent: u64,
}

impl Facts<'_> {
    /// An engine that failed before anything came has done nothing that anyone has to pay for. One that a
    /// caller has turned away from has worked.
    fn has_worked(&self) -> bool {
        let flowed = self.end.usage.is_some() || self.end.events > 0;
        let served = (200..300).contains(&self.end.status) && (self.end.fault.is_none() || flowed);
        // It has answered, though the caller gets nothing of it.
        let stopped = self.end.fault == Some(FaultKind::DlpResponseBlocked);
        self.cancelled || served || stopped
    }

    pub(super) fn bill(&self) -> Bill {
        let Some(work) = self.work.filter(|_| self.has_worked()) else {
            return Bill { usage: self.end.usage, ..Bill::default() };
        };
        let guess = || {
            let operation = self.operation.filter(|operation| estimate::has_tokens(*operation))?;
            let output_tokens = estimate::reply(operation, self.sent, self.end.events);
            Some(Usage { input_tokens: self.prompt, output_tokens, cached_tokens: 0 })
        };
        let usage = self.end.usage.or_else(guess);
        let price = work.price.as_ref();
        Bill {
            usage,
            is_estimate: self.end.usage.is_none() && usage.is_some(),
            cost: price.map(|price| price.cost(&usage.unwrap_or_default(), work.since.elapsed())),
            unpriced: price.is_none() && work.zone == Locality::Cloud,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(end: &End, cancelled: bool) -> (Option<u64>, bool, Option<u64>) {
        let price = Price { output: Money::from_nanos(1_000_000), ..Price::default() };
        let work = Work { price: Some(price.into()), zone: Locality::Cloud, since: Instant::now() };
        let operation = Some(Operation::Chat);
        let bill = Facts { operation, work: Some(&work), end, cancelled, prompt: 10, sent: 400 }.bill();
        let tokens = bill.usage.map(|usage| usage.total());
        (tokens, bill.is_estimate, bill.cost.map(Money::nanos))
    }

    #[test]
    fn what_an_engine_says_counts_and_what_flowed_where_it_says_nothing() {
        let told = Usage { input_tokens: 3, output_tokens: 4, cached_tokens: 0 };
        let ended = End { status: 200, usage: Some(told), ..End::default() };
        assert_eq!(bill(&ended, false), (Some(7), false, Some(4)));
        let silent = End { status: 200, events: 5, ..End::default() };
        assert_eq!(bill(&silent, false), (Some(15), true, Some(5)));
        assert_eq!(bill(&End { events: 0, ..silent }, false), (Some(110), true, Some(100)));
    }

    #[test]
    fn an_engine_may_claim_to_have_used_any_number() {
        let most = Usage { input_tokens: u64::MAX, output_tokens: u64::MAX, cached_tokens: u64::MAX };
        let ended = End { status: 200, usage: Some(most), ..End::default() };
        assert_eq!(bill(&ended, false).0, Some(u64::MAX));
    }

    #[test]
    fn a_caller_who_leaves_pays_for_what_was_done_and_nobody_for_a_failure() {
        let left = End { events: 2, ..End::default() };
        assert_eq!(bill(&left, true), (Some(12), true, Some(2)));
        let failed = End { status: 502, fault: Some(FaultKind::Upstream), ..End::default() };
        assert_eq!(bill(&failed, false), (None, false, None));
        let broken =
            End { status: 200, fault: Some(FaultKind::UpstreamTruncated), events: 3, ..End::default() };
        assert_eq!(bill(&broken, false), (Some(13), true, Some(3)));
    }
}
