//! `synapse dlp`: policies tried on texts from the command line.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::card;

/// What the command says of this input.
fn run(args: &[&str], input: &str) -> (bool, String, String) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_synapse"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("taken");
    let out = child.wait_with_output().expect("its end");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (out.status.success(), text(out.stdout), text(out.stderr))
}

#[test]
fn a_text_is_shown_with_what_is_found_and_without_it() {
    let (fine, shown, _) = run(&["dlp", "test"], &format!("my card is {}, thanks", card()));
    assert!(fine && shown.contains("credit_card_visa"), "{shown}");
    assert!(
        shown.contains("my card is [REDACTED:credit_card_visa], thanks") && !shown.contains(&card()),
        "{shown}"
    );
}

#[test]
fn documents_are_answered_line_by_line_with_offsets_in_bytes() {
    let asked = [json!({"id": 7, "text": format!("café {}", card())}), json!({"id": "b", "text": "nothing"})];
    let input = asked.map(|document| document.to_string()).join("\n");
    let (fine, out, _) = run(&["dlp", "test", "--jsonl"], &input);
    assert!(fine);
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (&answers[0]["id"], &answers[1]),
        (&json!(7), &json!({"id": "b", "findings": [], "redacted": "nothing"}))
    );
    let finding = &answers[0]["findings"][0];
    assert_eq!((&finding["start"], &finding["end"]), (&json!(6), &json!(22)));
    assert_eq!((&finding["category"], &finding["action"]), (&json!("credit_card_visa"), &json!("redact")));
    assert_eq!(answers[0]["redacted"], "café [REDACTED:credit_card_visa]");
}

#[test]
fn an_unknown_policy_is_told_with_those_that_there_are() {
    let (fine, _, said) = run(&["dlp", "test", "--policy", "clout"], "");
    assert!(!fine && said.contains("known: cloud, on_prem"), "{said}");
}

#[test]
fn hashes_of_values_find_them_and_do_not_show_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("key"), "a long key of the operator's\n").expect("written");
    let key = at("key");
    let (fine, hashes, _) =
        run(&["dlp", "hash", "--key-file", key.to_str().expect("a path")], "Blue Whale 4711\n");
    assert!(fine && hashes.trim().len() == 64, "{hashes}");
    std::fs::write(at("hashes"), &hashes).expect("written");
    let rule = json!({"name": "members", "hashes_file": at("hashes"), "hash_key": format!("file:{}", key.display())});
    let policy =
        json!({"name": "p", "base": "none", "prompt": {"custom:members": "redact"}, "rules": [rule]});
    std::fs::write(at("synapse.yaml"), json!({"dlp": {"policies": [policy]}}).to_string()).expect("written");
    let config = at("synapse.yaml");
    let (fine, shown, said) = run(
        &["dlp", "test", "--policy", "p", "--config", config.to_str().expect("a path")],
        "ask blue  whale 4711 for it",
    );
    assert!(fine, "{said}");
    assert!(shown.contains("ask [REDACTED:custom:members] for it"), "{shown}");
}

/// A policy `p` with a rule of its own that stops what it finds.
fn strict() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = json!({"name": "project", "words": ["Blue Whale"], "severity": "critical"});
    let policy =
        json!({"name": "p", "base": "cloud", "prompt": {"custom:project": "block"}, "rules": [rule]});
    let config = json!({"dlp": {"policies": [policy]}}).to_string();
    std::fs::write(folder.path().join("synapse.yaml"), config).expect("written");
    folder
}

fn under_strict(args: &[&str], input: &str) -> String {
    let folder = strict();
    let file = folder.path().join("synapse.yaml");
    let under = ["--policy", "p", "--config", file.to_str().expect("a path")];
    let (fine, shown, said) = run(&[args, &under].concat(), input);
    assert!(fine, "{said}");
    shown
}

#[test]
fn a_policys_own_rules_are_listed_with_the_categories() {
    let shown = under_strict(&["dlp", "categories"], "");
    let line = shown.lines().find(|line| line.starts_with("custom:project ")).expect("a line");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["custom:project", "custom", "critical", "block", "redact"]);
    assert!(shown.contains("credit_card_visa"), "{shown}");
}

#[test]
fn a_text_that_is_blocked_is_said_to_be_and_not_shown_as_if_it_went_on() {
    let text = format!("ask the blue whale about {}", card());
    let shown = under_strict(&["dlp", "test"], &text);
    assert!(shown.contains("custom:project") && shown.contains("blocked: nothing goes on"), "{shown}");
    assert!(!shown.contains("ask the"), "{shown}");
    assert!(under_strict(&["dlp", "test", "--direction", "reply"], &text).contains("ask the"));
}
