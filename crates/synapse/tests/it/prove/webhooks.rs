//! Webhooks whose receivers take messages and never say anything: requests do not notice.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use synapse_testkit::{Config, Engine, Gateway, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    figures::{Figure, at_scale, for_seconds},
    traffic::{Sample, Traffic, failed, percentile, plain},
};
use crate::start::gateway;

const TEST: &str = "receivers_that_hang_slow_no_request";
/// Webhooks, each of which has a message on its way.
const HOOKS: usize = 8;

/// A receiver of messages that answers none until it is told to.
struct Mute {
    address: SocketAddr,
    /// Whether it answers.
    answers: watch::Sender<bool>,
    /// Messages that it has taken and not answered.
    held: watch::Sender<usize>,
    _serving: JoinSet<()>,
}

impl Mute {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (answers, held) = (watch::Sender::new(false), watch::Sender::new(0));
        let mut serving = JoinSet::new();
        serving.spawn({
            let (answers, held) = (answers.clone(), held.clone());
            async move {
                let mut open = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    open.spawn(hold(stream, answers.subscribe(), held.clone()));
                }
            }
        });
        Self { address, answers, held, _serving: serving }
    }

    async fn holds(&self, count: usize) {
        let mut held = self.held.subscribe();
        within("messages to be held", held.wait_for(|held| *held == count)).await.expect("a receiver");
    }
}

async fn hold(mut stream: TcpStream, mut answers: watch::Receiver<bool>, held: watch::Sender<usize>) {
    let mut some = [0; 16 << 10];
    // What it says is nobody's business.
    let _message = stream.read(&mut some).await;
    held.send_modify(|held| *held += 1);
    drop(answers.wait_for(|answers| *answers).await);
    let _sent = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    held.send_modify(|held| *held -= 1);
}

fn p99(samples: &[Sample]) -> f64 {
    percentile(samples.iter().map(|sample| sample.took), 0.99).as_secs_f64() * 1000.0
}

/// Has one alert raised, which all webhooks are to be told of.
async fn raise(gateway: &Gateway) {
    assert_eq!(gateway.client_with("no-such-key").chat("m").await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_hang_slow_no_request() {
    let receiver = Mute::start().await;
    let hooks = (0..HOOKS).map(|number| {
        let url = format!("http://{}/{number}", receiver.address);
        json!({"name": format!("hook{number}"), "url": url, "format": "slack", "allow_private": true})
    });
    let engine =
        Engine::serving("one", "m").await.that(|behaviour| behaviour.ttft = Duration::from_millis(10));
    let config = Config::with(&[&engine])
        .set("/anomaly", json!({"rules": {"refused_keys": {"count": 1, "cool_down_m": 0}}}))
        .set("/alerts", json!({"webhooks": hooks.collect::<Vec<_>>()}));
    let gateway = gateway(&config).await;
    let (rounds, time) = (at_scale(20, 1), for_seconds(3, 1));
    let traffic = async |time| Traffic::new(&gateway, at_scale(400, 50), time, plain()).run().await;
    traffic(time).await;
    let (mut tails, mut served, mut lost) = (Vec::new(), 0, 0);
    let began = Instant::now();
    for round in 1..=rounds {
        // Half of it before and half of it after, so that what drifts is the same for both.
        let mut calm = traffic(time / 2).await;
        receiver.answers.send_replace(false);
        raise(&gateway).await;
        receiver.holds(HOOKS).await;
        let beside = traffic(time).await;
        lost += HOOKS.abs_diff(*receiver.held.borrow());
        receiver.answers.send_replace(true);
        let delivered = (round * HOOKS as u64) as f64;
        gateway
            .metric("synapse_webhook_deliveries_total", &[("result", "delivered")], |n| n == delivered)
            .await;
        calm.extend(traffic(time / 2).await);
        served += calm.len() + beside.len();
        lost += failed(&calm) + failed(&beside);
        tails.push(p99(&beside) / p99(&calm));
    }
    Figure {
        key: "79a-hooks-served",
        test: TEST,
        promise: "Eight receivers of alerts take their messages and do not answer: no request fails, and each message arrives once",
        measured: lost as f64,
        unit: format!("lost of {served} requests and {} messages, in {:.0} s", rounds * HOOKS as u64, began.elapsed().as_secs_f64()),
        limit: 0.0,
    }
    .hold();
    // What else this machine has to do falls into some of the rounds: those of the middle count.
    tails.sort_by(f64::total_cmp);
    let middle = &tails[tails.len() / 4..tails.len() - tails.len() / 4];
    let ratio = middle.iter().sum::<f64>() / middle.len() as f64;
    Figure {
        key: "79b-hooks-tail",
        test: TEST,
        promise: "… and the 99th percentile of all requests meanwhile, compared with the time in which nothing is owed",
        measured: (ratio - 1.0).max(0.0) * 100.0,
        unit: format!("% more (× {ratio:.3}, the middle half of {rounds} rounds by turns)"),
        limit: 1.0,
    }
    .hold();
}
