//! Nothing that is found goes out, however a text is cut into pieces.

use proptest::prelude::*;

use super::*;
use crate::{
    policy::PolicySpec,
    secrets::samples::{ALPHANUMERIC, Random, Sample, formats, others, vendors},
};

fn policy() -> Arc<Policy> {
    Policy::compile(PolicySpec::cloud()).unwrap()
}

/// What comes out of a text in pieces of these lengths, the last of which repeats.
fn streamed(policy: &Arc<Policy>, text: &str, lengths: &[usize]) -> (String, Vec<Finding>, bool) {
    let mut window = Window::new(policy.clone(), Direction::Reply);
    let (mut out, mut findings, mut blocked) = (String::new(), Vec::new(), false);
    let mut add = |step: Step| {
        out.push_str(&step.text);
        findings.extend(step.findings);
        blocked |= step.blocked;
    };
    let mut rest = text;
    let mut lengths = lengths.iter().copied().chain(std::iter::repeat(*lengths.last().unwrap_or(&1)));
    while !rest.is_empty() {
        let at = rest.ceil_char_boundary(lengths.next().unwrap_or(1).clamp(1, rest.len()));
        add(window.push(&rest[..at]));
        rest = &rest[at..];
    }
    add(window.finish());
    assert_eq!(window.held(), 0);
    (out, findings, blocked)
}

fn in_one(policy: &Arc<Policy>, text: &str) -> (String, Vec<Finding>, bool) {
    streamed(policy, text, &[text.len().max(1)])
}

/// Secrets that a reply may not have.
fn samples() -> impl Iterator<Item = Sample> {
    let all = formats(7).into_iter().chain(vendors(7)).chain(others(7));
    all.filter(|sample| sample.category != "generic_secret")
}

#[test]
fn what_a_whole_text_is_refused_for_does_not_go_out_in_pieces() {
    let policy = policy();
    let found = |sample: &Sample| {
        let is_redacted = |f: &Finding| f.action >= Action::Redact;
        policy.scan(Direction::Reply, &sample.text).iter().any(is_redacted)
    };
    let all: Vec<Sample> = samples().filter(found).collect();
    assert!(all.len() > 250, "{}", all.len());
    for Sample { category, secret, text } in all {
        for at in 1..text.len() {
            let (out, ..) = streamed(&policy, &text, &[at, text.len()]);
            assert!(!out.contains(&secret), "{category} cut at {at}: {out}");
        }
        let (out, ..) = streamed(&policy, &text, &[1]);
        assert!(!out.contains(&secret), "{category} in single characters: {out}");
    }
}

/// Values that are written in several parts, with the words around them.
fn in_parts() -> impl Iterator<Item = String> {
    // Valid numbers, made of parts that are not.
    let card: &[&str] = &["4539", "1488", "0343", "6467"];
    let iban: &[&str] = &["DE89", "3704", "0044", "0532", "0130", "00"];
    let values = [card, iban];
    let joins = [" ", "-", "", "\u{A0}", ".", " - ", "\n"];
    let values = values.into_iter().flat_map(move |parts| joins.map(|join| parts.join(join)));
    let single =
        ["nino AB 12 34 56 C", "my ssn is 601-33-1234", "ssn: 6 0 1 - 3 3 - 1 2 3 4", "bsn 111222333"];
    values.chain(single.map(str::to_owned)).map(|value| format!("So it is this: {value}\nand no other one."))
}

#[test]
fn numbers_in_parts_are_disguised_as_a_whole_text_would_be() {
    let policy = policy();
    let mut redacted = 0;
    for text in in_parts() {
        let findings = policy.scan(Direction::Reply, &text);
        let whole = label(&text, &findings);
        redacted += usize::from(whole != text);
        for at in 1..text.len() {
            assert_eq!(streamed(&policy, &text, &[at, text.len()]).0, whole, "{text} cut at {at}");
        }
        assert_eq!(streamed(&policy, &text, &[1]).0, whole, "{text} in single characters");
    }
    assert!(redacted >= 16, "{redacted}");
}

#[test]
fn prose_is_hardly_held() {
    let policy = policy();
    let text = "It is a truth universally acknowledged, that a single man in possession of a good fortune, must \
                be in want of a wife. However little known the feelings of such a man may be, it is so.";
    let mut window = Window::new(policy, Direction::Reply);
    let held = text.chars().map(|c| {
        window.push(c.encode_utf8(&mut [0; 4]));
        window.held()
    });
    let mut held: Vec<usize> = held.collect();
    held.sort_unstable();
    assert!(held[held.len() / 2] <= 8, "{held:?}");
    assert!(held[held.len() - 1] <= 24, "{held:?}");
}

#[test]
fn a_key_without_an_end_blocks_and_is_named() {
    let begin = format!("-----BEGIN {}-----\n", "PRIVATE KEY");
    let lines = "MIIEvQIBADANBgkqhkiG\n".repeat(1000);
    let text = format!("{}\n{begin}{lines}", "Some words before that. ".repeat(400));
    let whole = in_one(&policy(), &text);
    let (out, findings, blocked) = &whole;
    assert!(blocked);
    assert!(!out.contains("BEGIN"));
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.category.as_str(), finding.action), ("private_key", Action::Block));
    assert!(text[finding.range.clone()].starts_with(&begin));
    assert_eq!(streamed(&policy(), &text, &[7]), whole);
}

#[test]
fn whether_a_key_blocks_does_not_depend_on_the_pieces() {
    let begin = format!("-----BEGIN {}-----\n", "PRIVATE KEY");
    for length in (16 << 10) - 120..(16 << 10) + 80 {
        let text = format!("{begin}{}\n-----END {}-----", "A".repeat(length), "PRIVATE KEY");
        assert_eq!(streamed(&policy(), &text, &[50]), in_one(&policy(), &text), "{length}");
    }
}

#[test]
fn a_text_about_keys_goes_out() {
    let text = format!(
        "It begins with -----BEGIN {}----- and then come lines of base64, as you can see in the \
                        manual. That is all there is to it.",
        "PRIVATE KEY"
    );
    assert_eq!(in_one(&policy(), &text), (text, vec![], false));
}

#[test]
fn findings_count_from_the_beginning_of_the_stream() {
    let sample = formats(3).swap_remove(0);
    let text = format!("{}{}", "Some words before that. ".repeat(400), sample.text);
    let (_, findings, _) = streamed(&policy(), &text, &[7]);
    let found: Vec<&str> = findings.iter().map(|finding| &text[finding.range.clone()]).collect();
    assert!(found.contains(&&*sample.secret), "{found:?}");
}

#[test]
fn a_long_secret_is_swallowed_to_its_end() {
    let mut random = Random(5);
    let token = random.text(ALPHANUMERIC, 6000);
    let text = format!("see eyJhbGciOiJIUzI1NiJ9.eyJ{token}.{token} ok");
    for lengths in [&[1][..], &[1000], &[20_000]] {
        let (out, ..) = streamed(&policy(), &text, lengths);
        assert_eq!(out, "see [REDACTED:jwt] ok");
    }
}

/// Words, numbers, secrets and odd characters in any order.
fn text() -> impl Strategy<Value = String> {
    let pieces = samples().map(|sample| sample.text).chain(
        [
            " ",
            "\n",
            "a ",
            "in the ",
            "4111 1111 ",
            "1111 1111",
            "NL91 ABNA 0417",
            " 1643 00",
            "-----BEGIN ",
            "-----",
            "\"",
            "{",
            "２１９",
            "\u{200B}",
            "漢字",
            "раss",
            "MjE5LTA5LTk5OTk=",
            "%32%31",
            "&#50;",
            "\\u0032",
            "alice@",
            "example.org",
            "](https://a.example/?q=",
            "abcdefgh1234567890abcdefgh)",
            "g h p _ ",
        ]
        .map(str::to_owned),
    );
    let piece = prop_oneof![
        proptest::sample::select(pieces.collect::<Vec<_>>()),
        "[ -~]{0,40}",
        "[a-z]{1,8} ",
        "[0-9]{1,5}[ -]"
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn pieces_make_no_difference(text in text(), lengths in proptest::collection::vec(1usize..40, 1..20)) {
        let policy = policy();
        let whole = in_one(&policy, &text);
        prop_assert_eq!(&streamed(&policy, &text, &lengths), &whole);
        prop_assert_eq!(&streamed(&policy, &text, &[1]), &whole);
    }

    #[test]
    fn any_text_at_all_passes_in_order(text in "\\PC*") {
        let (out, findings, blocked) = streamed(&policy(), &text, &[3]);
        if findings.is_empty() && !blocked {
            prop_assert_eq!(out, text);
        }
    }
}
