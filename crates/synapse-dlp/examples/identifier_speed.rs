//! How fast identifiers are looked for, in texts with few digits, with many, and in hostile ones.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use synapse_dlp::identifiers;

const MEGABYTE: usize = 1 << 20;

/// The best of a few runs: what the machine can do when nobody disturbs it.
fn measure(text: &str) -> (Duration, usize) {
    let mut hits = 0;
    let best = (0..7).map(|_| {
        hits = 0;
        let start = Instant::now();
        identifiers::find(text, &mut |_| hits += 1);
        start.elapsed()
    });
    (best.min().unwrap_or_default(), hits)
}

fn main() -> io::Result<()> {
    let prose = "The committee met again on Tuesday, and nobody could say why the report was late; there was talk of a \
        storm, of a lost letter, and of the usual trouble with the ferry. In 1987 it had been the same. ";
    let table = "2024-03-15 08:12:44 order 48213 shipped 12 items, total 1,284.50 EUR, ref A-2291/7, call 212-555-0187; \
        ratio 0.8831, build 4.18.2, customer 771489195 at row 17 of 93.\n";
    let texts = [
        ("prose", prose),
        ("rich in digits", table),
        ("hostile: digits", "1234567890"),
        ("hostile: 1 1 1", "1 "),
        ("hostile: 12 34", "12 34 "),
        ("hostile: 123 456", "123 456 "),
        ("hostile: 1.2-3", "1.2-3/"),
        ("hostile: @", "@"),
        ("hostile: a@", "a@"),
        ("hostile: a:a:", "a:a:"),
        ("hostile: ::", ":"),
        ("hostile: A 1", "A 1 "),
        ("hostile: GB12", "GB12 "),
        ("hostile: CAPITALS", "CAPITALS"),
        ("hostile: a-a", "a-"),
    ];
    for (name, unit) in texts {
        let text: String = unit.chars().cycle().take(MEGABYTE).collect();
        let (time, hits) = measure(&text);
        let rate = MEGABYTE as f64 / time.as_secs_f64() / 1e6;
        writeln!(
            io::stdout(),
            "{name:20} {:8.2} ms {rate:9.1} MB/s {hits:7} hits",
            time.as_secs_f64() * 1e3
        )?;
    }
    Ok(())
}
