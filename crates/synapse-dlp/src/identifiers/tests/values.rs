//! Every kind with a check: a made value is found with a word beside it, and one with a wrong check digit is not.

use super::{
    hits,
    makers::{Dice, broken, closing, dot, hybrid, iban, luhn, modulo},
};

type Maker = fn(&mut Dice) -> Option<String>;

fn birthday(dice: &mut Dice) -> [String; 3] {
    [50 + dice.below(49), 1 + dice.below(12), 1 + dice.below(28)].map(|part| format!("{part:02}"))
}

fn with_brazilian(body: &str, first: &[i64], second: &[i64]) -> String {
    let check = |text: &str, weights: &[i64]| match dot(text, weights) % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    };
    let body = format!("{body}{}", check(body, first));
    format!("{body}{}", check(&body, second))
}

/// The digits with what lacks to a multiple of eleven, of which ten and eleven are written with their last digit.
fn eleventh(body: &str, weights: &[i64]) -> String {
    format!("{body}{}", (11 - dot(body, weights) % 11) % 10)
}

fn turkish(dice: &mut Dice) -> String {
    let body = format!("{}{}", 1 + dice.below(9), dice.digits(8));
    let odd = dot(&body, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = dot(&body, &[0, 1, 0, 1, 0, 1, 0, 1]);
    let tenth = (odd * 7 - even).rem_euclid(10);
    format!("{body}{tenth}{}", (odd + even + tenth) % 10)
}

fn spanish(number: u64) -> char {
    char::from(b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize])
}

fn norwegian(dice: &mut Dice) -> Option<String> {
    let [year, month, day] = birthday(dice);
    let body = format!("{day}{month}{year}{:03}", dice.below(500));
    let first = closing(&body, &[3, 7, 6, 1, 8, 9, 4, 5, 2], 1, 11)?;
    closing(&first, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2], 1, 11)
}

fn chinese(dice: &mut Dice) -> Option<String> {
    let [year, month, day] = birthday(dice);
    let body = format!("11010119{year}{month}{day}{:03}", dice.below(1000));
    // ISO 7064 mod 11-2: the weights are powers of two.
    let weights: Vec<i64> = (1..18).rev().map(|power| (1 << power) % 11).collect();
    let check = (12 - dot(&body, &weights) % 11) % 11;
    Some(if check == 10 { format!("{body}X") } else { format!("{body}{check}") })
}

fn finnish(dice: &mut Dice) -> Option<String> {
    let [year, month, day] = birthday(dice);
    let serial = format!("{:03}", 2 + dice.below(890));
    let rest = modulo(&format!("{day}{month}{year}{serial}"), 31) as usize;
    Some(format!("{day}{month}{year}-{serial}{}", char::from(b"0123456789ABCDEFHJKLMNPRSTUVWXY"[rest])))
}

fn entity(dice: &mut Dice) -> Option<String> {
    let body = format!("5299{}", dice.letters(14, "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"));
    Some(format!("{body}{:02}", 98 - modulo(&format!("{body}00"), 97)))
}

/// Category, a word that speaks of it, and how to make one.
#[rustfmt::skip]
const KINDS: &[(&str, &str, Maker)] = &[
    ("credit_card_visa", "card", |d| Some(luhn(&format!("4{}", d.digits(14))))),
    ("credit_card_mc", "card", |d| Some(luhn(&format!("5{}{}", 1 + d.below(5), d.digits(13))))),
    ("credit_card_mc", "mastercard", |d| Some(luhn(&format!("2{}{}", 221 + d.below(490), d.digits(11))))),
    ("credit_card_amex", "amex", |d| Some(luhn(&format!("37{}", d.digits(12))))),
    ("imei", "imei", |d| Some(luhn(&format!("35{}", d.digits(12))))),
    ("iban_de", "konto", |d| Some(iban("DE", &d.digits(18)))),
    ("iban_gb", "iban", |d| Some(iban("GB", &format!("{}{}", d.letters(4, "ABCDWXYZ"), d.digits(14))))),
    ("iban_nl", "rekening", |d| Some(iban("NL", &format!("{}{}", d.letters(4, "ABCDWXYZ"), d.digits(10))))),
    ("us_aba", "routing", |d| closing(&d.digits(8), &[3, 7, 1, 3, 7, 1, 3, 7], 1, 10)),
    ("us_npi", "npi", |d| Some(luhn(&format!("808401{}", d.digits(8)))[5..].to_owned())),
    ("gb_nhs", "nhs", |d| closing(&d.digits(9), &[10, 9, 8, 7, 6, 5, 4, 3, 2], 1, 11)),
    ("br_cpf", "cpf", |d| Some(with_brazilian(&d.digits(9), &[10, 9, 8, 7, 6, 5, 4, 3, 2], &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]))),
    ("br_cnpj", "cnpj", |d| Some(with_brazilian(&format!("{}0001", d.digits(8)), &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2], &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]))),
    ("es_dni", "dni", |d| { let n = d.below(100_000_000); Some(format!("{n:08}{}", spanish(n))) }),
    ("es_nie", "nie", |d| { let n = d.below(10_000_000); Some(format!("Y{n:07}{}", spanish(10_000_000 + n))) }),
    ("ca_sin", "sin", |d| Some(luhn(&format!("{}{}", 1 + d.below(7), d.digits(7))))),
    ("au_tfn", "tax file", |d| closing(&d.digits(8), &[1, 4, 3, 7, 5, 8, 6, 9], 10, 11)),
    ("au_acn", "acn", |d| closing(&d.digits(8), &[8, 7, 6, 5, 4, 3, 2, 1], 1, 10)),
    ("nl_bsn", "bsn", |d| closing(&d.digits(8), &[9, 8, 7, 6, 5, 4, 3, 2], -1, 11)),
    ("pl_pesel", "pesel", |d| { let b = birthday(d).concat(); closing(&format!("{b}{}", d.digits(4)), &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3], 1, 10) }),
    ("pl_nip", "nip", |d| closing(&d.digits(9), &[6, 5, 7, 2, 3, 4, 5, 6, 7], -1, 11)),
    ("fr_nir", "nir", |d| { let b = format!("1{}12{}", d.digits(2), d.digits(8)); Some(format!("{b}{:02}", 97 - modulo(&b, 97))) }),
    ("hr_oib", "oib", |d| Some(hybrid(&d.digits(10)))),
    ("de_idnr", "steuer-id", |d| Some(hybrid(&format!("{}918273645", 1 + d.below(9))))),
    ("de_vat", "vat", |d| Some(format!("DE{}", hybrid(&format!("1{}", d.digits(7)))))),
    ("se_pnr", "personnummer", |d| { let b = birthday(d).concat(); Some(luhn(&format!("{b}{}", d.digits(3)))) }),
    ("no_fnr", "fodselsnummer", norwegian),
    ("fi_hetu", "hetu", finnish),
    ("be_nn", "rijksregisternummer", |d| { let b = birthday(d).concat() + &d.digits(3); Some(format!("{b}{:02}", 97 - modulo(&b, 97))) }),
    ("ch_ahv", "ahv", |d| closing(&format!("756{}", d.digits(9)), &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3], 1, 10)),
    ("ro_cnp", "cnp", |d| { let b = birthday(d).concat(); closing(&format!("1{b}12{}", d.digits(3)), &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9], -1, 11) }),
    ("bg_egn", "egn", |d| { let b = birthday(d).concat(); closing(&(b + &d.digits(3)), &[2, 4, 8, 5, 10, 9, 7, 3, 6], -1, 11) }),
    ("ee_ik", "isikukood", |d| { let b = birthday(d).concat(); closing(&format!("3{b}{}", d.digits(3)), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1], -1, 11) }),
    ("gr_amka", "amka", |d| { let [y, m, day] = birthday(d); Some(luhn(&format!("{day}{m}{y}{}", d.digits(4)))) }),
    ("tr_tckn", "tc kimlik", |d| Some(turkish(d))),
    ("za_id", "id number", |d| { let b = birthday(d).concat(); Some(luhn(&format!("{b}{}08", d.digits(4)))) }),
    ("kr_rrn", "rrn", |d| { let b = birthday(d).concat(); Some(eleventh(&format!("{b}1{}", d.digits(5)), &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5])) }),
    ("cn_ric", "shenfenzheng", chinese),
    ("th_pin", "thai id", |d| Some(eleventh(&format!("3{}{}", 1 + d.below(8), d.digits(10)), &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]))),
    ("il_id", "teudat zehut", |d| Some(luhn(&d.digits(8)))),
    ("ar_cuit", "cuit", |d| closing(&format!("20{}", d.digits(8)), &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2], 1, 11)),
    ("ua_rntrc", "rnokpp", |d| closing(&d.digits(9), &[-1, 5, 7, 9, 4, 6, 10, 5, 7], -1, 11)),
    ("lei", "lei", entity),
];

#[test]
fn what_passes_its_check_is_found_with_a_word_beside_it() {
    for (category, word, make) in KINDS {
        for seed in 1..60 {
            let Some(value) = make(&mut Dice::new(seed)) else { continue };
            let text = format!("my {word} is {value}.");
            let found = hits(&text);
            let range = text.len() - 1 - value.len()..text.len() - 1;
            assert!(
                found.iter().any(|hit| hit.category == *category && hit.range == range),
                "{text}: {found:?}"
            );
        }
    }
}

#[test]
fn a_wrong_check_digit_beside_its_word_is_nothing_at_all() {
    for (category, word, make) in KINDS {
        for seed in 1..60 {
            let Some(value) = make(&mut Dice::new(seed)) else { continue };
            let text = format!("{{\"{word}\": \"{}\"}}", broken(&value, 1 + (seed % 3) as u8));
            let found = hits(&text);
            assert!(!found.iter().any(|hit| hit.category == *category), "{text}: {found:?}");
        }
    }
}
