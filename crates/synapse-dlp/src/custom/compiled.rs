//! Custom rules, ready for use.

use std::ops::Range;

use regex_automata::{Input, meta::Regex};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{CustomKind, CustomRule, RuleError, dictionary::Dictionary, exact::Exact};
use crate::{finding::Category, window::is_delimiter};

/// The longest match that a text which streams by is held back for.
pub(super) const LONGEST: usize = 512;

/// How large an expression may become, in bytes.
const EXPRESSION: usize = 1 << 20;

/// For so many matches in a text, a longer one is looked for to the text's end;
const PATIENCE: usize = 64;
/// then so many bytes behind the place where it might have ended first, and on for as long as it goes on.
const NEAR: usize = 64;

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
    /// `endless`: whether the expression itself bounds nothing.
    Regex {
        regex: Box<Regex>,
        longest: usize,
        endless: bool,
    },
    Dictionary(Box<Dictionary>),
    Exact(Exact),
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
                let dictionary = Dictionary::new(words, *whole_words, *case_sensitive)?;
                let reach = dictionary.longest();
                (Matcher::Dictionary(Box::new(dictionary)), Some(reach))
            }
            CustomKind::ExactMatch { salt, hmacs, max_words } => {
                if hmacs.is_empty() {
                    return Err(RuleError::Empty("hmacs"));
                }
                let reach = if *max_words > 1 { max_words.saturating_mul(WORD).min(LONGEST) } else { 0 };
                (Matcher::Exact(Exact::new(salt, hmacs, *max_words)), Some(reach))
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
            Matcher::Regex { regex, longest, endless } => {
                let mut report = |found: Range<usize>| {
                    let end = text.floor_char_boundary(found.end.min(found.start.saturating_add(*longest)));
                    sink(&self.category, found.start..end);
                };
                if *endless {
                    find_endless(regex, text, &mut report);
                } else {
                    regex.find_iter(text).for_each(|found| report(found.range()));
                }
            }
            Matcher::Dictionary(dictionary) => {
                dictionary.find(text, &mut |range| sink(&self.category, range));
            }
            Matcher::Exact(exact) => exact.find(text, &mut |range| sink(&self.category, range)),
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
    let endless = hir.properties().maximum_len().is_none();
    let reach = bound.map(|bound| if crosses_tokens(&hir) { bound } else { 0 });
    // Without a bound on what it matches, a token is all that a rule sees at once.
    Ok((Matcher::Regex { regex: Box::new(regex), longest: bound.unwrap_or(usize::MAX), endless }, reach))
}

/// Reports the matches of an expression that bounds nothing, in time linear in the text. Behind a short match the
/// search may have looked for a longer one to the end of the text in vain, and would do so again for the next.
fn find_endless(regex: &Regex, text: &str, report: &mut dyn FnMut(Range<usize>)) {
    let mut at = 0;
    let mut count = 0;
    let first_end = |at: usize| regex.search_half(&Input::new(text).range(at..).earliest(true));
    while let Some(first) = first_end(at) {
        let mut reach = if count < PATIENCE { text.len() } else { NEAR };
        let found = loop {
            let upto = text.len().min(first.offset().saturating_add(reach));
            let found = regex.search(&Input::new(text).range(at..upto));
            if found.as_ref().is_none_or(|found| found.end() < upto || upto == text.len()) {
                break found;
            }
            reach = reach.saturating_mul(4);
        };
        let Some(found) = found else { break };
        report(found.range());
        at = found.end();
        count += 1;
    }
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
