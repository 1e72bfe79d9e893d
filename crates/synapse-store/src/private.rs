//! Files and folders that only the user who runs Synapse may read, and what to say when the system
//! refuses them.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{Error, ErrorKind},
    path::Path,
};

use synapse_core::store::StoreError;

/// Makes the folder and its parents with mode 0700; one that exists stays as it is.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| refused(path, error))
}

/// Opens the file for reading and writing, content untouched; a new one has mode 0600.
pub(crate) fn open_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| refused(path, error))
}

/// Puts a refusal of the file system into words that help.
pub(crate) fn refused(path: &Path, error: Error) -> StoreError {
    let problem = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "this user may not write there; correct the permissions, or choose another `data_dir`"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a part of the path is a file; choose another `data_dir`"
        }
        ErrorKind::IsADirectory => "it is a folder; name a file in it",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full; make room",
        _ => "the system refuses it",
    };
    unusable(path, problem, error)
}

/// A [`StoreError::Unusable`] for a path.
pub(crate) fn unusable(
    path: &Path,
    problem: impl Into<String>,
    source: impl Into<Option<Error>>,
) -> StoreError {
    StoreError::Unusable {
        place: path.display().to_string(),
        problem: problem.into(),
        source: source.into().map(Into::into),
    }
}
