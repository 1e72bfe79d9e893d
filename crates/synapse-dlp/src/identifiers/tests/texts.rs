//! Addresses of people and machines, telephone numbers, dates; and any text at all.

use proptest::prelude::*;

use super::{certainty, hits, likely};
use crate::{
    hit::Certainty::{Likely, Sure},
    identifiers::CATEGORIES,
};

#[test]
fn addresses_of_people_are_found_by_their_shape() {
    for address in
        ["ann@lovelace.org", "a.b+c@mail.lovelace.co.uk", "user@xn--80ak6aa92e.com", "jörg@exämple.de"]
    {
        assert_eq!(certainty(&format!("write to <{address}>."), address, "email"), Some(Sure), "{address}");
    }
    for text in ["info@presidio.", "@home", "a @ b.com", "x@y", "user@-a.com", "@@@@"] {
        assert_eq!(hits(text), [], "{text}");
    }
}

#[test]
fn addresses_of_machines_are_found_in_their_many_forms() {
    for address in
        ["85.214.0.1", "85.214.132.0/24", "::ffff:192.0.2.1", "684D:1111:222:3333:4444:5555:6:77", "fe80::1"]
    {
        assert_eq!(
            certainty(&format!("ask {address} for it"), address, "ip_address"),
            Some(Likely),
            "{address}"
        );
    }
    for hidden in ["1 9 3 . 1 6 8 . 0 . 1", "193. 168. 0. 1", "193.1\n68.0.1", "193..168..0.1"] {
        assert_eq!(certainty(&format!("ip {hidden}"), hidden, "ip_address"), Some(Likely), "{hidden:?}");
    }
    assert_eq!(hits("10.0.0.1 10.0.0.2").iter().filter(|hit| hit.category == "ip_address").count(), 2);
    for text in ["256.256.256.256", "1.2.3.4.5", "IP192.168.1.1text", "12:34:56", "a::b::c"] {
        assert!(!likely(text).contains(&"ip_address"), "{text}");
    }
    for address in ["AA:BB:CC:DD:EE:FF", "00-1a-2b-3c-4d-5e", "0012.3456.789a"] {
        assert!(certainty(&format!("mac {address}"), address, "mac_address") >= Some(Likely), "{address}");
    }
}

#[test]
fn telephone_numbers_are_found_as_people_write_them() {
    for number in [
        "+1 415 555 0132",
        "+30 21 0 1234567",
        "+55 11 98456 5666",
        "+905321234567",
        "415-555-0132",
        "(415) 555-0132",
    ] {
        let found = certainty(&format!("reach me: {number}"), number, "phone");
        assert_eq!(found, Some(Likely), "{number}");
    }
    for number in ["06 12 34 56 78", "020 7946 0958", "09171234567", "5550132"] {
        assert_eq!(certainty(&format!("my phone: {number}"), number, "phone"), Some(Likely), "{number}");
    }
}

#[test]
fn dates_are_found_with_their_time_of_day() {
    for date in
        ["2024-06-05T09:15:30.500-07:00", "2024-03-15T14:30Z", "5-20-2021", "21.05.2021", "2024/12/31"]
    {
        assert_eq!(certainty(&format!("on {date}, or not"), date, "date"), Some(Likely), "{date}");
    }
    for text in ["2024-13-41", "99/99/2024", "2024-06-05-12", "1.2.3.2024"] {
        assert!(!likely(text).contains(&"date"), "{text}");
    }
}

#[test]
fn wallets_are_found_by_their_checksums() {
    // The first block's reward went there, and it is in every book.
    let first: String = ["1A1zP1eP5QGefi2D", "MPTfTL5SLmv7DivfNa"].concat();
    assert_eq!(certainty(&format!("pay {first}"), &first, "crypto_btc"), Some(Sure));
    assert_eq!(certainty(&format!("pay {}", first.replace("Na", "Nb")), "pay", "crypto_btc"), None);
    let segwit: String = ["bc1qw508d6qejxtdg4y5", "r3zarvary0c5xw7kv8f3t4"].concat();
    assert_eq!(certainty(&format!("pay {segwit}"), &segwit, "crypto_btc"), Some(Sure));
    let ether: String = ["0x5aAeb6053F3E94C9b9A0", "9f33669435E7Ef1BeAed"].concat();
    assert_eq!(certainty(&format!("pay {ether}"), &ether, "crypto_eth"), Some(Sure));
    let wrong = ether.replace("aAeb", "AAeb");
    assert_eq!(hits(&format!("pay {wrong}")).iter().filter(|hit| hit.category == "crypto_eth").count(), 0);
}

#[test]
fn every_category_has_one_name_and_every_hit_has_a_category() {
    let mut names: Vec<_> = CATEGORIES.iter().map(|category| category.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&"iban_nl") && names.contains(&"date") && !names.contains(&"iban"));
}

/// Texts of what detectors look for, thrown together.
fn tangled() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[0-9]{1,6}",
        "[ .\\-/_*|\n:,()+@]{1,3}",
        "[A-Z]{1,4}",
        "[a-z]{1,6}",
        Just("\u{a0}".to_owned()),
        Just("\u{2013}".to_owned()),
        Just("ssn ".to_owned()),
        Just("éü".to_owned()),
        Just("주민".to_owned()),
        Just("http://".to_owned()),
        Just("19950101".to_owned()),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn hits_are_stretches_of_any_text(text in prop_oneof![any::<String>(), tangled()]) {
        for hit in hits(&text) {
            prop_assert!(text.get(hit.range.clone()).is_some_and(|value| !value.is_empty()), "{:?}", hit);
            prop_assert!(CATEGORIES.iter().any(|category| category.name == hit.category), "{:?}", hit);
        }
    }

    #[test]
    fn nothing_is_reported_twice(text in tangled()) {
        let mut seen: Vec<_> = hits(&text).into_iter().map(|hit| (hit.category, hit.range.start, hit.range.end)).collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), count, "{:?}", hits(&text));
    }
}
