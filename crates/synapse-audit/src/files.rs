//! Small files that only their owner may read, replaced as a whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Makes a folder and its parents for the owner alone; one that exists stays as it is.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new file for the owner alone; what was there is gone.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// A new file for the owner alone; an error where there is one.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The text of a file; nothing, where others may read it too.
pub(crate) fn read_private(path: &Path) -> io::Result<Option<zeroize::Zeroizing<String>>> {
    let mut file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Ok(None);
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Replaces a file by what is written, on disk when this returns: whole, or as it was.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = create(&beside)?;
    write(&mut file)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Replaces a file by this text: whole, or as it was; for its owner alone, and on disk when this returns.
///
/// # Errors
/// When the system refuses.
pub fn replace_text(path: &Path, text: &str) -> io::Result<()> {
    replace(path, |file| io::Write::write_all(file, text.as_bytes()))
}

/// Adds a file, on disk when this returns, as a whole or not at all; an error where there is one of that name.
pub(crate) fn add(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", uuid::Uuid::now_v7()));
    let beside = PathBuf::from(beside);
    let mut file = create_new(&beside)?;
    let added = write(&mut file).and_then(|()| file.sync_data()).and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    added?;
    sync_parent(path)
}

/// Puts on disk which files a file's folder has.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()
    })
}
