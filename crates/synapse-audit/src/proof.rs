//! The proof that an entry is in the log: a text with all that is needed, checked with the public key alone.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use synapse_core::audit::{
    canonical::{self, Malformed},
    entry::{Digest, Sealed},
};

use crate::{
    chain,
    checkpoint::Checkpoint,
    merkle,
    note::{NoteError, PublicKey},
};

const TITLE: &str = "synapse audit proof 1";

/// What is wrong with a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text is none of a proof.
    #[error("it is not a proof of an entry, or it is damaged")]
    Malformed,
    /// Its entry cannot be read.
    #[error("its entry cannot be read: {0}")]
    Entry(#[from] Malformed),
    /// Its checkpoint is not one of ours.
    #[error("its checkpoint cannot be trusted: {0}")]
    Checkpoint(#[from] NoteError),
    /// The entry is not among those of the checkpoint.
    #[error("the entry is not among those that the checkpoint covers")]
    Unproven,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The entry.
    pub sealed: Sealed,
    /// What vouches for it.
    pub checkpoint: Checkpoint,
}

/// The proof of one entry, from the hashes of all entries that its checkpoint covers, and the checkpoint as the
/// signed note that it is.
///
/// # Errors
/// [`ProofError::Unproven`] when they do not go together, [`ProofError::Checkpoint`].
pub fn prove(
    sealed: &Sealed,
    hashes: &[Digest],
    note: &str,
    keys: &[PublicKey],
) -> Result<String, ProofError> {
    let checkpoint = Checkpoint::open(note, keys)?;
    let index = sealed.seq.checked_sub(checkpoint.first).ok_or(ProofError::Unproven)?;
    let index = usize::try_from(index).map_err(|_| ProofError::Unproven)?;
    let path = merkle::path(hashes, index).ok_or(ProofError::Unproven)?;
    let mut canonical = Vec::new();
    canonical::encode(sealed.chain, sealed.seq, &sealed.entry, &mut canonical);
    let mut text = format!("{TITLE}\nentry {}\n", STANDARD.encode(&canonical));
    for (name, digest) in
        [("prev", &sealed.prev)].into_iter().chain(path.iter().map(|beside| ("path", beside)))
    {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name} {}", STANDARD.encode(digest));
    }
    text.push('\n');
    text.push_str(note);
    // Nobody gets a proof that proves nothing.
    verify(&text, keys)?;
    Ok(text)
}

/// Checks a proof, and tells what it proves. It needs nothing but the public key.
///
/// # Errors
/// [`ProofError`].
pub fn verify(text: &str, keys: &[PublicKey]) -> Result<Proven, ProofError> {
    let (said, note) = text.split_once("\n\n").ok_or(ProofError::Malformed)?;
    let mut lines = said.lines();
    if lines.next() != Some(TITLE) {
        return Err(ProofError::Malformed);
    }
    let mut field = |name: &str| {
        let value = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
        STANDARD.decode(value).ok()
    };
    let canonical = field("entry").ok_or(ProofError::Malformed)?;
    let digest = |bytes: Vec<u8>| Digest::try_from(bytes).map_err(|_| ProofError::Malformed);
    let prev = digest(field("prev").ok_or(ProofError::Malformed)?)?;
    let mut path = Vec::new();
    for _ in 3..said.lines().count() {
        path.push(digest(field("path").ok_or(ProofError::Malformed)?)?);
    }
    let (chain, seq, entry) = canonical::decode(&canonical)?;
    let checkpoint = Checkpoint::open(note, keys)?;
    let hash = chain::hash(&canonical, &prev);
    let index = seq.checked_sub(checkpoint.first).ok_or(ProofError::Unproven)?;
    let leads = merkle::leads(hash, index, checkpoint.size(), &path, &checkpoint.root);
    if chain != checkpoint.chain || !leads {
        return Err(ProofError::Unproven);
    }
    Ok(Proven { sealed: Sealed { chain, seq, prev, hash, entry }, checkpoint })
}
