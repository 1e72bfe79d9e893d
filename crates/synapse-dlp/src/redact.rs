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
        let longest = self.by_name.keys().map(String::len).max().unwrap_or(0);
        let open = tail.len() + 1 < longest
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
            let end = memchr::memchr(b']', rest.as_bytes()).map_or(1, |end| end + 1);
            match self.by_name.get(&rest[..end]) {
                Some(value) => {
                    restored.push_str(value);
                    rest = &rest[end..];
                }
                None => {
                    restored.push('[');
                    rest = &rest[1..];
                }
            }
        }
        restored.push_str(rest);
        Cow::Owned(restored)
    }

    /// The same for a text that streams by.
    pub fn restorer(&self) -> Restorer<'_> {
        let longest = self.by_name.keys().map(String::len).max().unwrap_or(0);
        Restorer { placeholders: self, longest, held: String::new() }
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

/// Puts values back into a text that streams by.
#[derive(Debug)]
pub struct Restorer<'p> {
    placeholders: &'p Placeholders,
    longest: usize,
    held: String,
}

impl Restorer<'_> {
    /// Takes the next piece; gives what may go out. Only what may be the beginning of a placeholder stays.
    pub fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let cut = self.open_placeholder().unwrap_or(self.held.len());
        let rest = self.held.split_off(cut);
        let out = std::mem::replace(&mut self.held, rest);
        self.placeholders.restore(&out).into_owned()
    }

    /// The end of the text: gives what was held.
    pub fn finish(&mut self) -> String {
        let out = std::mem::take(&mut self.held);
        self.placeholders.restore(&out).into_owned()
    }

    /// Where a placeholder begins that may go on in the next piece.
    fn open_placeholder(&self) -> Option<usize> {
        let at = memchr::memrchr(b'[', self.held.as_bytes())?;
        let tail = &self.held.as_bytes()[at + 1..];
        let open = tail.len() + 1 < self.longest
            && tail.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
        open.then_some(at)
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

    #[test]
    fn placeholders_become_values_again_whole_and_in_pieces() {
        let mut placeholders = placeholders();
        let text = redacted(&mut placeholders, "[a] one [[ two ]", &["one", "two"]);
        assert_eq!(placeholders.restore(&text), "[a] one [[ two ]");
        for size in 1..text.len() {
            let mut restorer = placeholders.restorer();
            let pieces = text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap());
            let mut out: String = pieces.map(|piece| restorer.push(piece)).collect();
            out.push_str(&restorer.finish());
            assert_eq!(out, "[a] one [[ two ]", "in pieces of {size}");
        }
    }

    #[test]
    fn only_what_may_be_a_placeholder_waits() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        let mut restorer = placeholders.restorer();
        assert_eq!(restorer.push("see [US_SS"), "see ");
        assert_eq!(restorer.push("N is one] [1"), "[US_SSN is one] ");
        assert_eq!(restorer.push(" of"), "[1 of");
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
