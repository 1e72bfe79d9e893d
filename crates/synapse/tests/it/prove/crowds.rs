//! Crowds: more requests than can be served, callers who never read, sockets that drip.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use synapse_simulator::Options;
use synapse_testkit::{Config, Engine, Gateway, KEY, Script};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use super::{
    figures::{Figure, at_scale, for_seconds},
    resident_mib,
    traffic::{Sample, Traffic, failed, percentile, plain, streamed},
};
use crate::start::gateway;

const PATH: &str = "/v1/chat/completions";

/// The most that a process has ever had resident in MiB, where the system tells.
fn peak_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[tokio::test]
async fn five_times_too_much_is_served_as_far_as_it_can_be() {
    // Two engines that serve 80 requests a second together.
    let (slots, service, time) = (8, Duration::from_millis(200), for_seconds(60, 2));
    let mut engines = Vec::new();
    for name in ["one", "two"] {
        let options = Options { slots: Some(slots), record: 0, ..Engine::options("m") };
        engines.push(Engine::start(name, options).await.that(|behaviour| behaviour.ttft = service));
    }
    let bearable = f64::from(slots) * engines.len() as f64 / service.as_secs_f64();
    let config = Config::with(&engines.iter().collect::<Vec<_>>())
        .set("/backends/0/max_in_flight", slots)
        .set("/backends/1/max_in_flight", slots)
        .set("/routing/queue", json!({"max_wait_s": 2}));
    let gateway = gateway(&config).await;
    let before = resident_mib(gateway.pid());
    let samples = Traffic::new(&gateway, 5 * bearable as u64, time, plain()).run().await;
    let (served, refused): (Vec<Sample>, Vec<Sample>) = samples.into_iter().partition(Sample::is_served);
    let is_told =
        |sample: &&Sample| sample.answer.as_ref().is_ok_and(|answer| answer.refusal().2 == "overloaded");
    assert_eq!(refused.iter().filter(is_told).count(), refused.len(), "the others are told why");
    for engine in &engines {
        assert_eq!(engine.counters().peak_running, u64::from(slots), "nothing waits in the engine");
    }
    let in_time = served.iter().filter(|sample| sample.over() <= time).count();
    Figure {
        key: "5a-goodput",
        test: "five_times_too_much_is_served_as_far_as_it_can_be",
        promise: "Five times as many requests come as the engines can serve: the part of their capacity that is lost",
        measured: (1.0 - in_time as f64 / (bearable * time.as_secs_f64())) * 100.0,
        unit: format!(
            "% of {bearable} requests a second ({} served, {:.0} ms at most; {} refused)",
            served.len(),
            milliseconds(percentile(served.iter().map(|sample| sample.took), 1.0)),
            refused.len()
        ),
        limit: 10.0,
    }
    .hold();
    Figure {
        key: "5b-overload-refusal",
        test: "five_times_too_much_is_served_as_far_as_it_can_be",
        promise: "… while those who cannot be served know it at once",
        measured: milliseconds(percentile(refused.iter().map(|sample| sample.took), 0.99)),
        unit: format!(
            "ms (p99 of refusals; the slowest took {:.0} ms)",
            milliseconds(percentile(refused.iter().map(|sample| sample.took), 1.0))
        ),
        limit: 100.0,
    }
    .hold();
    if let Some((before, peak)) = before.zip(peak_mib(gateway.pid())) {
        Figure {
            key: "5c-overload-memory",
            test: "five_times_too_much_is_served_as_far_as_it_can_be",
            promise: "… and memory stays bounded",
            measured: peak - before,
            unit: "MiB more at the peak than before".to_owned(),
            limit: 32.0,
        }
        .hold();
    }
}

/// The gaps between the events of one stream of this model.
async fn gaps(gateway: &Gateway, model: &str) -> Vec<Duration> {
    let mut stream = gateway.client().open(model).await;
    let mut gaps = Vec::new();
    stream.until("content").await;
    let mut last = Instant::now();
    while let Some(event) = stream.next().await {
        gaps.push(last.elapsed());
        last = Instant::now();
        if event.ends_with("[DONE]") {
            return gaps;
        }
    }
    panic!("the stream was cut after {} events", gaps.len());
}

/// Sends a request and never reads.
async fn never_reads(gateway: &Gateway) -> TcpStream {
    let body = streamed().to_string();
    let length = body.len();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the gateway takes a request");
    stream
}

#[tokio::test]
async fn callers_who_never_read_cost_little_and_delay_nobody() {
    // Far more than what the system keeps for two sockets.
    let (callers, reply) = (at_scale(2_000, 20), 10 << 20);
    let delta = json!({"choices": [{"index": 0, "delta": {"content": "word ".repeat(32)}}]});
    let event = format!("data: {delta}\n\n");
    let endless = Script::streaming(&event.repeat(reply / event.len())).await;
    let tokens = if callers > 100 { 300 } else { 20 };
    let other = Engine::start("other", Options { tokens, ..Engine::options("c") }).await;
    let other = other.paced(Duration::from_millis(20));
    let config = Config::with(&[&other])
        .backend_at("endless", "openai", &endless.url())
        .model("m", &[json!({"backend": "endless", "model": "m"})]);
    let gateway = crate::start::setup().without_discovery().start(&config).await;
    gateway
        .until("the other engine", async || (gateway.client().chat("c").await.status == 200).then_some(()))
        .await;
    let calm = percentile(gaps(&gateway, "c").await.into_iter(), 0.99);
    let before = resident_mib(gateway.pid());
    let mut held = Vec::new();
    for _ in 0..callers {
        held.push(never_reads(&gateway).await);
    }
    gateway.until("all of them", async || (endless.calls() as u64 == callers).then_some(())).await;
    let crowded = percentile(gaps(&gateway, "c").await.into_iter(), 0.99);
    let open = gateway.metrics().await.sum("synapse_requests_in_flight", &[]);
    assert_eq!(open, callers as f64, "they are still there");
    if let Some((before, peak)) = before.zip(peak_mib(gateway.pid())) {
        Figure {
            key: "5d-unread",
            test: "callers_who_never_read_cost_little_and_delay_nobody",
            promise: "Callers ask for long streams and never read: what each costs in memory",
            measured: (peak - before) * 1024.0 / callers as f64,
            unit: format!("KiB at the peak ({callers} callers, {} MiB for each)", reply >> 20),
            limit: 256.0,
        }
        .hold();
    }
    Figure {
        key: "5e-unread-others",
        test: "callers_who_never_read_cost_little_and_delay_nobody",
        promise: "… and how much later the tokens of another stream come",
        measured: milliseconds(crowded.saturating_sub(calm)),
        unit: format!(
            "ms (p99 of the time between two tokens: {:.1} ms before, {:.1} ms now)",
            milliseconds(calm),
            milliseconds(crowded)
        ),
        limit: 20.0,
    }
    .hold();
    drop(held);
    gateway.metric("synapse_requests_in_flight", &[], |open| open == 0.0).await;
}

/// A head that never ends, a byte at a time.
const HEAD: &str = "x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What became of a connection whose head dripped: how long it was borne, and whether it was told.
struct ThrownOut {
    after: Duration,
    is_told: bool,
}

/// Sends a head a byte at a time, or a body, and begins anew when thrown out; goes on until dropped.
async fn drips(address: SocketAddr, is_head: bool, pause: Duration, ends: mpsc::UnboundedSender<ThrownOut>) {
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n");
    let (at_once, drop_by_drop) = if is_head {
        (head, HEAD.to_owned())
    } else {
        (head + "content-length: 1000\r\n\r\n", format!("{{\"model\":{}", " ".repeat(900)))
    };
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        let began = Instant::now();
        let (mut from, mut to) = stream.split();
        let dripping = async {
            to.write_all(at_once.as_bytes()).await?;
            for byte in drop_by_drop.bytes() {
                tokio::time::sleep(pause).await;
                to.write_all(&[byte]).await?;
            }
            std::future::pending::<std::io::Result<()>>().await
        };
        let mut told = Vec::new();
        tokio::select! {
            biased;
            _ended = from.read_to_end(&mut told) => {}
            _broken = dripping => {}
        }
        if is_head {
            let _nobody_asks =
                ends.send(ThrownOut { after: began.elapsed(), is_told: told.starts_with(b"HTTP/1.1 408 ") });
        }
    }
}

#[tokio::test]
async fn dripping_sockets_harm_nobody() {
    let (sockets, time) = (at_scale(5_000, 50), for_seconds(30, 2));
    let engine = Engine::serving("one", "m").await.paced(Duration::from_millis(2));
    let gateway = gateway(&Config::with(&[&engine])).await;
    let (ends, mut thrown_out) = mpsc::unbounded_channel();
    let mut dripping = JoinSet::new();
    for number in 0..sockets {
        dripping.spawn(drips(gateway.address(), number % 2 == 0, Duration::from_secs(1), ends.clone()));
    }
    gateway.metric("synapse_connections_open", &[], |open| open >= sockets as f64).await;
    let samples = Traffic::new(&gateway, at_scale(200, 50), time, streamed()).run().await;
    let open = gateway.metrics().await.sum("synapse_connections_open", &[]);
    dripping.shutdown().await;
    Figure {
        key: "5f-dripping",
        test: "dripping_sockets_harm_nobody",
        promise: "Thousands of sockets send heads and bodies a byte a second: no request of others fails",
        measured: failed(&samples) as f64,
        unit: format!(
            "failed of {} streams ({open} connections at the end; p99 {:.0} ms)",
            samples.len(),
            milliseconds(percentile(samples.iter().map(|sample| sample.took), 0.99))
        ),
        limit: 0.0,
    }
    .hold();
    let mut ends = Vec::new();
    while let Ok(end) = thrown_out.try_recv() {
        ends.push(end);
    }
    assert!(ends.iter().all(|end| end.is_told), "they are told why");
    Figure {
        key: "5g-dripping-end",
        test: "dripping_sockets_harm_nobody",
        promise: "… and a head that is not there in time ends its connection",
        measured: percentile(ends.iter().map(|end| end.after), 1.0).as_secs_f64(),
        unit: format!("s at most, with a 408 ({} of them)", ends.len()),
        limit: 11.0,
    }
    .hold();
}
