//! Issued keys: `<prefix>_<id>_<secret><checksum>`, where the prefix tells what a key is for. The checksum
//! refuses a mistyped key without a look-up; only a hash of the whole key is ever stored.

use std::{fmt, marker::PhantomData};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::id::KeyId;

const ID_LEN: usize = 8;
const SECRET_LEN: usize = 30;
const CHECKSUM_LEN: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a key is issued for. A key for one purpose is never read as one for another.
pub trait Purpose {
    /// How its keys begin, underscore included.
    const PREFIX: &'static str;
}

/// To call models.
pub enum Calling {}

impl Purpose for Calling {
    const PREFIX: &'static str = "syn_";
}

/// To connect a worker.
pub enum Connecting {}

impl Purpose for Connecting {
    const PREFIX: &'static str = "synw_";
}

/// A caller's complete key.
pub type ApiKey = IssuedKey<Calling>;

/// To administer the gateway.
pub enum Administering {}

impl Purpose for Administering {
    const PREFIX: &'static str = "syna_";
}

/// An administrator's complete token.
pub type AdminToken = IssuedKey<Administering>;

/// A worker's complete key.
pub type WorkerSecret = IssuedKey<Connecting>;

/// A complete key. It exists only between its making and its first showing, and while a credential is
/// being checked.
pub struct IssuedKey<P> {
    text: String,
    id: KeyId,
    purpose: PhantomData<P>,
}

impl<P: Purpose> IssuedKey<P> {
    /// A new random key: 8 characters of id, 30 of secret (178 bits), 6 of checksum.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Self::generate_for(&random_base62(ID_LEN)?.into())
    }

    /// A new secret for a key that was issued before: what a rotation hands out.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate_for(id: &KeyId) -> Result<Self, getrandom::Error> {
        let body = format!("{}{id}_{}", P::PREFIX, random_base62(SECRET_LEN)?);
        Ok(Self { text: format!("{body}{}", checksum(&body)), id: id.clone(), purpose: PhantomData })
    }

    /// Reads a key of this shape whose checksum fits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(P::PREFIX)?;
        let (id, tail) = rest.split_once('_')?;
        let base62 = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric());
        if id.len() != ID_LEN || tail.len() != SECRET_LEN + CHECKSUM_LEN || !base62(id) || !base62(tail) {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM_LEN);
        (checksum(body) == sum).then(|| Self { text: text.to_owned(), id: id.into(), purpose: PhantomData })
    }

    /// The public half.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The whole key, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is stored of the key.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.text)
    }
}

impl<P: Purpose> fmt::Debug for IssuedKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedKey({}{}_…)", P::PREFIX, self.id)
    }
}

/// Whether `text` has the shape of an issued key, whatever its purpose.
pub fn is_issued(text: &str) -> bool {
    ApiKey::parse(text).is_some() || WorkerSecret::parse(text).is_some() || AdminToken::parse(text).is_some()
}

/// SHA-256 of a key. A fast hash is right here: an issued secret has 178 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a credential as the caller sends it.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// From the bytes of a store.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For a store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// `len` characters, each of the 62 equally likely.
fn random_base62(len: usize) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(len);
    let mut pool = [0u8; 64];
    while text.len() < len {
        getrandom::fill(&mut pool)?;
        // 248 = 4 × 62: a remainder of anything above would favour the first characters.
        let fair = pool.iter().filter(|&&b| b < 248).map(|&b| char::from(BASE62[usize::from(b % 62)]));
        text.extend(fair.take(len - text.len()));
    }
    Ok(text)
}

/// CRC-32 of `body` in six base-62 digits, most significant first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [0u8; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|&b| char::from(b)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: &str = "syn_AbCd1234_0123456789abcdefghijABCDEFGHIJ2MJR04";

    #[test]
    fn the_checksum_is_crc32_in_base_62() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum("123456789"), "3jZRME");
        assert_eq!(checksum(""), "000000");
    }

    #[test]
    fn a_generated_key_reads_back_as_itself() {
        let key = ApiKey::generate().expect("randomness");
        let read = ApiKey::parse(key.reveal()).expect("a well-formed key");
        assert_eq!(read.id(), key.id());
        assert!(read.hash().matches(&key.hash()));
        assert_eq!(key.reveal().len(), KNOWN.len());
    }

    #[test]
    fn a_rotated_key_keeps_its_id_and_changes_its_secret() {
        let old = ApiKey::generate().expect("randomness");
        let new = ApiKey::generate_for(old.id()).expect("randomness");
        assert_eq!(new.id(), old.id());
        assert!(!new.hash().matches(&old.hash()));
        assert_eq!(ApiKey::parse(new.reveal()).map(|key| key.id().clone()), Some(old.id().clone()));
    }

    #[test]
    fn only_the_exact_shape_of_a_key_is_read() {
        assert_eq!(ApiKey::parse(KNOWN).map(|key| key.id().to_string()), Some("AbCd1234".into()));
        let long = format!("{KNOWN}0");
        for text in
            ["", "syn_", "sk-1234", &KNOWN[1..], &KNOWN[..KNOWN.len() - 1], &long, "syn_ä_ö", "syn_AbCd1234"]
        {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_never_prints_its_secret() {
        let key = ApiKey::parse(KNOWN).expect("a well-formed key");
        assert_eq!(format!("{key:?} {:?}", key.hash()), "IssuedKey(syn_AbCd1234_…) SecretHash(…)");
    }

    #[test]
    fn a_key_for_one_purpose_is_not_read_as_one_for_another() {
        let (caller, worker) =
            (ApiKey::generate().expect("randomness"), WorkerSecret::generate().expect("randomness"));
        assert!(worker.reveal().starts_with(&format!("synw_{}_", worker.id())), "{worker:?}");
        assert!(WorkerSecret::parse(worker.reveal()).is_some() && ApiKey::parse(caller.reveal()).is_some());
        assert!(ApiKey::parse(worker.reveal()).is_none() && WorkerSecret::parse(caller.reveal()).is_none());
        assert!(is_issued(worker.reveal()) && is_issued(caller.reveal()) && !is_issued("synw_my-own"));
    }

    proptest! {
        #[test]
        fn a_key_with_one_character_mistyped_is_refused(at in 0..KNOWN.len(), typed in "[0-9A-Za-z_]") {
            let mut text = KNOWN.to_owned();
            text.replace_range(at..=at, &typed);
            prop_assert_eq!(ApiKey::parse(&text).is_some(), text == KNOWN);
        }

        #[test]
        fn two_swapped_neighbours_are_noticed(at in 0..KNOWN.len() - 1) {
            let mut bytes = KNOWN.as_bytes().to_vec();
            bytes.swap(at, at + 1);
            let text = String::from_utf8(bytes).expect("still ASCII");
            prop_assert_eq!(ApiKey::parse(&text).is_some(), text == KNOWN);
        }

        #[test]
        fn no_text_makes_the_parser_stumble(text in "(syn_)?\\PC{0,60}") {
            let _ = ApiKey::parse(&text);
        }
    }
}
