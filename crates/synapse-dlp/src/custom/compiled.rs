//! Custom rules, ready for use.

use std::{collections::HashSet, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};
use hmac::{Hmac, Mac};
use regex_automata::meta::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};
use sha2::Sha256;

use super::{CustomKind, CustomRule, RuleError, keyed, words};
use crate::{finding::Category, window::is_delimiter};

/// The longest match that a text which streams by is held back for.
const LONGEST: usize = 512;

/// How large an expression may become, in bytes.
const EXPRESSION: usize = 1 << 20;

/// What may stand between the words of an exact value, at most, and how long they are taken to be.
const WORD: usize = 32;

/// One rule.
pub(crate) struct Compiled {
    category: Category,
    matcher: Matcher,
    /// How much it needs to see at once; none when it needs all.
    reach: Option<usize>,
    buffer: bool,
}

enum Matcher {
    Regex { regex: Box<Regex>, longest: usize },
    Dictionary { search: AhoCorasick, whole_words: bool },
    Exact { mac: Box<Hmac<Sha256>>, hmacs: HashSet<[u8; 32]>, max_words: usize },
}

impl Compiled {
    /// Makes a rule ready. `in_replies`: whether replies are searched for it.
    pub(super) fn new(category: Category, rule: &CustomRule, in_replies: bool) -> Result<Self, RuleError> {
        let streams = in_replies && !rule.buffer;
        let (matcher, reach) = match &rule.kind {
            CustomKind::Regex { pattern, examples, counter_examples, max_len } => {
                let default = streams.then_some(LONGEST);
                expression(pattern, examples, counter_examples, *max_len, default)?
            }
            CustomKind::Dictionary { words, whole_words, case_sensitive } => {
                dictionary(words, *whole_words, *case_sensitive)?
            }
            CustomKind::ExactMatch { salt, hmacs, max_words } => {
                if hmacs.is_empty() {
                    return Err(RuleError::Empty("hmacs"));
                }
                let reach = if *max_words > 1 { max_words.saturating_mul(WORD).min(LONGEST) } else { 0 };
                let mac = Box::new(keyed(salt));
                (Matcher::Exact { mac, hmacs: hmacs.clone(), max_words: (*max_words).max(1) }, Some(reach))
            }
        };
        match reach {
            Some(reach) if streams && reach > LONGEST => Err(RuleError::TooLong(reach)),
            _ => Ok(Self { category, matcher, reach, buffer: rule.buffer }),
        }
    }

    pub(crate) fn category(&self) -> &Category {
        &self.category
    }

    /// How much of a text that streams by it needs to see at once.
    pub(crate) fn reach(&self) -> usize {
        self.reach.unwrap_or(0)
    }

    /// Whether it needs a text whole.
    pub(crate) fn needs_whole(&self) -> bool {
        self.buffer && self.reach.is_none_or(|reach| reach > LONGEST)
    }

    /// Reports where the rule matches.
    pub(crate) fn find(&self, text: &str, sink: &mut dyn FnMut(&Category, Range<usize>)) {
        match &self.matcher {
            Matcher::Regex { regex, longest } => {
                for found in regex.find_iter(text) {
                    let end = text.floor_char_boundary(found.end().min(found.start() + longest));
                    sink(&self.category, found.start()..end);
                }
            }
            Matcher::Dictionary { search, whole_words } => {
                for found in search.find_iter(text) {
                    if !whole_words || stands_alone(text, found.range()) {
                        sink(&self.category, found.range());
                    }
                }
            }
            Matcher::Exact { mac, hmacs, max_words } => {
                find_exact(text, mac, hmacs, *max_words, &mut |range| sink(&self.category, range));
            }
        }
    }
}

fn expression(
    pattern: &str,
    examples: &[String],
    counter_examples: &[String],
    max_len: Option<usize>,
    default: Option<usize>,
) -> Result<(Matcher, Option<usize>), RuleError> {
    // The first line of an error says what is wrong; the others draw it.
    let unreadable = |error: &dyn ToString| {
        let text = error.to_string();
        RuleError::Pattern(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
    };
    let hir = regex_syntax::parse(pattern).map_err(|error| unreadable(&error))?;
    if hir.properties().minimum_len().is_none_or(|least| least == 0) {
        return Err(RuleError::Pattern("it matches a text without characters".to_owned()));
    }
    let config = Regex::config().nfa_size_limit(Some(EXPRESSION)).onepass_size_limit(Some(EXPRESSION));
    let regex =
        Regex::builder().configure(config).build_from_hir(&hir).map_err(|error| unreadable(&error))?;
    if let Some(at) = examples.iter().position(|example| !regex.is_match(example.as_str())) {
        return Err(RuleError::MissedExample(at));
    }
    if let Some(at) = counter_examples.iter().position(|example| regex.is_match(example.as_str())) {
        return Err(RuleError::FoundCounterExample(at));
    }
    let bound = match (hir.properties().maximum_len(), max_len) {
        (Some(known), Some(set)) => Some(known.min(set)),
        (known, set) => known.or(set).or(default),
    };
    let reach = bound.map(|bound| if crosses_tokens(&hir) { bound } else { 0 });
    // Without a bound on what it matches, a token is all that a rule sees at once.
    Ok((Matcher::Regex { regex: Box::new(regex), longest: bound.unwrap_or(usize::MAX) }, reach))
}

/// Whether an expression can match what stands between tokens.
fn crosses_tokens(hir: &Hir) -> bool {
    let between = || (0..128u8).filter(|byte| is_delimiter(char::from(*byte)));
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => String::from_utf8_lossy(&literal.0).chars().any(is_delimiter),
        HirKind::Class(Class::Unicode(class)) => between().any(|byte| {
            class
                .ranges()
                .iter()
                .any(|range| range.start() <= char::from(byte) && char::from(byte) <= range.end())
        }),
        HirKind::Class(Class::Bytes(class)) => between()
            .any(|byte| class.ranges().iter().any(|range| range.start() <= byte && byte <= range.end())),
        HirKind::Repetition(repetition) => crosses_tokens(&repetition.sub),
        HirKind::Capture(capture) => crosses_tokens(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(crosses_tokens),
    }
}

fn dictionary(
    entries: &[String],
    whole_words: bool,
    case_sensitive: bool,
) -> Result<(Matcher, Option<usize>), RuleError> {
    let mut all: Vec<String> = Vec::new();
    for word in entries.iter().map(|word| word.trim()).filter(|word| !word.is_empty()) {
        all.push(word.to_owned());
        if !case_sensitive && !word.is_ascii() {
            // The search itself folds the case of ASCII letters only.
            all.extend([word.to_lowercase(), word.to_uppercase()]);
        }
    }
    if all.is_empty() {
        return Err(RuleError::Empty("words"));
    }
    let crossing = all.iter().filter(|word| word.chars().any(is_delimiter));
    let reach = crossing.map(|word| word.len()).max().unwrap_or(0);
    let search = AhoCorasick::builder()
        .ascii_case_insensitive(!case_sensitive)
        .match_kind(MatchKind::LeftmostLongest)
        .build(&all)
        .map_err(|error| RuleError::Pattern(error.to_string()))?;
    Ok((Matcher::Dictionary { search, whole_words }, Some(reach)))
}

fn stands_alone(text: &str, range: Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let behind = text[range.end..].chars().next();
    ![before, behind].into_iter().flatten().any(char::is_alphanumeric)
}

/// Looks up every word, and every few that follow each other.
fn find_exact(
    text: &str,
    mac: &Hmac<Sha256>,
    hmacs: &HashSet<[u8; 32]>,
    max_words: usize,
    sink: &mut dyn FnMut(Range<usize>),
) {
    let words: Vec<Range<usize>> = words(text).collect();
    for (at, first) in words.iter().enumerate() {
        let mut mac = mac.clone();
        let mut longest = None;
        for (number, word) in words[at..].iter().take(max_words).enumerate() {
            if number > 0 {
                mac.update(b" ");
            }
            mac.update(text[word.clone()].to_lowercase().as_bytes());
            if hmacs.contains::<[u8; 32]>(&mac.clone().finalize().into_bytes().into()) {
                longest = Some(first.start..word.end);
            }
        }
        if let Some(range) = longest {
            sink(range);
        }
    }
}
