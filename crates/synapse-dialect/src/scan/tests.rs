//! What is JSON that all readers read alike, and what is not.

use super::*;

fn scan(text: &str) -> Scan<()> {
    Scanner::new(text).document(|scanner, _| scanner.value())
}

fn what(text: &str) -> &'static str {
    scan(text).expect_err(text).what
}

#[test]
fn json_is_read_whole() {
    for value in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "12.50e-3",
        "1E+5",
        "1e308",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,[2],{\"a\":[{}]}]",
        r#""""#,
        r#""\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00""#,
        "\"\u{e4}\u{7f}\"",
        "18446744073709551616",
        " \t\r\n1 ",
    ] {
        assert_eq!(scan(&format!(" {{ \"a\" : {value} , \"b\":1 }} ")), Ok(()), "{value}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for value in [
        "",
        "nul",
        "nulll",
        "True",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "{",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\0\"",
        "//",
        "1 2",
        "1}",
    ] {
        assert!(scan(&format!("{{\"a\":{value}}}")).is_err(), "{value}");
    }
    for text in ["", "[]", "1", "{} {}", "{}x", "\u{feff}\u{feff}{}"] {
        assert!(scan(text).is_err(), "{text}");
    }
}

#[test]
fn what_readers_read_in_two_ways_is_refused() {
    for twice in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#, r#"{"":1,"":2}"#] {
        assert_eq!(what(twice), "a key stands twice in its object", "{twice}");
    }
    assert_eq!(scan(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#), Ok(()));
    for half in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\ud800", r"\udc00\ud800"] {
        assert_eq!(what(&format!(r#"{{"a":"{half}"}}"#)), "half of a surrogate pair stands alone", "{half}");
    }
    for number in ["1e400", "-1E999", &"9".repeat(400)] {
        assert_eq!(what(&format!(r#"{{"a":{number}}}"#)), "a number is too large for any reader");
    }
}

#[test]
fn keys_are_told_apart_however_many_there_are() {
    for count in [FEW_KEYS - 1, FEW_KEYS, FEW_KEYS + 1, 5_000] {
        let keys: Vec<String> = (0..count).map(|key| format!("\"k{key}\":{{\"k0\":0}}")).collect();
        let text = format!("{{\"x\":{{{}}}}}", keys.join(","));
        assert_eq!(scan(&text), Ok(()), "{count}");
        for at in [0, count - 1] {
            let again = format!("{},\"k{at}\":0}}}}", &text[..text.len() - 2]);
            assert_eq!(what(&again), "a key stands twice in its object", "{count} {at}");
        }
    }
}

#[test]
fn it_goes_only_so_deep() {
    let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert_eq!(scan(&deep(MAX_DEPTH)), Ok(()));
    for depth in [MAX_DEPTH + 1, 100_000] {
        assert_eq!(what(&deep(depth)), "it is nested more than 64 levels deep");
    }
}

proptest::proptest! {
    #[test]
    fn it_agrees_with_another_reader(
        text in proptest::collection::vec(
            proptest::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"", "\\", "\\u0061", "\\ud83d\\ude00", "0",
                "1", "-", ".", "e", "null", "true", " ", "\n", "\u{e4}", "{\"c\":", "[1,",
            ]),
            0..24,
        )
    ) {
        let text = format!("{{\"x\":{}}}", text.concat());
        let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        match scan(&text) {
            Ok(()) => proptest::prop_assert!(theirs, "{text}"),
            Err(error) => proptest::prop_assert!(
                !theirs || error.what.contains("twice") || error.what.contains("number"), "{text}: {error}"
            ),
        }
    }

    #[test]
    fn strings_of_any_text_are_read(text in ".{0,100}") {
        let text = serde_json::json!({ "a": text }).to_string();
        proptest::prop_assert_eq!(scan(&text), Ok(()));
    }
}
