//! Keccak-256 as it was before SHA-3 was made of it, for texts of one block: what checksums of addresses need.

const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// Where each lane goes, and by how much it turns on its way, from lane 1 on.
const WALK: [(usize, u32); 24] = [
    (10, 1),
    (7, 3),
    (11, 6),
    (17, 10),
    (18, 15),
    (3, 21),
    (5, 28),
    (16, 36),
    (8, 45),
    (21, 55),
    (24, 2),
    (4, 14),
    (15, 27),
    (23, 41),
    (19, 56),
    (13, 8),
    (12, 25),
    (2, 43),
    (20, 62),
    (14, 18),
    (22, 39),
    (9, 61),
    (6, 20),
    (1, 44),
];

/// Bytes that a block takes.
const RATE: usize = 136;

/// The hash of a text shorter than a block; of a longer one, that of its beginning.
pub(super) fn keccak256(text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; RATE];
    let length = text.len().min(RATE - 1);
    block[..length].copy_from_slice(&text[..length]);
    block[length] ^= 0x01;
    block[RATE - 1] ^= 0x80;
    let mut state = [0_u64; 25];
    for (lane, bytes) in state.iter_mut().zip(block.chunks(8)) {
        *lane = bytes.iter().rev().fold(0, |lane, byte| lane << 8 | u64::from(*byte));
    }
    permute(&mut state);
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = (state[place / 8] >> (8 * (place % 8))) as u8;
    }
    hash
}

fn permute(state: &mut [u64; 25]) {
    for round in ROUNDS {
        let mut column = [0; 5];
        state.iter().enumerate().for_each(|(place, lane)| column[place % 5] ^= lane);
        for (place, lane) in state.iter_mut().enumerate() {
            *lane ^= column[(place + 4) % 5] ^ column[(place + 1) % 5].rotate_left(1);
        }
        let mut carried = state[1];
        for (place, turn) in WALK {
            let next = state[place];
            state[place] = carried.rotate_left(turn);
            carried = next;
        }
        for row in state.chunks_mut(5) {
            let old = [row[0], row[1], row[2], row[3], row[4]];
            for (place, lane) in row.iter_mut().enumerate() {
                *lane = old[place] ^ (!old[(place + 1) % 5] & old[(place + 2) % 5]);
            }
        }
        state[0] ^= round;
    }
}

#[cfg(test)]
mod tests {
    use super::keccak256;

    #[test]
    fn an_empty_text_has_the_hash_that_all_of_ethereum_knows() {
        let hash: String = keccak256(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    }
}
