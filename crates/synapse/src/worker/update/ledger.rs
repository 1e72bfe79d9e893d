//! What was tried before, in a file beside the binary: it outlives the process, so that a binary which
//! does not work is not fetched again and again.

use std::{
    fmt::{self, Write as _},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::binary::Sum;

/// The same binary is tried once within this time.
const SAME: Duration = Duration::from_secs(3600);
/// The time that the number of updates is limited for.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Updates within a day.
const MOST: usize = 3;
/// Lines that are kept.
const MAX_LINES: usize = 64;

/// What has become of a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Tried,
    Installed,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Tried => "tried",
            Self::Installed => "installed",
        }
    }
}

/// Why a binary is not tried now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    Tried,
    TooMany,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tried => f.write_str("this very update was tried less than an hour ago"),
            Self::TooMany => write!(f, "there were {MOST} updates within a day"),
        }
    }
}

impl std::error::Error for Held {}

/// The file.
pub(super) struct Ledger(PathBuf);

struct Entry {
    /// Seconds since 1970.
    at: u64,
    sum: Sum,
    step: Step,
}

impl Ledger {
    /// The one of the binary at this path.
    pub(super) fn beside(exe: &Path) -> Self {
        let mut path = exe.as_os_str().to_owned();
        path.push(".updates");
        Self(path.into())
    }

    /// Whether this binary may be tried at this time, in seconds since 1970.
    pub(super) fn check(&self, sum: Sum, now: u64) -> Result<(), Held> {
        let entries = self.read();
        let within = |entry: &&Entry, time: Duration| entry.at.abs_diff(now) < time.as_secs();
        if entries.iter().filter(|entry| within(entry, SAME)).any(|entry| entry.sum == sum) {
            return Err(Held::Tried);
        }
        let installed = entries.iter().filter(|entry| entry.step == Step::Installed && within(entry, DAY));
        if installed.count() >= MOST { Err(Held::TooMany) } else { Ok(()) }
    }

    /// Adds a line.
    pub(super) fn note(&self, sum: Sum, step: Step, now: u64) -> io::Result<()> {
        let mut entries = self.read();
        entries.push(Entry { at: now, sum, step });
        let mut text = String::new();
        for Entry { at, sum, step } in &entries[entries.len().saturating_sub(MAX_LINES)..] {
            let _infallible = writeln!(text, "{at} {sum} {}", step.name());
        }
        fs::write(&self.0, text)
    }

    /// What can be read of it; a line that cannot is none.
    fn read(&self) -> Vec<Entry> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let at = words.next()?.parse().ok()?;
            let sum = words.next()?.parse().ok()?;
            let name = words.next()?;
            let step = [Step::Tried, Step::Installed].into_iter().find(|step| step.name() == name)?;
            Some(Entry { at, sum, step })
        };
        text.lines().filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::beside(&folder.path().join("synapse-client"));
        (folder, ledger)
    }

    fn sum(text: &str) -> Sum {
        Sum::of(text.as_bytes()).expect("memory").0
    }

    #[test]
    fn the_same_binary_is_tried_once_an_hour() {
        let (_folder, ledger) = ledger();
        assert_eq!(ledger.check(sum("a"), NOW), Ok(()));
        ledger.note(sum("a"), Step::Tried, NOW).expect("written");
        assert_eq!(ledger.check(sum("a"), NOW + HOUR - 1), Err(Held::Tried));
        assert_eq!(ledger.check(sum("b"), NOW), Ok(()));
        assert_eq!(ledger.check(sum("a"), NOW + HOUR), Ok(()));
        // A clock that was set back holds nothing up for long.
        assert_eq!(ledger.check(sum("a"), NOW - HOUR), Ok(()));
    }

    #[test]
    fn there_are_three_updates_a_day_at_most_and_failures_are_none() {
        let (_folder, ledger) = ledger();
        for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            ledger.note(sum(name), Step::Tried, NOW + at as u64).expect("written");
        }
        for name in ["a", "b"] {
            ledger.note(sum(name), Step::Installed, NOW).expect("written");
        }
        assert_eq!(ledger.check(sum("z"), NOW + 2 * HOUR), Ok(()));
        ledger.note(sum("c"), Step::Installed, NOW + HOUR).expect("written");
        assert_eq!(ledger.check(sum("z"), NOW + 2 * HOUR), Err(Held::TooMany));
        assert_eq!(ledger.check(sum("z"), NOW + 24 * HOUR), Ok(()));
    }

    #[test]
    fn a_file_that_makes_no_sense_holds_nothing_up_and_a_long_one_is_cut() {
        let (_folder, ledger) = ledger();
        fs::write(&ledger.0, "what\n12 ab tried\n\n").expect("written");
        assert_eq!(ledger.check(sum("a"), NOW), Ok(()));
        for at in 0..100 {
            ledger.note(sum("a"), Step::Tried, at).expect("written");
        }
        assert_eq!(ledger.read().len(), MAX_LINES);
    }
}
