//! Addresses of crypto-currencies, all of which carry a checksum.

use sha2::{Digest, Sha256};

use super::{categories::Cat, keccak::keccak256};
use crate::hit::Certainty;

/// No address is shorter.
pub(super) const SHORTEST: usize = 26;

/// What a word of letters and digits is the address of.
pub(super) fn address(word: &str) -> Option<(Cat, Certainty)> {
    let bytes = word.as_bytes();
    match bytes {
        [b'0', b'x' | b'X', rest @ ..] if rest.len() == 40 => {
            ethereum(rest).then_some((Cat::Ethereum, Certainty::Sure))
        }
        [b'1' | b'3', ..] if (26..=35).contains(&bytes.len()) => {
            base58check(bytes).then_some((Cat::Bitcoin, Certainty::Sure))
        }
        [b'b' | b'B', b'c' | b'C', b'1', rest @ ..] if (11..=59).contains(&rest.len()) => {
            bech32(word).then_some((Cat::Bitcoin, Certainty::Sure))
        }
        _ => None,
    }
}

/// Capitals say the checksum; without any, or with nothing but them, there is none.
fn ethereum(hex: &[u8]) -> bool {
    if !hex.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let lower = hex.to_ascii_lowercase();
    if !hex.iter().any(u8::is_ascii_uppercase) || !hex.iter().any(u8::is_ascii_lowercase) {
        return true;
    }
    let hash = keccak256(&lower);
    hex.iter().enumerate().all(|(place, byte)| {
        let nibble = hash[place / 2] >> (4 * (1 - place % 2)) & 0xF;
        !byte.is_ascii_alphabetic() || byte.is_ascii_uppercase() == (nibble >= 8)
    })
}

fn base58check(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    for letter in text {
        let Some(value) = ALPHABET.iter().position(|known| known == letter) else { return false };
        let mut carry = value as u32;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let hash = Sha256::digest(Sha256::digest(&bytes[..21]));
    matches!(bytes[0], 0 | 5) && hash[..4] == bytes[21..]
}

/// The checksum of bech32, or that of its successor.
fn bech32(word: &str) -> bool {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mixed = word.bytes().any(|b| b.is_ascii_lowercase()) && word.bytes().any(|b| b.is_ascii_uppercase());
    let mut sum = 1_u32;
    let mut step = |value: u32| {
        let top = sum >> 25;
        sum = (sum & 0x1ff_ffff) << 5 ^ value;
        for (bit, part) in GENERATOR.iter().enumerate() {
            sum ^= if top >> bit & 1 == 1 { *part } else { 0 };
        }
    };
    [3, 3, 0, 2, 3].into_iter().for_each(&mut step);
    for byte in word.bytes().skip(3) {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte.to_ascii_lowercase()) else {
            return false;
        };
        step(value as u32);
    }
    !mixed && matches!(sum, 1 | 0x2bc8_30a3)
}
