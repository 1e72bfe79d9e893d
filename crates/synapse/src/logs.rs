//! The way of log lines to stderr: appended to a buffer in memory, written by a thread of its own.
//! Nobody waits for a slow terminal or a full pipe; what does not fit is counted and dropped.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written, in bytes.
const CAPACITY: usize = 4 * 1024 * 1024;
/// How long lines gather before they are written together.
const LINGER: Duration = Duration::from_millis(25);

/// Where log lines go. Clones share the buffer.
#[derive(Clone)]
pub(crate) struct LogWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// Wakes the thread that writes.
    wake: Condvar,
    /// Tells those who flush that something has been written.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    writing: bool,
    /// How many wait for an empty buffer.
    flushing: usize,
    /// No lines came for a while, so that the next one has to wake the thread.
    asleep: bool,
}

impl LogWriter {
    /// Starts the thread that writes.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        let run = move || writer.write_for_ever(&mut io::stderr());
        thread::Builder::new().name("logs".into()).spawn(run).context("cannot start a thread for the log")?;
        Ok(Self(shared))
    }

    /// Appends one line, its line end included.
    pub(crate) fn append(&self, line: &[u8]) {
        let mut lines = self.0.lock();
        if lines.waiting.len() + line.len() > CAPACITY {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let wake = std::mem::take(&mut lines.asleep);
        lines.waiting.extend_from_slice(line);
        drop(lines);
        if wake {
            self.0.wake.notify_one();
        }
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what has been appended is written, but no longer than a second: whoever reads may
    /// have stopped.
    pub(crate) fn flush(&self) {
        let mut lines = self.0.lock();
        lines.flushing += 1;
        self.0.wake.notify_one();
        let busy = |lines: &mut Lines| lines.writing || !lines.waiting.is_empty();
        let flushed = self.0.written.wait_timeout_while(lines, Duration::from_secs(1), busy);
        flushed.unwrap_or_else(PoisonError::into_inner).0.flushing -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, out: &mut dyn Write) {
        let mut batch = Vec::new();
        loop {
            let mut lines = self.gather();
            std::mem::swap(&mut lines.waiting, &mut batch);
            lines.writing = true;
            drop(lines);
            // With nobody on stderr, the gateway runs on.
            let _ = out.write_all(&batch);
            batch.clear();
            let mut lines = self.lock();
            lines.writing = false;
            if lines.flushing > 0 {
                self.written.notify_all();
            }
        }
    }

    /// Waits for lines, and lets some more come. While lines come all the time, none has to wake this
    /// thread; waking takes longer than writing a line.
    fn gather(&self) -> MutexGuard<'_, Lines> {
        let mut lines = self.lock();
        loop {
            let unhurried = |lines: &mut Lines| lines.flushing == 0;
            let gathered = self.wake.wait_timeout_while(lines, LINGER, unhurried);
            lines = gathered.unwrap_or_else(PoisonError::into_inner).0;
            if !lines.waiting.is_empty() {
                return lines;
            }
            lines.asleep = true;
            let woken = self.wake.wait_while(lines, |lines| lines.asleep);
            lines = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_dropped_and_counted_instead_of_kept() {
        // Without a thread, nothing is ever written.
        let writer = LogWriter(Arc::default());
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..6 {
            writer.append(&line);
        }
        assert_eq!(writer.dropped(), 2);
    }

    #[test]
    fn lines_are_written_in_order() {
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let shared = Arc::<Shared>::default();
        let (thread, sink) = (Arc::clone(&shared), Sink(Arc::clone(&written)));
        thread::spawn(move || thread.write_for_ever(&mut { sink }));
        let writer = LogWriter(shared);
        for line in 0..100 {
            writer.append(format!("{line}\n").as_bytes());
        }
        writer.flush();
        let want: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&written.lock().expect("unpoisoned")), want);
    }
}
