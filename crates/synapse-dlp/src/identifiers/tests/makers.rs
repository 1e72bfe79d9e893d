//! Makers of values: they write down digits and compute the check digits after them, in their own way.

/// A small generator of numbers, the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    /// As many digits.
    pub(super) fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    /// As many capitals of those.
    pub(super) fn letters(&mut self, count: usize, of: &str) -> String {
        (0..count).map(|_| char::from(of.as_bytes()[self.below(of.len() as u64) as usize])).collect()
    }
}

pub(super) fn values(digits: &str) -> Vec<i64> {
    digits.chars().map(|c| i64::from(c.to_digit(36).expect("a letter or digit"))).collect()
}

pub(super) fn dot(digits: &str, weights: &[i64]) -> i64 {
    values(digits).iter().zip(weights).map(|(value, weight)| value * weight).sum()
}

/// The digits with Luhn's digit after them.
pub(super) fn luhn(body: &str) -> String {
    let turn =
        |(place, value): (usize, &i64)| if place % 2 == 0 { value * 2 / 10 + value * 2 % 10 } else { *value };
    let sum: i64 = values(body).iter().rev().enumerate().map(turn).sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

/// The digits with the one after them that makes the weighted sum, its own weight included, a multiple.
pub(super) fn closing(body: &str, weights: &[i64], own: i64, modulus: i64) -> Option<String> {
    let sum = dot(body, weights);
    (0..10).find(|digit| (sum + own * digit).rem_euclid(modulus) == 0).map(|digit| format!("{body}{digit}"))
}

/// The number modulo another, digit by digit; letters count from ten.
pub(super) fn modulo(text: &str, modulus: i64) -> i64 {
    values(text)
        .iter()
        .fold(0, |rest, value| (if *value > 9 { rest * 100 } else { rest * 10 } + value) % modulus)
}

/// An IBAN of the country over an account.
pub(super) fn iban(country: &str, account: &str) -> String {
    format!("{country}{:02}{account}", 98 - modulo(&format!("{account}{country}00"), 97))
}

/// The digits with the check digit of ISO 7064 mod 11,10.
pub(super) fn hybrid(body: &str) -> String {
    let mut sum = 10;
    for value in values(body) {
        sum = (sum + value) % 10;
        sum = if sum == 0 { 10 } else { sum } * 2 % 11;
    }
    format!("{body}{}", (11 - sum) % 10)
}

/// The value with its last digit, or letter, another one.
pub(super) fn broken(value: &str, by: u8) -> String {
    let (body, last) = value.split_at(value.len() - 1);
    let last = last.as_bytes()[0];
    let next =
        if last.is_ascii_digit() { b'0' + (last - b'0' + by) % 10 } else { b'A' + (last - b'A' + by) % 26 };
    format!("{body}{}", char::from(next))
}
