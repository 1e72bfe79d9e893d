//! Signed notes (<https://c2sp.org/signed-note>): a text, and below it who signed it with Ed25519. Keys are kept
//! and handed out in the text forms that go with them.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use synapse_core::hex;
use zeroize::Zeroizing;

use crate::files;

/// The kind of key: Ed25519.
const ALGORITHM: u8 = 1;
const SECRET_MARK: &str = "PRIVATE+KEY+";
const SIGNATURE_MARK: &str = "\u{2014} ";

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: the key for checkpoints cannot be used: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{}: others may read the key for checkpoints; give it mode 0600", .0.display())]
    Exposed(PathBuf),
    /// It is no such key.
    #[error("it is not an Ed25519 key for signed notes, or it is damaged")]
    Malformed,
    /// Its name cannot stand in a note.
    #[error("the name of a key has no spaces and no `+`, and is not empty")]
    Name,
    /// The system has no random numbers, or its cryptography fails.
    #[error("a key cannot be made: the system's cryptography fails")]
    Unusable,
}

/// What is wrong with a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not in the form of a signed note.
    #[error("it is not a signed note")]
    Malformed,
    /// None of the known keys has signed it.
    #[error("no known key has signed it")]
    Unsigned,
    /// It names a known key, but that key has not signed this text.
    #[error("its signature does not fit its text")]
    Forged,
}

/// Four bytes that stand for a key beside its name.
fn key_id(name: &str, public: &[u8]) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(name).chain_update([b'\n', ALGORITHM]).chain_update(public).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// `NAME+ID+KEY`, as both forms of a key have it.
fn read_form(text: &str) -> Option<(&str, &str, Zeroizing<Vec<u8>>)> {
    let (name, rest) = text.trim().split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let bytes = Zeroizing::new(STANDARD.decode(key).ok()?);
    (bytes.len() == 33 && bytes[0] == ALGORITHM && !name.is_empty()).then_some((name, id, bytes))
}

/// The key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::Name`], [`KeyError::Unusable`].
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| KeyError::Unusable)?;
        Self::from_seed(name, seed.as_ref())
    }

    fn from_seed(name: &str, seed: &[u8]) -> Result<Self, KeyError> {
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(KeyError::Name);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Malformed)?;
        let key: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Unusable)?;
        let public = PublicKey { name: name.to_owned(), id: key_id(name, &key), key };
        Ok(Self { pair, public })
    }

    /// Reads the key in this file, or makes one of that name and keeps it there, for its owner alone.
    ///
    /// # Errors
    /// [`KeyError`]; a file that others may read is refused.
    pub fn load_or_generate(path: &Path, name: &str) -> Result<Self, KeyError> {
        let fail = |source| KeyError::File { path: path.to_owned(), source };
        match files::read_private(path) {
            Ok(Some(text)) => Self::read(&text),
            Ok(None) => Err(KeyError::Exposed(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate(name)?;
                let text = key.write()?;
                files::replace(path, |file| file.write_all(text.as_bytes())).map_err(fail)?;
                Ok(key)
            }
            Err(error) => Err(fail(error)),
        }
    }

    fn read(text: &str) -> Result<Self, KeyError> {
        let form = text.trim().strip_prefix(SECRET_MARK).and_then(read_form);
        let (name, id, bytes) = form.ok_or(KeyError::Malformed)?;
        let key = Self::from_seed(name, &bytes[1..])?;
        if hex(&key.public.id) == id { Ok(key) } else { Err(KeyError::Malformed) }
    }

    fn write(&self) -> Result<Zeroizing<String>, KeyError> {
        use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};

        let seed = self.pair.seed().map_err(|_| KeyError::Unusable)?;
        let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| KeyError::Unusable)?;
        let mut bytes = Zeroizing::new(vec![ALGORITHM]);
        bytes.extend_from_slice(seed.as_ref());
        let key = Zeroizing::new(STANDARD.encode(&bytes));
        Ok(Zeroizing::new(format!(
            "{SECRET_MARK}{}+{}+{}\n",
            self.public.name,
            hex(&self.public.id),
            key.as_str()
        )))
    }

    /// The key that verifies.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A note of this text, which ends in a line feed and has no empty line at its end.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signed = [self.public.id.as_slice(), signature.as_ref()].concat();
        format!("{text}\n{SIGNATURE_MARK}{} {}\n", self.public.name, STANDARD.encode(signed))
    }
}

/// The key that verifies what one key has signed. Its text form is that of a note's verifier key: `NAME+ID+KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [[ALGORITHM].as_slice(), &self.key].concat();
        write!(f, "{}+{}+{}", self.name, hex(&self.id), STANDARD.encode(bytes))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, bytes) = read_form(text).ok_or(KeyError::Malformed)?;
        let key: [u8; 32] = bytes[1..].try_into().map_err(|_| KeyError::Malformed)?;
        let public = Self { name: name.to_owned(), id: key_id(name, &key), key };
        if hex(&public.id) == id { Ok(public) } else { Err(KeyError::Malformed) }
    }
}

/// The text of a note that one of these keys has signed.
///
/// # Errors
/// [`NoteError`].
pub fn open<'n>(note: &'n str, keys: &[PublicKey]) -> Result<&'n str, NoteError> {
    let (text, signatures) = split(note).ok_or(NoteError::Malformed)?;
    let mut is_signed = false;
    for line in signatures.lines() {
        let (name, signature) = signature(line).ok_or(NoteError::Malformed)?;
        let (id, signature) = signature.split_at(4);
        // By the text, notes are those of keys that are known; others have signed for others.
        let Some(key) = keys.iter().find(|key| key.name == name && key.id == id) else { continue };
        let verified = UnparsedPublicKey::new(&ED25519, &key.key).verify(text.as_bytes(), signature);
        verified.map_err(|_| NoteError::Forged)?;
        is_signed = true;
    }
    if is_signed { Ok(text) } else { Err(NoteError::Unsigned) }
}

/// The text of a note, whoever has signed it.
pub(crate) fn text(note: &str) -> Option<&str> {
    split(note).map(|(text, _)| text)
}

/// Whether it has the form of a note.
pub(crate) fn is_note(note: &str) -> bool {
    split(note).is_some_and(|(_, signatures)| signatures.lines().all(|line| signature(line).is_some()))
}

/// Whether a line has the form of a signature.
pub(crate) fn is_signature(line: &str) -> bool {
    line.strip_suffix('\n').is_some_and(|line| signature(line).is_some())
}

/// The signed text with its last line feed, and the lines of signatures.
fn split(note: &str) -> Option<(&str, &str)> {
    let end = note.rfind("\n\n")? + 1;
    let (text, signatures) = (&note[..end], &note[end + 1..]);
    let is_text = text.len() > 1 && !text.chars().any(|c| c.is_control() && c != '\n');
    (is_text && signatures.ends_with('\n') && signatures.len() > 1).then_some((text, signatures))
}

/// The name in a line, and what stands behind it: the key's identifier and its signature.
fn signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
    let bytes = STANDARD.decode(signature).ok()?;
    (bytes.len() >= 4 + 64).then_some((name, bytes))
}
