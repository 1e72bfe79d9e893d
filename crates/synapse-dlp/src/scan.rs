//! From detectors' hits to a policy's findings.

use std::{cmp::Reverse, collections::HashSet, ops::Range};

use crate::{
    exfiltration,
    finding::{Action, Category, Direction, Finding},
    hit::{Certainty, Hit},
    identifiers, invisible,
    policy::Policy,
    secrets,
    view::{Kind, Survey, Views},
};

/// Where the token begins that has byte `left`.
fn token_start(text: &str, left: usize) -> usize {
    text.as_bytes()[..left].iter().rposition(u8::is_ascii_whitespace).map_or(0, |space| space + 1)
}

/// Whether what is new in a text, from byte `left` on, may be anything, with what is before it or alone.
fn is_worth_a_look(text: &str, left: usize) -> bool {
    let new = &text[token_start(text, left)..];
    let has = |survey: Survey| survey.may_have_identifiers() || survey.may_have_secrets();
    let spaces = || memchr::memchr_iter(b' ', new.as_bytes()).nth(1).is_some();
    Views::of(new).each().any(|(_, _, survey, _)| has(survey))
        || spaces()
        || Survey::of(text).may_have_secrets()
}

/// What `text` has from byte `left` on.
pub(crate) fn scan(
    policy: &Policy,
    text: &str,
    left: usize,
    direction: Direction,
    all: bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |category: Category, range: Range<usize>, certainty: Certainty| {
        let range = range.start.max(left)..range.end;
        if range.is_empty() || !text.is_char_boundary(range.start) || !text.is_char_boundary(range.end) {
            return;
        }
        let finding = policy.judge(category, certainty, range, direction);
        found.extend(finding.filter(|finding| all || finding.action > Action::Allow));
    };
    if !text.is_ascii() {
        invisible::find(text, &mut |hit| add(Category::built_in(hit.category), hit.range, hit.certainty));
    }
    let has_rules = policy.custom_rules(direction).next().is_some();
    if left > 0 && !has_rules && !is_worth_a_look(text, left) {
        return resolve(found);
    }
    let views = Views::of(text);
    for (view, kind, survey, origin) in views.each() {
        let left = origin.place(left);
        let new = if left > 0 { Survey::of(&view[token_start(view, left)..]) } else { survey };
        let mut sink = |hit: Hit| {
            if let Some(range) = origin.source(hit.range) {
                add(Category::built_in(hit.category), range, hit.certainty);
            }
        };
        if kind != Kind::Joined && new.may_have_identifiers() {
            identifiers::find_behind(view, left, &mut sink);
        }
        if survey.may_have_secrets() && new.values {
            secrets::find(view, &mut sink);
        }
        if kind == Kind::Plain && survey.brackets && survey.tokens {
            exfiltration::find(view, &policy.allowed_hosts, &mut sink);
        }
        if kind != Kind::Joined {
            for rule in policy.custom_rules(direction) {
                rule.find(view, &mut |category, range| {
                    if let Some(range) = origin.source(range) {
                        add(category.clone(), range, Certainty::Sure);
                    }
                });
            }
        }
    }
    if all { with_alternatives(found) } else { resolve(found) }
}

/// What stays, and besides it what the same characters may be just as well.
fn with_alternatives(found: Vec<Finding>) -> Vec<Finding> {
    let mut kept = resolve(found.clone());
    let taken: HashSet<Range<usize>> = kept.iter().map(|finding| finding.range.clone()).collect();
    let name = |finding: &Finding| (finding.range.clone(), finding.category.clone());
    let mut known: HashSet<(Range<usize>, Category)> = kept.iter().map(name).collect();
    kept.extend(found.into_iter().filter(|other| taken.contains(&other.range) && known.insert(name(other))));
    kept.sort_by_key(|finding| finding.range.start);
    kept
}

/// Of findings that overlap, the one with the strongest action stays; then the longest; then the surest. It
/// takes the other one's place too, if that was not to be seen either.
fn resolve(mut found: Vec<Finding>) -> Vec<Finding> {
    if found.len() < 2 {
        return found;
    }
    let rank = |finding: &Finding| (finding.action, finding.range.len(), finding.certainty);
    found.sort_by_key(|finding| (finding.range.start, Reverse(rank(finding))));
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match kept.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                let both = last.range.start..last.range.end.max(finding.range.end);
                let hidden = last.action.min(finding.action) >= Action::Redact;
                if rank(last) < rank(&finding) {
                    *last = finding;
                }
                if hidden {
                    last.range = both;
                }
            }
            _ => kept.push(finding),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::Severity;

    fn finding(action: Action, range: Range<usize>) -> Finding {
        let category = Category::built_in("us_ssn");
        Finding { category, severity: Severity::High, action, certainty: Certainty::Sure, range }
    }

    fn resolved(found: &[(Action, Range<usize>)]) -> Vec<(Action, Range<usize>)> {
        let found = found.iter().map(|(action, range)| finding(*action, range.clone()));
        resolve(found.collect()).into_iter().map(|finding| (finding.action, finding.range)).collect()
    }

    #[test]
    fn the_strongest_then_the_longest_stays() {
        use Action::{Alert, Block, Redact};
        assert_eq!(resolved(&[(Alert, 0..9), (Redact, 2..4)]), [(Redact, 2..4)]);
        assert_eq!(resolved(&[(Block, 2..4), (Redact, 0..9)]), [(Block, 0..9)]);
        assert_eq!(resolved(&[(Alert, 0..3), (Alert, 2..8)]), [(Alert, 2..8)]);
        assert_eq!(resolved(&[(Redact, 0..3), (Redact, 3..8)]), [(Redact, 0..3), (Redact, 3..8)]);
    }

    #[test]
    fn what_else_the_same_characters_may_be_is_told_once() {
        let other =
            |range| Finding { category: Category::built_in("us_npi"), ..finding(Action::Alert, range) };
        // Each compared with every other one would take many minutes.
        let count = 100_000;
        let all = (0..count).flat_map(|at| {
            let range = at * 10..at * 10 + 9;
            [
                finding(Action::Redact, range.clone()),
                other(range.clone()),
                other(range),
                other(at * 10..at * 10 + 4),
            ]
        });
        let kept = with_alternatives(all.collect());
        assert_eq!(kept.len(), 2 * count);
        assert!(kept.iter().all(|finding| finding.range.len() == 9));
    }

    #[test]
    fn nothing_that_was_to_be_hidden_shows_at_the_side_of_what_is() {
        assert_eq!(resolved(&[(Action::Redact, 0..6), (Action::Redact, 4..20)]), [(Action::Redact, 0..20)]);
        assert_eq!(resolved(&[(Action::Redact, 0..6), (Action::Block, 4..8)]), [(Action::Block, 0..8)]);
    }
}
