//! How many bytes a second a policy reads, for texts of several kinds: `cargo run --release --example
//! throughput -p synapse-dlp`, with `-- plain` for the first of them alone.

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use synapse_dlp::{CustomKind, CustomRule, Direction, Policy, PolicySpec, Severity, Window};

const MEGABYTE: usize = 1 << 20;

/// A linear congruential generator: the texts are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

const WORDS: &str = "the of and a to in is that for it as was with be by on not he his but at are this have \
    from or had an they which one you were all her she there would their we him been has when who will no more \
    if out so said what up its about than into them can only other time new some could these two may first \
    then do any like my now over such our man me even most made after also did many before must through years \
    where much your way well down should because each just those people how too little state good very make \
    world still see own work long life great government, development. information, question; international";

fn prose(random: &mut Random, size: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = String::new();
    while text.len() < size {
        text.push_str(words[random.below(words.len())]);
        text.push_str(if random.below(12) == 0 { ". " } else { " " });
    }
    text
}

fn rich(random: &mut Random, size: usize) -> String {
    let mut text = String::new();
    while text.len() < size {
        let number = random.below(1_000_000_000);
        let _ = match random.below(9) {
            0 => write!(text, "Größe {}, Straße № {} – «naïve café» ", number % 1000, number % 77),
            1 => write!(text, "id={number:08x}-{:04x} ", number % 65_536),
            2 => write!(text, "https://host{}.example.com/path/{number}?page={} ", number % 9, number % 31),
            3 => write!(text, "日本語の文章 {} 漢字 ", number % 100),
            4 => write!(text, "{{\"key\": {number}, \"name\": \"value{}\"}} ", number % 10),
            5 => write!(text, "fn call_{}(x: u{}) -> i64 {{ x * {} }} ", number % 99, 32, number % 777),
            6 => {
                write!(text, "2024-{:02}-{:02}T10:{:02}:00Z ", number % 12 + 1, number % 28 + 1, number % 60)
            }
            7 => write!(text, "sha256:{number:016x}{number:016x}{number:016x}{number:016x} "),
            _ => write!(text, "{} ", prose(random, 60)),
        };
    }
    text
}

fn hostile(size: usize) -> Vec<(&'static str, String)> {
    let repeat = |what: &str| what.repeat(size / what.len());
    let mut nested = repeat("my ssn is hidden. ");
    for _ in 0..3 {
        nested = STANDARD.encode(&nested[..size * 3 / 4]);
    }
    vec![
        ("a…", repeat("a")),
        ("digits", repeat("1234567890")),
        ("at signs", repeat("@")),
        ("a@a@", repeat("a@a.")),
        ("BEGIN", repeat("-----BEGIN ")),
        ("BEGIN PRIVATE KEY", repeat("-----BEGIN PRIVATE KEY-----")),
        ("BEGIN PRIVATE K", repeat("-----BEGIN PRIVATE KEY-----\n").replace("KEY-----", "KEY----- ")),
        ("base64 of base64", nested),
        ("password=", repeat("password=")),
        ("keywords", repeat("heroku asana twitter=sk_live_ghp_AKIAeyJrIjoi")),
        ("eyJrIjoi", repeat("eyJrIjoi")),
        ("EAAC", repeat("EAAC")),
        ("ey.ey", repeat("eyJhbGciOiJIUzI1NiJ9.")),
        ("://", repeat("://a:b@")),
        ("percent", repeat("%41")),
        ("entities", repeat("&#50;")),
        ("escapes", repeat("\\u0032")),
        ("equals", repeat("=3D")),
        ("a 1 a 1", repeat("a 1 ")),
        ("full-width", repeat("１２３４ ａｂｃ")),
        ("zero-width", repeat("2\u{200B}")),
        ("look-alikes", repeat("раsswоrd ")),
        ("links", repeat("](https://a/")),
        ("curl", repeat("curl ")),
        ("kind: Secret", repeat("kind: Secret\ndata:\n  key: c2VjcmV0c2VjcmV0\n")),
        ("authorization:", repeat("authorization: bearer ")),
        ("pipes", repeat("123456789012345|")),
        ("\"d\"", repeat("\"d\":")),
    ]
}

/// Phrases of two to four words, of which a few thousand begin as words of prose do.
fn dictionary(random: &mut Random, phrases: usize) -> PolicySpec {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut phrase = || {
        let count = 2 + random.below(3);
        let word = |random: &mut Random| match random.below(3) {
            0 => words[random.below(words.len())].to_owned(),
            _ => (0..5).map(|_| ["ka", "lo", "mi", "ren", "tus"][random.below(5)]).collect(),
        };
        (0..count).map(|_| word(random)).collect::<Vec<_>>().join(" ")
    };
    let words = (0..phrases).map(|_| phrase()).collect();
    let kind = CustomKind::Dictionary { words, whole_words: true, case_sensitive: false };
    let rule = CustomRule { name: "phrases".to_owned(), kind, severity: Severity::High, buffer: false };
    PolicySpec { custom: vec![rule], ..PolicySpec::cloud() }
}

fn best_of(times: usize, mut run: impl FnMut()) -> Duration {
    let once = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..times).map(|_| once(&mut run)).min().unwrap_or_default()
}

fn stream(policy: &std::sync::Arc<Policy>, text: &str) -> usize {
    let mut window = Window::new(policy.clone(), Direction::Reply);
    let mut out = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let cut = (20..).find(|cut| *cut >= rest.len() || rest.is_char_boundary(*cut)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(cut.min(rest.len()));
        out += window.push(piece).text.len();
        rest = behind;
    }
    out + window.finish().text.len()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let policy = Policy::compile(PolicySpec::cloud())?;
    let mut random = Random(1);
    let texts = [("prose", prose(&mut random, MEGABYTE)), ("rich text", rich(&mut random, MEGABYTE))];
    for (name, text) in &texts {
        let time = best_of(5, || drop(policy.scan(Direction::Prompt, text)));
        let found = policy.scan(Direction::Prompt, text).len();
        let rate = text.len() as f64 / time.as_secs_f64() / 1e6;
        writeln!(out, "{name:20} {rate:8.0} MB/s  {found} findings")?;
        let mut latencies: Vec<Duration> = (0..2000)
            .map(|at| {
                let from = text.ceil_char_boundary(at * 400 % (text.len() - 8192));
                let piece = &text[from..text.ceil_char_boundary(from + 4096)];
                best_of(1, || drop(policy.scan(Direction::Prompt, piece)))
            })
            .collect();
        latencies.sort_unstable();
        writeln!(out, "{:20} p50 {:?}  p99 {:?}", "  4 KB of it", latencies[1000], latencies[1980])?;
        let time = best_of(3, || {
            std::hint::black_box(stream(&policy, text));
        });
        writeln!(
            out,
            "{:20} {:.0} ns",
            "  20 bytes streamed",
            time.as_nanos() as f64 / (text.len() / 20) as f64
        )?;
    }
    if std::env::args().any(|arg| arg == "plain") {
        return Ok(());
    }
    for phrases in [10, 10_000] {
        let policy = Policy::compile(dictionary(&mut random, phrases))?;
        let text = &texts[0].1;
        let time = best_of(5, || drop(policy.scan(Direction::Prompt, text)));
        let found = policy.scan(Direction::Prompt, text).len();
        let rate = text.len() as f64 / time.as_secs_f64() / 1e6;
        writeln!(out, "{:20} {rate:8.0} MB/s  {found} findings", format!("prose, {phrases} phrases"))?;
        let streamed = best_of(1, || {
            std::hint::black_box(stream(&policy, text));
        });
        writeln!(
            out,
            "{:20} {:.0} ns",
            "  20 bytes streamed",
            streamed.as_nanos() as f64 / (text.len() / 20) as f64
        )?;
    }
    for (name, text) in hostile(MEGABYTE) {
        let time = best_of(2, || drop(policy.scan(Direction::Prompt, &text)));
        let streamed = best_of(1, || {
            std::hint::black_box(stream(&policy, &text));
        });
        writeln!(out, "{name:20} {time:>10.2?}  streamed {streamed:>10.2?}")?;
    }
    Ok(())
}
