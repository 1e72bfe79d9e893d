//! How many entries of the audit log a database takes in a second: `append URL [ENTRIES] [BATCH]`.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a measurement prints, and fails aloud")]

use std::{
    env,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use synapse_core::{
    audit::{
        canonical::decode,
        entry::{Entry, EntryKind},
        stretch::Stretch,
    },
    store::audit::AuditFilter,
};
use synapse_store::place::Place;
use uuid::Uuid;

/// The closing record of an ordinary request.
fn entry(seq: u64) -> Entry {
    let text = |text: &str| Some(text.into());
    Entry {
        request: Some(Uuid::now_v7().simple().to_string().into()),
        key: Some(format!("AbCd{:04}", seq % 200).into()),
        team: Some(format!("team-{}", seq % 20).into()),
        source: text("10.1.2.0/24"),
        route: text("/v1/chat/completions"),
        operation: text("chat"),
        model_asked: text("llama3.3-70b"),
        model_served: text("llama3.3:70b-instruct-q4_K_M"),
        backend: text("ollama-berlin-3"),
        zone: text("on_prem"),
        key_class: text("internal"),
        data_class: text("internal"),
        policy: text("cloud"),
        policy_version: text("00112233"),
        digest_key: text("team-epoch-7"),
        request_digest: Some([seq as u8; 32].map(|byte| byte ^ (seq >> 8) as u8)),
        reply_digest: Some([(seq >> 4) as u8; 32]),
        request_bytes: Some(2300),
        reply_bytes: Some(4100),
        tokens_in: Some(500),
        tokens_out: Some(900),
        cost: Some(1_200_000),
        attempts: Some(1),
        stream: Some(1),
        outcome: text("completed"),
        status: Some(200),
        finish_reason: text("stop"),
        first_token_us: Some(210_000),
        duration_us: Some(4_200_000),
        overhead_us: Some(310),
        timings: text(r#"{"auth":12,"limits":8,"inspect":190,"route":5,"connect":60}"#),
        ..Entry::new(EntryKind::RequestClosed, Timestamp::now())
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = env::args().skip(1);
    let url = args.next().expect("the URL of a database");
    let total: u64 = args.next().map_or(20_000, |text| text.parse().expect("how many"));
    let batch: usize = args.next().map_or(500, |text| text.parse().expect("how many at once"));
    let store = Place::from_url(&url.into()).expect("a URL").open().await.expect("a store");
    let chain = Uuid::now_v7();
    let rate = |took: Duration| (total as f64 / took.as_secs_f64()) as u64;
    let mut took = Duration::ZERO;
    for first in (0..total).step_by(batch) {
        let mut stretch = Stretch::new(chain);
        for seq in first..total.min(first + batch as u64) {
            stretch.push(seq, [1; 32], [2; 32], entry(seq).values());
        }
        let start = Instant::now();
        store.append_entries(stretch.into()).await.expect("appended");
        took += start.elapsed();
    }
    println!("appended {} entries a second, {batch} at once", rate(took));
    let start = Instant::now();
    let mut from = 0;
    while let Some(last) = store.read_chain(chain, from, 5000).await.expect("entries").last() {
        from = last + 1;
    }
    println!("read {} entries a second", rate(start.elapsed()));
    let any = AuditFilter::default;
    let team = || Some("team-7".into());
    let middle = store.read_chain(chain, total / 2, 1).await.expect("an entry");
    let before = middle.iter().find_map(|(_, standing)| {
        let (.., entry) = decode(standing?.canonical).ok()?;
        Some((entry.at, entry.id))
    });
    for (what, filter) in [
        ("newest", any()),
        ("newest of a team", AuditFilter { team: team(), ..any() }),
        ("newest of a key", AuditFilter { key: Some("AbCd0007".into()), ..any() }),
        ("newest of a model", AuditFilter { model: Some("llama3.3-70b".into()), ..any() }),
        ("of a team from the middle on", AuditFilter { team: team(), before, ..any() }),
        ("failed", AuditFilter { outcome: Some("failed".into()), ..any() }),
        (
            "of a request that there is not",
            AuditFilter { request: Some("none".into()), accepted: true, ..any() },
        ),
        ("of a team with a digest", AuditFilter { team: team(), digest: Some([0xEE; 32]), ..any() }),
    ] {
        let start = Instant::now();
        let found = store.list_entries(&filter, 50).await.expect("a list").len();
        println!("{found} {what} in {:?}", start.elapsed());
    }
    store.close().await;
}
