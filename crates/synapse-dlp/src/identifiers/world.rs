//! Numbers of the rest of the world that are digits alone, and those of banks and devices.

use super::{
    categories::Cat::*,
    checks::{digit, is_date, is_recent_date, luhn, luhn_sum, number, verhoeff, weighted},
    europe::{told, when},
    rules::{
        Digits,
        Proof::{self, *},
    },
};

/// The rules, by no order.
#[rustfmt::skip]
pub(super) static RULES: &[Digits] = &[
    Digits { cat: UsSsn, len: 9, check: us_ssn, forms: &["3-2-4", "3 2 4", "3.2.4"] },
    Digits { cat: UsSsn, len: 9, check: us_ssn_run_together, forms: &["3-6", "5-4"] },
    Digits { cat: UsItin, len: 9, check: us_itin, forms: &["3-2-4", "3 2 4"] },
    Digits { cat: UsEin, len: 9, check: us_ein, forms: &["2-7"] },
    Digits { cat: UsAba, len: 9, check: us_aba, forms: &["4-4-1"] },
    Digits { cat: UsNpi, len: 10, check: us_npi, forms: &[] },
    Digits { cat: UsPassport, len: 9, check: told, forms: &[] },
    Digits { cat: GbPassport, len: 9, check: told, forms: &[] },
    Digits { cat: UsDrivingLicence, len: 8, check: told, forms: &[] },
    Digits { cat: UsDrivingLicence, len: 9, check: told, forms: &[] },
    Digits { cat: InAadhaar, len: 12, check: in_aadhaar, forms: &["4 4 4", "4-4-4"] },
    Digits { cat: BrCpf, len: 11, check: br_cpf, forms: &["3.3.3-2"] },
    Digits { cat: BrCnpj, len: 14, check: br_cnpj, forms: &["2.3.3/4-2"] },
    Digits { cat: CaSin, len: 9, check: ca_sin, forms: &["3-3-3", "3 3 3"] },
    Digits { cat: AuTfn, len: 9, check: au_tfn, forms: &["3 3 3"] },
    Digits { cat: AuAbn, len: 11, check: au_abn, forms: &["2 3 3 3"] },
    Digits { cat: AuAcn, len: 9, check: au_acn, forms: &["3 3 3"] },
    Digits { cat: AuMedicare, len: 10, check: au_medicare, forms: &["4 5 1"] },
    Digits { cat: AuMedicare, len: 11, check: au_medicare, forms: &["4 5 1 1", "4 5 1/1"] },
    Digits { cat: ZaId, len: 13, check: za_id, forms: &["6 4 3", "6 4 2 1"] },
    Digits { cat: KrRrn, len: 13, check: kr_rrn, forms: &["6-7"] },
    Digits { cat: KrFrn, len: 13, check: kr_frn, forms: &["6-7"] },
    Digits { cat: KrBrn, len: 10, check: kr_brn, forms: &["3-2-5"] },
    Digits { cat: KrDrivingLicence, len: 12, check: kr_driving, forms: &["2-2-6-2", "2 2 6 2"] },
    Digits { cat: CnRic, len: 18, check: cn_ric, forms: &[] },
    Digits { cat: ThPin, len: 13, check: th_pin, forms: &["1-4-5-2-1", "1 4 5 2 1"] },
    Digits { cat: IlId, len: 9, check: il_id, forms: &["8-1"] },
    Digits { cat: ClRut, len: 9, check: cl_rut, forms: &["2.3.3-1", "8-1"] },
    Digits { cat: ClRut, len: 8, check: cl_rut, forms: &["1.3.3-1", "7-1"] },
    Digits { cat: ArCuit, len: 11, check: ar_cuit, forms: &["2-8-1"] },
    Digits { cat: MyNric, len: 12, check: my_nric, forms: &["6-2-4"] },
    Digits { cat: JpMy, len: 12, check: jp_my, forms: &["4 4 4", "4-4-4"] },
    Digits { cat: PhTin, len: 9, check: ph_tin, forms: &["9", "3-3-3"] },
    Digits { cat: PhTin, len: 12, check: ph_tin, forms: &["12", "3-3-3-3"] },
    Digits { cat: Imei, len: 15, check: imei, forms: &["2-6-6-1", "2 6 6 1"] },
    Digits { cat: MedicalRecord, len: 6, check: told, forms: &[] },
    Digits { cat: MedicalRecord, len: 7, check: told, forms: &[] },
    Digits { cat: MedicalRecord, len: 8, check: told, forms: &[] },
    Digits { cat: MedicalRecord, len: 9, check: told, forms: &[] },
    Digits { cat: MedicalRecord, len: 10, check: told, forms: &[] },
    Digits { cat: DePostcode, len: 5, check: told, forms: &[] },
];

fn us_ssn(d: &[u8]) -> Option<Proof> {
    let area = number(&d[..3]);
    let given = area != 0 && area != 666 && area < 900 && d[3..5] != *b"00" && d[5..] != *b"0000";
    when(given, Written)
}

/// With one of its dashes only: postal codes look like that too.
fn us_ssn_run_together(d: &[u8]) -> Option<Proof> {
    us_ssn(d).map(|_| Bare)
}

fn us_itin(d: &[u8]) -> Option<Proof> {
    when(d[0] == b'9' && matches!(number(&d[3..5]), 50..=65 | 70..=88 | 90..=92 | 94..=99), Written)
}

fn us_ein(d: &[u8]) -> Option<Proof> {
    let unused =
        matches!(number(&d[..2]), 0 | 7..=9 | 17..=19 | 28 | 29 | 49 | 69 | 70 | 78 | 79 | 89 | 96 | 97);
    when(!unused, Bare)
}

fn us_aba(d: &[u8]) -> Option<Proof> {
    when(weighted(d, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10), Weak)
}

/// The sum begins with what the prefix 80840 of cards of health adds.
fn us_npi(d: &[u8]) -> Option<Proof> {
    let sum = 24 + luhn_sum(d.iter().map(|byte| digit(*byte)));
    when(matches!(d[0], b'1' | b'2') && sum % 10 == 0, Weak)
}

fn in_aadhaar(d: &[u8]) -> Option<Proof> {
    let palindrome = d.iter().eq(d.iter().rev());
    when(d[0] >= b'2' && !palindrome && verhoeff(d), Weak)
}

/// A check digit mod 11 as Brazil computes it.
fn brazilian(d: &[u8], weights: &[u32]) -> bool {
    let rest = weighted(d, weights) % 11;
    let check = if rest < 2 { 0 } else { 11 - rest };
    d.get(weights.len()).is_some_and(|byte| digit(*byte) == check)
}

fn br_cpf(d: &[u8]) -> Option<Proof> {
    let first = brazilian(d, &[10, 9, 8, 7, 6, 5, 4, 3, 2]);
    when(first && brazilian(d, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]), Strong)
}

fn br_cnpj(d: &[u8]) -> Option<Proof> {
    let first = brazilian(d, &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]);
    when(first && brazilian(d, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]), Strong)
}

fn ca_sin(d: &[u8]) -> Option<Proof> {
    when(!matches!(d[0], b'0' | b'8') && luhn(d), Weak)
}

fn au_tfn(d: &[u8]) -> Option<Proof> {
    when(weighted(d, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11), Weak)
}

fn au_abn(d: &[u8]) -> Option<Proof> {
    let sum = weighted(d, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    when(d[0] != b'0' && (sum - 10).is_multiple_of(89), Strong)
}

fn au_acn(d: &[u8]) -> Option<Proof> {
    when((weighted(d, &[8, 7, 6, 5, 4, 3, 2, 1]) + digit(d[8])).is_multiple_of(10), Weak)
}

fn au_medicare(d: &[u8]) -> Option<Proof> {
    let check = weighted(d, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10;
    when(matches!(d[0], b'2'..=b'6') && check == digit(d[8]), Weak)
}

fn za_id(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    when(matches!(d[10], b'0'..=b'2') && is_recent_date(year, month, day) && luhn(d), Good)
}

fn korean_date(d: &[u8]) -> bool {
    let century = match d[6] {
        b'1' | b'2' | b'5' | b'6' => 1900,
        b'3' | b'4' | b'7' | b'8' => 2000,
        _ => 1800,
    };
    is_date(century + number(&d[..2]), number(&d[2..4]), number(&d[4..6]))
}

const KOREAN: [u32; 12] = [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5];

fn kr_rrn(d: &[u8]) -> Option<Proof> {
    let check = (11 - weighted(d, &KOREAN) % 11) % 10;
    when(matches!(d[6], b'0'..=b'4' | b'9') && korean_date(d) && check == digit(d[12]), Good)
}

fn kr_frn(d: &[u8]) -> Option<Proof> {
    let check = (13 - weighted(d, &KOREAN) % 11) % 10;
    let proof = if check == digit(d[12]) { Good } else { Bare };
    when(matches!(d[6], b'5'..=b'8') && korean_date(d), proof)
}

fn kr_brn(d: &[u8]) -> Option<Proof> {
    let sum = weighted(d, &[1, 3, 7, 1, 3, 7, 1, 3, 5, 1]) + digit(d[8]) * 5 / 10;
    when(number(&d[..3]) > 100 && sum.is_multiple_of(10), Weak)
}

fn kr_driving(d: &[u8]) -> Option<Proof> {
    when(matches!(number(&d[..2]), 11..=28), Bare)
}

/// The sum of a Chinese number's first 17 digits, mod 11, as the character that must follow.
pub(super) fn cn_check(d: &[u8]) -> u8 {
    let sum = weighted(d, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    b"10X98765432"[sum as usize % 11]
}

pub(super) fn cn_ric(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[6..10]), number(&d[10..12]), number(&d[12..14]));
    let real = (1850..2100).contains(&year) && is_date(year, month, day);
    when(real && (b'1'..=b'9').contains(&d[0]) && cn_check(d) == d[17], Strong)
}

fn th_pin(d: &[u8]) -> Option<Proof> {
    let check = (11 - weighted(d, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 10;
    when(matches!(d[0], b'1'..=b'8') && number(&d[1..3]) < 97 && check == digit(d[12]), Weak)
}

fn il_id(d: &[u8]) -> Option<Proof> {
    when(luhn(d), Weak)
}

/// The check character of a Chilean number over the digits before it.
pub(super) fn cl_check(body: &[u8]) -> u8 {
    let sum: u32 = body.iter().rev().zip([2, 3, 4, 5, 6, 7].iter().cycle()).map(|(b, w)| digit(*b) * w).sum();
    b"0K987654321"[sum as usize % 11]
}

fn cl_rut(d: &[u8]) -> Option<Proof> {
    let (body, check) = d.split_at(d.len() - 1);
    when(cl_check(body) == check[0], Weak)
}

fn ar_cuit(d: &[u8]) -> Option<Proof> {
    let kind = matches!(number(&d[..2]), 20 | 23..=27 | 30 | 33 | 34 | 50 | 51 | 55);
    let rest = weighted(d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    when(kind && b"09987654321"[rest as usize] == d[10], Weak)
}

/// Where in the country, or in which other, its owner was born.
fn my_nric(d: &[u8]) -> Option<Proof> {
    let birthplace = !matches!(number(&d[6..8]), 0 | 17..=20 | 69 | 70 | 73 | 80 | 81 | 94..=97);
    let (year, month, day) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    when(birthplace && is_recent_date(year, month, day), Written)
}

fn jp_my(d: &[u8]) -> Option<Proof> {
    let rest = weighted(d, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    let check = if rest <= 1 { 0 } else { 11 - rest };
    when(check == digit(d[11]), Weak)
}

fn ph_tin(_: &[u8]) -> Option<Proof> {
    Some(Told)
}

fn imei(d: &[u8]) -> Option<Proof> {
    when(luhn(d), Weak)
}
