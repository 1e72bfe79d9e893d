//! The one place where a configuration reaches the environment and the file system, and what it read there.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::Metadata,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use synapse_core::config::Surroundings;

/// The process's own environment and files.
pub(crate) struct Process;

impl Surroundings for Process {
    #[expect(clippy::disallowed_methods, reason = "the binary is what may read the environment")]
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// The same, with a note of each file that was asked for.
#[derive(Default)]
pub(crate) struct Noting(RefCell<Files>);

impl Noting {
    /// The files so far.
    pub(crate) fn into_files(self) -> Files {
        self.0.into_inner()
    }
}

impl Surroundings for Noting {
    fn env(&self, name: &str) -> Option<String> {
        Process.env(name)
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        // Before reading: a change in between is then noticed as one.
        self.0.borrow_mut().0.entry(path.to_owned()).or_insert_with(|| Stamp::of(path));
        Process.read_file(path)
    }
}

/// The files that a configuration refers to, each with what it looked like; one that is not there, too.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Files(BTreeMap<PathBuf, Option<Stamp>>);

impl Files {
    /// The same files as they look now.
    pub(crate) fn now(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    /// Whether one of them is gone, or shorter than `before`: perhaps it is just being written.
    pub(crate) fn lack_something_of(&self, before: &Self) -> bool {
        let size = |stamp: &Option<Stamp>| stamp.as_ref().map(|stamp| stamp.size);
        self.0.iter().any(|(path, stamp)| before.0.get(path).is_some_and(|old| size(stamp) < size(old)))
    }
}

/// By what a file shows that it is another one. Links are followed: what they lead to is what changes.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    identity: Option<(u64, u64)>,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { size: found.len(), modified: found.modified().ok(), identity: identity(&found) })
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
fn identity(found: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_found: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn noted(paths: &[&Path]) -> Files {
        let noting = Noting::default();
        for path in paths {
            let _text = noting.read_file(path);
        }
        noting.into_files()
    }

    #[test]
    fn a_file_that_was_read_shows_its_change_its_end_and_its_coming() {
        let folder = tempfile::tempdir().unwrap();
        let (there, missing) = (folder.path().join("there"), folder.path().join("missing"));
        fs::write(&there, "one").unwrap();
        let files = noted(&[&there, &missing]);
        assert!(files == files.now());
        fs::write(&there, "three").unwrap();
        assert!(files != files.now() && !files.now().lack_something_of(&files));
        fs::write(&there, "").unwrap();
        assert!(files.now().lack_something_of(&files));
        fs::remove_file(&there).unwrap();
        assert!(files.now().lack_something_of(&files));
        let files = files.now();
        fs::write(&missing, "").unwrap();
        assert!(files != files.now() && !files.now().lack_something_of(&files));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_on_the_way_that_leads_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("secret"), version).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("data")).unwrap();
        std::os::unix::fs::symlink("data/secret", at("secret")).unwrap();
        let files = noted(&[&at("secret")]);
        assert!(files == files.now());
        std::os::unix::fs::symlink("v2", at("next")).unwrap();
        fs::rename(at("next"), at("data")).unwrap();
        assert!(files != files.now());
    }
}
