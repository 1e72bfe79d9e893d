//! CPU time of other processes: exact to the nanosecond for a process as a whole, and per thread
//! to see who did the work.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::Context as _;
use nix::{time::clock_getcpuclockid, unistd::Pid};
use serde::Serialize;

/// The CPU time that processes had used at one moment.
pub(crate) struct Snapshot {
    pids: Vec<i32>,
    process: Duration,
    threads: HashMap<(i32, i32), Thread>,
}

struct Thread {
    name: String,
    cpu: Duration,
}

/// CPU time used between two moments.
#[derive(Default)]
pub(crate) struct Used {
    pub(crate) total: Duration,
    pub(crate) threads: Vec<ThreadUse>,
}

/// A thread's share.
#[derive(Clone, Serialize)]
pub(crate) struct ThreadUse {
    pid: i32,
    name: String,
    cpu_us: f64,
}

impl Snapshot {
    pub(crate) fn take(pids: &[i32]) -> anyhow::Result<Self> {
        let mut snapshot = Self { pids: pids.to_vec(), process: Duration::ZERO, threads: HashMap::new() };
        for &pid in pids {
            // The clock covers all threads, also those that have ended.
            let clock = clock_getcpuclockid(Pid::from_raw(pid)).with_context(|| format!("process {pid}"))?;
            snapshot.process += Duration::from(clock.now()?);
            for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
                let folder = entry?.path();
                let tid = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().parse()?;
                let name = fs::read_to_string(folder.join("comm"))?.trim_end().to_owned();
                let schedstat = fs::read_to_string(folder.join("schedstat"))?;
                let running = schedstat.split(' ').next().unwrap_or_default().parse()?;
                snapshot.threads.insert((pid, tid), Thread { name, cpu: Duration::from_nanos(running) });
            }
        }
        Ok(snapshot)
    }

    /// What was used from this moment on.
    pub(crate) fn until_now(&self) -> anyhow::Result<Used> {
        let now = Self::take(&self.pids)?;
        let used = |(&(pid, tid), thread): (&(i32, i32), &Thread)| {
            let before = self.threads.get(&(pid, tid)).map_or(Duration::ZERO, |t| t.cpu);
            let cpu_us = thread.cpu.saturating_sub(before).as_secs_f64() * 1e6;
            ThreadUse { pid, name: thread.name.clone(), cpu_us }
        };
        Ok(Used {
            total: now.process.saturating_sub(self.process),
            threads: now.threads.iter().map(used).collect(),
        })
    }
}
