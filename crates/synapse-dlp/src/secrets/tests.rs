//! Secrets of every kind are found, and what only looks like one is not.

use super::{
    find,
    samples::{Sample, formats, others, vendors},
};
use crate::hit::Hit;

fn hits(text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    find(text, &mut |hit| hits.push(hit));
    hits
}

fn ranges(text: &str) -> Vec<(usize, usize)> {
    hits(text).into_iter().map(|hit| (hit.range.start, hit.range.end)).collect()
}

fn missed(samples: &[Sample]) -> Vec<String> {
    let is_missed = |sample: &&Sample| {
        let start = sample.text.find(&sample.secret).unwrap();
        let end = start + sample.secret.len();
        !hits(&sample.text).iter().any(|hit| hit.range.start <= start && end <= hit.range.end)
    };
    samples.iter().filter(is_missed).map(|sample| format!("{}: {}", sample.category, sample.text)).collect()
}

#[test]
fn tokens_of_all_formats_are_found() {
    let all: Vec<Sample> = (0..20).flat_map(formats).collect();
    let missed = missed(&all);
    // A few random tokens have too little entropy or look like words.
    assert!(missed.len() * 200 < all.len(), "{} of {}: {missed:#?}", missed.len(), all.len());
}

#[test]
fn values_assigned_to_vendors_names_are_found() {
    let all: Vec<Sample> = (0..20).flat_map(vendors).collect();
    let missed = missed(&all);
    assert!(missed.len() * 100 < all.len(), "{} of {}: {missed:#?}", missed.len(), all.len());
}

#[test]
fn keys_headers_and_connection_strings_are_found() {
    for seed in 0..20 {
        assert_eq!(missed(&others(seed)), [""; 0]);
    }
}

#[test]
fn every_row_of_the_tables_can_be_searched_for() {
    for (name, floor, patterns) in super::formats::FORMATS {
        assert!(*floor < 6.0);
        for pattern in patterns.split(' ') {
            assert!(super::pattern::Pattern::parse(pattern).anchor().is_some(), "{name}");
        }
    }
}

#[test]
fn placeholders_names_and_hashes_are_no_secrets() {
    for text in [
        "password: ${DATABASE_PASSWORD_2}",
        "api_key = \"<your-api-key-goes-here-1>\"",
        "secret: changeme-please-0123",
        "token = d41d8cd98f00b204e9800998ecf8427e",
        "token_url = https://login.example.com/oauth2/v2.0/token",
        "the secret garden is a novel of 1911",
        "postgres://user:password@localhost/db",
        "postgres://user:${PASSWORD}@localhost/db",
        "curl -u username:password https://example.com",
        "Authorization: Bearer $TOKEN_1234567890123",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "see video_box.ico-7a388b69018576d24b59331fd60aab0c.png",
    ] {
        assert_eq!(hits(text), [], "{text}");
    }
}

#[test]
fn a_first_line_without_a_key_is_no_key() {
    let lines = format!("-----BEGIN {0}-----\nanything\n-----END {0}-----", "PRIVATE KEY");
    assert_eq!(hits(&lines), []);
    assert_eq!(
        hits(&format!("A key begins with -----BEGIN {}----- and then has base64.", "PRIVATE KEY")),
        []
    );
}

#[test]
fn a_key_is_one_finding_however_long_it_is() {
    let (begin, end) = ["BEGIN", "END"].map(|word| format!("-----{word} {}-----", "PRIVATE KEY")).into();
    let begin = format!("{begin}\n");
    let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0A1B2C3D\n\n";
    for lines in [40, 4000, 40_000] {
        let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n".repeat(lines);
        for key in [format!("{begin}{body}{end}"), format!("{begin}{headers}{body}{end}")] {
            let all = ("is ".len(), "is ".len() + key.len());
            assert_eq!(ranges(&format!("is {key} and so on")), [all], "{lines} lines");
        }
        for key in [format!("{begin}{body}"), format!("{begin}{headers}{body}")] {
            assert_eq!(ranges(&key), [(0, key.len())], "{lines} lines without an end");
            let key = key.trim_end();
            assert_eq!(ranges(&format!("{key}\nand then some words")), [(0, key.len())], "{lines} lines");
        }
    }
}

#[test]
fn a_text_about_keys_is_none_however_far_apart_it_names_both_lines() {
    let text =
        format!("-----BEGIN {0}-----\n{1}-----END {0}-----", "PRIVATE KEY", "some words. ".repeat(3000));
    assert_eq!(hits(&text), []);
}

#[test]
fn first_and_last_lines_are_each_looked_for_once() {
    // From every first line to the end of the text would take many minutes.
    let first = format!("-----BEGIN {}-----", "PRIVATE KEY");
    for unit in
        [first.clone(), format!("{first}\n"), format!("{} ", &first[..first.len() - 1]), format!("{first} a")]
    {
        let _ = hits(&unit.repeat((2 << 20) / unit.len()));
    }
}

#[test]
fn each_value_of_manifests_that_follow_each_other_is_found() {
    let values = ["c2VjcmV0c2VjcmV0", "bXkgb3duIHNlY3JldA=="];
    let manifest = format!("kind: Secret\ndata:\n  one: {}\n  other: {}\n---\n", values[0], values[1]);
    let text = manifest.repeat(100);
    let of_manifests = |hit: &&Hit| hit.category == "kubernetes-secret-yaml";
    let found: Vec<_> =
        hits(&text).iter().filter(of_manifests).map(|hit| text[hit.range.clone()].to_owned()).collect();
    assert_eq!(found, values.repeat(100));
}

#[test]
fn own_keys_are_told_by_their_checksums() {
    let known = ["syn_AbCd1234", "0123456789abcdefghijABCDEFGHIJ2MJR04"].join("_");
    let found = hits(&format!("my key is {known}, thanks"));
    assert!(found.iter().any(|hit| hit.category == "synapse_key" && hit.range == (10..10 + known.len())));
    let mistyped = known.replace("04", "05");
    assert!(hits(&format!("my key is {mistyped}, thanks")).iter().all(|hit| hit.category != "synapse_key"));
}
