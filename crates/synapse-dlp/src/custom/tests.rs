//! Custom rules find what their examples say, whole and streamed.

use crate::{
    Action, CustomKind, CustomRule, Direction, Policy, PolicyError, PolicySpec, RuleError, Selector,
    Severity, Window, exact_hash,
};

mod spread;

fn rule(kind: CustomKind) -> CustomRule {
    CustomRule { name: "codename".to_owned(), kind, severity: Severity::High, buffer: false }
}

fn regex(pattern: &str) -> CustomKind {
    CustomKind::Regex {
        pattern: pattern.to_owned(),
        examples: vec![],
        counter_examples: vec![],
        max_len: None,
    }
}

fn dictionary(words: &[&str], whole_words: bool) -> CustomKind {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    CustomKind::Dictionary { words, whole_words, case_sensitive: false }
}

fn compiled(rule: CustomRule) -> Result<std::sync::Arc<Policy>, PolicyError> {
    Policy::compile(PolicySpec { custom: vec![rule], ..PolicySpec::cloud() })
}

fn error(rule: CustomRule) -> String {
    compiled(rule).err().map(|error| error.to_string()).unwrap_or_default()
}

fn found<'t>(policy: &Policy, text: &'t str) -> Vec<&'t str> {
    let findings = policy.scan(Direction::Prompt, text);
    let custom = findings.iter().filter(|finding| finding.category.as_str() == "custom:codename");
    custom.map(|finding| &text[finding.range.clone()]).collect()
}

#[test]
fn an_expression_finds_what_it_matches_in_any_disguise() {
    let policy = compiled(rule(regex(r"PRJ-\d{4}"))).unwrap();
    assert_eq!(
        found(&policy, "see PRJ-1234 and Ｐ\u{200B}ＲＪ-１２３４"),
        ["PRJ-1234", "Ｐ\u{200B}ＲＪ-１２３４"]
    );
}

#[test]
fn an_expression_must_do_as_its_examples_say() {
    let with = |examples: &[&str], counter_examples: &[&str]| {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        rule(CustomKind::Regex {
            pattern: r"PRJ-\d+".to_owned(),
            examples: own(examples),
            counter_examples: own(counter_examples),
            max_len: Some(20),
        })
    };
    assert_eq!(error(with(&["PRJ-1"], &["PRJ"])), "");
    let missed = error(with(&["PRJ-1", "PRJ"], &[]));
    assert_eq!(missed, "policy `cloud`: rule `codename`: `examples[1]` is not found by the pattern");
    let strange = error(with(&[], &["PRJ-1"]));
    assert_eq!(strange, "policy `cloud`: rule `codename`: `counter_examples[0]` is found by the pattern");
}

#[test]
fn an_expression_for_replies_has_a_bound_or_buffers() {
    let text = format!("{}b", "a ".repeat(400));
    let cut = compiled(rule(regex("a[a ]+b"))).unwrap();
    assert_eq!(found(&cut, &text), [&text[..512]]);
    let prompts = PolicySpec { reply: vec![], custom: vec![rule(regex("a[a ]+b"))], ..PolicySpec::cloud() };
    assert_eq!(found(&Policy::compile(prompts).unwrap(), &text), [&text]);
    let long = compiled(rule(regex("[a ]{600}")));
    assert!(matches!(long, Err(PolicyError::Rule { error: RuleError::TooLong(600), .. })));
    let buffered = compiled(CustomRule { buffer: true, ..rule(regex("a+ b")) }).unwrap();
    assert!(buffered.needs_whole(Direction::Reply));
    assert!(!compiled(rule(regex("a{1,9} b"))).unwrap().needs_whole(Direction::Reply));
}

#[test]
fn an_expression_that_cannot_be_used_says_why() {
    assert!(error(rule(regex("(a"))).contains("`pattern` cannot be used: "));
    assert!(error(rule(regex("a*"))).contains("it matches a text without characters"));
}

#[test]
fn a_dictionary_finds_words_and_phrases() {
    let policy = compiled(rule(dictionary(&["falcon", "blue harvest", "Größe"], true))).unwrap();
    assert_eq!(
        found(&policy, "Falcon, falcons, Blue Harvest und GRÖSSE, größe"),
        ["Falcon", "Blue Harvest", "GRÖSSE", "größe"]
    );
}

#[test]
fn exact_values_are_found_by_their_hashes() {
    let salt = b"salt".to_vec();
    let hmacs = ["Ada Lovelace", "C-4711"].map(|value| exact_hash(&salt, value)).into();
    let policy = compiled(rule(CustomKind::ExactMatch { salt, hmacs, max_words: 3 })).unwrap();
    let text = "customer=\"c-4711\": ada\nLOVELACE, not Ada Smith or C-47110";
    assert_eq!(found(&policy, text), ["c-4711", "ada\nLOVELACE"]);
}

#[test]
fn phrases_do_not_leak_through_a_stream() {
    for kind in [dictionary(&["blue harvest"], true), regex("[Bb]lue {1,3}harvest")] {
        let policy = compiled(rule(kind)).unwrap();
        for size in 1..20 {
            let mut window = Window::new(policy.clone(), Direction::Reply);
            let text = "the name is blue harvest, I am told, and nothing else";
            let pieces: Vec<char> = text.chars().collect();
            let mut out = String::new();
            for piece in pieces.chunks(size) {
                out.push_str(&window.push(&piece.iter().collect::<String>()).text);
            }
            out.push_str(&window.finish().text);
            assert_eq!(out, "the name is [REDACTED:custom:codename], I am told, and nothing else");
        }
    }
}

#[test]
fn a_rule_is_selected_by_its_name() {
    let spec = PolicySpec {
        custom: vec![rule(dictionary(&["falcon"], true))],
        prompt: vec![("custom:codename".parse::<Selector>().unwrap(), Action::Block)],
        ..PolicySpec::on_prem()
    };
    let policy = Policy::compile(spec).unwrap();
    let findings = policy.scan(Direction::Prompt, "falcon");
    assert_eq!(findings.iter().map(|finding| finding.action).collect::<Vec<_>>(), [Action::Block]);
}

#[test]
fn short_matches_for_which_longer_ones_are_sought_in_vain_are_all_found() {
    let policy = compiled(CustomRule { buffer: true, ..rule(regex("a[^z]*z|a")) }).unwrap();
    assert_eq!(found(&policy, "a b a - z a"), ["a b a - z", "a"]);
    // To look to the end for each of them would take hours.
    assert_eq!(found(&policy, &"a ".repeat(1 << 20)).len(), 1 << 20);
}
