//! The command line, run as a process: what it prints, where, and how it exits.

use std::{
    io,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// The binary in a folder of its own, with no variable of ours set.
pub(crate) struct Cli {
    folder: TempDir,
}

impl Cli {
    /// No file of the data folder has this text.
    fn assert_kept_nowhere(&self, text: &str) {
        let mut folders = vec![self.folder.path().join("data")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).expect("its content");
                assert!(
                    !bytes.windows(text.len()).any(|window| window == text.as_bytes()),
                    "{}",
                    path.display()
                );
            }
        }
    }

    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Where it runs.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// One with a team `lab`.
    pub(crate) fn with_team() -> Self {
        let cli = Self::new();
        cli.succeed(&["team", "create", "lab"]);
        cli
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
        command.args(args).current_dir(self.folder.path());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SYNAPSE_"))
        {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// Stdout of a run that succeeds.
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// The JSON document of a run that succeeds.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
        serde_json::from_str(&stdout(&output)).expect("one JSON document")
    }

    /// Stderr of a run that fails with `code` and prints no result.
    pub(crate) fn fail(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(code), ""), "{args:?}");
        stderr(&output)
    }

    /// Stderr of a run that succeeds.
    pub(crate) fn said_besides(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stderr(&output)
    }

    fn new_key(&self) -> Value {
        self.json(&["key", "create", "--team", "lab", "--model", "*"])
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub(crate) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

#[test]
fn the_version_is_the_one_of_the_build() {
    assert_eq!(Cli::new().succeed(&["--version"]), format!("synapse {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_explains_flags_variables_and_exit_codes() {
    let cli = Cli::new();
    let help = cli.succeed(&["--help"]);
    for word in ["serve", "simulate", "team", "key", "worker-key", "SYNAPSE_", "Exit codes"] {
        assert!(help.contains(word), "{word} in:\n{help}");
    }
    let help = cli.succeed(&["serve", "-h"]);
    assert!(help.contains("SYNAPSE_API_AUTH_KEY") && help.contains("SYNAPSE_WS_AUTH_KEY"), "{help}");
}

#[test]
fn wrong_usage_exits_with_2() {
    let cli = Cli::with_team();
    for args in [
        &[][..],
        &["dance"],
        &["key", "create", "--team", "lab"],
        &["key", "create", "--team", "lab", "--model", "*", "--expires", "soon"],
        &["key", "rotate", "some-id", "--overlap", "90"],
        &["key", "update", "some-id"],
        &["key", "update", "some-id", "--enable", "--disable"],
        &["simulate", "--error-rate", "2"],
        &["simulate", "--slowdown=-1"],
        &["simulate", "--behaviour", "{"],
    ] {
        let message = cli.fail(2, args);
        assert!(message.contains("Usage:") || message.contains("--help"), "{args:?}: {message}");
    }
}

#[test]
fn a_team_is_made_shown_and_listed() {
    let cli = Cli::new();
    let made = cli.json(&["team", "create", "lab"]);
    assert_eq!((text(&made, "name"), &made["disabled"]), ("lab", &Value::Bool(false)));
    assert_eq!(cli.json(&["team", "show", "lab"]), made);
    assert_eq!(cli.json(&["team", "list"]), Value::Array(vec![made]));
    let table = cli.succeed(&["team", "list"]);
    assert!(table.starts_with("NAME  STATUS  CREATED\nlab   active  "), "{table}");
}

#[test]
fn a_team_that_exists_cannot_be_made_again() {
    let message = Cli::with_team().fail(1, &["team", "create", "lab"]);
    assert_eq!(message, "error: there is already a team named lab\n");
}

#[test]
fn a_disabled_team_shows_on_its_keys() {
    let cli = Cli::with_team();
    cli.new_key();
    assert_eq!(cli.json(&["team", "disable", "lab"])["disabled"], Value::Bool(true));
    assert!(cli.succeed(&["key", "list"]).contains("team disabled"));
    assert_eq!(cli.json(&["team", "enable", "lab"])["disabled"], Value::Bool(false));
    assert!(cli.succeed(&["key", "list"]).contains("active"));
}

#[test]
fn a_key_is_shown_at_its_making_and_never_again() {
    let cli = Cli::with_team();
    let made = cli.json(&[
        "key",
        "create",
        "--team",
        "lab",
        "--model",
        "llama*",
        "--model",
        "org/qwen",
        "--name",
        "nightly",
        "--expires",
        "2100-01-01T00:00:00Z",
    ]);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    assert!(key.starts_with(&format!("syn_{id}_")), "{key}");
    assert_eq!((text(&made, "team"), text(&made, "name")), ("lab", "nightly"));
    assert_eq!(made["models"], serde_json::json!(["llama*", "org/qwen"]));
    assert_eq!(text(&made, "expires_at"), "2100-01-01T00:00:00Z");

    let mut known = made.clone();
    known.as_object_mut().expect("an object").remove("key");
    assert_eq!(cli.json(&["key", "show", id]), known);
    assert_eq!(cli.json(&["key", "list", "--team", "lab"]), Value::Array(vec![known]));
    cli.assert_kept_nowhere(key);
}

#[test]
fn the_text_of_a_new_key_goes_to_stdout_and_the_advice_to_stderr() {
    let cli = Cli::with_team();
    let output = cli.run(&["key", "create", "--team", "lab", "--model", "*", "--expires", "90d"]);
    let result = stdout(&output);
    assert!(result.starts_with("key      syn_"), "{result}");
    assert!(result.contains("\nmodels   *\n") && result.contains("(in 90 days)"), "{result}");
    assert!(stderr(&output).contains("cannot be shown again"));
}

#[test]
fn a_list_of_keys_is_an_aligned_table() {
    let cli = Cli::with_team();
    let made =
        cli.json(&["key", "create", "--team", "lab", "--model", "a,b*", "--name", "研究", "--expires", "1h"]);
    let id = text(&made, "id");
    assert_eq!(
        cli.succeed(&["key", "list"]),
        format!(
            "ID        TEAM  GROUP    NAME  MODELS  CLASS  STATUS  EXPIRES\n\
             {id}  lab   default  研究    a, b*   -      active  in 1 hour\n"
        )
    );
}

#[test]
fn a_key_is_made_for_a_group() {
    let cli = Cli::with_team();
    assert_eq!(text(&cli.new_key(), "group"), "default");
    let made = cli.json(&["key", "create", "--team", "lab", "--model", "*", "--group", "gpu"]);
    assert_eq!(text(&made, "group"), "gpu");
    assert!(cli.succeed(&["key", "show", text(&made, "id")]).contains("group    gpu\n"));
    let message = cli.fail(1, &["key", "create", "--team", "lab", "--model", "*", "--group", " gpu"]);
    assert!(message.starts_with("error: the name of a group has 1 to 128"), "{message}");
}

#[test]
fn a_change_of_a_key_touches_only_what_it_names() {
    let cli = Cli::with_team();
    let made =
        cli.json(&["key", "create", "--team", "lab", "--model", "*", "--name", "old", "--expires", "1d"]);
    let id = text(&made, "id");
    let disabled = cli.json(&["key", "update", id, "--disable"]);
    assert_eq!((&disabled["disabled"], &disabled["name"]), (&Value::Bool(true), &made["name"]));
    let changed = cli.json(&["key", "update", id, "--enable", "--clear", "name,expires", "--model", "qwen*"]);
    assert_eq!((&changed["disabled"], &changed["name"]), (&Value::Bool(false), &Value::Null));
    assert_eq!((&changed["expires_at"], &changed["models"]), (&Value::Null, &serde_json::json!(["qwen*"])));
}

#[test]
fn a_rotated_key_has_a_new_secret_and_an_overlap() {
    let cli = Cli::with_team();
    let made = cli.new_key();
    let id = text(&made, "id");
    let rotated = cli.json(&["key", "rotate", id]);
    assert_eq!(rotated["id"], made["id"]);
    assert_ne!(rotated["key"], made["key"]);
    assert!(rotated["previous_secret_until"].is_string());
    assert!(cli.succeed(&["key", "show", id]).contains("old secret until"));
    let at_once = cli.json(&["key", "rotate", id, "--overlap", "0"]);
    assert_eq!(at_once["previous_secret_until"], Value::Null);
}

#[test]
fn a_leaked_key_is_revoked_by_its_text_and_stays_revoked() {
    let cli = Cli::with_team();
    let made = cli.new_key();
    let id = text(&made, "id");
    assert!(cli.json(&["key", "revoke", text(&made, "key")])["revoked_at"].is_string());
    assert!(cli.succeed(&["key", "list"]).contains("revoked"));
    let message = cli.fail(1, &["key", "rotate", id]);
    assert_eq!(message, format!("error: key {id} was revoked for good; create a new one\n"));
}

#[test]
fn a_worker_key_is_shown_at_its_making_and_never_again() {
    let cli = Cli::new();
    let made =
        cli.json(&["worker-key", "create", "--group", "gpu", "--allow-cloud", "--description", "rack 3"]);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    assert!(key.starts_with(&format!("synw_{id}_")), "{key}");
    assert_eq!((text(&made, "group"), text(&made, "description")), ("gpu", "rack 3"));
    assert_eq!(made["allows_cloud"], Value::Bool(true));

    let mut known = made.clone();
    known.as_object_mut().expect("an object").remove("key");
    assert_eq!(cli.json(&["worker-key", "show", id]), known);
    assert_eq!(cli.json(&["worker-key", "list"]), Value::Array(vec![known]));
    assert_eq!(cli.json(&["worker-key", "list", "--group", "other"]), Value::Array(vec![]));
    assert_eq!(cli.json(&["key", "list"]), Value::Array(vec![]), "it is no caller's key");
    let table = cli.succeed(&["worker-key", "list"]);
    let (head, row) = (
        "ID        GROUP  DESCRIPTION  ENGINES   STATUS  CREATED",
        "  gpu    rack 3       anywhere  active  ",
    );
    assert!(table.starts_with(&format!("{head}\n{id}{row}")), "{table}");
    let secret = &key[14..];
    cli.assert_kept_nowhere(secret);
}

#[test]
fn a_leaked_worker_key_is_revoked_by_its_text_and_stays_in_the_list() {
    let cli = Cli::new();
    let made = cli.json(&["worker-key", "create"]);
    assert_eq!((text(&made, "group"), &made["allows_cloud"]), ("default", &Value::Bool(false)));
    let revoked = cli.json(&["worker-key", "revoke", text(&made, "key")]);
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    assert_eq!(cli.json(&["worker-key", "revoke", text(&made, "id")]), revoked, "the first time counts");
    assert!(cli.succeed(&["worker-key", "list"]).contains("in the house  revoked"));
    assert_eq!(cli.fail(1, &["worker-key", "show", "abc"]), "error: no such worker key: abc\n");
    let message = cli.fail(1, &["worker-key", "create", "--group", "l\u{e4}b"]);
    assert!(message.starts_with("error: the name of a group has 1 to 128"), "{message}");
}

#[test]
fn what_does_not_exist_is_said_plainly() {
    let cli = Cli::with_team();
    for (args, message) in [
        (&["team", "show", "zoo"][..], "error: no such team: zoo\n"),
        (&["key", "list", "--team", "zoo"], "error: no such team: zoo\n"),
        (&["key", "create", "--team", "zoo", "--model", "*"], "error: no such team: zoo\n"),
        (&["key", "revoke", "abc"], "error: no such key: abc\n"),
    ] {
        assert_eq!(cli.fail(1, args), message, "{args:?}");
    }
    assert!(
        cli.fail(1, &["key", "create", "--team", "lab", "--model", "*", "--expires", "0s"])
            .contains("in the past")
    );
}

#[test]
fn an_empty_list_is_an_empty_array_and_says_so_to_people() {
    let cli = Cli::with_team();
    assert_eq!(cli.json(&["key", "list"]), Value::Array(vec![]));
    let output = cli.run(&["key", "list"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));
    assert!(stderr(&output).contains("no key yet"));
}

#[test]
fn a_wrong_folder_does_not_pass_for_an_empty_store() {
    let cli = Cli::new();
    let message = cli.fail(1, &["key", "list"]);
    assert!(message.contains("./data/synapse.db") && message.contains("no such database"), "{message}");
    assert!(!cli.folder.path().join("data").exists());
}

#[test]
fn the_store_is_where_the_flags_say() {
    let cli = Cli::new();
    cli.succeed(&["team", "create", "lab", "--data-dir", "elsewhere"]);
    assert!(cli.folder.path().join("elsewhere/synapse.db").exists());
    let url = "sqlite://elsewhere/synapse.db";
    assert!(cli.succeed(&["team", "list", "--database-url", url]).contains("lab"));
    assert!(cli.succeed(&["team", "--data-dir", "elsewhere", "list"]).contains("lab"));
}

#[test]
fn a_flag_beats_its_variable_and_an_empty_variable_is_none() {
    let cli = Cli::new();
    cli.succeed(&["team", "create", "here", "--data-dir", "here"]);
    cli.succeed(&["team", "create", "there", "--data-dir", "there"]);
    let list = |args: &[&str], variables: &[(&str, &str)]| {
        let output = cli.command(args).envs(variables.iter().copied()).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let here = ("SYNAPSE_DATA_DIR", "here");
    assert!(list(&["team", "list"], &[here]).contains("here"));
    assert!(list(&["team", "list", "--data-dir", "there"], &[here]).contains("there"));
    assert!(list(&["team", "list"], &[here, ("SYNAPSE_DATABASE_URL", "")]).contains("here"));
    assert!(list(&["team", "list"], &[here, ("SYNAPSE_JSON", "1")]).starts_with("[{"));
}

#[test]
fn an_empty_key_is_no_key_and_lets_nobody_in() {
    let cli = Cli::new();
    for args in [
        &["serve", "--api-auth-key", ""][..],
        &["serve", "--ws-auth-key", ""],
        &["worker", "--ws-auth-key", ""],
    ] {
        let message = cli.fail(1, args);
        assert!(message.contains(&format!("{} must not be empty", args[1])), "{message}");
    }
    let message = cli.fail(1, &["serve", "--api-auth-key", "file:nowhere"]);
    assert!(message.starts_with("error: --api-auth-key: the file nowhere cannot be read"), "{message}");
}

#[test]
fn the_port_that_kubernetes_announces_is_not_taken_for_ours() {
    let cli = Cli::new();
    for (value, code) in [("tcp://10.0.0.1:8080", 1), ("eighty", 2)] {
        let mut command = cli.command(&["serve", "--config", "missing.yaml"]);
        let output = command.env("SYNAPSE_PORT", value).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(code), "{value}: {}", stderr(&output));
    }
}

#[test]
fn a_variable_of_another_command_does_not_change_a_key() {
    let cli = Cli::with_team();
    let made = cli.new_key();
    let output = cli
        .command(&["key", "update", text(&made, "id"), "--disable", "--json"])
        .env("SYNAPSE_NAME", "worker-7")
        .env("SYNAPSE_MODEL", "sim")
        .output()
        .expect("the binary runs");
    let changed: Value = serde_json::from_str(&stdout(&output)).expect("one JSON document");
    assert_eq!((&changed["name"], &changed["models"]), (&made["name"], &made["models"]));
}

#[test]
fn an_unusable_store_is_explained_with_its_cause() {
    let cli = Cli::new();
    std::fs::create_dir(cli.folder.path().join("data")).expect("a folder");
    std::fs::write(cli.folder.path().join("data/synapse.db"), "not a database ".repeat(100)).expect("a file");
    let message = cli.fail(1, &["team", "list"]);
    assert!(
        message.starts_with("error: cannot use ./data/synapse.db: the file is not a SQLite database"),
        "{message}"
    );
    assert!(message.contains("\n  caused by: "), "{message}");
}

#[test]
fn a_database_url_with_a_password_is_not_repeated() {
    let message = Cli::new().fail(1, &["team", "list", "--database-url", "mysql://me:hunter2@db/synapse"]);
    assert!(
        message.contains("write sqlite://data/synapse.db, or postgres://") && !message.contains("hunter2"),
        "{message}"
    );
}

/// Runs with a stdout that nobody reads any more.
fn run_unread(cli: &Cli, args: &[&str]) -> Output {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    cli.command(args).stdout(writer).output().expect("the binary runs")
}

#[test]
fn a_reader_who_left_is_no_error_unless_a_secret_is_lost() {
    let cli = Cli::with_team();
    let made = cli.new_key();
    let output = run_unread(&cli, &["key", "list"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let output = run_unread(&cli, &["key", "rotate", text(&made, "id")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`synapse key rotate"), "{}", stderr(&output));
    let output = run_unread(&cli, &["worker-key", "create"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`synapse worker-key revoke"), "{}", stderr(&output));
}

#[test]
fn the_command_line_works_beside_a_gateway() {
    let cli = Cli::with_team();
    let data_dir: &Path = &cli.folder.path().join("data");
    let _gateway = synapse_store::lock::DataDir::claim(data_dir).expect("the data folder");
    assert_eq!(cli.json(&["team", "list"]).as_array().map(Vec::len), Some(1));
}
