//! Counters in Redis, for gateways that hold limits together. Each question is one script, so that what it sees
//! and what it changes is one state. The scripts count as `synapse_core::ledger` says.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{
    Client, ErrorKind, RedisError, Script, ScriptInvocation, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret, SecretString};
use synapse_core::{
    ledger::{Amounts, Measure, Meter, Reading, Span, Verdict},
    store::{
        StoreError,
        ledger::{Settlement, SharedLedger, SharedLedgerError},
    },
};
use tokio::sync::OnceCell;

/// All keys begin so. What stands in braces decides the place in a cluster, so that all are in one.
const PREFIX: &str = "synapse:{limits}:";
/// How long a place is held without being renewed.
const LEASE_MS: u64 = 45_000;
/// How long a ticket can be settled: as long as any request may take.
const TICKET_S: u64 = 90_000;

const CALENDAR: &str = include_str!("calendar.lua");

/// Counters in Redis.
pub struct RedisLedger {
    client: Client,
    /// Made with the first question; it reconnects by itself.
    connection: OnceCell<ConnectionManager>,
    reserve: Script,
    settle: Script,
    renew: Script,
}

impl RedisLedger {
    /// Counters at this URL. Nothing is connected yet.
    ///
    /// # Errors
    /// When it is no URL of Redis; what it says is not repeated, as it may hold a password.
    pub fn new(url: &SecretString) -> Result<Arc<Self>, StoreError> {
        let client = Client::open(url.expose_secret()).map_err(|_| StoreError::Unusable {
            place: "the Redis URL".to_owned(),
            problem: "it must read redis://[user:password@]host[:port][/database], or rediss:// for TLS"
                .to_owned(),
            source: None,
        })?;
        let script = |text: &str| Script::new(&format!("{CALENDAR}{text}"));
        Ok(Arc::new(Self {
            client,
            connection: OnceCell::new(),
            reserve: script(include_str!("reserve.lua")),
            settle: script(include_str!("settle.lua")),
            renew: script(include_str!("renew.lua")),
        }))
    }

    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        // Whoever asks has a shorter patience than these, and asks again.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(10))
            .set_max_delay(Duration::from_millis(20));
        let connect = || ConnectionManager::new_with_config(self.client.clone(), config);
        self.connection.get_or_try_init(connect).await.cloned()
    }

    /// How many of these commands, which went out together, were refused.
    async fn refused(&self, answers: Vec<Result<(), RedisError>>) -> Result<u64, SharedLedgerError> {
        let mut refused = 0;
        for answer in answers {
            match answer.map_err(failed) {
                Ok(()) => {}
                Err(SharedLedgerError::Refused(_)) => refused += 1,
                Err(error) => return Err(error),
            }
        }
        // Where everything is refused, it is not for what was asked.
        if refused > 0 {
            self.ping().await?;
        }
        Ok(refused)
    }
}

/// Asks, and asks once more where the connection was lost: it may have been for long, with nobody to notice. The second
/// question waits for a connection that is new.
async fn ask<T, Asked: Future<Output = Result<T, RedisError>>>(
    question: impl Fn() -> Asked,
) -> Result<T, RedisError> {
    match question().await {
        Err(error) if error.is_unrecoverable_error() => question().await,
        answer => answer,
    }
}

/// Tells, in the same way.
async fn send(connection: &ConnectionManager, call: ScriptInvocation<'_>) -> Result<(), RedisError> {
    ask(|| {
        let (call, mut connection) = (&call, connection.clone());
        async move { call.invoke_async(&mut connection).await }
    })
    .await
}

fn ticket_key(ticket: u128) -> String {
    format!("{PREFIX}ticket:{ticket:032x}")
}

/// A meter's key. Names come last, as they may hold anything; a window's length is part of it, because buckets of
/// another length mean something else.
fn meter_key(meter: &Meter) -> String {
    let (length, _) = bucket(meter.span);
    let (measure, level, name) = (meter.measure.name(), meter.scope.level(), meter.scope.name());
    match meter.measure {
        Measure::Requests => format!("{PREFIX}{measure}:{length}:{level}:{name}"),
        _ => format!("{PREFIX}{measure}:{level}:{name}"),
    }
}

/// A span as the scripts know it: the length of a bucket, and how many count.
fn bucket(span: Span) -> (i64, u64) {
    let length = match span {
        Span::Held => -1,
        Span::Month => 0,
        Span::Day | Span::Sliding(_) => span.bucket_ms().and_then(|ms| i64::try_from(ms).ok()).unwrap_or(1),
    };
    (length, span.reach())
}

/// A script with the keys that all of them begin with.
fn invocation<'s>(script: &'s Script, ticket: u128, meters: &[Meter]) -> ScriptInvocation<'s> {
    let mut call = script.key(ticket_key(ticket));
    for meter in meters {
        call.key(meter_key(meter));
    }
    call.arg(format!("{ticket:032x}"));
    call
}

/// Words without an address, which an error of Redis itself may hold.
fn words(error: &RedisError) -> String {
    error.code().unwrap_or(error.category()).to_owned()
}

fn unreachable(error: RedisError) -> SharedLedgerError {
    SharedLedgerError::Unreachable(words(&error))
}

/// Whether the command is to blame, or the connection and whoever is behind it.
fn failed(error: RedisError) -> SharedLedgerError {
    let of_the_command = match error.kind() {
        ErrorKind::UnexpectedReturnType => true,
        ErrorKind::Server(kind) => {
            matches!(kind, ServerErrorKind::ResponseError | ServerErrorKind::CrossSlot)
        }
        _ => error.code() == Some("WRONGTYPE"),
    };
    if of_the_command { SharedLedgerError::Refused(words(&error)) } else { unreachable(error) }
}

fn verdict(answer: &[i64], meters: usize) -> Option<Verdict> {
    let [refused, wait, rest @ ..] = answer else { return None };
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let readings: Vec<_> = rest
        .chunks_exact(2)
        .map(|pair| Reading { used: number(pair[0]), bucket: 0, resets_in_ms: number(pair[1]) })
        .collect();
    if readings.len() != meters {
        return None;
    }
    let meter = usize::try_from(*refused).ok()?.checked_sub(1);
    Some(match meter {
        None => Verdict::Granted(readings),
        Some(meter) if meter < meters => {
            Verdict::Refused { meter, wait_ms: u64::try_from(*wait).ok(), readings }
        }
        Some(_) => return None,
    })
}

#[async_trait]
impl SharedLedger for RedisLedger {
    async fn reserve(
        &self,
        ticket: u128,
        meters: &[Meter],
        amounts: &Amounts,
    ) -> Result<Verdict, SharedLedgerError> {
        let connection = self.connection().await.map_err(unreachable)?;
        let mut call = invocation(&self.reserve, ticket, meters);
        call.arg(TICKET_S).arg(LEASE_MS);
        for meter in meters {
            let (length, reach) = bucket(meter.span);
            call.arg(length).arg(reach).arg(meter.limit).arg(amounts.of(meter.measure));
        }
        let reserve = || {
            let (call, mut connection) = (&call, connection.clone());
            async move { call.invoke_async::<Vec<i64>>(&mut connection).await }
        };
        let answer = match reserve().await {
            Err(error) if error.is_unrecoverable_error() => {
                // Whether it was counted is not known; what was is taken back.
                let nothing = Amounts::default();
                let settlement =
                    Settlement { ticket, meters: meters.to_vec(), reserved: *amounts, spent: nothing };
                self.settle(&[settlement]).await?;
                reserve().await
            }
            answer => answer,
        };
        let answer = answer.map_err(failed)?;
        verdict(&answer, meters.len())
            .ok_or_else(|| SharedLedgerError::Refused("an answer of another shape".to_owned()))
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<u64, SharedLedgerError> {
        let connection = self.connection().await.map_err(unreachable)?;
        let settle = |settlement: &Settlement| {
            let mut call = invocation(&self.settle, settlement.ticket, &settlement.meters);
            for meter in &settlement.meters {
                let (length, reach) = bucket(meter.span);
                let (before, after) =
                    (settlement.reserved.of(meter.measure), settlement.spent.of(meter.measure));
                call.arg(length).arg(reach).arg(before).arg(after);
            }
            send(&connection, call)
        };
        self.refused(join_all(settlements.iter().map(settle)).await).await
    }

    async fn renew(&self, held: &[(u128, Vec<Meter>)]) -> Result<u64, SharedLedgerError> {
        let connection = self.connection().await.map_err(unreachable)?;
        let renew = |(ticket, places): &(u128, Vec<Meter>)| {
            let mut call = invocation(&self.renew, *ticket, places);
            call.arg(LEASE_MS);
            send(&connection, call)
        };
        self.refused(join_all(held.iter().map(renew)).await).await
    }

    async fn ping(&self) -> Result<(), SharedLedgerError> {
        let mut connection = self.connection().await.map_err(unreachable)?;
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(unreachable)
    }
}

#[cfg(test)]
mod tests {
    use synapse_core::ledger::Scope;

    use super::*;

    fn meter(measure: Measure, span: Span, key: &str) -> Meter {
        Meter { scope: Scope::Key(key.into()), measure, span, limit: 1 }
    }

    #[test]
    fn every_counter_has_a_key_of_its_own_in_one_slot() {
        let minute = Span::Sliding(60_000);
        let keys = [
            meter_key(&meter(Measure::Requests, minute, "a")),
            meter_key(&meter(Measure::Requests, Span::Sliding(3_600_000), "a")),
            meter_key(&meter(Measure::TokensPerMinute, minute, "a")),
            meter_key(&meter(Measure::Requests, minute, "a}b")),
            meter_key(&Meter { scope: Scope::Team("a".into()), ..meter(Measure::Requests, minute, "a") }),
            ticket_key(1),
        ];
        let mut different = keys.to_vec();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), keys.len());
        assert!(keys.iter().all(|key| key.starts_with("synapse:{limits}:")));
    }

    #[test]
    fn an_answer_of_another_shape_is_no_verdict() {
        let reading = |used, resets_in_ms| Reading { used, bucket: 0, resets_in_ms };
        assert_eq!(verdict(&[0, 0, 5, 10], 1), Some(Verdict::Granted(vec![reading(5, 10)])));
        let refused = Verdict::Refused { meter: 0, wait_ms: None, readings: vec![reading(5, 10)] };
        assert_eq!(verdict(&[1, -1, 5, 10], 1), Some(refused));
        for answer in [&[][..], &[0], &[0, 0], &[0, 0, 5], &[2, 0, 5, 10], &[0, 0, 5, 10, 6, 7]] {
            assert_eq!(verdict(answer, 1), None, "{answer:?}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_repeated() {
        let Err(error) = RedisLedger::new(&"http://:hush@host".to_owned().into()) else { panic!("accepted") };
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
