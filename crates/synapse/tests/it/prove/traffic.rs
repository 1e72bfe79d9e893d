//! Traffic that comes at its own rate, whatever becomes of it: requests are sent when they are due,
//! and times count from then. Connections are used again, so that sending costs little.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{Method, Request};
use serde_json::{Value, json};
use synapse_testkit::{Answer, Client, Connection, Gateway, Protocol};
use tokio::{task::JoinSet, time::Instant};

/// The end of a stream that is whole.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A streamed chat about nothing in particular.
pub(super) fn streamed() -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Say something."}]})
}

/// The same, in one piece.
pub(super) fn plain() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "Say something."}]})
}

/// What became of one request.
#[derive(Debug)]
pub(super) struct Sample {
    /// When it was due, from the beginning of the traffic.
    pub(super) due: Duration,
    /// How long after that it was over.
    pub(super) took: Duration,
    /// The answer, or why there is none.
    pub(super) answer: Result<Answer, String>,
}

impl Sample {
    /// Whether it was served whole.
    pub(super) fn is_served(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| {
            let is_stream = answer.header("content-type").starts_with("text/event-stream");
            answer.status == 200 && !answer.broken && (!is_stream || answer.body.ends_with(DONE))
        })
    }

    /// Whether it is a stream that ended with an error event after it had begun.
    pub(super) fn is_cut(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| {
            let is_stream = answer.header("content-type").starts_with("text/event-stream");
            answer.status == 200
                && is_stream
                && !answer.content().is_empty()
                && !answer.broken_by().is_empty()
        })
    }

    /// The status of the answer; 0 without one.
    pub(super) fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }

    /// The backend that served it; empty where none did.
    pub(super) fn backend(&self) -> &str {
        self.answer.as_ref().map_or("", |answer| answer.header("x-synapse-backend"))
    }

    /// When it was over, from the beginning of the traffic.
    pub(super) fn over(&self) -> Duration {
        self.due + self.took
    }

    /// One line for whoever wonders.
    pub(super) fn line(&self) -> String {
        let (due, took) = (self.due.as_secs_f64(), self.took.as_secs_f64());
        match &self.answer {
            Err(error) => format!("at {due:.2} s, after {took:.3} s: {error}"),
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                let tail: String =
                    text.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
                format!(
                    "at {due:.2} s, after {took:.3} s, {} by {:?} in {:?} attempts, broken: {}: …{tail}",
                    answer.status,
                    answer.header("x-synapse-backend"),
                    answer.header("x-synapse-attempts"),
                    answer.broken,
                )
            }
        }
    }
}

/// Requests at a rate.
pub(super) struct Traffic {
    client: Client,
    address: SocketAddr,
    per_second: u64,
    time: Duration,
    body: Box<dyn Fn(u64) -> Value + Send>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Traffic {
    /// So many of these a second for this time.
    pub(super) fn new(gateway: &Gateway, per_second: u64, time: Duration, body: Value) -> Self {
        Self::of(gateway, per_second, time, move |_| body.clone())
    }

    /// The same with a body of its own for each request, by its number.
    pub(super) fn of(
        gateway: &Gateway,
        per_second: u64,
        time: Duration,
        body: impl Fn(u64) -> Value + Send + 'static,
    ) -> Self {
        let (client, address) = (gateway.client(), gateway.address());
        Self { client, address, per_second, time, body: Box::new(body), idle: Arc::default() }
    }

    /// Sends all of it; what became of each request, in the order they were due.
    pub(super) async fn run(self) -> Vec<Sample> {
        let began = Instant::now();
        let count = self.time.as_millis() as u64 * self.per_second / 1000;
        let mut open = JoinSet::new();
        for number in 0..count {
            let due = Duration::from_nanos(number * 1_000_000_000 / self.per_second);
            tokio::time::sleep_until(began + due).await;
            let body = (self.body)(number).to_string();
            let request = self.client.request(Method::POST, "/v1/chat/completions", body);
            open.spawn(ask(self.address, Arc::clone(&self.idle), request, began, due));
        }
        let mut samples = open.join_all().await;
        samples.sort_by_key(|sample| sample.due);
        samples
    }
}

async fn ask(
    address: SocketAddr,
    idle: Arc<Mutex<Vec<Connection>>>,
    request: Request<http_body_util::Full<bytes::Bytes>>,
    began: Instant,
    due: Duration,
) -> Sample {
    let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let answer = async {
        let mut connection = match waiting {
            Some(connection) => connection,
            None => {
                Connection::open(address, Protocol::Http1).await.map_err(|e| format!("no connection: {e}"))?
            }
        };
        let answer = connection.ask(request).await.map_err(|error| format!("no answer: {error}"))?;
        if !answer.broken && answer.header("connection") != "close" {
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(answer)
    };
    let answer = answer.await;
    Sample { due, took: (began + due).elapsed(), answer }
}

/// The samples that were not served whole, the first of them on stderr.
pub(super) fn failed(samples: &[Sample]) -> usize {
    let failed: Vec<&Sample> = samples.iter().filter(|sample| !sample.is_served()).collect();
    for sample in failed.iter().take(10) {
        eprintln!("not served: {}", sample.line());
    }
    failed.len()
}

/// The share of these samples that a backend served, from 0 to 1.
pub(super) fn share<'a>(samples: impl Iterator<Item = &'a Sample>, backend: &str) -> f64 {
    let (mut all, mut its) = (0_u32, 0_u32);
    for sample in samples.filter(|sample| sample.is_served()) {
        all += 1;
        its += u32::from(sample.backend() == backend);
    }
    f64::from(its) / f64::from(all.max(1))
}

/// The time that this share of the samples stayed within.
pub(super) fn percentile(samples: impl Iterator<Item = Duration>, share: f64) -> Duration {
    let mut times: Vec<Duration> = samples.collect();
    times.sort();
    let last = times.len().saturating_sub(1);
    times.get((times.len() as f64 * share) as usize).or(times.get(last)).copied().unwrap_or_default()
}
