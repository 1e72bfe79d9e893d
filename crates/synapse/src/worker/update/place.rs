//! Where the running binary lies, and how another takes its place: as a whole, or not at all.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::{NamedTempFile, TempPath};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::binary::Sum;

/// How long a new binary may take to tell its version.
const TRIAL: Duration = Duration::from_secs(10);
/// How often, and how long in between, a file that is busy is tried again.
const TRIES: u32 = 20;
const BUSY: Duration = Duration::from_millis(50);
/// What Linux appends to the path of a binary that was replaced while it runs.
const REPLACED: &str = " (deleted)";

/// The place of the running binary.
#[derive(Clone)]
pub(super) struct Place(PathBuf);

impl Place {
    /// Where this process's binary lies.
    pub(super) fn find() -> io::Result<Self> {
        let path = env::current_exe()?;
        let replaced = path.to_str().and_then(|text| text.strip_suffix(REPLACED)).map(PathBuf::from);
        Ok(Self(replaced.filter(|_| !path.exists()).unwrap_or(path)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The sum of what lies there now.
    pub(super) async fn sum(&self) -> anyhow::Result<Sum> {
        let path = self.0.clone();
        let reading = spawn_blocking(move || Sum::of(fs::File::open(path)?));
        let (sum, _) = reading.await?.with_context(|| format!("{} cannot be read", self.0.display()))?;
        Ok(sum)
    }

    /// A file beside it, for what is to take its place; gone when dropped.
    pub(super) fn beside(&self) -> anyhow::Result<NamedTempFile> {
        let folder = self.0.parent().context("the binary lies in no folder")?;
        tempfile::Builder::new().prefix(".synapse-").tempfile_in(folder).with_context(|| {
            format!("{} cannot be written, so the worker cannot replace itself", folder.display())
        })
    }

    /// Puts `new` there, if it runs at all on this machine; the one before is kept as `….bak`.
    pub(super) async fn replace(&self, new: NamedTempFile) -> anyhow::Result<()> {
        let place = self.clone();
        let new = spawn_blocking(move || place.prepare(new)).await??;
        try_out(&new).await?;
        let place = self.clone();
        spawn_blocking(move || place.swap(new)).await??;
        Ok(())
    }

    /// What was written gets to the disk, and is no longer open: a file that is cannot be run.
    fn prepare(&self, new: NamedTempFile) -> io::Result<TempPath> {
        let mode = fs::metadata(&self.0).map_or(0o755, |metadata| metadata.permissions().mode());
        new.as_file().set_permissions(fs::Permissions::from_mode(mode | 0o100))?;
        new.as_file().sync_all()?;
        Ok(new.into_temp_path())
    }

    fn swap(&self, new: TempPath) -> io::Result<()> {
        let mut backup = self.0.as_os_str().to_owned();
        backup.push(".bak");
        let backup = PathBuf::from(backup);
        match fs::remove_file(&backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Where nothing lies any more, there is nothing to keep.
        if self.0.exists() && fs::hard_link(&self.0, &backup).is_err() {
            fs::copy(&self.0, &backup)?;
        }
        new.persist(&self.0).map_err(|error| error.error)
    }
}

/// Has a binary tell its version: one for another processor, or another system's libraries, does not.
async fn try_out(path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut tries = 0;
    let mut child = loop {
        match command.spawn() {
            // A process that begins just now may hold what was open for writing, until it is one.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < TRIES => tries += 1,
            started => break started.context("the gateway's binary does not run on this machine")?,
        }
        sleep(BUSY).await;
    };
    let pid = Pid::from_child(&child);
    let waiting = spawn_blocking(move || child.wait());
    match timeout(TRIAL, waiting).await {
        Ok(ended) if ended.as_ref().is_ok_and(|ended| ended.as_ref().is_ok_and(|s| s.success())) => Ok(()),
        Ok(_) => bail!("the gateway's binary does not run on this machine"),
        Err(_) => {
            let _gone = kill_process(pid, Signal::KILL);
            bail!("the gateway's binary does not tell its version within {} s", TRIAL.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn place(content: &str) -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("synapse-client");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("permissions");
        (folder, Place(path))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    async fn put(place: &Place, content: &str) -> anyhow::Result<()> {
        let mut new = place.beside().expect("a file");
        new.write_all(content.as_bytes()).expect("written");
        place.replace(new).await
    }

    #[tokio::test]
    async fn the_one_before_is_kept_and_its_mode_is_taken_over() {
        let (folder, place) = place("old");
        for content in ["#!/bin/sh\n# one\n", "#!/bin/sh\n# two\n"] {
            put(&place, content).await.expect("replaced");
            assert_eq!(fs::read_to_string(place.path()).expect("the binary"), content);
        }
        assert_eq!(fs::metadata(place.path()).expect("it").permissions().mode() & 0o777, 0o750);
        let kept = fs::read_to_string(folder.path().join("synapse-client.bak")).expect("a backup");
        assert_eq!(kept, "#!/bin/sh\n# one\n");
        assert_eq!(names(folder.path()), ["synapse-client", "synapse-client.bak"]);
    }

    #[tokio::test]
    async fn a_binary_that_does_not_run_here_changes_nothing() {
        for broken in ["#!/bin/sh\nexit 3\n", "#!/no/such/shell\n"] {
            let (folder, place) = place("old");
            let error = put(&place, broken).await.expect_err("a failure").to_string();
            assert_eq!(error, "the gateway's binary does not run on this machine");
            assert_eq!(names(folder.path()), ["synapse-client"]);
            assert_eq!(fs::read_to_string(place.path()).expect("the binary"), "old");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_named() {
        let (folder, place) = place("old");
        drop(folder);
        let error = place.beside().expect_err("a failure").to_string();
        assert!(error.contains("cannot be written, so the worker cannot replace itself"), "{error}");
    }
}
