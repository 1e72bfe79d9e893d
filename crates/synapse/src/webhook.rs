//! Delivering alerts to webhooks: at least once, the worst first, again and again for a day. What is owed is kept
//! in the store, so that it outlasts this process; nobody waits for it.

mod message;
mod post;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use synapse_core::{
    config::snapshot::Webhook,
    store::{
        StoreError,
        alerts::{AlertStore, Attempt, Delivery},
    },
};
use synapse_gateway::{
    gateway::Gateway,
    metrics::{Metrics, ResultLabel},
};
use tokio::{sync::Notify, time::Instant};

pub(crate) use message::Message;
pub(crate) use post::{Failure, Http, Post, post};

/// Between two looks at what is owed: retries come due without anybody saying so.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Messages to one webhook before the others get their turn again.
const BATCH: u32 = 32;
/// How long such a turn may take.
const TURN: Duration = Duration::from_secs(15);
/// For this long nobody else takes what was claimed: longer than any turn.
const CLAIM: Duration = Duration::from_secs(60);
/// Before a message is sent again for the first time; it doubles with every attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause of a message.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// The longest pause of a webhook that does not answer: so late do alerts arrive at most when it is back.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// For how long a message is sent again.
const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Between two looks for what nobody delivers, since its webhook is not configured any more.
const ABANDON_EVERY: Duration = Duration::from_secs(3600);

/// A webhook that did not answer lately is left alone for a while, with all that is owed to it.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    failures: u32,
    until: Option<Timestamp>,
}

/// Delivers what is owed.
pub(crate) struct Courier {
    store: Arc<dyn AlertStore>,
    post: Arc<dyn Post>,
    metrics: Arc<Metrics>,
    resting: HashMap<String, Rest>,
}

impl Courier {
    pub(crate) fn new(store: Arc<dyn AlertStore>, post: Arc<dyn Post>, metrics: Arc<Metrics>) -> Self {
        Self { store, post, metrics, resting: HashMap::new() }
    }

    /// Delivers for as long as the gateway runs; `news` says that there is something new.
    pub(crate) async fn run(mut self, gateway: Arc<Gateway>, news: Arc<Notify>) {
        let mut abandoned: Option<Instant> = None;
        let mut is_failing = false;
        loop {
            let live = gateway.live();
            let now = Timestamp::now();
            let mut done = self.round(&live.snapshot.webhooks, now).await;
            drop(live);
            if abandoned.is_none_or(|last| last.elapsed() >= ABANDON_EVERY) {
                abandoned = Some(Instant::now());
                let given_up = self.abandon(now).await;
                done = done.and_then(|sent| given_up.map(|()| sent));
            }
            match done {
                // There may be more.
                Ok(sent) if sent > 0 => continue,
                Ok(_) => is_failing = false,
                Err(error) if !is_failing => {
                    is_failing = true;
                    tracing::error!(%error, "what is owed to webhooks cannot be read; it waits");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = news.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn abandon(&self, now: Timestamp) -> Result<(), StoreError> {
        let Ok(end) = now.checked_sub(LIFE) else { return Ok(()) };
        let count = self.store.abandon_deliveries(end).await?;
        if count > 0 {
            self.metrics.webhook_deliveries.get_or_create(&ResultLabel { result: "dead" }).inc_by(count);
            tracing::warn!(count, "alerts were not delivered within a day, and are given up");
        }
        Ok(())
    }

    /// Gives every webhook a turn; how many messages arrived.
    async fn round(&mut self, webhooks: &[Webhook], now: Timestamp) -> Result<usize, StoreError> {
        self.resting.retain(|name, _| webhooks.iter().any(|webhook| webhook.name == *name));
        let turns = webhooks.iter().map(|webhook| {
            let rest = self.resting.get(&webhook.name).copied().unwrap_or_default();
            self.turn(webhook, rest, now)
        });
        let mut sent = 0;
        let mut failed = None;
        for (webhook, turn) in webhooks.iter().zip(join_all(turns).await) {
            match turn {
                Ok((count, rest)) => {
                    sent += count;
                    self.resting.insert(webhook.name.clone(), rest);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(sent), Err)
    }

    /// Sends what is due to one webhook, until it fails to answer.
    async fn turn(
        &self,
        webhook: &Webhook,
        mut rest: Rest,
        now: Timestamp,
    ) -> Result<(usize, Rest), StoreError> {
        if rest.until.is_some_and(|until| now < until) {
            return Ok((0, rest));
        }
        let started = Instant::now();
        let due = self.store.claim_deliveries(&webhook.name, now, later(now, CLAIM), BATCH).await?;
        let mut sent = 0;
        for (delivery, alert) in due {
            let now = later(now, started.elapsed());
            let posted = self.post.post(webhook, &Message::new(&alert, webhook, now)).await;
            let gives_up = alert.at.duration_until(now) >= LIFE;
            let attempt = outcome(&posted, &delivery, now, gives_up);
            self.store.record_attempt(&delivery, &attempt).await?;
            self.count(webhook, &delivery, &attempt);
            match posted {
                Ok(_) => {
                    sent += 1;
                    rest = Rest::default();
                }
                Err(Failure::Unreachable(_) | Failure::Unwell(_)) => {
                    let pause = pause(rest.failures).min(LONGEST_REST);
                    rest = Rest { failures: rest.failures + 1, until: Some(later(now, pause)) };
                    break;
                }
                Err(Failure::Refused(_) | Failure::Gone) => {}
            }
            if started.elapsed() > TURN {
                break;
            }
        }
        Ok((sent, rest))
    }

    fn count(&self, webhook: &Webhook, delivery: &Delivery, attempt: &Attempt) {
        let (alert, webhook) = (&delivery.alert, &webhook.name);
        let result = match attempt {
            Attempt::Delivered => "delivered",
            Attempt::Failed { error, .. } => {
                tracing::info!(%alert, webhook, error, "an alert could not be delivered; it is tried again");
                "failed"
            }
            Attempt::Dead { error } => {
                tracing::warn!(%alert, webhook, error, "an alert could not be delivered, and is given up");
                "dead"
            }
        };
        self.metrics.webhook_deliveries.get_or_create(&ResultLabel { result }).inc();
    }
}

/// What an attempt means for its delivery.
fn outcome(posted: &Result<u16, Failure>, delivery: &Delivery, now: Timestamp, gives_up: bool) -> Attempt {
    match posted {
        Ok(_) => Attempt::Delivered,
        Err(failure) if gives_up || *failure == Failure::Gone => Attempt::Dead { error: failure.to_string() },
        Err(failure) => {
            let again_at = later(now, pause(delivery.attempts));
            Attempt::Failed { again_at, error: failure.to_string() }
        }
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The pause after so many failures before this one: twice as long each time, and within a fifth of that at random,
/// so that what failed together is not tried together.
fn pause(failures: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    let dice = RandomState::new().hash_one(failures) % 1000;
    whole.mul_f64(0.8 + dice as f64 / 2500.0)
}

#[cfg(test)]
mod tests;
