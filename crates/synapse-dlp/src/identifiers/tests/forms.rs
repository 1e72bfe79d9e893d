//! The ways to write a value: as usual, and as somebody does who would rather not have it found.

use super::{
    certainty, likely,
    makers::{Dice, iban, luhn},
};
use crate::hit::Certainty::{Likely, Sure, Weak};

/// A social security number that no person has.
fn ssn() -> String {
    format!("{}-{}-{}", 219, "09", 9999)
}

/// The text with `separator` after every `every` characters.
fn spread(text: &str, every: usize, separator: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(every).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join(separator)
}

#[test]
fn separators_between_any_two_characters_hide_nothing() {
    let account = iban("NL", "ABNA0417164300");
    let card = luhn("401288888888188");
    for separator in [" ", "\u{a0}", ".", "-", "\u{2013}", "_", "*", "|", "/", "\n", "\t", " - ", "**"] {
        for every in [1, 3, 4, 5] {
            let hidden = spread(&account, every, separator);
            assert_eq!(
                certainty(&format!("send it to {hidden}, please"), &hidden, "iban_nl"),
                Some(Sure),
                "{hidden:?}"
            );
            let hidden = spread(&card, every, separator);
            let found = certainty(&format!("card {hidden}"), &hidden, "credit_card_visa");
            assert_eq!(found, Some(Likely), "{hidden:?}");
        }
    }
}

#[test]
fn a_value_with_its_own_separators_is_found_when_they_are_doubled() {
    let ssn = ssn();
    for separator in [" ", ".", "*", "\n", "**"] {
        let hidden = spread(&ssn, 4, separator);
        let text = format!("my ssn is {hidden}");
        assert!(certainty(&text, &hidden, "us_ssn") >= Some(Likely), "{text:?}");
    }
}

#[test]
fn the_usual_way_to_write_a_number_makes_it_more_than_a_chance() {
    let sin = luhn("13069254");
    assert_eq!(certainty(&sin, &sin, "ca_sin"), Some(Weak));
    let written = format!("{}-{}-{}", &sin[..3], &sin[3..6], &sin[6..]);
    assert_eq!(certainty(&written, &written, "ca_sin"), Some(Likely));
}

#[test]
fn a_word_beside_a_number_makes_it_more_than_a_chance() {
    let sin = luhn("13069254");
    for text in [
        format!("my SIN is {sin}"),
        format!("{{\"social_insurance_number\": \"{sin}\"}}"),
        format!("{sin} is my social insurance number"),
        format!("socialInsuranceNo={sin}"),
    ] {
        assert_eq!(certainty(&text, &sin, "ca_sin"), Some(Likely), "{text}");
    }
}

#[test]
fn words_with_accents_and_of_other_scripts_speak_too() {
    let text = format!("numéro de sécurité sociale: {}", 1_950_975_043_491_i64);
    assert_eq!(likely(&text), Vec::<&str>::new());
    let plate = format!("대한민국 여권 S{}", 87_654_321);
    assert!(likely(&plate).contains(&"kr_passport"), "{:?}", likely(&plate));
}

#[test]
fn a_word_that_a_number_is_written_against_does_not_hide_it() {
    let card = luhn("411111111111111");
    for glued in [
        format!("my card{card} is"),
        format!("it is{} or so", spread(&card, 4, " ")),
        format!("use visa{}", spread(&card, 4, "-")),
    ] {
        assert!(likely(&glued).contains(&"credit_card_visa"), "{glued}");
    }
    assert!(likely("the other one is415-555-0132, too").contains(&"phone"));
    for name in ["sha256", "deadbeef41111111", "the file img20240131", "fr7630006000011234567890188"] {
        assert_eq!(likely(name), Vec::<&str>::new(), "{name}");
    }
}

#[test]
fn two_numbers_side_by_side_are_both_found() {
    let mut dice = Dice::new(7);
    let (one, two) = (luhn(&format!("4{}", dice.digits(14))), luhn(&format!("4{}", dice.digits(14))));
    for gap in [" ", "\n", ", ", " / ", "; "] {
        let text = format!("cards: {one}{gap}{two}");
        assert_eq!(certainty(&text, &one, "credit_card_visa"), Some(Likely), "{text}");
        assert_eq!(certainty(&text, &two, "credit_card_visa"), Some(Likely), "{text}");
    }
}

#[test]
fn a_card_is_found_with_its_date_and_code_after_it() {
    let card = spread(&luhn("401288888888188"), 4, " ");
    let text = format!("{card} 12/27 123");
    assert_eq!(certainty(&text, &card, "credit_card_visa"), Some(Likely));
}

#[test]
fn values_deep_in_long_runs_of_numbers_are_found() {
    let account = iban("DE", "298951414892158178");
    let filler = "48 1502 7 33 ".repeat(40);
    let text = format!("{filler}{account} {filler}");
    assert_eq!(certainty(&text, &account, "iban_de"), Some(Sure));
}
