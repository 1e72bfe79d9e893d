//! Made-up secrets of every kind, from seeds, for tests.

use super::{formats::FORMATS, pattern::Pattern, vendors::VENDORS};

/// A linear congruential generator.
pub struct Random(pub u64);

impl Random {
    /// A number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Characters of an alphabet.
    pub fn text(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

pub(crate) const ALPHANUMERIC: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A made-up secret: its category, the secret, and a text that has it.
pub struct Sample {
    /// What it is found as.
    pub category: &'static str,
    /// The secret.
    pub secret: String,
    /// The text.
    pub text: String,
}

/// One token of every row's every pattern.
pub fn formats(seed: u64) -> Vec<Sample> {
    let mut random = Random(seed);
    let patterns = FORMATS.iter().flat_map(|(name, _, text)| text.split(' ').map(move |text| (*name, text)));
    patterns
        .map(|(category, pattern)| {
            let secret = Pattern::parse(pattern).sample(&mut random);
            let text = format!("Please look at this: {secret} and tell me why.");
            Sample { category, secret, text }
        })
        .collect()
}

/// One assignment of every vendor's value.
pub fn vendors(seed: u64) -> Vec<Sample> {
    let mut random = Random(seed);
    VENDORS
        .iter()
        .map(|(category, _, names, patterns)| {
            let name = names.split('|').next().unwrap_or_default().trim_start_matches('=');
            let secret = Pattern::parse(patterns.split(' ').next().unwrap_or_default()).sample(&mut random);
            let text = format!("This is in my file:\n{name}_key = \"{secret}\"\nWhy does it fail?");
            Sample { category, secret, text }
        })
        .collect()
}

/// What has neither a format nor a vendor.
pub fn others(seed: u64) -> Vec<Sample> {
    let mut random = Random(seed);
    let token = random.text(ALPHANUMERIC, 28) + "7a";
    let password = random.text(ALPHANUMERIC, 12) + "1x";
    let lines: Vec<String> = (0..8).map(|_| random.text(ALPHANUMERIC, 64)).collect();
    let key = format!("-----BEGIN RSA {0}-----\n{1}\n-----END RSA {0}-----", "PRIVATE KEY", lines.join("\n"));
    let jwt = ["eyJ", ".eyJ", "."].map(|part| format!("{part}{}", random.text(ALPHANUMERIC, 30))).concat();
    let url = format!("postgres://admin:{password}@db.example.com:5432");
    let sample = |category, secret: &str, text: String| Sample { category, secret: secret.to_owned(), text };
    vec![
        sample("private_key", &key, format!("Here it is:\n{key}\nThanks")),
        sample(
            "private_key",
            &key.replace('\n', "\\n"),
            format!("{{\"key\": \"{}\"}}", key.replace('\n', "\\n")),
        ),
        sample("jwt", &jwt, format!("{{\"authorization\": \"{jwt}\"}}")),
        sample("connection_string", &url, format!("DATABASE={url}/main?x=1")),
        sample("authorization_header", &token, format!("-H 'Authorization: Bearer {token}'")),
        sample("generic_secret", &token, format!("export APP_SECRET={token}\n")),
    ]
}
