//! Callers who leave, at any stage of their request: the engine learns of it at once, and nothing of
//! them stays behind.

use std::{collections::HashMap, fs, time::Duration};

use hyper::{Method, header::HeaderValue};
use synapse_simulator::{Behaviour, InterruptionKind, Outcome};
use synapse_testkit::{Config, Engine, Events, Gateway, KEY};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    figures::{Figure, at_scale},
    resident_mib,
    traffic::{percentile, plain, streamed},
};
use crate::start::gateway;

const PATH: &str = "/v1/chat/completions";

/// Where a request stands when its caller leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Its head or its body is not complete.
    Sending,
    /// The engine has it and is silent.
    Silent,
    /// The engine has sent a head and works on the prompt.
    Prompt,
    /// Content has come, and no more comes.
    MidStream,
    /// The engine works on a reply in one piece.
    Plain,
}

pub(super) const STAGES: [Stage; 5] =
    [Stage::Sending, Stage::Silent, Stage::Prompt, Stage::MidStream, Stage::Plain];

impl Stage {
    fn behave(self, behaviour: &mut Behaviour) {
        let works = matches!(self, Self::Prompt | Self::Plain);
        behaviour.ttft = Duration::from_secs(if works { 3600 } else { 0 });
        behaviour.hang_before_head = self == Self::Silent;
        let stall = Behaviour::default().interrupted(4, InterruptionKind::Stall).interruption;
        behaviour.interruption = stall.filter(|_| self == Self::MidStream);
    }
}

/// Brings one request to its stage, says so, and leaves when told to; the moment in which it left.
fn come_and_go(
    gateway: &Gateway,
    stage: Stage,
    id: String,
    there: mpsc::UnboundedSender<()>,
    leave: oneshot::Receiver<()>,
) -> impl Future<Output = (String, std::time::Instant)> + use<> {
    let (client, address) = (gateway.client(), gateway.address());
    let body = if stage == Stage::Plain { plain() } else { streamed() }.to_string();
    let value = HeaderValue::from_str(&id).expect("an identifier");
    async move {
        if stage == Stage::Sending {
            let whole = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n");
            let promised = format!("{whole}content-length: {}\r\n\r\n{{\"model\":", body.len());
            let begun = if id.ends_with('0') { whole } else { promised };
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(begun.as_bytes()).await.expect("the gateway listens");
            there.send(()).expect("somebody waits");
            leave.await.expect("a word to leave");
            let left = std::time::Instant::now();
            drop(stream);
            return (id, left);
        }
        let mut request = client.request(Method::POST, PATH, body);
        request.headers_mut().insert("x-request-id", value);
        let mut connection = client.connect().await;
        let stays = async {
            let head = connection.send(request).await.expect("a head");
            assert_eq!((stage, head.status().as_u16()), (Stage::MidStream, 200), "nobody answers yet");
            let mut stream = Events::new(head, connection);
            stream.until("content").await;
            there.send(()).expect("somebody waits");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stays => {}
            told = leave => told.expect("a word to leave"),
        }
        // What `stays` holds has been dropped: the connection is closing.
        (id, std::time::Instant::now())
    }
}

/// Lets callers leave at this stage, one after the other; how long the engine did not know of those
/// that had reached it.
pub(super) async fn leave(engine: &Engine, gateway: &Gateway, stage: Stage, callers: u64) -> Vec<Duration> {
    let (before, seen) = (engine.counters(), engine.requests().len());
    engine.update(|behaviour| stage.behave(behaviour));
    let (there, mut arrived) = mpsc::unbounded_channel();
    let (mut tasks, mut words) = (JoinSet::new(), Vec::new());
    for number in 0..callers {
        let (word, leave) = oneshot::channel();
        words.push(word);
        let id = format!("{stage:?}-{}-{number}", before.received);
        tasks.spawn(come_and_go(gateway, stage, id, there.clone(), leave));
    }
    if matches!(stage, Stage::Sending | Stage::MidStream) {
        for _ in 0..callers {
            arrived.recv().await;
        }
    } else {
        engine.until(|counters| counters.received == before.received + callers).await;
    }
    for word in words {
        word.send(()).expect("the caller waits");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let left: HashMap<String, std::time::Instant> = tasks.join_all().await.into_iter().collect();
    if stage == Stage::Sending {
        return Vec::new();
    }
    engine.until(|counters| counters.aborted == before.aborted + callers).await;
    let calls = engine.requests().split_off(seen);
    let unknown = calls.iter().filter(|call| call.outcome == Outcome::Aborted).map(|call| {
        let id = call.headers["x-request-id"].to_str().expect("an identifier");
        call.ended_at.expect("an end").saturating_duration_since(left[id])
    });
    unknown.collect()
}

/// Open sockets of a process, where the system tells. Files are the business of its journal and its database, which
/// open some when they need them.
fn sockets(pid: u32) -> Option<usize> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let leads_to = open.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    Some(leads_to.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
}

#[tokio::test]
async fn the_engine_learns_at_once_of_a_caller_who_leaves() {
    let callers = at_scale(200, 10);
    let options = synapse_simulator::Options { record: 100_000, ..Engine::options("m") };
    let engine = Engine::start("one", options).await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    // What the first of a kind need stays; what each needs does not.
    let mut delays = Vec::new();
    for stage in STAGES {
        leave(&engine, &gateway, stage, callers).await;
    }
    gateway.metric("synapse_requests_in_flight", &[], |open| open == 0.0).await;
    let (memory, files) = (resident_mib(gateway.pid()), sockets(gateway.pid()));
    for stage in STAGES {
        delays.extend(leave(&engine, &gateway, stage, callers).await);
    }
    assert_eq!(delays.len() as u64, 4 * callers, "the engine learns of all that reached it");
    gateway.metric("synapse_requests_in_flight", &[], |open| open == 0.0).await;
    Figure {
        key: "2b-disconnects",
        test: "the_engine_learns_at_once_of_a_caller_who_leaves",
        promise: "Callers leave while they send, before the head, during the prompt, in mid-stream or waiting for a plain reply: the engine learns of all that reached it",
        measured: percentile(delays.iter().copied(), 0.99).as_secs_f64() * 1000.0,
        unit: format!("ms (p99 of {}, none missed)", delays.len()),
        limit: 250.0,
    }
    .hold();
    if let Some((before, after)) = memory.zip(resident_mib(gateway.pid())) {
        Figure {
            key: "2c-disconnects-memory",
            test: "the_engine_learns_at_once_of_a_caller_who_leaves",
            promise: "… and nothing of them stays in memory",
            measured: (after - before).max(0.0),
            unit: format!("MiB more after {} callers who left than after as many before", 5 * callers),
            limit: 2.0,
        }
        .hold();
    }
    if let Some(before) = files {
        let left = gateway
            .until("sockets to be closed", async || sockets(gateway.pid()).filter(|now| *now <= before));
        left.await;
    }
}
