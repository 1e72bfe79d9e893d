//! Much at once through one worker: streams, large downloads, large uploads, and callers who do not
//! read. Each body comes whole, and none stops another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::{Method, Response, body::Incoming};
use serde_json::json;
use sha2::{Digest, Sha256};
use synapse_testkit::{Client, Config, Connection, Gateway, within};
use tokio::task::JoinSet;

use super::{
    exact::{Aside, Exact, RECORDING, hex, noise, part, recording},
    figures::{Figure, at_scale, for_seconds},
    traffic::percentile,
};
use crate::{
    start::{self, gateway},
    tunnel::{KEY, open_to_workers, until_listed},
};

const TEST: &str = "what_crosses_a_worker_comes_whole_and_stops_nothing_else";
/// The time between two tokens of a stream.
const PACE: Duration = Duration::from_millis(100);
const MIB: usize = 1024 * 1024;
/// What callers ask for who do not read: more than is kept for them on the way.
const UNREAD: usize = 10 * MIB;

/// What goes on beside the streams, in this order. The numbers between are for what does not count.
#[derive(Clone, Copy)]
enum Beside {
    Nothing = 1,
    Download = 3,
    Upload = 5,
    Stalled = 7,
}

/// The time between what came of one stream, by what went on beside it.
type Gaps = [Vec<Duration>; 9];

/// Reads a stream to its end; its digest, and its gaps.
async fn follow(client: Client, seed: u64, beside: Arc<AtomicUsize>) -> ([u8; 32], Gaps) {
    let body =
        json!({"model": "m", "stream": true, "seed": seed, "messages": [{"role": "user", "content": "go"}]});
    let request = client.request(Method::POST, "/v1/chat/completions", body.to_string());
    let mut connection = client.connect().await;
    let mut incoming = connection.send(request).await.expect("a head").into_body();
    let (mut digest, mut gaps) = (Sha256::new(), Gaps::default());
    let mut last = (beside.load(Ordering::Relaxed), Instant::now());
    while let Some(frame) = incoming.frame().await {
        digest.update(frame.expect("an unbroken stream").into_data().unwrap_or_default());
        let now = (beside.load(Ordering::Relaxed), Instant::now());
        // A gap belongs to what it began beside, and to all that it has outlasted.
        let gap = now.1 - last.1;
        gaps[last.0..now.0.max(last.0 + 1)].iter_mut().for_each(|gaps| gaps.push(gap));
        last = now;
    }
    (digest.finalize().into(), gaps)
}

/// Asks for a part of the noise, and has its head.
async fn ask(client: &Client, part: &str) -> (Connection, Response<Incoming>) {
    let body = json!({"model": "m", "voice": "v", "input": part});
    let request = client.request(Method::POST, "/v1/audio/speech", body.to_string());
    let mut connection = client.connect().await;
    let response = connection.send(request).await.expect("a head");
    assert_eq!(response.status(), 200);
    (connection, response)
}

/// Whether the rest of an answer is exactly this.
async fn is_exactly(response: Response<Incoming>, mut expected: Bytes) -> bool {
    let mut body = response.into_body();
    while let Some(frame) = within("more of a body", body.frame()).await {
        let came = frame.expect("a whole body").into_data().unwrap_or_default();
        if !expected.starts_with(&came) {
            return false;
        }
        expected.advance(came.len());
    }
    expected.is_empty()
}

/// Downloads all of the noise again and again; how often, and how often it was not the same.
async fn download(client: Client, noise: Bytes, time: Duration) -> (u64, u64) {
    let (began, mut done, mut wrong) = (Instant::now(), 0, 0);
    while done == 0 || began.elapsed() < time {
        let (_connection, response) = ask(&client, &format!("0 {}", noise.len())).await;
        wrong += u64::from(!is_exactly(response, noise.clone()).await);
        done += 1;
    }
    (done, wrong)
}

/// Uploads this form again and again; how often, and how often not the same came to the engine.
async fn upload(client: Client, form: Bytes, time: Duration) -> (u64, u64) {
    let digest = hex(Sha256::digest(&form));
    let (began, mut done, mut wrong) = (Instant::now(), 0, 0);
    while done == 0 || began.elapsed() < time {
        let mut request = client.request(Method::POST, "/v1/audio/transcriptions", form.clone());
        request.headers_mut().insert("content-type", RECORDING.parse().expect("a value"));
        let answer = client.send(request).await;
        wrong += u64::from(answer.status != 200 || answer.json()["text"] != *digest);
        done += 1;
    }
    (done, wrong)
}

/// Streams that go on through one worker, and what is measured beside them.
struct Crossing {
    engine: Exact,
    gateway: Gateway,
    noise: Bytes,
    beside: Arc<AtomicUsize>,
    aside: Aside,
    wrong: u64,
}

impl Crossing {
    /// Does something beside the streams, and lets them be for a moment.
    async fn during<T>(&self, beside: Beside, work: impl Future<Output = T>) -> T {
        self.beside.store(beside as usize, Ordering::Relaxed);
        let done = work.await;
        self.beside.store(beside as usize + 1, Ordering::Relaxed);
        tokio::time::sleep(3 * PACE).await;
        done
    }

    /// Moves large bodies beside the streams, as `moving` does; how many.
    async fn carry(
        &mut self,
        beside: Beside,
        moving: impl Future<Output = (u64, u64)> + Send + 'static,
    ) -> u64 {
        let (done, wrong) = self.during(beside, self.aside.run(moving)).await;
        self.wrong += wrong;
        done
    }

    /// Lets callers ask for much and read nothing for a while; at the end they have lost nothing.
    async fn stall(&mut self, callers: usize, length: usize, time: Duration) {
        let asked: Vec<String> = (0..callers).map(|number| format!("{} {length}", number * 1000)).collect();
        let before = self.engine.spoken();
        let mut stalled = Vec::new();
        for wanted in &asked {
            stalled.push(ask(&self.gateway.client(), wanted).await);
        }
        let mut seen = before;
        self.gateway
            .until("all of them to be held", async || {
                let spoken = self.engine.spoken();
                tokio::time::sleep(Duration::from_millis(300)).await;
                let is_held = spoken > before && spoken == std::mem::replace(&mut seen, spoken);
                is_held.then_some(())
            })
            .await;
        assert!(self.engine.spoken() - before < (callers * length) as u64, "the engine has to wait");
        self.during(Beside::Stalled, tokio::time::sleep(time)).await;
        for ((_connection, response), wanted) in stalled.into_iter().zip(&asked) {
            self.wrong += u64::from(!is_exactly(response, part(wanted, &self.noise)).await);
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A figure of how much larger the gaps are beside something.
fn hold_gaps(
    key: &'static str,
    promise: &'static str,
    beside: Beside,
    streams: &[([u8; 32], Gaps)],
    what: &str,
) {
    let p99 = |beside: Beside| {
        percentile(streams.iter().flat_map(|(_, gaps)| gaps[beside as usize].iter().copied()), 0.99)
    };
    let (calm, busy) = (p99(Beside::Nothing), p99(beside));
    Figure {
        key,
        test: TEST,
        promise,
        measured: busy.as_secs_f64() / calm.as_secs_f64(),
        unit: format!("× ({:.0} ms after {:.0} ms; {what})", milliseconds(busy), milliseconds(calm)),
        limit: 2.0,
    }
    .hold();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crosses_a_worker_comes_whole_and_stops_nothing_else() {
    let (streams, size, stalled) =
        (at_scale(1_000, 40), at_scale(50, 12) as usize * MIB, at_scale(64, 2) as usize);
    let noise = noise(1, size);
    let engine = Exact::start(noise.clone(), PACE);
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let _worker = start::worker(gateway.address(), &engine.url(), "w", KEY);
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    let beside = Arc::new(AtomicUsize::new(0));
    let mut open = JoinSet::new();
    for seed in 0..streams {
        open.spawn({
            let follow = follow(gateway.client(), seed, Arc::clone(&beside));
            async move { (seed, follow.await) }
        });
        // Not all in one moment, so that their tokens do not come in one moment either.
        tokio::time::sleep(PACE.mul_f64(10.0 / streams as f64)).await;
    }
    gateway.metric("synapse_requests_in_flight", &[], |open| open == streams as f64).await;

    let (client, form) = (gateway.client(), recording("m", &noise));
    let aside = Aside::new();
    let mut crossing = Crossing { engine, gateway, noise, beside, aside, wrong: 0 };
    let time = for_seconds(8, 1);
    crossing.during(Beside::Nothing, tokio::time::sleep(time)).await;
    let downloading = download(client.clone(), crossing.noise.clone(), time);
    let downloads = crossing.carry(Beside::Download, downloading).await;
    let uploads = crossing.carry(Beside::Upload, upload(client, form, time)).await;
    crossing.stall(stalled, UNREAD, time).await;
    crossing.engine.end();
    let mut ended = Vec::new();
    while let Some(stream) = within("a stream to end", open.join_next()).await {
        let (seed, (digest, gaps)) = stream.expect("a stream");
        crossing.wrong += u64::from(crossing.engine.digest(seed) != Some(digest));
        ended.push((digest, gaps));
    }
    crossing.gateway.metric("synapse_requests_in_flight", &[], |open| open == 0.0).await;
    let tokens: usize = ended.iter().flat_map(|(_, gaps)| gaps).map(Vec::len).sum();
    Figure {
        key: "9d-crossing",
        test: TEST,
        promise: "A thousand streams at once through one worker, with downloads and uploads of 50 MiB and callers who do not read beside them: each body has its SHA-256",
        measured: crossing.wrong as f64,
        unit: format!(
            "wrong of {streams} streams with {tokens} tokens, {downloads} downloads, {uploads} uploads and {stalled} replies that nobody read for {} s",
            time.as_secs()
        ),
        limit: 0.0,
    }
    .hold();
    hold_gaps(
        "9e-download",
        "… the 99th percentile of the time between two tokens while 50 MiB are downloaded beside them, again and again",
        Beside::Download,
        &ended,
        &format!("{downloads} downloads"),
    );
    hold_gaps(
        "9f-upload",
        "… while 50 MiB are uploaded, again and again",
        Beside::Upload,
        &ended,
        &format!("{uploads} uploads"),
    );
    hold_gaps(
        "9g-stalled",
        "… while callers have asked for much, and read nothing",
        Beside::Stalled,
        &ended,
        &format!("{stalled} callers"),
    );
}
