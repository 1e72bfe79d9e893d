//! Papers and plates: passports, identity cards, driving licences, number plates, postal codes.

use super::{
    categories::Cat::*,
    checks::{digit, is_date, number},
    europe::{told, when},
    rules::{
        Mixed,
        Proof::{self, *},
    },
};

/// The rules, by no order.
#[rustfmt::skip]
pub(super) static RULES: &[Mixed] = &[
    Mixed { cat: DeIdCard, shape: "A????????", check: de_document, forms: &["9"] },
    Mixed { cat: DePassport, shape: "A????????", check: de_document, forms: &["9"] },
    Mixed { cat: DeDrivingLicence, shape: "AA99999999?", check: bare, forms: &["11"] },
    Mixed { cat: DeDrivingLicence, shape: "A?99999999?", check: told, forms: &[] },
    Mixed { cat: DePlate, shape: "AA9999", check: told, forms: &[] },
    Mixed { cat: DePlate, shape: "AA999", check: told, forms: &[] },
    Mixed { cat: DePlate, shape: "AAA9", check: bare, forms: &["1-2 1", "2-1 1"] },
    Mixed { cat: DePlate, shape: "AAA99", check: bare, forms: &["1-2 2", "2-1 2", "1 2 2", "2 1 2"] },
    Mixed { cat: DePlate, shape: "AAA999", check: bare, forms: &["1-2 3", "2-1 3", "1 2 3", "2 1 3"] },
    Mixed { cat: DePlate, shape: "AAA9999", check: bare, forms: &["1-2 4", "2-1 4", "1 2 4", "2 1 4"] },
    Mixed { cat: DePlate, shape: "AAAA999", check: bare, forms: &["2-2 3", "3-1 3", "2 2 3"] },
    Mixed { cat: DePlate, shape: "AAAA9999", check: bare, forms: &["2-2 4", "3-1 4", "2 2 4"] },
    Mixed { cat: DePlate, shape: "AAAAA999", check: bare, forms: &["3-2 3"] },
    Mixed { cat: EsPassport, shape: "AAA999999", check: bare, forms: &["9"] },
    Mixed { cat: EsPassport, shape: "AA999999", check: told, forms: &[] },
    Mixed { cat: GbPassport, shape: "AA9999999", check: told, forms: &[] },
    Mixed { cat: InPassport, shape: "A9999999", check: in_passport, forms: &["8"] },
    Mixed { cat: ItPassport, shape: "AA9999999", check: told, forms: &[] },
    Mixed { cat: KrPassport, shape: "A99999999", check: kr_passport, forms: &["9"] },
    Mixed { cat: KrPassport, shape: "A999A9999", check: kr_passport, forms: &["9"] },
    Mixed { cat: UsPassport, shape: "A99999999", check: told, forms: &[] },
    Mixed { cat: UsDrivingLicence, shape: "A9999999", check: told, forms: &[] },
    Mixed { cat: UsDrivingLicence, shape: "A999999999999", check: told, forms: &[] },
    Mixed { cat: ItIdCard, shape: "AA99999AA", check: bare, forms: &["9"] },
    Mixed { cat: ItIdCard, shape: "AA9999999", check: told, forms: &[] },
    Mixed { cat: ItDrivingLicence, shape: "AA9999999A", check: bare, forms: &["10"] },
    Mixed { cat: ItDrivingLicence, shape: "A??999999A", check: told, forms: &[] },
    Mixed { cat: GbDrivingLicence, shape: "?????999999????AA", check: gb_driving, forms: &[] },
    Mixed { cat: GbDrivingLicence, shape: "?????999999???AA", check: gb_driving, forms: &["16", "5 6 5", "5 6 3 2"] },
    Mixed { cat: GbPlate, shape: "AA99AAA", check: gb_plate, forms: &["7", "4 3"] },
    Mixed { cat: GbPlate, shape: "A999AAA", check: gb_old_plate, forms: &["7", "4 3"] },
    Mixed { cat: GbPlate, shape: "AAA999A", check: gb_old_plate, forms: &["7", "3 4"] },
    Mixed { cat: InPlate, shape: "AA99AA9999", check: in_plate, forms: &["10", "2 2 2 4", "2-2-2-4", "4 2 4"] },
    Mixed { cat: InPlate, shape: "AA9AAA9999", check: in_plate, forms: &["10", "2 1 3 4"] },
    Mixed { cat: InPlate, shape: "AA99A9999", check: in_plate, forms: &["9", "2 2 1 4", "2-2-1-4"] },
    Mixed { cat: NgPlate, shape: "AAA999AA", check: bare, forms: &["3-3-2", "3-5"] },
    Mixed { cat: TrPlate, shape: "99A9999", check: tr_plate, forms: &["2 1 4", "7"] },
    Mixed { cat: TrPlate, shape: "99A999", check: tr_plate, forms: &["2 1 3"] },
    Mixed { cat: TrPlate, shape: "99A99999", check: tr_plate, forms: &["2 1 5", "8"] },
    Mixed { cat: TrPlate, shape: "99AA999", check: tr_plate, forms: &["2 2 3", "7"] },
    Mixed { cat: TrPlate, shape: "99AA9999", check: tr_plate, forms: &["2 2 4", "8"] },
    Mixed { cat: TrPlate, shape: "99AAA99", check: tr_plate, forms: &["2 3 2", "7"] },
    Mixed { cat: TrPlate, shape: "99AAA999", check: tr_plate, forms: &["2 3 3", "8"] },
    Mixed { cat: TrPlate, shape: "99AAA9999", check: tr_plate, forms: &["2 3 4", "9"] },
    Mixed { cat: GbPostcode, shape: "A99AA", check: gb_postcode, forms: &["5", "2 3"] },
    Mixed { cat: GbPostcode, shape: "A999AA", check: gb_postcode, forms: &["6", "3 3"] },
    Mixed { cat: GbPostcode, shape: "AA99AA", check: gb_postcode, forms: &["6", "3 3"] },
    Mixed { cat: GbPostcode, shape: "AA999AA", check: gb_postcode, forms: &["7", "4 3"] },
    Mixed { cat: GbPostcode, shape: "A9A9AA", check: gb_postcode, forms: &["6", "3 3"] },
    Mixed { cat: GbPostcode, shape: "AA9A9AA", check: gb_postcode, forms: &["7", "4 3"] },
];

fn bare(_: &[u8]) -> Option<Proof> {
    Some(Bare)
}

/// The characters that German documents use, and the check digit at the end of their numbers.
fn de_document(c: &[u8]) -> Option<Proof> {
    let alphabet = c.iter().all(|byte| byte.is_ascii_digit() || b"CFGHJKLMNPRTVWXYZ".contains(byte));
    let value = |byte: u8| if byte.is_ascii_digit() { digit(byte) } else { u32::from(byte - b'A') + 10 };
    let sum: u32 = c[..8].iter().zip([7, 3, 1].into_iter().cycle()).map(|(b, w)| value(*b) * w).sum();
    let digits = c.iter().filter(|byte| byte.is_ascii_digit()).count();
    let fits = c[8].is_ascii_digit() && sum % 10 == digit(c[8]);
    when(alphabet && digits >= 4, if fits { Bare } else { Told })
}

fn in_passport(c: &[u8]) -> Option<Proof> {
    when(!b"QXZ".contains(&c[0]) && c[1] != b'0', Told)
}

fn kr_passport(c: &[u8]) -> Option<Proof> {
    when(b"MSRODG".contains(&c[0]), Bare)
}

/// A birthday as a driving licence of Great Britain hides it: decade, month (of women, and fifty), day, year.
fn gb_driving(c: &[u8]) -> Option<Proof> {
    let name = c[..5].iter().skip_while(|byte| byte.is_ascii_alphabetic()).all(|byte| *byte == b'9');
    let month = number(&c[6..8]);
    let month = if month > 50 { month - 50 } else { month };
    when(name && c[0].is_ascii_alphabetic() && is_date(2000, month, number(&c[8..10])), Written)
}

/// Plates since 2001 say when the vehicle was registered.
fn gb_plate(c: &[u8]) -> Option<Proof> {
    let plain = c.iter().all(|byte| !matches!(byte, b'I' | b'Q'));
    when(plain && matches!(number(&c[2..4]), 2..=29 | 51..=79), Bare)
}

fn gb_old_plate(c: &[u8]) -> Option<Proof> {
    let year = if c[1].is_ascii_digit() { c[0] } else { c[6] };
    when(!matches!(year, b'I' | b'O' | b'Q' | b'U' | b'Z'), Told)
}

fn in_plate(c: &[u8]) -> Option<Proof> {
    const STATES: &[u8] = b"ANAPARASBRCGCHDDDLDNGAGJHPHRJHJKKAKLLALDMHMLMNMPMZNLODORPBPYRJSKTNTRTSUAUKUPWB";
    when(STATES.chunks(2).any(|state| *state == c[..2]), Bare)
}

fn tr_plate(c: &[u8]) -> Option<Proof> {
    let plain = c.iter().all(|byte| !matches!(byte, b'Q' | b'W' | b'X'));
    when(plain && matches!(number(&c[..2]), 1..=81), Bare)
}

const GB_AREAS: &[&str] = &[
    "AB", "AL", "B", "BA", "BB", "BD", "BF", "BH", "BL", "BN", "BR", "BS", "BT", "CA", "CB", "CF", "CH",
    "CM", "CO", "CR", "CT", "CV", "CW", "DA", "DD", "DE", "DG", "DH", "DL", "DN", "DT", "DY", "E", "EC",
    "EH", "EN", "EX", "FK", "FY", "G", "GL", "GU", "GY", "HA", "HD", "HG", "HP", "HR", "HS", "HU", "HX",
    "IG", "IM", "IP", "IV", "JE", "KA", "KT", "KW", "KY", "L", "LA", "LD", "LE", "LL", "LN", "LS", "LU", "M",
    "ME", "MK", "ML", "N", "NE", "NG", "NN", "NP", "NR", "NW", "OL", "OX", "PA", "PE", "PH", "PL", "PO",
    "PR", "RG", "RH", "RM", "S", "SA", "SE", "SG", "SK", "SL", "SM", "SN", "SO", "SP", "SR", "SS", "ST",
    "SW", "SY", "TA", "TD", "TF", "TN", "TQ", "TR", "TS", "TW", "UB", "W", "WA", "WC", "WD", "WF", "WN",
    "WR", "WS", "WV", "YO", "ZE",
];

fn gb_postcode(c: &[u8]) -> Option<Proof> {
    let letters = c.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let area = GB_AREAS.iter().any(|area| area.as_bytes() == &c[..letters]);
    let inward = c[c.len() - 2..].iter().all(|byte| !b"CIKMOV".contains(byte));
    when(area && inward, Bare)
}
