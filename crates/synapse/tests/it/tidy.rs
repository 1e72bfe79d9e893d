//! The rules of the house that no compiler checks, as scans of the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::start::setup;

/// Where the workspace is.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Source {
    /// From the workspace's root, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Whether it is part of the product, as opposed to its tests.
    fn is_product(&self) -> bool {
        self.path.contains("/src/") && !self.is_in("crates/synapse-testkit/")
    }
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path =
                path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}

fn sources(ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("crates"), ending, &mut found);
    assert!(!found.is_empty());
    found
}

/// The lines of product code that have one of these texts, outside the places where they belong.
fn strays(texts: &[&str], belongs: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(".rs").iter().filter(|source| source.is_product() && !belongs(source)) {
        for (number, line) in (1..).zip(source.text.lines()) {
            if texts.iter().any(|text| line.contains(text)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

const NONE: [&str; 0] = [];

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let long = sources(".rs").into_iter().map(|source| (source.text.lines().count(), source.path));
    assert_eq!(long.filter(|(lines, _)| *lines > 500).collect::<Vec<_>>(), []);
}

#[test]
fn every_source_file_says_what_lives_in_it() {
    let silent = sources(".rs").into_iter().filter(|source| !source.text.starts_with("//! "));
    assert_eq!(silent.map(|source| source.path).collect::<Vec<_>>(), NONE);
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = ["todo!", "TODO", "FIXME", "XXX", "HACK"];
    assert_eq!(strays(&marks, |_| false), NONE);
}

#[test]
fn only_the_binary_reads_the_environment() {
    let texts = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];
    assert_eq!(strays(&texts, |source| source.is_in("crates/synapse/")), NONE);
}

#[test]
fn only_the_store_has_sql() {
    let texts = ["\"SELECT ", "\"INSERT INTO ", "\"UPDATE ", "\"DELETE FROM ", "\"PRAGMA ", "sqlx::"];
    assert_eq!(strays(&texts, |source| source.is_in("crates/synapse-store/")), NONE);
}

#[test]
fn only_backends_dialling_workers_and_one_place_besides_open_connections() {
    let texts = ["TcpStream::connect", "hyper_util::client", "reqwest::"];
    let belongs = |source: &Source| {
        source.is_in("crates/synapse-gateway/src/backend/")
            || source.path == "crates/synapse-tunnel/src/worker/dial.rs"
            || source.path == "crates/synapse/src/outside.rs"
    };
    assert_eq!(strays(&texts, belongs), NONE);
}

#[test]
fn tasks_are_started_in_one_place() {
    let texts = ["tokio::spawn(", "task::spawn(", "Handle::current().spawn"];
    assert_eq!(strays(&texts, |source| source.path.ends_with("/src/tasks.rs")), NONE);
}

#[test]
fn one_place_turns_faults_into_statuses() {
    let place = |source: &Source| {
        source.path == "crates/synapse-gateway/src/respond.rs" || source.is_in("crates/synapse-simulator/")
    };
    assert_eq!(strays(&["=> StatusCode::"], place), NONE);
}

/// What each crate may depend on: of ours, and never of others.
const MAP: &[(&str, &[&str], &[&str])] = &[
    ("synapse-dlp", &[], &["tokio", "hyper", "axum", "sqlx"]),
    ("synapse-audit", &["core"], &["hyper", "axum", "sqlx"]),
    ("synapse-core", &[], &["tokio", "hyper", "axum", "sqlx"]),
    ("synapse-dialect", &["core"], &["tokio", "hyper", "axum", "sqlx"]),
    ("synapse-tunnel", &["core"], &["axum", "sqlx"]),
    ("synapse-store", &["core"], &["hyper", "axum", "clap"]),
    ("synapse-gateway", &["audit", "core", "dlp", "dialect", "tunnel"], &["axum", "sqlx", "redis", "clap"]),
    ("synapse-simulator", &["dialect"], &["axum", "sqlx", "clap"]),
    ("synapse-testkit", &["core", "simulator", "tunnel"], &["sqlx", "clap"]),
    ("synapse", &["audit", "core", "dlp", "dialect", "tunnel", "store", "gateway", "simulator"], &["sqlx"]),
];

/// The names under `[dependencies]`, those of tests aside.
fn dependencies(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let section = lines.take_while(|line| !line.starts_with('['));
    section.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn dependencies_point_only_the_way_the_house_is_drawn() {
    for manifest in sources("Cargo.toml") {
        let name = manifest.path.split('/').nth(1).expect("a crate");
        let drawn = MAP.iter().find(|(known, ..)| *known == name);
        let (_, ours, banned) = drawn.unwrap_or_else(|| panic!("{name} is not on the map"));
        for dependency in dependencies(&manifest.text) {
            match dependency.strip_prefix("synapse-") {
                Some(of_ours) => assert!(ours.contains(&of_ours), "{name} → {dependency}"),
                None => assert!(!banned.contains(&dependency), "{name} → {dependency}"),
            }
        }
    }
}

#[tokio::test]
async fn the_configuration_reference_is_the_one_of_this_build() {
    let printed = setup().cli(&["config", "reference"]).await.stdout;
    let kept = fs::read_to_string(root().join("docs/config.md")).expect("docs/config.md");
    assert!(kept.as_bytes() == printed, "run `synapse config reference > docs/config.md`");
}
