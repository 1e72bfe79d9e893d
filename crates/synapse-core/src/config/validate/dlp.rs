//! Policies for sensitive data: names, selectors, rules. What a pattern matches is tried where it is compiled.

use std::collections::{BTreeMap, HashSet};

use super::{Check, NAME_RULE, Names, raw};
use crate::{
    config::snapshot::{Dlp, DlpAction, DlpMatcher, DlpPolicy, DlpRule, DlpSeverity},
    id::fits_header,
};

/// The policies that come along.
const BUILT_IN: [&str; 2] = ["cloud", "on_prem"];

/// The section, and the names of all policies.
pub(super) fn check(raw: raw::Dlp, check: &mut Check<'_>) -> (Dlp, Names) {
    let incomplete = check.places.is_broken("/dlp/policies") || raw.policies.iter().any(|p| p.name.is_none());
    let mut names = HashSet::new();
    let mut policies = Vec::with_capacity(raw.policies.len());
    for (at, policy) in raw.policies.into_iter().enumerate() {
        let pointer = format!("/dlp/policies/{at}");
        let Some(name) = policy.name else { continue };
        if !fits_header(&name) {
            check.report(&format!("{pointer}/name"), NAME_RULE);
        }
        if !names.insert(name.clone()) {
            check.report(&format!("{pointer}/name"), format!("there is already a policy named `{name}`"));
        }
        let rules = rules(policy.rules, &pointer, check);
        policies.push(DlpPolicy {
            name: name.into(),
            base: match policy.base {
                raw::DlpBase::Cloud => Some("cloud".into()),
                raw::DlpBase::OnPrem => Some("on_prem".into()),
                raw::DlpBase::None => None,
            },
            prompt: actions(policy.prompt),
            reply: actions(policy.reply),
            tokenise: matches!(policy.placeholder, raw::DlpPlaceholder::Tokenise),
            allowed_hosts: policy.allowed_hosts,
            rules,
            line: check.places.of(&pointer).line,
        });
    }
    let known = BUILT_IN.map(str::to_owned).into_iter().chain(names).collect();
    (Dlp { enabled: raw.enabled, policies }, Names { kind: "policy for sensitive data", known, incomplete })
}

fn actions(raw: BTreeMap<String, raw::DlpAction>) -> Vec<(String, DlpAction)> {
    let action = |raw| match raw {
        raw::DlpAction::Allow => DlpAction::Allow,
        raw::DlpAction::Alert => DlpAction::Alert,
        raw::DlpAction::Redact => DlpAction::Redact,
        raw::DlpAction::Block => DlpAction::Block,
    };
    raw.into_iter().map(|(selector, raw)| (selector, action(raw))).collect()
}

fn rules(raw: Vec<raw::DlpRule>, policy: &str, check: &mut Check<'_>) -> Vec<DlpRule> {
    let mut names = HashSet::new();
    let mut rules = Vec::with_capacity(raw.len());
    for (at, rule) in raw.into_iter().enumerate() {
        let pointer = format!("{policy}/rules/{at}");
        let Some(name) = rule.name.clone() else { continue };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if !name.bytes().all(plain) {
            let message = "must have only letters, digits, `_`, `-` and `.`: it is part of a category's name";
            check.report(&format!("{pointer}/name"), message);
        }
        if !names.insert(name.clone()) {
            check.report(
                &format!("{pointer}/name"),
                format!("there is already a rule named `{name}` in this policy"),
            );
        }
        if let Some(finds) = matcher(&rule, &pointer, check) {
            rules.push(DlpRule {
                name,
                finds,
                examples: rule.examples,
                counter_examples: rule.counter_examples,
                case_sensitive: rule.case_sensitive,
                severity: severity(rule.severity),
                buffer: rule.buffer,
            });
        }
    }
    rules
}

fn severity(raw: raw::DlpSeverity) -> DlpSeverity {
    match raw {
        raw::DlpSeverity::Low => DlpSeverity::Low,
        raw::DlpSeverity::Medium => DlpSeverity::Medium,
        raw::DlpSeverity::High => DlpSeverity::High,
        raw::DlpSeverity::Critical => DlpSeverity::Critical,
    }
}

/// What a rule finds; exactly one way of saying it must be used.
fn matcher(rule: &raw::DlpRule, pointer: &str, check: &mut Check<'_>) -> Option<DlpMatcher> {
    let ways = [
        rule.pattern.is_some(),
        !rule.words.is_empty(),
        rule.words_file.is_some(),
        rule.hashes_file.is_some(),
    ];
    if ways.iter().filter(|used| **used).count() != 1 {
        check.report(pointer, "a rule has exactly one of `pattern`, `words`, `words_file` and `hashes_file`");
        return None;
    }
    if let Some(pattern) = &rule.pattern {
        for (key, texts) in [("examples", &rule.examples), ("counter_examples", &rule.counter_examples)] {
            if texts.is_empty() {
                check.report(&format!("{pointer}/{key}"), "a pattern needs at least one, to prove itself on");
            }
        }
        return Some(DlpMatcher::Pattern(pattern.clone()));
    }
    if let Some(path) = &rule.hashes_file {
        return hashes(rule, path, pointer, check);
    }
    let mut words = rule.words.clone();
    if let Some(path) = &rule.words_file {
        let text = read(path, &format!("{pointer}/words_file"), check)?;
        words.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if words.is_empty() || words.iter().any(|word| word.chars().count() < 2) {
        check.report(pointer, "the words of a rule have two characters at least, and there is at least one");
        return None;
    }
    Some(DlpMatcher::Words(words))
}

fn read(path: &str, pointer: &str, check: &mut Check<'_>) -> Option<String> {
    match check.world.read_file(path.as_ref()) {
        Ok(text) => Some(text),
        Err(error) => {
            check.report(pointer, format!("the file cannot be read: {error}"));
            None
        }
    }
}

fn hashes(rule: &raw::DlpRule, path: &str, pointer: &str, check: &mut Check<'_>) -> Option<DlpMatcher> {
    let at = format!("{pointer}/hashes_file");
    let text = read(path, &at, check)?;
    let Some(key) = &rule.hash_key else {
        check.report(&format!("{pointer}/hash_key"), "is required beside `hashes_file`");
        return None;
    };
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let mut hashes = Vec::new();
    for (number, line) in lines {
        let Some(hash) = from_hex(line.trim()) else {
            check.report(&at, format!("line {number} is not a hash that `synapse dlp hash` writes"));
            return None;
        };
        hashes.push(hash);
    }
    Some(DlpMatcher::Hashes { key: key.0.clone(), hashes })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use crate::config::{load, testing::World};

    fn mistakes(policy: &str) -> Vec<String> {
        let world = World::default().file("/hashes", "00ff\n");
        let text = format!("dlp: {{policies: [{policy}]}}");
        let problems = load(&text, &world).err().unwrap_or_default();
        problems.iter().map(|problem| format!("{}: {}", problem.place.path, problem.message)).collect()
    }

    #[test]
    fn a_rule_says_in_one_way_what_it_finds() {
        for rule in ["{name: r}", "{name: r, words: [ab], words_file: /x}"] {
            let found = mistakes(&format!("{{name: p, rules: [{rule}]}}"));
            assert_eq!(
                found,
                [
                    "dlp.policies[0].rules[0]: a rule has exactly one of `pattern`, `words`, `words_file` and `hashes_file`"
                ]
            );
        }
    }

    #[test]
    fn a_pattern_proves_itself_on_examples() {
        let found = mistakes("{name: p, rules: [{name: r, pattern: x, examples: [x]}]}");
        let want =
            "dlp.policies[0].rules[0].counter_examples: a pattern needs at least one, to prove itself on";
        assert_eq!(found, [want]);
    }

    #[test]
    fn what_is_no_hash_is_told_with_its_line_and_not_with_its_text() {
        let found = mistakes("{name: p, rules: [{name: r, hashes_file: /hashes, hash_key: k}]}");
        let want =
            "dlp.policies[0].rules[0].hashes_file: line 1 is not a hash that `synapse dlp hash` writes";
        assert_eq!(found, [want]);
    }

    #[test]
    fn names_of_policies_and_rules_are_unique() {
        let found = mistakes("{name: p, rules: [{name: r, words: [ab]}, {name: r, words: [cd]}]}, {name: p}");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
