//! From detectors' hits to a policy's findings.

use std::{cmp::Reverse, ops::Range};

use crate::{
    exfiltration,
    finding::{Action, Category, Direction, Finding},
    hit::{Certainty, Hit},
    identifiers, invisible,
    policy::Policy,
    secrets,
    view::{Kind, Views},
};

/// What `text` has from byte `left` on.
pub(crate) fn scan(
    policy: &Policy,
    text: &str,
    left: usize,
    hint: &str,
    direction: Direction,
    all: bool,
) -> Vec<Finding> {
    if hint.is_empty() {
        return find(policy, text, left, direction, all);
    }
    // A hint is to what follows as a key is to its value.
    let behind = hint.len() + 2;
    let mut found = find(policy, &format!("{hint}: {text}"), behind + left, direction, all);
    for finding in &mut found {
        finding.range = finding.range.start - behind..finding.range.end - behind;
    }
    found
}

fn find(policy: &Policy, text: &str, left: usize, direction: Direction, all: bool) -> Vec<Finding> {
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
    let views = Views::of(text);
    for (view, kind, survey, origin) in views.each() {
        let mut sink = |hit: Hit| {
            if let Some(range) = origin.source(hit.range) {
                add(Category::built_in(hit.category), range, hit.certainty);
            }
        };
        if kind != Kind::Joined && survey.may_have_identifiers() {
            identifiers::find(view, &mut sink);
        }
        if survey.may_have_secrets() {
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
    resolve(found)
}

/// Of findings that overlap, the one with the strongest action stays; then the longest; then the surest.
fn resolve(mut found: Vec<Finding>) -> Vec<Finding> {
    if found.len() < 2 {
        return found;
    }
    let rank = |finding: &Finding| (finding.action, finding.range.len(), finding.certainty);
    found.sort_by_key(|finding| (finding.range.start, Reverse(rank(finding))));
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match kept.last() {
            Some(last) if finding.range.start < last.range.end => {
                // What it beats goes, as long as that overlaps it; it stays only if it beats all of that.
                let beaten = kept.iter().rev().take_while(|k| finding.range.start < k.range.end).count();
                let from = kept.len() - beaten;
                if kept[from..].iter().all(|k| rank(k) < rank(&finding)) {
                    kept.truncate(from);
                    kept.push(finding);
                }
            }
            _ => kept.push(finding),
        }
    }
    kept
}
