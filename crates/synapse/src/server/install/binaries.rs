//! The binaries that a gateway offers: its own, and those in a folder. They are read when somebody first
//! asks, away from the requests, and again when they have changed.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::spawn_blocking};

use crate::binary::{Platform, Sum, running};

/// How a file in the folder is named: `synapse-linux-x86_64`.
const PREFIX: &str = "synapse-";
/// The most files of the folder that are offered.
const MAX_FILES: usize = 64;
/// The time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A binary that is offered. It stays what it was, whatever becomes of its name in the file system.
pub(super) struct Binary {
    pub(super) sum: Sum,
    pub(super) length: u64,
    pub(super) file: Arc<File>,
    path: PathBuf,
    stamp: Stamp,
}

/// By what a changed file is told from the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Binary {
    fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let (sum, length) = Sum::of(&file)?;
        Ok(Self { sum, length, file: Arc::new(file), path: path.to_owned(), stamp: Stamp::of(&metadata) })
    }

    fn is_as_before(&self, path: &Path) -> bool {
        self.path == path && fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp)
    }
}

/// All binaries that are offered, by platform.
#[derive(Clone, Default)]
pub(super) struct Offer {
    binaries: BTreeMap<Platform, Arc<Binary>>,
    /// What should be there and cannot be read.
    missing: Vec<PathBuf>,
}

impl Offer {
    /// The one for a platform.
    pub(super) fn find(&self, platform: &Platform) -> Option<&Arc<Binary>> {
        self.binaries.get(platform)
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Platform, &Binary)> {
        self.binaries.iter().map(|(platform, binary)| (platform, &**binary))
    }
}

/// Where the binaries are, and what was found there last.
pub(super) struct Binaries {
    /// The one for the gateway's own platform, where one is named.
    own: Option<PathBuf>,
    offer: watch::Sender<Option<Arc<Offer>>>,
    looked: Mutex<Option<Instant>>,
    is_looking: AtomicBool,
}

impl Binaries {
    /// `own` stands for this gateway's binary on its own platform.
    pub(super) fn new(own: Option<PathBuf>) -> Arc<Self> {
        let (offer, looked, is_looking) = Default::default();
        Arc::new(Self { own, offer, looked, is_looking })
    }

    /// What is offered; waits where that is not known yet.
    pub(super) async fn offer(self: &Arc<Self>, folder: Option<&Path>) -> Arc<Offer> {
        self.look_if_due(folder);
        let mut offer = self.offer.subscribe();
        // The sender lives as long as this does.
        let known = offer.wait_for(Option::is_some).await;
        known.ok().and_then(|offer| offer.clone()).unwrap_or_default()
    }

    /// What is offered, if that is known yet.
    pub(super) fn known(self: &Arc<Self>, folder: Option<&Path>) -> Option<Arc<Offer>> {
        self.look_if_due(folder);
        self.offer.borrow().clone()
    }

    fn look_if_due(self: &Arc<Self>, folder: Option<&Path>) {
        let now = Instant::now();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked.is_none_or(|at| now.duration_since(at) >= LOOK_EVERY);
        if !is_due || self.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        *looked = Some(now);
        drop(looked);
        let looking = Looking(Arc::clone(self));
        let folder = folder.map(Path::to_owned);
        drop(spawn_blocking(move || looking.look(folder.as_deref())));
    }
}

/// One look at the files at a time.
struct Looking(Arc<Binaries>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.is_looking.store(false, Ordering::Release);
    }
}

impl Looking {
    fn look(&self, folder: Option<&Path>) {
        let before = self.0.offer.borrow().clone().unwrap_or_default();
        let mut found = Offer::default();
        for (platform, path) in self.paths(folder) {
            let known = before.find(&platform).filter(|binary| binary.is_as_before(&path)).cloned();
            match known.map_or_else(|| Binary::read(&path).map(Arc::new), Ok) {
                Ok(binary) => drop(found.binaries.insert(platform, binary)),
                Err(error) => {
                    if !before.missing.contains(&path) {
                        tracing::warn!(path = %path.display(), %platform, %error, "a worker's binary cannot be offered");
                    }
                    found.missing.push(path);
                }
            }
        }
        self.0.offer.send_replace(Some(Arc::new(found)));
    }

    /// Where the binaries are: named ones go before those in the folder, and these before this process's.
    fn paths(&self, folder: Option<&Path>) -> BTreeMap<Platform, PathBuf> {
        let mut paths: BTreeMap<_, _> =
            running().ok().map(|path| (Platform::own(), path)).into_iter().collect();
        if let Some(folder) = folder {
            match fs::read_dir(folder) {
                Ok(entries) => {
                    paths.extend(entries.flatten().map(|e| e.path()).filter_map(named).take(MAX_FILES))
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "server.client_binaries cannot be read");
                }
            }
        }
        paths.extend(self.0.own.clone().map(|path| (Platform::own(), path)));
        paths
    }
}

/// The platform that a file of the folder is for.
fn named(path: PathBuf) -> Option<(Platform, PathBuf)> {
    let platform = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
    Some((platform, path))
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn look(binaries: &Arc<Binaries>, folder: Option<&Path>) -> Arc<Offer> {
        Looking(Arc::clone(binaries)).look(folder);
        binaries.offer.borrow().clone().expect("an offer")
    }

    fn sums(offer: &Offer) -> Vec<(&str, String)> {
        offer.iter().map(|(platform, binary)| (platform.as_str(), binary.sum.to_string())).collect()
    }

    fn sum(bytes: &[u8]) -> String {
        Sum::of(bytes).expect("memory").0.to_string()
    }

    #[test]
    fn a_gateway_offers_what_it_runs_and_what_its_folder_has_for_others() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("synapse-plan9-mips"), "a").expect("written");
        for other in ["synapse-plan9", "synapse-PLAN9-mips", "readme", "synapse-a-b.sha256"] {
            fs::write(folder.path().join(other), "b").expect("written");
        }
        let offer = look(&Binaries::new(None), Some(folder.path()));
        let own = File::open(env::current_exe().expect("a path")).expect("this test");
        let own = (Platform::own(), Sum::of(own).expect("this test").0.to_string());
        assert_eq!(sums(&offer), [(own.0.as_str(), own.1), ("plan9-mips", sum(b"a"))]);
    }

    #[test]
    fn a_binary_that_is_named_goes_before_one_in_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = format!("synapse-{}", Platform::own());
        fs::write(folder.path().join(own), "in the folder").expect("written");
        let named = folder.path().join("named");
        fs::write(&named, "named").expect("written");
        let offer = look(&Binaries::new(None), Some(folder.path()));
        assert_eq!(offer.find(&Platform::own()).expect("its own").sum.to_string(), sum(b"in the folder"));
        let offer = look(&Binaries::new(Some(named)), Some(folder.path()));
        assert_eq!(offer.find(&Platform::own()).expect("its own").sum.to_string(), sum(b"named"));
    }

    #[test]
    fn a_binary_is_read_again_only_when_it_has_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("own");
        fs::write(&path, "one").expect("written");
        let binaries = Binaries::new(Some(path.clone()));
        let own = |offer: &Offer| Arc::clone(offer.find(&Platform::own()).expect("its own"));
        let first = own(&look(&binaries, None));
        assert!(Arc::ptr_eq(&first, &own(&look(&binaries, None))));
        fs::write(folder.path().join("next"), "two").expect("written");
        fs::rename(folder.path().join("next"), &path).expect("replaced");
        assert_eq!(own(&look(&binaries, None)).sum.to_string(), sum(b"two"));
        fs::remove_file(&path).expect("removed");
        let offer = look(&binaries, None);
        assert!(offer.find(&Platform::own()).is_none() && offer.missing == [path]);
    }
}
