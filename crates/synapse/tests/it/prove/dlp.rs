//! Sensitive data: nothing of it passes however it is cut, nothing of it is written down, and looking for it
//! costs no time that anybody notices.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use synapse_dlp::{Direction, Policy, PolicySpec, Window, samples};
use synapse_testkit::{Config, Engine, Events, Gateway, Script};

use super::{
    figures::{Figure, at_scale},
    traffic::percentile,
};
use crate::{
    dlp::{
        card, named,
        replies::{arguments, content, events, for_replies, obedient, reasoning, received, streamed},
        token,
    },
    start::{gateway, saying, setup, with},
};

/// An account number of a German bank that does not exist, with the check digits that it would have.
fn iban() -> String {
    let account = "500105175407324931";
    let rest = format!("{account}131400").bytes().fold(0, |rest, b| (rest * 10 + u32::from(b - b'0')) % 97);
    format!("DE{:02}{account}", 98 - rest)
}

/// Texts with a secret each: of every format, a card, an account, and a private key.
fn secrets() -> Vec<(String, String)> {
    let told = |secret: String| (format!("it is {secret} as you know"), secret);
    let key = samples::others(5).swap_remove(0);
    let made = samples::formats(5).into_iter().chain([key]).map(|sample| (sample.text, sample.secret));
    made.chain([card(), iban()].map(told)).collect()
}

/// Whether so much of a secret is in a text that it helps anybody. Some have the name of their kind in them, as
/// the label has that stands for them.
fn shows(text: &str, secret: &str) -> bool {
    let parts = text.split("[REDACTED:").enumerate();
    let text: String = parts
        .map(
            |(number, part)| {
                if number == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) }
            },
        )
        .collect();
    secret.as_bytes().windows(10).any(|part| text.as_bytes().windows(10).any(|window| window == part))
}

#[tokio::test]
async fn no_cut_of_a_stream_lets_a_secret_pass() {
    let cloud = Policy::compile(PolicySpec::cloud()).expect("the policy");
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    // A few of the made-up ones look like words: what is no secret in a whole text is none in a stream.
    let known = |(text, secret): &(String, String)| {
        let start = text.find(secret.as_str()).expect("the secret");
        let found = cloud.scan(Direction::Prompt, text);
        found.iter().any(|finding| finding.range.start <= start && start + secret.len() <= finding.range.end)
    };
    let secrets: Vec<_> = secrets().into_iter().filter(known).collect();
    let (mut streams, mut leaks) = (0, 0);
    for (number, (text, secret)) in secrets.iter().enumerate() {
        let step = at_scale(1, text.len() as u64 / 2 + 1) as usize;
        for cut in (number % step..=text.len()).step_by(step) {
            let (head, tail) = text.split_at(cut);
            for delta in [content as fn(&str) -> Value, reasoning, arguments] {
                let answer = streamed(&gateway, &events(&[delta("so, "), delta(head), delta(tail)])).await;
                assert!(answer.is_done(), "{}", answer.text());
                streams += 1;
                leaks += u32::from(shows(answer.text(), secret) || shows(&received(&answer), secret));
            }
        }
    }
    Figure {
        key: "71-leaks",
        test: "no_cut_of_a_stream_lets_a_secret_pass",
        promise: "A reply is cut in two at every byte of a secret, in its text, its reasoning and the arguments of a tool: nothing of the secret passes",
        measured: f64::from(leaks),
        unit: format!("leaks in {streams} streams with {} secrets of all formats, cards, accounts and keys", secrets.len()),
        limit: 0.0,
    }
    .hold();
}

fn has_content(event: &str) -> bool {
    let event: Value = serde_json::from_str(event).unwrap_or_default();
    event["choices"][0]["delta"]["content"].as_str().is_some_and(|content| !content.is_empty())
}

/// When the events of a stream with content came, from its request on.
async fn arrivals(open: impl Future<Output = Events>) -> Vec<Duration> {
    let began = Instant::now();
    let mut events = open.await;
    let mut times = Vec::new();
    while let Some(event) = events.next().await {
        if has_content(&event) {
            times.push(began.elapsed());
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_holds_a_word_of_a_stream_at_most() {
    let interval = Duration::from_millis(at_scale(20, 2));
    let engine = Engine::serving("one", "m").await;
    let tokens = at_scale(400, 40) as u32;
    engine.update(|behaviour| (behaviour.tokens, behaviour.itl) = (tokens, interval));
    let searched = for_replies(json!({"*": "redact"}));
    let config = Config::with(&[&engine]);
    let plain = gateway(&config.clone().set("/dlp/enabled", false)).await;
    let searching = gateway(&config.set("/dlp/policies", json!([named("on_prem", searched)]))).await;
    for gateway in [&plain, &searching] {
        assert_eq!(gateway.client().chat("m").await.status, 200);
    }
    let (late, soon) = (searching.client(), plain.client());
    let (late, soon) = tokio::join!(arrivals(late.open("m")), arrivals(soon.open("m")));
    assert_eq!(late.len(), soon.len());
    let waits = late.iter().zip(&soon).map(|(late, soon)| late.saturating_sub(*soon));
    let wait = percentile(waits, 0.5);
    Figure {
        key: "72-delay",
        test: "a_search_holds_a_word_of_a_stream_at_most",
        promise: "A reply streams at a pace while it is searched: how much later than without that its events come",
        measured: wait.as_secs_f64() * 1000.0,
        unit: format!("ms (p50 of {tokens} tokens, one every {} ms)", interval.as_millis()),
        limit: interval.as_secs_f64() * 1000.0 + 1.0,
    }
    .hold();
    let held = held(&prose(at_scale(1 << 20, 1 << 12) as usize));
    Figure {
        key: "73-held",
        test: "a_search_holds_a_word_of_a_stream_at_most",
        promise: "… and how much of prose waits for what comes next",
        measured: held as f64,
        unit: "characters (p50, at tokens of four)".to_owned(),
        limit: 16.0,
    }
    .hold();
}

/// How many bytes wait in half of the moments of a stream of this text.
fn held(text: &str) -> usize {
    let policy = Policy::compile(PolicySpec::cloud()).expect("the policy");
    let mut window = Window::new(policy, Direction::Reply);
    let mut held = Vec::new();
    for piece in text.as_bytes().chunks(4).filter_map(|piece| std::str::from_utf8(piece).ok()) {
        window.push(piece);
        held.push(window.held());
    }
    held.sort_unstable();
    held[held.len() / 2]
}

fn prose(size: usize) -> String {
    const WORDS: &str = "the of and a to in is that for it as was with be by on not this have from or had they \
        which one you were all her there would their we him been has when government, development. question;";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = samples::Random(1);
    let mut text = String::new();
    while text.len() < size {
        text.push_str(words[random.below(words.len())]);
        text.push(' ');
    }
    text
}

/// Text with digits, tokens and letters beyond ASCII in nearly every word.
fn rich(size: usize) -> String {
    let mut random = samples::Random(2);
    let mut text = String::new();
    while text.len() < size {
        let n = random.below(1_000_000_000);
        let _ = match random.below(8) {
            0 => write!(text, "Größe {}, Straße № {} – «naïve café» ", n % 1000, n % 77),
            1 => write!(text, "id={n:08x}-{:04x} ", n % 65_536),
            2 => write!(text, "https://host{}.example.com/path/{n}?page={} ", n % 9, n % 31),
            3 => write!(text, "日本語の文章 {} 漢字 ", n % 100),
            4 => write!(text, "{{\"key\": {n}, \"name\": \"value{}\"}} ", n % 10),
            5 => write!(text, "2024-{:02}-{:02}T10:{:02}:00Z ", n % 12 + 1, n % 28 + 1, n % 60),
            6 => write!(text, "sha256:{n:016x}{n:016x}{n:016x}{n:016x} "),
            _ => write!(text, "{} ", prose(60)),
        };
    }
    text
}

/// What was made to be slow to search, again and again.
const HOSTILE: &[&str] = &[
    "a",
    "1234567890",
    "@",
    "a@a.",
    "-----BEGIN ",
    "password=",
    "eyJrIjoi",
    "eyJhbGciOiJIUzI1NiJ9.",
    "://a:b@",
    "%41",
    "&#50;",
    "\\u0032",
    "=3D",
    "a 1 ",
    "123 456 ",
    "1.2-3/",
    "GB12 ",
    "A1 B2 C3 ",
    "ABCDDEFF ",
    "１２３４ ａｂｃ",
    "2\u{200B}",
    "раsswоrd ",
    "](https://a/",
    "curl ",
    "kind: ",
    "123456789012345|",
    "\"d\":",
    "1.2.3.4 ",
    "AA:BB:",
];

/// The shortest that a search of the text took.
fn time(policy: &Policy, text: &str) -> Duration {
    let once = |_| {
        let began = Instant::now();
        std::hint::black_box(policy.scan(Direction::Prompt, text));
        began.elapsed()
    };
    (0..5).map(once).min().unwrap_or_default()
}

#[test]
fn a_search_takes_no_time_that_anybody_notices() {
    let policy = Policy::compile(PolicySpec::cloud()).expect("the policy");
    let size = at_scale(1_000_000, 10_000) as usize;
    let test = "a_search_takes_no_time_that_anybody_notices";
    let hold = |key, promise, took: Duration, unit: &str, limit| {
        let measured = took.as_secs_f64() * 1000.0;
        Figure { key, test, promise, measured, unit: unit.to_owned(), limit }.hold();
    };
    let (plain, dense) = (prose(size), rich(size));
    let promise = "The policy for clouds searches a megabyte of prose: 200 MB a second or more";
    hold("74-speed", promise, time(&policy, &plain), "ms", 5.0);
    let promise = "… of numbers, tokens, addresses and scripts beyond ASCII: 50 MB a second or more";
    hold("75-speed-rich", promise, time(&policy, &dense), "ms", 20.0);
    let pieces = (0..at_scale(2_000, 50) as usize).map(|number| {
        let from = dense.ceil_char_boundary(number * 400 % (dense.len() - 5000));
        let piece = &dense[from..dense.ceil_char_boundary(from + 4096)];
        let began = Instant::now();
        std::hint::black_box(policy.scan(Direction::Prompt, piece));
        began.elapsed()
    });
    hold("76-prompt", "… and a prompt of 4 KB of that", percentile(pieces, 0.99), "ms (p99)", 1.0);
    let slowest = HOSTILE.iter().map(|part| (time(&policy, &part.repeat(size / part.len())), part)).max();
    let (took, part) = slowest.expect("hostile texts");
    let promise = "… and a megabyte that was made to be slow to search";
    let unit = format!("ms (slowest of {}: `{}` again and again)", HOSTILE.len(), part.trim());
    hold("77-hostile", promise, took, &unit, 50.0);
}

/// Everything below a folder.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => std::fs::read(entry.path()).into_iter().collect(),
        })
        .collect()
}

/// Asks for so many things of all kinds, in which the canaries stand, and gives the bodies of all refusals.
async fn ask(gateway: &Gateway, canaries: &[String], requests: u64) -> Vec<String> {
    let (client, mut refusals) = (gateway.client(), Vec::new());
    let stranger = gateway.client_with(&format!("sk-{}", canaries[0]));
    for number in 0..requests as usize {
        let text = format!("{} is {}", canaries[0], canaries[1 + number % (canaries.len() - 1)]);
        let model = ["m", "broken", "nothing"][number / 3 % 3];
        let body = with(saying(model, &text), json!({"stream": number % 2 == 0, "say": {"body": text}}));
        let asked = match number % 7 {
            0 => stranger.post("/v1/chat/completions", &body).await,
            1 => client.post(&format!("/v1/{}", canaries[0]), &body).await,
            2 => client.post_text("/v1/chat/completions", &format!("{{\"model\": \"m\", {text}")).await,
            3 => client.post("/v1/responses", &json!({"model": model, "input": text})).await,
            4 => client.post("/v1/embeddings", &json!({"model": model, "input": [text]})).await,
            _ => client.post("/v1/chat/completions", &body).await,
        };
        // An unknown path is named in the answer to the one who asked for it.
        if asked.status >= 400 && number % 7 != 1 {
            refusals.push(asked.text().to_owned());
        }
    }
    refusals
}

#[tokio::test]
async fn nothing_of_a_request_is_written_down() {
    let script = Script::obeying().await;
    let broken = Engine::serving("broken", "broken").await;
    broken.set(broken.behaviour().failing(500));
    let config = Config::with(&[&broken])
        .backend_at("script", "openai", &script.url())
        .model("m", &[json!({"backend": "script", "model": "m"})])
        .set("/dlp/policies", json!([named("on_prem", json!({"base": "cloud"}))]))
        .set("/logs/level", "trace");
    let gateway = setup().without_discovery().start(&config).await;
    let canaries = [["zanzibar", "quokka"].concat(), card(), token(), iban()];
    let requests = at_scale(10_000, 200);
    let refusals = ask(&gateway, &canaries, requests).await;
    gateway.metric("synapse_dlp_findings_total", &[], |count| count > 0.0).await;
    let metrics = format!("{:?}", gateway.metrics().await);
    let export = gateway.cli(&["incident", "export"]).await.stdout;
    let logs = gateway.logs().lines().join("\n");
    let mut places: Vec<Vec<u8>> = refusals.iter().map(|body| body.clone().into_bytes()).collect();
    places.extend([metrics.into_bytes(), export, logs.into_bytes()]);
    places.extend(files(&gateway.folder().join("data")));
    let hits = |secret: &String| {
        let shows = |place: &&Vec<u8>| place.windows(secret.len()).any(|part| part == secret.as_bytes());
        places.iter().filter(shows).count()
    };
    let hits: usize = canaries.iter().map(hits).sum();
    assert!(refusals.len() as u64 > requests / 4, "{}", refusals.len());
    Figure {
        key: "78-sweep",
        test: "nothing_of_a_request_is_written_down",
        promise: "Keys, prompts and secrets of all kinds of requests, those that are refused and those that fail among them: none stands in logs at level `trace`, metrics, the database, exported incidents or the bodies of errors",
        measured: hits as f64,
        unit: format!("places of {requests} requests, {} of them refused", refusals.len()),
        limit: 0.0,
    }
    .hold();
}
