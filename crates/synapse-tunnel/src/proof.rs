//! The proof that a worker has the key it came with, bound to this one connection: both ends put a
//! nonce into it, so that a recorded handshake is worth nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use synapse_core::{hex, key::SecretHash};

/// Sets these proofs apart from whatever else may be made with the same key.
const LABEL: &str = "synapse.tunnel.v1 worker proof";

/// What is proven: who says it, in which connection.
pub(crate) struct Claim<'c> {
    pub(crate) gateway_nonce: &'c str,
    pub(crate) worker_nonce: &'c str,
    pub(crate) name: &'c str,
    pub(crate) instance: &'c str,
}

impl Claim<'_> {
    /// The proof, in hexadecimal.
    pub(crate) fn prove(&self, key: &SecretHash) -> Option<String> {
        Some(hex(&self.mac(key)?.finalize().into_bytes()))
    }

    /// Whether `proof` is right; compares in constant time.
    pub(crate) fn holds(&self, key: &SecretHash, proof: &str) -> bool {
        let (Some(mac), Some(proof)) = (self.mac(key), unhex(proof)) else { return false };
        mac.verify_slice(&proof).is_ok()
    }

    fn mac(&self, key: &SecretHash) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
        for part in [LABEL, self.gateway_nonce, self.worker_nonce, self.name, self.instance] {
            // With its length before it, no part can lend bytes to its neighbour.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Some(mac)
    }
}

/// `N` random bytes in hexadecimal.
///
/// # Errors
/// When the operating system has no randomness to give.
pub(crate) fn random<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| Some((value(pair[0])? * 16 + value(pair[1])?) as u8);
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(byte).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim<'_> = Claim { gateway_nonce: "aa", worker_nonce: "bb", name: "gpu-1", instance: "i" };

    #[test]
    fn a_proof_holds_for_its_own_claim_and_key_alone() {
        let key = SecretHash::of("a key");
        let proof = CLAIM.prove(&key).expect("a proof");
        assert!(CLAIM.holds(&key, &proof));
        assert!(!CLAIM.holds(&SecretHash::of("another key"), &proof));
        for other in [
            Claim { gateway_nonce: "ab", ..CLAIM },
            Claim { worker_nonce: "ba", ..CLAIM },
            Claim { name: "gpu-2", ..CLAIM },
            Claim { instance: "j", ..CLAIM },
            Claim { gateway_nonce: "a", worker_nonce: "abb", ..CLAIM },
        ] {
            assert!(!other.holds(&key, &proof));
        }
    }

    #[test]
    fn what_is_no_proof_does_not_hold() {
        let key = SecretHash::of("a key");
        let proof = CLAIM.prove(&key).expect("a proof");
        for bad in ["", "zz", "é", "0", &proof[..62], &format!("{proof}00")] {
            assert!(!CLAIM.holds(&key, bad), "{bad}");
        }
    }
}
