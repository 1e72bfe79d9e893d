//! Texts that look like having identifiers, and have none.

use super::{
    certainty, hits, likely,
    makers::{Dice, broken, luhn},
};

#[test]
fn versions_hashes_and_times_are_no_identifiers() {
    for text in [
        "version 1.2.3 of 4.18.2-rc1",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit f15a5a04b0f6dc6073e6db0296e6ef2d8b8d2522",
        "2.16.840.1.113883.4.1",
        "12:34:56.789",
        "MyClass::toString and std::fmt::Display",
        "Ratio 1:2:3:4, port 80:443",
        "it cost 1,284,500.25 in all",
        "see pages 12-15, 18 and 20/21",
        "rows 100 200 300 400 500 600 700",
        "Fifth Floor, Boston, MA 02110-1301 USA",
        "CVE-2021-22959 and CVE-2022-32215, a security fix",
        "commits 0e576740dc, ebbed6047d, f412834151 and 5053313562",
        "Copyright 2004-2022, see the License; contact 1995-1996",
        "100.64.0.0/10 with the mask 255.255.255",
        "1000 * 1000 * 1000 bytes are 1024.0 * 1024.0 * 953.67",
        "deflateInit2, ImageModelV1, no harm in checking for Z_STREAM_ERROR here",
        "DFARS 252.227-7014 and 202.227-7015",
        "80.4 (53.5\u{2013}145.8), 78.2 (57.0\u{2013}198.6)",
        "x = [0.12345678, 0.98765432, 1e-10]",
    ] {
        let found: Vec<_> = likely(text).into_iter().filter(|name| *name != "ip_address").collect();
        assert_eq!(found, Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn a_number_does_not_go_on_beyond_its_ends() {
    let sin = luhn("13069254");
    for text in [
        format!("1{sin}"),
        format!("sin {sin}4"),
        format!("sin a{sin}"),
        format!("sin {sin}b"),
        format!("sin 7.{sin}"),
        format!("sin {sin}-88"),
        format!("sin 12:{sin}"),
        format!("sin é{sin}"),
    ] {
        assert_eq!(certainty(&text, &sin, "ca_sin"), None, "{text}");
    }
}

#[test]
fn a_word_that_names_one_thing_keeps_the_others_silent() {
    let mut dice = Dice::new(3);
    for _ in 0..200 {
        let wrong = broken(&luhn(&format!("1{}", dice.digits(7))), 1 + dice.below(9) as u8);
        let text = format!("my sin is {wrong}");
        assert_eq!(hits(&text), [], "{text}");
    }
}

#[test]
fn a_word_names_the_first_number_after_it_only() {
    let text = format!("my ssn is {}-{}-{}. Call me at (415) 555-0132", 219, "09", 9999);
    assert_eq!(likely(&text), ["phone", "us_ssn"]);
}

#[test]
fn one_digit_over_and_over_is_nothing() {
    for digit in ["0", "1", "8"] {
        for length in 7..20 {
            assert_eq!(likely(&format!("card {}", digit.repeat(length))), Vec::<&str>::new());
        }
    }
}

#[test]
fn prose_in_capitals_has_no_bank_codes() {
    assert_eq!(likely("PLEASE READ THE DOCUMENT ABOUT INTERNET SECURITY"), Vec::<&str>::new());
}
