//! The ledger of one process. Everything happens under one lock that is held for a fraction of a microsecond,
//! so a reservation is all or nothing by construction.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use synapse_core::{
    ledger::{Amounts, Measure, Meter, Reading, Scope, Span, Verdict, fits},
    store::counters::Counter,
};

use super::tally::Tally;

/// The time in milliseconds since 1970.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Counters in memory.
pub struct MemoryLedger {
    clock: Clock,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    accounts: HashMap<Scope, Account>,
    /// Whose calendar counters have changed since they were last saved.
    changed: Vec<Scope>,
}

/// What one key or team has taken.
#[derive(Default)]
struct Account {
    tallies: [Option<Tally>; Measure::ALL.len()],
    has_changed: bool,
}

impl Account {
    fn tally(&mut self, meter: &Meter, now_ms: u64) -> &mut Tally {
        let tally = self.tallies[meter.measure as usize].get_or_insert_with(|| Tally::new(meter.span));
        tally.advance(meter.span, now_ms);
        tally
    }
}

/// Whether a counter is worth keeping over a restart.
const fn is_calendar(span: Span) -> bool {
    matches!(span, Span::Day | Span::Month)
}

impl Book {
    fn account(&mut self, scope: &Scope) -> &mut Account {
        // A clone counts a reference; an entry is cheaper than two look-ups.
        self.accounts.entry(scope.clone()).or_default()
    }

    /// Goes over all meters, with the counter of each; whose calendar counters `change` is noted.
    fn visit(
        &mut self,
        meters: &[Meter],
        now_ms: u64,
        change: bool,
        mut visit: impl FnMut(usize, &Meter, &mut Tally),
    ) {
        let mut index = 0;
        for of_one in meters.chunk_by(|a, b| a.scope == b.scope) {
            let Some(first) = of_one.first() else { continue };
            let account = self.accounts.entry(first.scope.clone()).or_default();
            for meter in of_one {
                visit(index, meter, account.tally(meter, now_ms));
                index += 1;
            }
            let is_worth_saving = change && of_one.iter().any(|meter| is_calendar(meter.span));
            if is_worth_saving && !std::mem::replace(&mut account.has_changed, true) {
                self.changed.push(first.scope.clone());
            }
        }
    }
}

impl MemoryLedger {
    /// Nothing counted yet.
    pub fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), book: Mutex::default() }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Book, u64) -> R) -> R {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that no later change bears an earlier time.
        let now = (self.clock)();
        work(&mut book, now)
    }

    /// Takes `amounts` from all meters, or from none.
    pub fn reserve(&self, meters: &[Meter], amounts: &Amounts) -> Verdict {
        self.with(|book, now| {
            let mut readings = Vec::with_capacity(meters.len());
            let mut refused: Option<(usize, Option<u64>)> = None;
            book.visit(meters, now, false, |index, meter, tally| {
                let amount = amounts.of(meter.measure);
                readings.push(tally.reading(0, now));
                if !fits(meter.limit, tally.total(), amount) {
                    let wait = tally.wait_ms(meter, amount, now);
                    let longest = refused.map(|(_, wait)| wait.unwrap_or(u64::MAX));
                    if longest.is_none_or(|longest| wait.unwrap_or(u64::MAX) > longest) {
                        refused = Some((index, wait));
                    }
                }
            });
            if let Some((meter, wait_ms)) = refused {
                return Verdict::Refused { meter, wait_ms, readings };
            }
            book.visit(meters, now, true, |index, meter, tally| {
                let bucket = tally.take(amounts.of(meter.measure));
                readings[index] = tally.reading(bucket, now);
            });
            Verdict::Granted(readings)
        })
    }

    /// Puts what was spent in place of what was reserved. What comes back was taken at the time of the
    /// reservation; what exceeds it is taken now.
    pub fn settle(&self, meters: &[Meter], readings: &[Reading], reserved: &Amounts, spent: &Amounts) {
        self.with(|book, now| {
            book.visit(meters, now, true, |index, meter, tally| {
                let (before, after) = (reserved.of(meter.measure), spent.of(meter.measure));
                if let Some(reading) = readings.get(index).filter(|_| before != after) {
                    tally.give_back(reading.bucket, before.saturating_sub(after));
                    tally.take(after.saturating_sub(before));
                }
            });
        });
    }

    /// The calendar counters that have changed since the last time.
    pub fn changes(&self) -> Vec<Counter> {
        self.with(|book, now| {
            let mut counters = Vec::new();
            for scope in std::mem::take(&mut book.changed) {
                let Some(account) = book.accounts.get_mut(&scope) else { continue };
                account.has_changed = false;
                for measure in Measure::ALL {
                    let tally = account.tallies[measure as usize].as_ref();
                    let Some(tally) = tally.filter(|tally| is_calendar(tally.span())) else { continue };
                    // One from which all was given back is worth saving, too.
                    let bucket = tally.bucket().unwrap_or_else(|| tally.span().bucket(now));
                    counters.push(Counter { scope: scope.clone(), measure, bucket, used: tally.total() });
                }
            }
            counters
        })
    }

    /// Counts what was saved before a restart, as far as it still counts.
    pub fn restore(&self, counters: Vec<Counter>) {
        self.with(|book, now| {
            for counter in counters {
                let Some(span) = counter.measure.calendar_span() else { continue };
                if span.bucket(now) == counter.bucket {
                    let account = book.account(&counter.scope);
                    let tally = account.tallies[counter.measure as usize].get_or_insert(Tally::new(span));
                    tally.advance(span, now);
                    tally.take(counter.used);
                }
            }
        });
    }

    /// Says that these counters could not be saved.
    pub fn keep_changes(&self, counters: &[Counter]) {
        self.with(|book, _| {
            for counter in counters {
                let account = book.account(&counter.scope);
                if !std::mem::replace(&mut account.has_changed, true) {
                    book.changed.push(counter.scope.clone());
                }
            }
        });
    }

    /// Drops the counters on which nothing counts any more.
    pub fn sweep(&self) {
        self.with(|book, now| {
            book.accounts.retain(|_, account| {
                for tally in &mut account.tallies {
                    if let Some(counter) = tally {
                        counter.advance(counter.span(), now);
                        if counter.is_empty() {
                            *tally = None;
                        }
                    }
                }
                account.has_changed || account.tallies.iter().any(Option::is_some)
            });
        });
    }

    /// How many keys and teams are counted.
    pub fn len(&self) -> usize {
        self.with(|book, _| book.accounts.len())
    }

    /// Whether nobody is counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
