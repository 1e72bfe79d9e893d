//! Digests of what was asked and answered: by HMAC with a key of the team and the month, or plain. A plain digest
//! of a short prompt can be guessed; one with a key can not, and whoever destroys the key has erased it.
//!
//! Keys lie in a folder, one file each, for their owner alone.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{Timestamp, tz::TimeZone};
use sha2::{Digest as _, Sha256};
use synapse_core::{audit::entry::Digest, hex, id::TeamName};
use zeroize::Zeroizing;

use crate::files;

/// What the log names as the key of plain digests.
pub const PLAIN: &str = "sha256";

const ENDING: &str = ".key";

/// What is digested. The same text has two digests with a key, so that a reply which repeats its prompt does not
/// show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The body of a request.
    Request,
    /// The body of a reply.
    Reply,
}

impl Content {
    /// What stands before the text under a key.
    fn domain(self) -> &'static [u8] {
        match self {
            Self::Request => b"synapse audit request\0",
            Self::Reply => b"synapse audit reply\0",
        }
    }
}

/// The month that a key is for, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u32);

impl Epoch {
    /// The one of this moment.
    pub fn at(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        Self(u32::from(date.year().unsigned_abs()) * 12 + u32::from(date.month().unsigned_abs()) - 1)
    }

    /// When it begins; none beyond the times that there are.
    pub fn start(self) -> Option<Timestamp> {
        let (year, month) = (i16::try_from(self.0 / 12).ok()?, i8::try_from(self.0 % 12 + 1).ok()?);
        let date = jiff::civil::Date::new(year, month, 1).ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    }

    /// The month after it.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

impl std::str::FromStr for Epoch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (year, month) = text.split_once('-').ok_or(())?;
        let (year, month): (u32, u32) = (year.parse().map_err(|_| ())?, month.parse().map_err(|_| ())?);
        let epoch = Self(year.min(9999) * 12 + month.wrapping_sub(1).min(11));
        if epoch.to_string() == text { Ok(epoch) } else { Err(()) }
    }
}

/// How contents are digested: with a key, or plain.
#[derive(Clone)]
pub struct DigestKey {
    name: Arc<str>,
    /// With the key in it already; none for plain digests.
    keyed: Option<Hmac<Sha256>>,
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestKey({})", self.name)
    }
}

impl DigestKey {
    /// Plain SHA-256, which everybody can repeat, and guess.
    pub fn plain() -> Self {
        Self { name: PLAIN.into(), keyed: None }
    }

    fn new(epoch: Epoch, key: &[u8; 32]) -> Self {
        let print = Sha256::new().chain_update(b"synapse audit digest key\0").chain_update(key).finalize();
        let name = format!("{epoch}.{}", hex(&print[..4]));
        Self { name: name.into(), keyed: Hmac::new_from_slice(key).ok() }
    }

    /// What the log names it: the month, and a mark of the key.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Begins a digest, to be fed piece by piece.
    pub fn begin(&self, content: Content) -> Digester {
        Digester(match &self.keyed {
            Some(keyed) => State::Keyed(keyed.clone().chain_update(content.domain())),
            None => State::Plain(Sha256::new()),
        })
    }

    /// The digest of the whole at once.
    pub fn digest(&self, content: Content, bytes: &[u8]) -> Digest {
        self.begin(content).whole(bytes)
    }
}

/// A digest that is being made.
#[derive(Clone)]
pub struct Digester(State);

#[derive(Clone)]
enum State {
    Keyed(Hmac<Sha256>),
    Plain(Sha256),
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// The next piece. How the text was cut makes no difference.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Keyed(keyed) => keyed.update(bytes),
            State::Plain(plain) => plain.update(bytes),
        }
    }

    /// The digest of what there is and this, the last piece.
    pub fn whole(mut self, bytes: &[u8]) -> Digest {
        self.update(bytes);
        self.finish()
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Keyed(keyed) => keyed.finalize().into_bytes().into(),
            State::Plain(plain) => plain.finalize().into(),
        }
    }
}

/// The keys of all teams and months.
#[derive(Debug)]
pub struct KeyRing {
    folder: PathBuf,
    keys: RwLock<HashMap<(TeamName, Epoch), DigestKey>>,
}

impl KeyRing {
    /// Opens the keys in this folder; a new folder has none.
    ///
    /// # Errors
    /// When a file cannot be read, is no key, or can be read by others.
    pub fn open(folder: &Path) -> io::Result<Self> {
        files::create_dir(folder)?;
        let ring = Self { folder: folder.to_owned(), keys: RwLock::default() };
        ring.refresh()?;
        Ok(ring)
    }

    /// Takes up what has changed in the folder: keys that others made, and those that others destroyed.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub fn refresh(&self) -> io::Result<()> {
        let mut keys = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if let Some((team, epoch)) = place_of(&path) {
                keys.insert((team, epoch), DigestKey::new(epoch, &*read(&path)?));
            }
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// The key of a team for a month, if there is one.
    pub fn get(&self, team: &TeamName, epoch: Epoch) -> Option<DigestKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&(team.clone(), epoch)).cloned()
    }

    /// The key of a team for a month. The first one to ask makes it, which writes a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn get_or_make(&self, team: &TeamName, epoch: Epoch) -> io::Result<DigestKey> {
        if let Some(key) = self.get(team, epoch) {
            return Ok(key);
        }
        let path = self.path_of(team, epoch);
        let secret = match make(&path) {
            // Another one was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(&path)?,
            made => made?,
        };
        let key = DigestKey::new(epoch, &secret);
        // Nobody waits for the disk to look up another key.
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert((team.clone(), epoch), key.clone());
        Ok(key)
    }

    /// All keys, with their teams and months: to look for a text that is known.
    pub fn all(&self) -> Vec<(TeamName, Epoch, DigestKey)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|((team, epoch), key)| (team.clone(), *epoch, key.clone())).collect()
    }

    /// Destroys the key of a team for a month: no digest that was made with it says anything any more. Tells whether
    /// there was one. Other processes forget it with their next [`KeyRing::refresh`].
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn destroy(&self, team: &TeamName, epoch: Epoch) -> io::Result<bool> {
        let path = self.path_of(team, epoch);
        // Under this name it is no key any more, whatever becomes of what follows.
        let gone = path.with_extension("gone");
        match fs::rename(&path, &gone) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&(team.clone(), epoch));
        let mut file = fs::File::options().write(true).open(&gone)?;
        // Disks may keep what files no longer have; where they write in place, they do not keep this.
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        file.write_all(&vec![b'0'; length])?;
        file.sync_all()?;
        fs::remove_file(&gone)?;
        files::sync_parent(&path)?;
        Ok(true)
    }

    fn path_of(&self, team: &TeamName, epoch: Epoch) -> PathBuf {
        // Team names may have characters that file names may not.
        let mut name = hex(team.as_str().as_bytes());
        name.push_str(&format!(".{epoch}{ENDING}"));
        self.folder.join(name)
    }
}

/// The team and the month that a file's name tells.
fn place_of(path: &Path) -> Option<(TeamName, Epoch)> {
    let (team, epoch) = path.file_name()?.to_str()?.strip_suffix(ENDING)?.split_once('.')?;
    let bytes: Option<Vec<u8>> =
        (0..team.len()).step_by(2).map(|at| u8::from_str_radix(team.get(at..at + 2)?, 16).ok()).collect();
    Some((TeamName::from(String::from_utf8(bytes?).ok()?), epoch.parse().ok()?))
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let refuse = |why: &str| io::Error::other(format!("{}: {why}", path.display()));
    let text = files::read_private(path)?.ok_or_else(|| refuse("others may read it; give it mode 0600"))?;
    let bytes = STANDARD.decode(text.trim()).ok().map(Zeroizing::new);
    let key = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
    key.map(Zeroizing::new).ok_or_else(|| refuse("it is not a key for digests"))
}

/// Makes a key in a new file, whole or not at all.
fn make(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut()).map_err(|_| io::Error::other("the system has no random numbers"))?;
    let text = Zeroizing::new(STANDARD.encode(*key));
    files::add(path, |file| file.write_all(text.as_bytes()))?;
    Ok(key)
}
