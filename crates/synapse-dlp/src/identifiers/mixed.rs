//! Numbers with letters in them. They come in upper case.

use super::{
    categories::Cat::*,
    checks::{digit, is_recent_date, luhn_sum, mod11_10, mod97, number, weighted},
    europe::{told, when},
    rules::{
        Mixed,
        Proof::{self, *},
    },
    world::{cl_check, cn_ric},
};

/// The rules, by no order.
#[rustfmt::skip]
pub(super) static RULES: &[Mixed] = &[
    Mixed { cat: InPan, shape: "AAAAA9999A", check: in_pan, forms: &["10"] },
    Mixed { cat: InGstin, shape: "99AAAAA9999A???", check: in_gstin, forms: &[] },
    Mixed { cat: EsDni, shape: "99999999A", check: es_dni, forms: &["9", "8-1"] },
    Mixed { cat: EsDni, shape: "9999999A", check: es_dni, forms: &["7-1"] },
    Mixed { cat: EsNie, shape: "A9999999A", check: es_nie, forms: &["9", "8-1", "1-7-1"] },
    Mixed { cat: ItCf, shape: "AAAAAA??A??A???A", check: it_cf, forms: &[] },
    Mixed { cat: IePps, shape: "9999999A", check: ie_pps, forms: &["8"] },
    Mixed { cat: IePps, shape: "9999999AA", check: ie_pps, forms: &["9"] },
    Mixed { cat: FiHetu, shape: "999999999A", check: fi_hetu_dashed, forms: &["6-4"] },
    Mixed { cat: FiHetu, shape: "999999A999?", check: fi_hetu, forms: &[] },
    Mixed { cat: FrNir, shape: "999999A99999999", check: fr_nir, forms: &[] },
    Mixed { cat: CnRic, shape: "99999999999999999A", check: cn_ric, forms: &[] },
    Mixed { cat: ClRut, shape: "99999999A", check: cl_rut, forms: &["2.3.3-1", "8-1"] },
    Mixed { cat: ClRut, shape: "9999999A", check: cl_rut, forms: &["1.3.3-1", "7-1"] },
    Mixed { cat: MxCurp, shape: "AAAA999999AAAAAA?9", check: mx_curp, forms: &[] },
    Mixed { cat: GbNino, shape: "AA999999A", check: gb_nino, forms: &["9", "2 2 2 2 1", "2 6 1", "2-2-2-2-1", "2-6-1"] },
    Mixed { cat: SgNric, shape: "A9999999A", check: sg_nric, forms: &["9"] },
    Mixed { cat: DeVat, shape: "AA999999999", check: de_vat, forms: &["11", "2 9", "2 3 3 3"] },
    Mixed { cat: ItVat, shape: "AA99999999999", check: it_vat, forms: &["13"] },
    Mixed { cat: DeSocialSecurity, shape: "99999999A999", check: de_social_security, forms: &[] },
    Mixed { cat: DeKvnr, shape: "A999999999", check: de_kvnr, forms: &["10"] },
    Mixed { cat: UsDea, shape: "A?9999999", check: us_dea, forms: &["9"] },
    Mixed { cat: UsMbi, shape: "9A?9A?9AA99", check: us_mbi, forms: &["11", "4-3-4"] },
    Mixed { cat: InVoter, shape: "AAA9999999", check: told, forms: &[] },
    Mixed { cat: DeCommercialRegister, shape: "AAA99999", check: de_register, forms: &["8", "3 5"] },
    Mixed { cat: DeCommercialRegister, shape: "AAA999999", check: de_register, forms: &["9", "3 6"] },
    Mixed { cat: DeCommercialRegister, shape: "AAA9999", check: de_register, forms: &["7", "3 4"] },
    Mixed { cat: MedicalRecord, shape: "AAA9999999", check: mrn, forms: &[] },
    Mixed { cat: Icd10, shape: "A99", check: told, forms: &[] },
    Mixed { cat: Icd10, shape: "A99?", check: icd10, forms: &["3.1"] },
    Mixed { cat: Icd10, shape: "A99??", check: icd10, forms: &["3.2"] },
    Mixed { cat: Isin, shape: "AA?????????9", check: isin, forms: &["12"] },
    Mixed { cat: Lei, shape: "??????????????????99", check: lei, forms: &[] },
    Mixed { cat: MedicalRecord, shape: "AAA999999", check: mrn, forms: &[] },
];

fn in_pan(c: &[u8]) -> Option<Proof> {
    when(b"ABCFGHJLPTKE".contains(&c[3]) && c[5..9] != *b"0000", Written)
}

fn base36(byte: u8) -> u32 {
    if byte.is_ascii_digit() { digit(byte) } else { u32::from(byte.wrapping_sub(b'A')) + 10 }
}

fn in_gstin(c: &[u8]) -> Option<Proof> {
    let state = matches!(number(&c[..2]), 1..=38 | 97 | 99);
    let sum: u32 = (0..14).map(|n| base36(c[n]) * (1 + n as u32 % 2)).map(|v| v / 36 + v % 36).sum();
    when(state && in_pan(&c[2..12]).is_some() && (sum + base36(c[14])).is_multiple_of(36), Strong)
}

const SPANISH: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

fn es_dni(c: &[u8]) -> Option<Proof> {
    let (body, letter) = c.split_at(c.len() - 1);
    when(SPANISH[number(body) as usize % 23] == letter[0], Weak)
}

fn es_nie(c: &[u8]) -> Option<Proof> {
    let lead = b"XYZ".iter().position(|letter| *letter == c[0])? as u64;
    when(SPANISH[(lead * 10_000_000 + number(&c[1..8])) as usize % 23] == c[8], Good)
}

/// A digit of an Italian code, or the letter that stands for it where two people would share a code.
fn italian_digit(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(u64::from(digit(byte))),
        _ => b"LMNPQRSTUV".iter().position(|letter| *letter == byte).map(|place| place as u64),
    }
}

fn it_cf(c: &[u8]) -> Option<Proof> {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let month = b"ABCDEHLMPRST".iter().position(|letter| *letter == c[8])? as u64 + 1;
    let day = italian_digit(c[9])? * 10 + italian_digit(c[10])?;
    let year = italian_digit(c[6])? * 10 + italian_digit(c[7])?;
    let place = c[12..15].iter().all(|byte| italian_digit(*byte).is_some());
    let value = |byte: u8| if byte.is_ascii_digit() { digit(byte) } else { u32::from(byte - b'A') };
    let odd: u32 = c[..15].iter().step_by(2).map(|byte| ODD[value(*byte) as usize % 26]).sum();
    let even: u32 = c[1..15].iter().step_by(2).map(|byte| value(*byte)).sum();
    let day = if day > 40 { day - 40 } else { day };
    let check = (odd + even) % 26 == u32::from(c[15] - b'A');
    when(check && place && is_recent_date(year, month, day), Strong)
}

fn ie_pps(c: &[u8]) -> Option<Proof> {
    let second = c.get(8).map_or(0, |letter| if *letter == b'W' { 0 } else { u32::from(letter - b'A') + 1 });
    let sum = weighted(&c[..7], &[8, 7, 6, 5, 4, 3, 2]) + second * 9;
    let known = c.get(8).is_none_or(|letter| matches!(letter, b'A'..=b'I' | b'P' | b'T' | b'W'));
    when(known && b"WABCDEFGHIJKLMNOPQRSTUV"[sum as usize % 23] == c[7], Weak)
}

fn finnish(birth: &[u8], serial: &[u8], check: u8) -> bool {
    let (day, month, year) = (number(&birth[..2]), number(&birth[2..4]), number(&birth[4..6]));
    let letters = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let rest = (number(birth) * 1000 + number(serial)) as usize % 31;
    letters[rest] == check && is_recent_date(year, month, day)
}

fn fi_hetu_dashed(c: &[u8]) -> Option<Proof> {
    // From 900 on they are for the time being, and were never written with a dash.
    when(number(&c[6..9]) < 900 && finnish(&c[..6], &c[6..9], c[9]), Good)
}

fn fi_hetu(c: &[u8]) -> Option<Proof> {
    when(matches!(c[6], b'A'..=b'F' | b'U'..=b'Y') && finnish(&c[..6], &c[7..10], c[10]), Good)
}

/// Corsica's two departments have letters; each stands for a number.
fn fr_nir(c: &[u8]) -> Option<Proof> {
    let less = match (c[5], c[6]) {
        (b'2', b'A') => 1_000_000,
        (b'2', b'B') => 2_000_000,
        _ => return None,
    };
    let body = (number(&c[..6]) * 10_000_000 + number(&c[7..13])).checked_sub(less)?;
    when(matches!(c[0], b'1' | b'2' | b'7' | b'8') && 97 - body % 97 == number(&c[13..]), Strong)
}

fn cl_rut(c: &[u8]) -> Option<Proof> {
    let (body, check) = c.split_at(c.len() - 1);
    when(check[0] == b'K' && cl_check(body) == b'K', Weak)
}

fn mx_curp(c: &[u8]) -> Option<Proof> {
    // The letter after N is missing from ASCII, but has its number.
    let value = |byte: u8| base36(byte) + u32::from(byte > b'N');
    let (year, month, day) = (number(&c[4..6]), number(&c[6..8]), number(&c[8..10]));
    let sum: u32 = c[..17].iter().zip((2..=18).rev()).map(|(byte, weight)| value(*byte) * weight).sum();
    let real = matches!(c[10], b'H' | b'M' | b'X') && is_recent_date(year, month, day);
    when(real && (sum + digit(c[17])).is_multiple_of(10), Strong)
}

fn gb_nino(c: &[u8]) -> Option<Proof> {
    let never = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];
    let prefix = !b"DFIQUV".contains(&c[0]) && !b"DFIOQUV".contains(&c[1]);
    when(prefix && never.iter().all(|no| no[..] != c[..2]) && matches!(c[8], b'A'..=b'D'), Written)
}

fn sg_nric(c: &[u8]) -> Option<Proof> {
    let sum = weighted(&c[1..8], &[2, 7, 6, 5, 4, 3, 2]);
    let (letters, more): (&[u8; 11], u32) = match c[0] {
        b'S' => (b"JZIHGFEDCBA", 0),
        b'T' => (b"JZIHGFEDCBA", 4),
        b'F' => (b"XWUTRQPNMLK", 0),
        b'G' => (b"XWUTRQPNMLK", 4),
        b'M' => (b"XWUTRQPNJLK", 3),
        _ => return None,
    };
    let sum = sum + more;
    let rest = if c[0] == b'M' { 10 - sum % 11 } else { sum % 11 };
    // One of 11 letters fits; some that do not are in use in tests and texts, and the shape is telling.
    when(letters.contains(&c[8]), if letters[rest as usize] == c[8] { Good } else { Bare })
}

fn de_vat(c: &[u8]) -> Option<Proof> {
    when(c.starts_with(b"DE") && c[2] != b'0' && mod11_10(&c[2..]), Weak)
}

fn it_vat(c: &[u8]) -> Option<Proof> {
    when(c.starts_with(b"IT") && super::checks::luhn(&c[2..]), Weak)
}

/// An office, a birthday, the first letter of a name, a serial number, a check digit.
fn de_social_security(c: &[u8]) -> Option<Proof> {
    let (day, month, year) = (number(&c[2..4]), number(&c[4..6]), number(&c[6..8]));
    let letter = u32::from(c[8] - b'A') + 1;
    let numbers = c[..8].iter().map(|b| digit(*b)).chain([letter / 10, letter % 10]);
    let values = numbers.chain(c[9..11].iter().map(|b| digit(*b)));
    let products = values.zip([2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1]).map(|(value, weight)| value * weight);
    let sum: u32 = products.map(|product| product / 10 + product % 10).sum();
    let day = if day > 50 { day - 50 } else { day };
    when(sum % 10 == digit(c[11]) && is_recent_date(year, month, day), Good)
}

fn de_kvnr(c: &[u8]) -> Option<Proof> {
    let letter = u32::from(c[0] - b'A') + 1;
    let values = [letter / 10, letter % 10].into_iter().chain(c[1..9].iter().map(|b| digit(*b)));
    let sum: u32 = values.zip([1, 2].into_iter().cycle()).map(|(v, w)| v * w / 10 + v * w % 10).sum();
    when(sum % 10 == digit(c[9]), Weak)
}

fn us_dea(c: &[u8]) -> Option<Proof> {
    let kind = b"ABCDEFGHJKLMPRSTUX".contains(&c[0]) && (c[1].is_ascii_alphabetic() || c[1] == b'9');
    when(kind && weighted(&c[2..], &[1, 2, 1, 2, 1, 2]) % 10 == digit(c[8]), Weak)
}

fn us_mbi(c: &[u8]) -> Option<Proof> {
    let letters = c.iter().all(|byte| !b"SLOIBZ".contains(byte));
    when(letters && c[0] != b'0', Written)
}

fn de_register(c: &[u8]) -> Option<Proof> {
    when(matches!(&c[..3], b"HRA" | b"HRB"), Written)
}

/// A diagnosis with its dot.
fn icd10(_: &[u8]) -> Option<Proof> {
    Some(Bare)
}

fn mrn(c: &[u8]) -> Option<Proof> {
    when(c.starts_with(b"MRN"), Good)
}

/// ISO 3166 alpha-2 codes, in order, two letters each.
const ISO_COUNTRIES: &[u8] = b"ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCGCHCICKCLCMCNCOCRCUCVCWCXCYCZDEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZTCTDTFTGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSXKYEYTZAZMZW";

/// For each first letter, which second ones make a country's code.
static COUNTRIES: [u32; 26] = {
    let mut countries = [0; 26];
    let mut at = 0;
    while at < ISO_COUNTRIES.len() {
        countries[(ISO_COUNTRIES[at] - b'A') as usize] |= 1 << (ISO_COUNTRIES[at + 1] - b'A');
        at += 2;
    }
    countries
};

/// Whether it is a country's code.
pub(super) fn is_country(code: &[u8]) -> bool {
    let [first, second] = *code else { return false };
    let seconds = COUNTRIES.get(usize::from(first.wrapping_sub(b'A'))).copied().unwrap_or(0);
    second.is_ascii_uppercase() && seconds >> (second - b'A') & 1 == 1
}

/// A security's number: a country, nine characters, a check digit.
fn isin(c: &[u8]) -> Option<Proof> {
    let letters = c[0].is_ascii_alphabetic() && c[1].is_ascii_alphabetic();
    if !letters || !(is_country(&c[..2]) || matches!(&c[..2], b"XS" | b"EU" | b"XC" | b"XD")) {
        return None;
    }
    let mut digits = [0; 24];
    let mut count = 0;
    for byte in c {
        let value = base36(*byte);
        if value > 9 {
            digits[count] = value / 10;
            count += 1;
        }
        digits[count] = value % 10;
        count += 1;
    }
    when(c[11].is_ascii_digit() && luhn_sum(digits[..count].iter().copied()) % 10 == 0, Weak)
}

/// A legal entity's number.
fn lei(c: &[u8]) -> Option<Proof> {
    // The two digits are what is missing to 98.
    let checked = matches!(number(&c[18..]), 2..=98);
    when(checked && c.iter().any(u8::is_ascii_alphabetic) && mod97(c.iter()) == Some(1), Strong)
}
