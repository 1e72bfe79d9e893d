//! What the audit log costs: CPU time of an entry in the journal, how many go to the disk one by one, and how
//! many are verified.
//!
//! `cargo run --release -p synapse-audit --example cost [FOLDER]`

#![expect(clippy::print_stdout, reason = "an example that reports")]

use std::{
    error::Error,
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use synapse_audit::{
    chain::Chain,
    checkpoint::Checkpointer,
    journal::{Journal, Options},
    note::SigningKey,
    verify::Verifier,
};
use synapse_core::audit::{
    entry::{Entry, EntryKind},
    stretch::Stretch,
};
use uuid::Uuid;

type Outcome = Result<(), Box<dyn Error>>;

const ENTRIES: usize = 200_000;

fn main() -> Outcome {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "target/audit-cost".to_owned());
    let folder = Path::new(&folder);
    let _ = fs::remove_dir_all(folder);
    let options = Options { max_bytes: 1 << 30, max_age: Duration::from_secs(600) };
    appending(&folder.join("append"), options)?;
    verifying()?;
    for waiters in [1, 8, 64] {
        committing(&folder.join(format!("commit-{waiters}")), options, waiters)?;
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// An entry as a request leaves it.
fn entry(kind: EntryKind) -> Entry {
    let mut entry = Entry::new(kind, Timestamp::now());
    entry.request = Some("req_019abc7d2e4f7a3b9c1d5e6f70819203".into());
    entry.key = Some("key_5vkq2m7x".into());
    entry.team = Some("research".into());
    entry.source = Some("10.20.30.0/24".into());
    entry.route = Some("/v1/chat/completions".into());
    entry.operation = Some("chat".into());
    entry.model_asked = Some("qwen3-32b".into());
    entry.zone = Some("on_prem".into());
    entry.digest_key = Some("2026-11.1f3a9c02".into());
    entry.request_digest = Some([1; 32]);
    if kind == EntryKind::RequestClosed {
        entry.reply_digest = Some([2; 32]);
        entry.tokens_in = Some(812);
        entry.tokens_out = Some(344);
        entry.outcome = Some("completed".into());
        entry.status = Some(200);
        entry.duration_us = Some(2_345_678);
    }
    entry
}

/// CPU time of this process, in nanoseconds.
fn cpu() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    times.sum()
}

fn appending(folder: &Path, options: Options) -> Outcome {
    let (journal, _) = Journal::open(folder, options)?;
    let (accepted, closed) = (entry(EntryKind::RequestAccepted), entry(EntryKind::RequestClosed));
    let own = || -> Option<u64> {
        fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    };
    let before = own();
    for _ in 0..10_000 {
        let (_, reservation) = journal.accept(&accepted)?;
        journal.close(reservation, &closed)?;
    }
    if let (Some(before), Some(after)) = (before, own()) {
        println!(
            "append: {:.2} µs CPU an entry on the caller's thread, flat out",
            (after - before) as f64 / 2e7
        );
    }
    let before = own();
    for _ in 0..10_000 {
        std::hint::black_box(Entry::new(EntryKind::RequestAccepted, std::hint::black_box(Timestamp::now())));
    }
    if let (Some(before), Some(after)) = (before, own()) {
        println!(
            "new: {:.2} µs CPU for an entry with its identifier and time",
            (after - before) as f64 / 1e7
        );
    }
    let mut times = Vec::with_capacity(ENTRIES);
    let (begun, cpu_before) = (Instant::now(), cpu());
    // At a pace that a busy gateway has, so that the disk keeps up.
    for _ in 0..ENTRIES / 2 / 100 {
        for _ in 0..100 {
            let at = Instant::now();
            let (_, reservation) = journal.accept(&accepted)?;
            times.push(at.elapsed());
            let at = Instant::now();
            journal.close(reservation, &closed)?;
            times.push(at.elapsed());
        }
        while begun.elapsed().as_micros() < 50 * times.len() as u128 / 2 {
            thread::park_timeout(Duration::from_millis(2));
        }
    }
    let used = cpu() - cpu_before;
    times.sort();
    let bytes: u64 = journal.status().bytes;
    println!(
        "append: {:.2} µs CPU an entry with the syncing thread; {:?} p50, {:?} p99, {:?} p99.9; {} entries in {:.1} s, {} MB",
        used as f64 / 1e3 / times.len() as f64,
        times[times.len() / 2],
        times[times.len() / 100 * 99],
        times[times.len() / 1000 * 999],
        times.len(),
        begun.elapsed().as_secs_f64(),
        bytes >> 20,
    );
    Ok(())
}

/// On one core, with the checkpoints of a database and of a sink.
fn verifying() -> Outcome {
    let key = SigningKey::generate("synapse-audit")?;
    let mut chain = Chain::new(Uuid::now_v7());
    let mut maker = Checkpointer::new(chain.id);
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for n in 0..ENTRIES / 2 {
        let kind = if n % 2 == 0 { EntryKind::RequestAccepted } else { EntryKind::RequestClosed };
        rows.push(chain.seal(entry(kind)));
        maker.push(rows[n].link()).map_err(|_| "an entry out of order")?;
        if maker.pending() == 1000 {
            notes.extend(maker.checkpoint(Timestamp::now()).map(|made| made.sign(&key).note));
        }
    }
    let pages = rows.chunks(1000).map(|page| {
        let mut stretch = Stretch::new(chain.id);
        page.iter().for_each(|row| stretch.push(row.seq, row.prev, row.hash, row.entry.values()));
        stretch
    });
    let pages: Vec<_> = pages.collect();
    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut verifier = Verifier::new(chain.id, vec![key.public().clone()], &["database", "file"]);
    let mut copies = [notes.iter(), notes.iter()];
    for page in &pages {
        for (source, notes) in copies.iter_mut().enumerate() {
            while Some(verifier.covered(source)) <= page.last() {
                let Some(note) = notes.next() else { break };
                verifier.checkpoint(source, note);
            }
        }
        page.iter().for_each(|(seq, standing)| verifier.entry(seq, standing));
    }
    let report = verifier.finish();
    let used = (cpu() - cpu_before) as f64 / 1e9;
    println!(
        "verify: {:.0} entries a second of CPU time ({:.0} as the clock goes); sound: {}",
        rows.len() as f64 / used,
        rows.len() as f64 / begun.elapsed().as_secs_f64(),
        report.is_sound(),
    );
    Ok(())
}

fn committing(folder: &Path, options: Options, waiters: usize) -> Outcome {
    let (journal, _) = Journal::open(folder, options)?;
    let journal = Arc::new(journal);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (begun, cpu_before) = (Instant::now(), cpu());
    let length = Duration::from_secs(3);
    let turns = runtime.block_on(async {
        let each = (0..waiters).map(|_| {
            let journal = Arc::clone(&journal);
            async move {
                let accepted = entry(EntryKind::RequestAccepted);
                let mut turns = 0_u64;
                while begun.elapsed() < length {
                    let Ok(receipt) = journal.append(&accepted) else { break };
                    let Ok(()) = journal.on_disk(receipt.seq).await else { break };
                    turns += 1;
                }
                turns
            }
        });
        futures_util::future::join_all(each).await.into_iter().sum::<u64>()
    });
    println!(
        "on disk: {:.0} entries a second with {waiters} waiting; {:.2} µs CPU each",
        turns as f64 / begun.elapsed().as_secs_f64(),
        (cpu() - cpu_before) as f64 / 1e3 / turns as f64,
    );
    Ok(())
}
