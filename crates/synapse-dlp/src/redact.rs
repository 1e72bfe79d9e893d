//! Placeholders in the place of findings, and the way back.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::{self, Write as _},
};

use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    finding::{Action, Finding},
    policy::{Placeholder, Policy},
};

/// How many values one request may have remembered; further ones get a label, from which nothing comes back.
const MAX_VALUES: usize = 4096;
/// How many bytes of values.
const MAX_BYTES: usize = 1 << 20;

/// The placeholders of one request. The same value has the same one wherever it stands.
pub struct Placeholders {
    kind: Placeholder,
    by_value: HashMap<String, String>,
    by_name: HashMap<String, Zeroizing<String>>,
    counts: HashMap<String, usize>,
    bytes: usize,
    /// The length of the longest placeholder.
    longest: usize,
}

impl Placeholders {
    /// For a request under this policy.
    pub fn new(policy: &Policy) -> Self {
        Self {
            kind: policy.placeholder(),
            by_value: HashMap::new(),
            by_name: HashMap::new(),
            counts: HashMap::new(),
            bytes: 0,
            longest: 0,
        }
    }

    /// `text` with a placeholder for each finding whose action asks for one. `findings` are those of `text`,
    /// in order.
    pub fn redact<'t>(&mut self, text: &'t str, findings: &[Finding]) -> Cow<'t, str> {
        replace(text, findings, |finding, value| match self.kind {
            Placeholder::Label => label_of(finding),
            Placeholder::Tokenise => self.token(finding, value),
        })
    }

    /// The numbered placeholder of a value, which is remembered.
    fn token(&mut self, finding: &Finding, value: &str) -> String {
        if let Some(known) = self.by_value.get(value) {
            return known.clone();
        }
        if self.by_value.len() >= MAX_VALUES || self.bytes + value.len() > MAX_BYTES {
            return label_of(finding);
        }
        let name = token_name(finding.category.as_str());
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let token = format!("[{name}_{count}]");
        self.bytes += value.len();
        self.longest = self.longest.max(token.len());
        self.by_name.insert(token.clone(), Zeroizing::new(value.to_owned()));
        self.by_value.insert(value.to_owned(), token.clone());
        token
    }

    /// Whether any value can be put back.
    pub fn has_values(&self) -> bool {
        !self.by_name.is_empty()
    }

    /// Where in a text that goes on a placeholder begins whose end has not come.
    pub fn open_at(&self, text: &str) -> Option<usize> {
        let at = memchr::memrchr(b'[', text.as_bytes())?;
        let tail = &text.as_bytes()[at + 1..];
        let open = tail.len() + 1 < self.longest
            && tail.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
        open.then_some(at)
    }

    /// `text` with every numbered placeholder of this request replaced by the value it stands for.
    pub fn restore<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.by_name.is_empty() || memchr::memchr(b'[', text.as_bytes()).is_none() {
            return Cow::Borrowed(text);
        }
        let mut restored = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'[', rest.as_bytes()) {
            restored.push_str(&rest[..at]);
            rest = &rest[at..];
            let (shown, length) = self.at_bracket(rest);
            restored.push_str(shown);
            rest = &rest[length..];
        }
        restored.push_str(rest);
        Cow::Owned(restored)
    }

    /// What stands for the beginning of `rest`, which is `[`, and how much of it that stands for.
    fn at_bracket<'s>(&'s self, rest: &'s str) -> (&'s str, usize) {
        let within = &rest.as_bytes()[..rest.len().min(self.longest)];
        let name = memchr::memchr(b']', within).map(|end| &rest[..=end]);
        match name.and_then(|name| Some((name, self.by_name.get(name)?))) {
            Some((name, value)) => (value, name.len()),
            None => ("[", 1),
        }
    }
}

impl Drop for Placeholders {
    fn drop(&mut self) {
        self.by_value.drain().for_each(|(mut value, _)| value.zeroize());
    }
}

impl fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placeholders({} values)", self.by_name.len())
    }
}

/// `text` with a label for each finding whose action asks for a placeholder: nothing comes back from it. This
/// is what replies get, so that what was taken out of one is not put back in.
pub fn label<'t>(text: &'t str, findings: &[Finding]) -> Cow<'t, str> {
    replace(text, findings, |finding, _| label_of(finding))
}

fn replace<'t>(
    text: &'t str,
    findings: &[Finding],
    mut placeholder: impl FnMut(&Finding, &str) -> String,
) -> Cow<'t, str> {
    if findings.iter().all(|finding| finding.action < Action::Redact) {
        return Cow::Borrowed(text);
    }
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for finding in findings.iter().filter(|finding| finding.action >= Action::Redact) {
        let (Some(before), Some(value)) =
            (text.get(done..finding.range.start), text.get(finding.range.clone()))
        else {
            continue;
        };
        redacted.push_str(before);
        redacted.push_str(&placeholder(finding, value));
        done = finding.range.end;
    }
    redacted.push_str(&text[done..]);
    Cow::Owned(redacted)
}

fn label_of(finding: &Finding) -> String {
    let mut label = String::from("[REDACTED:");
    // Writing to a string does not fail.
    let _ = write!(label, "{}]", finding.category);
    label
}

/// A category's name as part of a numbered placeholder.
fn token_name(category: &str) -> String {
    category.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::Category,
        hit::{Certainty, Severity},
        policy::PolicySpec,
    };

    fn placeholders() -> Placeholders {
        let spec = PolicySpec { placeholder: Placeholder::Tokenise, ..PolicySpec::cloud() };
        Placeholders::new(&Policy::compile(spec).unwrap())
    }

    fn findings(text: &str, values: &[&str], action: Action) -> Vec<Finding> {
        let finding = |value: &&str| {
            let start = text.find(value).unwrap();
            Finding {
                category: Category::built_in("us_ssn"),
                severity: Severity::High,
                action,
                certainty: Certainty::Sure,
                range: start..start + value.len(),
            }
        };
        values.iter().map(finding).collect()
    }

    fn redacted(placeholders: &mut Placeholders, text: &str, values: &[&str]) -> String {
        placeholders.redact(text, &findings(text, values, Action::Redact)).into_owned()
    }

    #[test]
    fn the_same_value_has_the_same_placeholder() {
        let mut placeholders = placeholders();
        assert_eq!(
            redacted(&mut placeholders, "a is one, b two", &["one", "two"]),
            "a is [US_SSN_1], b [US_SSN_2]"
        );
        assert_eq!(redacted(&mut placeholders, "again two", &["two"]), "again [US_SSN_2]");
    }

    #[test]
    fn alerts_change_nothing() {
        let text = "a is one";
        let found = findings(text, &["one"], Action::Alert);
        assert!(matches!(placeholders().redact(text, &found), Cow::Borrowed("a is one")));
    }

    /// What becomes of a text in pieces of this length.
    fn restored(placeholders: &Placeholders, text: &str, size: usize) -> String {
        let (mut out, mut held) = (String::new(), String::new());
        for piece in text.as_bytes().chunks(size) {
            held.push_str(std::str::from_utf8(piece).unwrap());
            let rest = held.split_off(placeholders.open_at(&held).unwrap_or(held.len()));
            out.push_str(&placeholders.restore(&held));
            held = rest;
        }
        out + &placeholders.restore(&held)
    }

    #[test]
    fn placeholders_become_values_again_whole_and_in_pieces() {
        let mut placeholders = placeholders();
        let text = redacted(&mut placeholders, "[a] one [[ two ]", &["one", "two"]);
        assert_eq!(placeholders.restore(&text), "[a] one [[ two ]");
        for size in 1..text.len() {
            assert_eq!(restored(&placeholders, &text, size), "[a] one [[ two ]", "in pieces of {size}");
        }
    }

    #[test]
    fn only_what_may_be_a_placeholder_waits() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        assert_eq!(placeholders.open_at("see [US_SS"), Some(4));
        for text in ["see", "[US_SSN is", "[US_SSN_1]", "[US_SSN_10", "[us"] {
            assert_eq!(placeholders.open_at(text), None, "{text}");
        }
    }

    #[test]
    fn brackets_without_an_end_are_looked_at_once() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        // Each of them up to the end of the text would take many minutes.
        let text = "[".repeat(4 << 20);
        assert_eq!(placeholders.restore(&text), text);
    }

    #[test]
    fn a_request_has_no_more_values_than_fit() {
        let mut placeholders = placeholders();
        for number in 0..MAX_VALUES {
            redacted(&mut placeholders, &format!("v{number}"), &[&format!("v{number}")]);
        }
        assert_eq!(redacted(&mut placeholders, "one more", &["one"]), "[REDACTED:us_ssn] more");
    }

    #[test]
    fn values_do_not_show_when_printed() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        assert_eq!(format!("{placeholders:?}"), "Placeholders(1 values)");
    }
}
