//! Where the audit log keeps its files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use synapse_audit::note::SigningKey;
use synapse_core::config::snapshot::Snapshot;

/// What signed notes name as their signer.
const SIGNER: &str = "synapse-audit";
/// The folder within the data folder.
const FOLDER: &str = "audit";

/// Where the audit log keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    copy: Option<PathBuf>,
}

impl Files {
    /// As the configuration says.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self::within(&snapshot.data_dir, snapshot.audit.checkpoint_file.clone())
    }

    /// Those in this data folder, with a copy of its checkpoints in this file.
    pub(crate) fn within(data_dir: &Path, copy: Option<PathBuf>) -> Self {
        Self { folder: data_dir.join(FOLDER), copy }
    }

    /// Whether the data folder is there.
    pub(crate) fn has_folder(&self) -> bool {
        self.folder.parent().is_some_and(Path::is_dir)
    }

    /// The key that signs checkpoints, made where there is none.
    pub(crate) fn key(&self) -> anyhow::Result<SigningKey> {
        synapse_audit::files::create_dir(&self.folder).with_context(|| self.folder.display().to_string())?;
        Ok(SigningKey::load_or_generate(&self.signing_key(), SIGNER)?)
    }

    /// The folder of the journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// The folder of the keys of digests.
    pub(crate) fn digest_keys(&self) -> PathBuf {
        self.folder.join("digest-keys")
    }

    /// The file of the key that signs checkpoints.
    pub(crate) fn signing_key(&self) -> PathBuf {
        self.folder.join("checkpoint.key")
    }

    /// The file that says how far the chain has come, and what the next checkpoint needs of it.
    pub(crate) fn progress(&self) -> PathBuf {
        self.folder.join("progress")
    }

    /// The file of the last checkpoint.
    pub(crate) fn last_checkpoint(&self) -> PathBuf {
        self.folder.join("last-checkpoint")
    }

    /// The file that every checkpoint is appended to first. All sinks are given theirs out of it.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    /// The copy of it outside the data folder, where there is one.
    pub(crate) fn copy(&self) -> Option<PathBuf> {
        self.copy.clone()
    }

    /// The file that says how far a sink of checkpoints has come.
    pub(crate) fn place_of(&self, sink: &str) -> PathBuf {
        self.folder.join("sinks").join(sink)
    }
}

/// The key of the data folder, which must be there: a new one would vouch for nothing.
pub(crate) fn signing_key(files: &Files) -> anyhow::Result<SigningKey> {
    let path = files.signing_key();
    if !path.exists() {
        bail!("{}: there is no such key; name the data folder, or use --public-key", path.display());
    }
    Ok(SigningKey::load_or_generate(&path, "unused")?)
}
