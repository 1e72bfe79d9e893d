//! One counter: how much was taken in which bucket of time.

use std::collections::VecDeque;

use synapse_core::ledger::{Meter, Reading, Span, fits};

/// What was counted, by bucket; the oldest first, none of them empty.
#[derive(Debug)]
pub(super) struct Tally {
    span: Span,
    buckets: VecDeque<(u64, u64)>,
    total: u64,
    present: Present,
}

/// The bucket of the moment. Calendars are not asked again before it is over.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    bucket: u64,
    /// Since when it is known to be the present one.
    from_ms: u64,
    /// Until when it is.
    until_ms: u64,
    /// When it counts no more.
    release_ms: u64,
}

impl Present {
    fn of(span: Span, now_ms: u64) -> Self {
        let bucket = span.bucket(now_ms);
        let release_ms = span.release_ms(bucket, now_ms);
        let until_ms = match span.bucket_ms() {
            Some(length) => (bucket + 1) * length,
            // What is held is never over.
            None if span == Span::Held => u64::MAX,
            None => release_ms,
        };
        Self { bucket, from_ms: now_ms, until_ms, release_ms }
    }
}

impl Tally {
    pub(super) const fn new(span: Span) -> Self {
        let present = Present { bucket: 0, from_ms: 0, until_ms: 0, release_ms: 0 };
        Self { span, buckets: VecDeque::new(), total: 0, present }
    }

    /// Forgets what counts no more. What was counted under another span, or at a time that the clock has
    /// gone back from, counts as taken now: too strict for a while, and never too lenient.
    pub(super) fn advance(&mut self, span: Span, now_ms: u64) {
        if span != self.span || !(self.present.from_ms..self.present.until_ms).contains(&now_ms) {
            self.present = Present::of(span, now_ms);
        }
        let present = self.present.bucket;
        let is_ahead = self.buckets.back().is_some_and(|(bucket, _)| *bucket > present);
        if span != self.span || is_ahead {
            self.buckets.clear();
            self.buckets.extend((self.total > 0).then_some((present, self.total)));
            self.span = span;
        }
        while let Some((bucket, amount)) = self.buckets.front().copied()
            && bucket + span.reach() <= present
        {
            self.buckets.pop_front();
            self.total -= amount;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.total == 0
    }

    /// What counts now.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The newest bucket.
    pub(super) fn bucket(&self) -> Option<u64> {
        self.buckets.back().map(|(bucket, _)| *bucket)
    }

    pub(super) const fn span(&self) -> Span {
        self.span
    }

    /// Counts `amount` now, in the bucket that it was advanced to; gives the bucket.
    pub(super) fn take(&mut self, amount: u64) -> u64 {
        let bucket = self.present.bucket;
        let amount = amount.min(u64::MAX - self.total);
        if amount > 0 {
            match self.buckets.back_mut().filter(|(newest, _)| *newest >= bucket) {
                Some((_, counted)) => *counted += amount,
                None => self.buckets.push_back((bucket, amount)),
            }
            self.total += amount;
        }
        bucket
    }

    /// Gives back what was taken in `bucket`, if that still counts.
    pub(super) fn give_back(&mut self, bucket: u64, amount: u64) {
        let Ok(at) = self.buckets.binary_search_by_key(&bucket, |(known, _)| *known) else { return };
        let counted = &mut self.buckets[at].1;
        let returned = amount.min(*counted);
        *counted -= returned;
        self.total -= returned;
        if *counted == 0 {
            self.buckets.remove(at);
        }
    }

    fn release_ms(&self, bucket: u64, now_ms: u64) -> u64 {
        match self.span {
            Span::Day | Span::Month if bucket == self.present.bucket => self.present.release_ms,
            _ => self.span.release_ms(bucket, now_ms),
        }
    }

    pub(super) fn reading(&self, bucket: u64, now_ms: u64) -> Reading {
        let newest = self.buckets.back().map(|(bucket, _)| self.release_ms(*bucket, now_ms));
        Reading {
            used: self.total,
            bucket,
            resets_in_ms: newest.map_or(0, |release| release.saturating_sub(now_ms)),
        }
    }

    /// How long until there is room for `amount`; `None` where there never is.
    pub(super) fn wait_ms(&self, meter: &Meter, amount: u64, now_ms: u64) -> Option<u64> {
        if !fits(meter.limit, 0, amount) {
            return None;
        }
        let mut used = self.total;
        let mut release = now_ms;
        for (bucket, counted) in &self.buckets {
            if fits(meter.limit, used, amount) {
                break;
            }
            used -= counted;
            release = self.release_ms(*bucket, now_ms);
        }
        Some(release - now_ms)
    }
}
