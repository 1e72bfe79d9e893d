//! What keys and teams are bound to, on the command line.

use std::fs;

use serde_json::{Value, json};

use crate::cli::{Cli, text};

/// A key of team `lab` with these flags.
fn key_with(cli: &Cli, flags: &[&str]) -> Value {
    cli.json(&[&["key", "create", "--team", "lab", "--model", "*"], flags].concat())
}

const ALL: &[&str] = &[
    "--operation",
    "chat,embeddings",
    "--system-prompt",
    "Be brief.",
    "--data-class",
    "non_sensitive",
    "--dlp-policy",
    "strict",
    "--unscannable",
    "block",
    "--network",
    "10.0.0.0/8",
    "--max-tokens",
    "64",
    "--temperature",
    "0..1",
    "--tools",
    "no",
    "--requests",
    "100/60s",
    "--tokens-per-minute",
    "5000",
    "--tokens-per-day",
    "90000",
    "--concurrent",
    "4",
    "--cost-per-day",
    "2.5",
    "--cost-per-month",
    "40",
];

fn all() -> Value {
    json!({
        "operations": ["chat", "embeddings"],
        "system_prompt": {"version": 1, "text": "Be brief."},
        "data_class": "non_sensitive",
        "dlp_policy": "strict",
        "unscannable": "block",
        "networks": ["10.0.0.0/8"],
        "parameters": {"max_tokens": 64, "min_temperature": 0.0, "max_temperature": 1.0, "tools": false},
        "limits": {
            "requests": {"count": 100, "window_s": 60}, "tokens_per_minute": 5000, "tokens_per_day": 90000,
            "concurrent": 4, "cost_per_day": "2.5", "cost_per_month": "40",
        },
    })
}

#[test]
fn a_key_is_made_with_all_that_it_decides() {
    let cli = Cli::with_team();
    let made = key_with(&cli, ALL);
    assert_eq!(made["binding"], all());
    let shown = cli.succeed(&["key", "show", text(&made, "id")]);
    for line in
        ["operations         chat, embeddings", "temperature        0..1", "requests           100/60s"]
    {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(cli.succeed(&["key", "list"]).contains(" non_sensitive "));
}

#[test]
fn each_flag_changes_one_thing_and_clear_takes_it_away_again() {
    let cli = Cli::with_team();
    let made = key_with(&cli, &[]);
    let id = text(&made, "id");
    let bare = made["binding"].clone();
    assert_eq!(bare, json!({"unscannable": "on_prem"}));
    for pair in ALL.chunks(2) {
        let [flag, value] = pair else { unreachable!() };
        let changed = cli.json(&["key", "update", id, flag, value])["binding"].clone();
        assert_ne!(changed, bare, "{flag}");
        let field = flag.trim_start_matches("--");
        assert_eq!(cli.json(&["key", "update", id, "--clear", field])["binding"], bare, "{flag}");
    }
}

#[test]
fn a_prompt_comes_from_a_file_and_each_of_its_versions_can_be_read_up() {
    let cli = Cli::with_team();
    fs::write(cli.path().join("prompt.txt"), "From a file.\nTwo lines.\n").expect("a file");
    let made = key_with(&cli, &["--system-prompt", "@prompt.txt"]);
    assert_eq!(made["binding"]["system_prompt"]["text"], "From a file.\nTwo lines.");
    let id = text(&made, "id");
    let changed = cli.json(&["key", "update", id, "--system-prompt", "Another."]);
    assert_eq!(changed["binding"]["system_prompt"], json!({"version": 2, "text": "Another."}));
    let kept = cli.json(&["key", "prompts", id]);
    assert_eq!((&kept[0]["version"], &kept[1]["text"]), (&json!(2), &json!("From a file.\nTwo lines.")));
    assert!(cli.succeed(&["key", "prompts", id]).contains("Two lines."));
    let message = cli.fail(1, &["key", "update", id, "--system-prompt", "@nowhere.txt"]);
    assert!(message.contains("--system-prompt: cannot read nowhere.txt"), "{message}");
}

#[test]
fn what_cannot_bind_is_refused_with_the_remedy() {
    let cli = Cli::with_team();
    let made = key_with(&cli, &[]);
    let id = text(&made, "id");
    for (flags, said) in [
        (&["--operation", "dance"][..], "chat, completion"),
        (&["--temperature", "1"], "0..1"),
        (&["--requests", "100"], "100/60s"),
        (&["--network", "lan"], "10.0.0.0/8"),
        (&["--tools", "maybe"], "yes, no"),
        (&["--clear", "models"], "possible values"),
        (&["--cost-per-day", "-1"], "--cost-per-day"),
    ] {
        let message = cli.fail(2, &[&["key", "update", id], flags].concat());
        assert!(message.contains(said), "{flags:?}: {message}");
    }
    for (flags, said) in [
        (&["--temperature", "0..9"][..], "between 0 and 2"),
        (&["--requests", "1/2d"], "1 second to 1 day"),
        (&["--data-class", "not a name"], "data_class has 1 to 64"),
        (&["--max-tokens", "5", "--clear", "max-tokens"], "leave one out"),
    ] {
        let message = cli.fail(1, &[&["key", "update", id], flags].concat());
        assert!(message.contains(said), "{flags:?}: {message}");
    }
}

#[test]
fn a_team_is_made_with_limits_and_they_can_be_changed() {
    let cli = Cli::with_team();
    let made = cli.json(&["team", "create", "zoo", "--concurrent", "2", "--cost-per-month", "100"]);
    assert_eq!(made["limits"], json!({"concurrent": 2, "cost_per_month": "100"}));
    let changed = cli.json(&["team", "update", "zoo", "--requests", "10/1s", "--clear", "concurrent"]);
    let limits = json!({"requests": {"count": 10, "window_s": 1}, "cost_per_month": "100"});
    assert_eq!(changed["limits"], limits);
    assert!(cli.succeed(&["team", "show", "zoo"]).contains("requests        10/1s"));
    cli.fail(2, &["team", "update", "zoo"]);
}

#[test]
fn a_class_or_policy_must_be_in_the_configuration_where_one_is_given() {
    let cli = Cli::with_team();
    let file = cli.path().join("synapse.yaml");
    let config = json!({
        "data_classes": [{"name": "public", "localities": ["on_prem"], "dlp_policy": "strict"}],
        "dlp": {"policies": [{"name": "strict", "base": "cloud"}]},
    });
    fs::write(file, config.to_string()).expect("written");
    let made = key_with(&cli, &[]);
    let update = ["key", "update", text(&made, "id"), "--config", "synapse.yaml"];
    for (flags, said) in [
        (["--data-class", "pubic"], "no data class `pubic`; known: public"),
        (
            ["--dlp-policy", "strickt"],
            "no policy for sensitive data `strickt`; known: cloud, on_prem, strict",
        ),
    ] {
        let refused = cli.fail(1, &[&update[..], &flags].concat());
        assert!(refused.contains(said), "{refused}");
    }
    let known = ["--data-class", "public", "--dlp-policy", "strict"];
    let changed = cli.json(&[&update[..], &known].concat());
    assert_eq!(
        (&changed["binding"]["data_class"], &changed["binding"]["dlp_policy"]),
        (&json!("public"), &json!("strict"))
    );
}

#[test]
fn without_a_configuration_it_is_said_what_the_gateways_must_have() {
    let cli = Cli::with_team();
    let create = ["key", "create", "--team", "lab", "--model", "*"];
    let said = |flags: &[&str]| cli.said_besides(&[&create, flags].concat());
    let told = said(&["--data-class", "public", "--dlp-policy", "strict"]);
    assert!(told.contains("data class `public`") && told.contains("`strict`"), "{told}");
    let told = said(&["--data-class", "non_sensitive", "--dlp-policy", "cloud"]);
    assert!(!told.contains("must have"), "these are there unless the configuration says otherwise: {told}");
}

#[test]
fn what_is_counted_in_redis_is_not_told_from_the_data_folder() {
    let cli = Cli::with_team();
    let made = key_with(&cli, &["--tokens-per-day", "5"]);
    fs::write(cli.path().join("synapse.yaml"), "redis: {url: 'redis://localhost'}").expect("written");
    let show = ["key", "show", text(&made, "id"), "--config", "synapse.yaml"];
    assert!(cli.succeed(&show).contains("counted in Redis"));
    assert!(cli.json(&show).get("used").is_none());
    assert!(!cli.succeed(&show[..3]).contains("used"));
}
