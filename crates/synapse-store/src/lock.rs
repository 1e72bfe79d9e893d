//! The claim of one gateway on its data folder: two that share a folder would each believe to be the
//! only one. The command line, which works beside a gateway, makes no claim; it may ask whether there is one.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    process,
};

use synapse_core::store::StoreError;
use uuid::Uuid;

use crate::private;

const LOCK_FILE: &str = "synapse.lock";
/// What tells this folder from others, however often its gateway is started.
const ID_FILE: &str = "synapse.id";

/// A data folder that belongs to this process until the value is dropped or the process ends, however
/// it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    id: Uuid,
    instance: Uuid,
    /// The system releases the lock with the file.
    lock: File,
}

impl DataDir {
    /// Makes the folder if need be and claims it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when another process has it, or when it cannot be written.
    pub fn claim(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        private::create_dir(&path)?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = private::open_file(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(&path, lock)),
            Err(TryLockError::Error(error)) => return Err(private::refused(&lock_path, error)),
        }
        let instance = Uuid::now_v7();
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", process::id()))
            .map_err(|error| private::refused(&lock_path, error))?;
        let id = id(&path.join(ID_FILE))?;
        Ok(Self { path, id, instance, lock })
    }

    /// Whether a process has this folder now. To find out takes the lock for an instant; where a gateway ended as it
    /// should, not even that, so that the next one finds it free.
    pub fn is_claimed(path: &Path) -> bool {
        let Ok(mut lock) = File::open(path.join(LOCK_FILE)) else { return false };
        let mut holder = String::new();
        let was_released = lock.read_to_string(&mut holder).is_ok() && holder.is_empty();
        !was_released && matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Tells this folder from every other, for good.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells this run of the gateway from every other, by which it recognises its own requests.
    pub fn instance_id(&self) -> Uuid {
        self.instance
    }
}

/// Reads the folder's own id, or makes one where there is none, or none that can be read.
fn id(path: &Path) -> Result<Uuid, StoreError> {
    let refused = |error| private::refused(path, error);
    let mut file = private::open_file(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(refused)?;
    if let Ok(id) = text.trim().parse() {
        return Ok(id);
    }
    let id = Uuid::now_v7();
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{id}")).map_err(refused)?;
    file.sync_all().map_err(refused)?;
    Ok(id)
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // The lock goes in any case; this only spares others from trying it.
        let _ = self.lock.set_len(0);
    }
}

fn taken(path: &Path, mut lock: File) -> StoreError {
    let mut holder = String::new();
    // Only to help: some systems let nobody read a locked file, and it may not be written yet.
    let _ = lock.read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    };
    private::unusable(
        path,
        format!(
            "another gateway{holder} uses this folder; stop it, or give this one a `data_dir` of its own"
        ),
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_folder_cannot_be_claimed_again_until_it_is_released() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = temp.path().join("a/b");
        let first = DataDir::claim(&folder).expect("the first claim");
        let refusal = DataDir::claim(&folder).expect_err("a second claim").to_string();
        assert!(refusal.contains(&format!("process {}", process::id())), "{refusal}");
        assert!(refusal.contains("data_dir"), "{refusal}");
        let (id, before) = (first.id(), first.instance_id());
        drop(first);
        let second = DataDir::claim(&folder).expect("a claim after the release");
        assert_ne!(second.instance_id(), before);
        assert_eq!(second.id(), id, "what is kept for the folder is found again");
        assert_eq!(second.path(), folder);
    }

    #[test]
    fn a_folder_is_claimed_for_as_long_as_somebody_has_it() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        assert!(!DataDir::is_claimed(temp.path()), "nobody ever had it");
        let claim = DataDir::claim(temp.path()).expect("a claim");
        assert!(DataDir::is_claimed(temp.path()));
        drop(claim);
        assert!(!DataDir::is_claimed(temp.path()));
        // As a process leaves it that is killed.
        std::fs::write(temp.path().join(LOCK_FILE), "4711\n").expect("written");
        assert!(!DataDir::is_claimed(temp.path()));
        let _next = DataDir::claim(temp.path()).expect("a claim");
    }

    #[test]
    fn folders_are_claimed_independently() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let _first = DataDir::claim(temp.path().join("one")).expect("the first claim");
        let _second = DataDir::claim(temp.path().join("two")).expect("the second claim");
    }

    #[test]
    fn a_folder_inside_a_file_is_refused_with_a_remedy() {
        let temp = tempfile::NamedTempFile::new().expect("a temporary file");
        let refusal = DataDir::claim(temp.path().join("data")).expect_err("a refusal").to_string();
        assert!(refusal.contains("a part of the path is a file"), "{refusal}");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_data_folder_is_private() {
        use std::os::unix::fs::PermissionsExt;

        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = temp.path().join("data");
        let _claim = DataDir::claim(&folder).expect("a claim");
        let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(LOCK_FILE))), (0o700, 0o600));
    }
}
