//! The arithmetic that check digits rest on. Digits come as ASCII and are known to be digits.

/// The value of a digit.
pub(super) fn digit(byte: u8) -> u32 {
    u32::from(byte.wrapping_sub(b'0'))
}

/// The number that a few digits write.
pub(super) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, byte| sum.wrapping_mul(10).wrapping_add(u64::from(digit(*byte))))
}

/// The sum of the digits, each times its weight.
pub(super) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(byte, weight)| digit(*byte) * weight).sum()
}

/// Luhn's sum over all digits, the check digit included; a multiple of ten where it fits.
pub(super) fn luhn_sum(digits: impl DoubleEndedIterator<Item = u32>) -> u32 {
    let double = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    digits.rev().enumerate().map(|(place, d)| if place % 2 == 1 { double[d as usize % 10] } else { d }).sum()
}

/// Whether Luhn's check digit fits.
pub(super) fn luhn(digits: &[u8]) -> bool {
    luhn_sum(digits.iter().map(|byte| digit(*byte))) % 10 == 0
}

/// The remainder by 97 of letters and digits, letters counted from ten. None with anything else in it.
pub(super) fn mod97<'a>(text: impl Iterator<Item = &'a u8>) -> Option<u32> {
    let mut rest = 0_u64;
    for byte in text {
        rest = match byte {
            b'0'..=b'9' => rest * 10 + u64::from(digit(*byte)),
            b'A'..=b'Z' => rest * 100 + u64::from(byte - b'A') + 10,
            _ => return None,
        };
        if rest >= 1 << 56 {
            rest %= 97;
        }
    }
    Some((rest % 97) as u32)
}

/// ISO 7064 mod 11,10, the check digit last.
pub(super) fn mod11_10(digits: &[u8]) -> bool {
    let step = |sum, byte: &u8| ((if sum == 0 { 10 } else { sum }) * 2 % 11 + digit(*byte)) % 10;
    digits.iter().fold(5, step) == 1
}

const D5: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];

const TURN: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];

/// Verhoeff's check over all digits, the check digit last.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    let mut state = 0;
    for (place, byte) in digits.iter().rev().enumerate() {
        let turned = (0..place % 8).fold(digit(*byte) as u8, |d, _| TURN[usize::from(d) % 10]);
        state = D5[usize::from(state)][usize::from(turned) % 10];
    }
    state == 0
}

/// Whether there is such a day.
pub(super) fn is_date(year: u64, month: u64, day: u64) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Whether there is such a day in that year of the last century or of this one.
pub(super) fn is_recent_date(short_year: u64, month: u64, day: u64) -> bool {
    is_date(1900 + short_year, month, day) || is_date(2000 + short_year, month, day)
}
