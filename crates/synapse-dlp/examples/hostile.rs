//! What texts cost that somebody made to cost much: everything that repeats one or two short pieces, in turn or one
//! behind the other, whole and as it streams by. `cargo run --release --example hostile -p synapse-dlp` fails when a megabyte takes longer than it may.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use synapse_dlp::{Direction, Policy, PolicySpec, Window};

/// Texts of this length are tried first, and the slowest of them again at the full one.
const SMALL: usize = 64 << 10;
const FULL: usize = 1 << 20;

/// How many of the slowest are tried at the full length.
const SLOWEST: usize = 24;

/// What a megabyte may take: more than it does on any machine, and far less than one that is read again and again.
const MOST: Duration = Duration::from_secs(10);

const PIECES: &[&str] = &[
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "a",
    "A",
    "1",
    "12",
    "1 ",
    "a ",
    "_ ",
    "[",
    "]",
    "(",
    ")",
    "](",
    "]: ",
    "data:",
    "%",
    "%41",
    "&#",
    "&#50;",
    "&amp;",
    "\\",
    "\\u0032",
    "\\x41",
    "\"",
    "'",
    "`",
    "a.",
    "@",
    "@.",
    "a@",
    "a@a.",
    "-",
    "--",
    "-----",
    ".",
    "/",
    "//",
    "://",
    "http:",
    "https://a/",
    ":",
    "::",
    ",",
    "=",
    "=3D",
    "==",
    "|",
    "*",
    "+",
    "<",
    ">",
    "{",
    "~",
    "#",
    ";",
    "?",
    "eyJ",
    ".ey",
    "漢",
    "１",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{200B}",
    "\u{A0}",
    "\u{2003}",
    "а",
    "р1",
    "password=",
    "secret",
    "kind: Secret\ndata:\n",
    "curl ",
    "curl -u ",
    "authorization: ",
    "bearer ",
    "\"d\":",
    "\"kty\"",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "KEY-----",
    "KEY BLOCK-----",
    "ssn ",
    "DE89",
    "iban ",
    "sk-ant-api03-",
    "AKIA",
    "heroku",
    "src=",
    "srcset=",
    "url(",
    "<img src=\"",
    "MjE5LTA5LTk5OTk=",
    "3231392d",
    "123456789012345|",
];

/// What a text is made of: pieces over and over, one behind the other.
type Pieces = Vec<String>;

/// A text of these pieces, behind some that make detectors look at it.
fn text(pieces: &Pieces, length: usize) -> String {
    let each = length / pieces.len();
    let all = pieces.iter().map(|piece| piece.repeat(each / piece.len()));
    std::iter::once("x1 <[ aaaaaaaaaaaa1aaaaaaaaa ".to_owned()).chain(all).collect()
}

/// How a text is searched, and how long that takes.
type Way = fn(&std::sync::Arc<Policy>, &str) -> Duration;

fn scan(policy: &std::sync::Arc<Policy>, text: &str) -> Duration {
    let start = Instant::now();
    std::hint::black_box(policy.scan(Direction::Reply, text));
    start.elapsed()
}

fn stream(policy: &std::sync::Arc<Policy>, text: &str) -> Duration {
    let start = Instant::now();
    let mut window = Window::new(policy.clone(), Direction::Reply);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.ceil_char_boundary(rest.len().min(20)));
        std::hint::black_box(window.push(piece));
        rest = behind;
    }
    std::hint::black_box(window.finish());
    start.elapsed()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = Policy::compile(PolicySpec::cloud())?;
    let pairs = || PIECES.iter().flat_map(|a| PIECES.iter().map(move |b| (a, b)));
    let in_turn = pairs().map(|(a, b)| vec![format!("{a}{b}")]);
    let behind = pairs().map(|(a, b)| vec![(*a).to_owned(), (*b).to_owned()]);
    let units: Vec<Pieces> = in_turn.chain(behind).collect();
    let mut slow = false;
    let ways: [(&str, Way); 2] = [("whole", scan), ("stream", stream)];
    for (name, run) in ways {
        let mut times: Vec<_> = units.iter().map(|unit| (run(&policy, &text(unit, SMALL)), unit)).collect();
        times.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        for (small, unit) in times.into_iter().take(SLOWEST) {
            let full = run(&policy, &text(unit, FULL));
            slow |= full > MOST;
            writeln!(io::stdout(), "{name:6} {small:>10.2?} {full:>10.2?}  {unit:?}")?;
        }
    }
    if slow { Err("some take too long".into()) } else { Ok(()) }
}
