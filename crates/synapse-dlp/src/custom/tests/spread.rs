//! Words are found however they are set apart, and nothing else is.

use std::sync::Arc;

use proptest::prelude::*;

use super::{compiled, dictionary, error, found, rule};
use crate::{CustomKind, CustomRule, Direction, Policy, PolicyError, RuleError, Window, exact_hash, label};

fn whales() -> Arc<Policy> {
    compiled(rule(dictionary(&["Blue Whale Shipping", "falcon", "Größe-4 Ω"], true))).unwrap()
}

/// What comes out of a reply in pieces of this many characters.
fn streamed(policy: &Arc<Policy>, text: &str, size: usize) -> String {
    let mut window = Window::new(policy.clone(), Direction::Reply);
    let pieces: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for piece in pieces.chunks(size) {
        out.push_str(&window.push(&piece.iter().collect::<String>()).text);
    }
    out.push_str(&window.finish().text);
    out
}

#[test]
fn words_are_found_however_they_are_set_apart() {
    let policy = whales();
    for spread in [
        "Blue Whale Shipping",
        "blue whale shipping",
        "Blue  Whale Shipping",
        "Blue Whale\nShipping",
        "Blue-Whale Shipping",
        "Blue\u{a0}Whale_Shipping",
        "B l u e Whale Shipping",
        "Blue W.h.a.l.e - Shipping",
        "Blue** Whale Shipping",
        "blue—whale – SHIPPING",
        "bluewhaleshipping",
        "BlueWhale/Shipping",
        "f\u{a0}-\u{a0}a l c o n",
        "F-A-L-C-O-N",
        "größe 4 ω",
        "GRÖSSE|4|Ω",
    ] {
        for (before, behind) in [("", ""), ("it is ", "."), ("(", ")"), ("**", "**"), ("so,\n", " is it")] {
            let text = format!("{before}{spread}{behind}");
            assert_eq!(found(&policy, &text), [spread], "{text}");
        }
    }
}

#[test]
fn words_that_are_not_those_of_the_phrase_are_not_found() {
    let policy = whales();
    for text in [
        "blue whales hipping",
        "blue wh ale shipping",
        "blue wha le shi pping",
        "b lue whale shipping",
        "ablue whale shipping",
        "blue whale shippings",
        "b l u ewhale shipping",
        "blue, whale shipping",
        "blue    whale shipping",
        "blue whale",
        "falcons",
        "fal con",
    ] {
        assert_eq!(found(&policy, text), [""; 0], "{text}");
    }
}

#[test]
fn short_phrases_are_not_common_words_and_names_keep_their_dots() {
    let policy = compiled(rule(dictionary(&["I.T", "us", ".NET", "C++", "U.S.", "C"], true))).unwrap();
    assert_eq!(found(&policy, "it is net income"), [""; 0]);
    assert_eq!(found(&policy, "I.T and .net in the U.S. or c ++"), ["I.T", ".net", "U.S.", "c"]);
    assert_eq!(found(&policy, "us, u-s, C++"), ["us", "C++"]);
}

#[test]
fn what_overlaps_a_phrase_that_is_none_is_found() {
    let policy = compiled(rule(dictionary(&["blue whale", "whale shipping"], true))).unwrap();
    assert_eq!(found(&policy, "xblue whale shipping"), ["whale shipping"]);
    assert_eq!(found(&policy, "b l u e blue whale"), ["blue whale"]);
}

#[test]
fn case_and_parts_of_words_count_where_the_rule_says_so() {
    let kind = |whole_words, case_sensitive| CustomKind::Dictionary {
        words: vec!["Falcon".to_owned()],
        whole_words,
        case_sensitive,
    };
    let text = "falcon Falcons F a l c o n";
    assert_eq!(found(&compiled(rule(kind(true, true))).unwrap(), text), ["F a l c o n"]);
    assert_eq!(found(&compiled(rule(kind(false, true))).unwrap(), text), ["Falcon", "F a l c o n"]);
    assert_eq!(
        found(&compiled(rule(kind(false, false))).unwrap(), text),
        ["falcon", "Falcon", "F a l c o n"]
    );
}

#[test]
fn scripts_without_spaces_have_words_anywhere() {
    let policy = compiled(rule(dictionary(&["田中商事", "서울"], true))).unwrap();
    assert_eq!(found(&policy, "株式会社田中商事の件、서울에서"), ["田中商事", "서울"]);
}

#[test]
fn a_phrase_for_replies_has_512_bytes_at_most() {
    let long = rule(dictionary(&[&"blue whale ".repeat(50)], true));
    assert!(matches!(compiled(long.clone()), Err(PolicyError::Rule { error: RuleError::TooLong(549), .. })));
    let buffered = compiled(CustomRule { buffer: true, ..long }).unwrap();
    assert!(buffered.needs_whole(Direction::Reply));
    assert_eq!(found(&buffered, &"Blue_Whale ".repeat(50)).len(), 1);
    assert!(compiled(rule(dictionary(&[&"blue whale ".repeat(46)], true))).is_ok());
}

#[test]
fn a_word_without_characters_is_refused() {
    assert_eq!(
        error(rule(dictionary(&["falcon", " - "], true))),
        "policy `cloud`: rule `codename`: `words[1]` consists of separators only: give it a letter or a digit"
    );
}

#[test]
fn exact_values_are_found_in_words_that_are_joined() {
    let salt = b"salt".to_vec();
    let hmacs = ["Ada Lovelace", "C-4711"].map(|value| exact_hash(&salt, value)).into();
    let policy = compiled(rule(CustomKind::ExactMatch { salt, hmacs, max_words: 3 })).unwrap();
    for joined in ["Ada_Lovelace", "ada-lovelace", "Ada.Lovelace", "Ada \u{a0} Lovelace", "Ada** / _Lovelace"]
    {
        assert_eq!(found(&policy, &format!("to {joined} (C-4711)")), [joined, "C-4711"]);
    }
    assert_eq!(found(&policy, "Ada-Smith-Lovelace C-47-11 xAda-Lovelace"), [""; 0]);
}

/// A phrase of the policy, with any separators that may be in it.
fn spread() -> impl Strategy<Value = String> {
    let separators = || {
        proptest::collection::vec(
            proptest::sample::select(vec![
                " ", "\u{a0}", "\t", "\n", ".", "-", "–", "—", "_", "*", "|", "/", "'",
            ]),
            1..=3,
        )
        .prop_map(|separators| separators.concat())
    };
    let word = move |word: &'static str| {
        let inner = proptest::collection::vec(separators(), word.len() - 1);
        (any::<bool>(), inner, any::<bool>()).prop_map(move |(spelled, inner, upper)| {
            let inner = inner.into_iter().map(|gap| if spelled { gap } else { String::new() });
            let gaps = inner.chain([String::new()]);
            let word: String = word.chars().zip(gaps).map(|(c, gap)| format!("{c}{gap}")).collect();
            if upper { word.to_uppercase() } else { word }
        })
    };
    let phrase = (word("blue"), separators(), word("whale"), separators(), word("shipping"));
    prop_oneof![
        phrase.prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat()),
        word("falcon"),
        Just("BlueWhaleShipping".to_owned())
    ]
}

/// Phrases and what resembles them, among other words.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        spread(),
        "[a-z]{1,9}[ ,.]",
        "\\PC{0,6}",
        proptest::sample::select(vec![
            "blue ", "b l ", "Whale", " - ", "falco", "\n\n", "Größe", "漢字", "-"
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_spread_form_is_found(spread in spread()) {
        let text = format!("so (it is, {spread}, see");
        prop_assert_eq!(found(&whales(), &text), [spread]);
    }

    #[test]
    fn no_spread_form_leaks_through_a_stream(spread in spread(), size in 1usize..60) {
        let text = format!("Here is what they say it is called, {spread}, which nobody else should know of.");
        let policy = whales();
        let whole = label(&text, &policy.scan(Direction::Reply, &text)).into_owned();
        prop_assert!(whole.contains("called, [REDACTED:custom:codename], which"));
        prop_assert_eq!(streamed(&policy, &text, size), whole);
    }

    #[test]
    fn pieces_make_no_difference(text in text(), size in 1usize..40) {
        let policy = whales();
        let whole = streamed(&policy, &text, text.len().max(1));
        prop_assert_eq!(streamed(&policy, &text, size), &*whole);
        prop_assert_eq!(streamed(&policy, &text, 1), whole);
    }

    #[test]
    fn matches_are_whole_characters(text in text()) {
        for whole_words in [true, false] {
            let words = ["blue whale shipping", "falcon", "größe", "b", "漢"].map(str::to_owned);
            let dictionary = super::super::dictionary::Dictionary::new(&words, whole_words, false).unwrap();
            dictionary.find(&text, &mut |range| assert!(text.get(range).is_some_and(|found| !found.is_empty())));
        }
    }
}
