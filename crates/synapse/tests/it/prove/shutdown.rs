//! Going down under load.

use std::time::Duration;

use synapse_testkit::{Config, Engine};
use tokio::{task::JoinSet, time::Instant};

use super::{
    figures::{Figure, at_scale, for_seconds},
    traffic::{Sample, Traffic, plain},
};
use crate::start::gateway;

/// What becomes of a request that comes while the gateway goes down.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Served,
    /// It was told that the gateway goes down.
    Told,
    /// Nobody listened any more.
    NotTaken,
    /// It was taken and lost.
    Lost,
}

fn fate(sample: &Sample) -> Fate {
    match &sample.answer {
        _ if sample.is_served() => Fate::Served,
        Ok(answer) if answer.refusal().2 == "shutting_down" => Fate::Told,
        Err(error) if error.starts_with("no connection") => Fate::NotTaken,
        _ => Fate::Lost,
    }
}

#[tokio::test]
async fn a_shutdown_finishes_every_open_stream() {
    let streams = at_scale(200, 10);
    let rest = for_seconds(20, 3);
    let engine = Engine::serving("one", "m").await;
    let mut gateway = gateway(&Config::with(&[&engine]).set("/server/drain_grace_s", 30)).await;
    // Streams that end one after the other, the last well within the grace period.
    let mut open = JoinSet::new();
    for number in 1..=streams {
        engine.update(|behaviour| {
            behaviour.tokens = 40;
            behaviour.itl = (rest / 40).mul_f64(0.25 + 0.75 * number as f64 / streams as f64);
        });
        let client = gateway.client();
        open.spawn(async move { client.open("m").await.finish().await.is_done() });
        engine.until(|counters| counters.received == number).await;
    }
    engine.update(|behaviour| (behaviour.tokens, behaviour.itl) = (4, Duration::from_millis(5)));
    let traffic = Traffic::new(&gateway, 100, for_seconds(6, 1), plain()).run();
    let going_down = async {
        tokio::time::sleep(for_seconds(3, 1) / 2).await;
        let in_flight = engine.counters().in_flight;
        assert!(in_flight >= streams, "{in_flight} of {streams} streams are open");
        gateway.terminate();
        Instant::now()
    };
    let (samples, told) = tokio::join!(traffic, going_down);
    let cut = open.join_all().await.into_iter().filter(|is_done| !is_done).count();
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(told.elapsed() <= Duration::from_secs(31), "{:?}", told.elapsed());
    let count = |wanted| samples.iter().filter(|sample| fate(sample) == wanted).count();
    for lost in samples.iter().filter(|sample| fate(sample) == Fate::Lost).take(5) {
        eprintln!("lost: {}", lost.line());
    }
    let lost = count(Fate::Lost);
    Figure {
        key: "3-shutdown",
        test: "a_shutdown_finishes_every_open_stream",
        promise: "SIGTERM with open streams and new requests: each stream reaches its end, no request that was taken is lost, and the process exits with 0",
        measured: (cut + lost) as f64,
        unit: format!(
            "lost of {streams} streams and {} requests ({} served, {} told to come back, {} came after the end)",
            samples.len(),
            count(Fate::Served),
            count(Fate::Told),
            count(Fate::NotTaken)
        ),
        limit: 0.0,
    }
    .hold();
}
