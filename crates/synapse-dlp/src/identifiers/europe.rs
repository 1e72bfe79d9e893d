//! Numbers of Europe that are digits alone.

use super::{
    categories::Cat::*,
    checks::{digit, is_date, is_recent_date, luhn, mod11_10, number, weighted},
    rules::{
        Digits,
        Proof::{self, *},
    },
};

/// The rules, by no order.
#[rustfmt::skip]
pub(super) static RULES: &[Digits] = &[
    Digits { cat: GbNhs, len: 10, check: gb_nhs, forms: &["3 3 4"] },
    Digits { cat: GbUtr, len: 10, check: gb_utr, forms: &["5 5"] },
    Digits { cat: NlBsn, len: 9, check: nl_bsn, forms: &["4.2.3"] },
    Digits { cat: PlPesel, len: 11, check: pl_pesel, forms: &[] },
    Digits { cat: PlNip, len: 10, check: pl_nip, forms: &["3-3-2-2", "3-2-2-3"] },
    Digits { cat: FrNir, len: 15, check: fr_nir, forms: &["1 2 2 2 3 3 2"] },
    Digits { cat: DeIdnr, len: 11, check: de_idnr, forms: &["2 3 3 3"] },
    Digits { cat: DeTaxNumber, len: 10, check: de_tax_number, forms: &["2/3/5"] },
    Digits { cat: DeTaxNumber, len: 10, check: de_tax_number, forms: &["2/4/4"] },
    Digits { cat: DeTaxNumber, len: 11, check: de_tax_number, forms: &["3/3/5", "3/4/4"] },
    Digits { cat: DeTaxNumber, len: 13, check: told, forms: &[] },
    Digits { cat: DeBsnr, len: 9, check: told, forms: &[] },
    Digits { cat: DeLanr, len: 9, check: de_lanr, forms: &[] },
    Digits { cat: ItVat, len: 11, check: it_vat, forms: &[] },
    Digits { cat: SePnr, len: 10, check: se_pnr, forms: &["6-4"] },
    Digits { cat: SePnr, len: 12, check: se_pnr, forms: &["8-4"] },
    Digits { cat: SeOrgnr, len: 10, check: se_orgnr, forms: &["6-4"] },
    Digits { cat: NoFnr, len: 11, check: no_fnr, forms: &["6 5"] },
    Digits { cat: DkCpr, len: 10, check: dk_cpr, forms: &["6-4"] },
    Digits { cat: FiHetu, len: 10, check: fi_hetu, forms: &["6-4"] },
    Digits { cat: BeNn, len: 11, check: be_nn, forms: &["2.2.2-3.2"] },
    Digits { cat: ChAhv, len: 13, check: ch_ahv, forms: &["3.4.4.2"] },
    Digits { cat: CzRc, len: 10, check: cz_rc, forms: &["6/4"] },
    Digits { cat: CzRc, len: 9, check: cz_rc, forms: &["6/3"] },
    Digits { cat: RoCnp, len: 13, check: ro_cnp, forms: &[] },
    Digits { cat: BgEgn, len: 10, check: bg_egn, forms: &[] },
    Digits { cat: HrOib, len: 11, check: hr_oib, forms: &[] },
    Digits { cat: EeIk, len: 11, check: ee_ik, forms: &[] },
    Digits { cat: GrAmka, len: 11, check: gr_amka, forms: &[] },
    Digits { cat: PtNif, len: 9, check: pt_nif, forms: &[] },
    Digits { cat: TrTckn, len: 11, check: tr_tckn, forms: &[] },
    Digits { cat: UaRntrc, len: 10, check: ua_rntrc, forms: &[] },
];

/// This, if that.
pub(super) fn when(passes: bool, proof: Proof) -> Option<Proof> {
    passes.then_some(proof)
}

/// A value that only words tell of.
pub(super) fn told(_: &[u8]) -> Option<Proof> {
    Some(Told)
}

fn gb_nhs(d: &[u8]) -> Option<Proof> {
    when(weighted(d, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11), Weak)
}

fn gb_utr(d: &[u8]) -> Option<Proof> {
    let rest = weighted(&d[1..], &[6, 7, 8, 9, 10, 5, 4, 3, 2]) % 11;
    when(b"21987654321"[rest as usize] == d[0], Weak)
}

fn nl_bsn(d: &[u8]) -> Option<Proof> {
    when(weighted(d, &[9, 8, 7, 6, 5, 4, 3, 2, 10]).is_multiple_of(11), Weak)
}

fn pl_pesel(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    let century = [1900, 2000, 2100, 2200, 1800][month as usize / 20];
    let sum = weighted(d, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    when(sum.is_multiple_of(10) && is_date(century + year, month % 20, day), Weak)
}

fn pl_nip(d: &[u8]) -> Option<Proof> {
    when(weighted(d, &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == digit(d[9]), Weak)
}

fn fr_nir(d: &[u8]) -> Option<Proof> {
    when(matches!(d[0], b'1' | b'2' | b'7' | b'8') && 97 - number(&d[..13]) % 97 == number(&d[13..]), Strong)
}

/// At most one digit stands more than once among the first ten, and that twice or three times.
fn de_idnr(d: &[u8]) -> Option<Proof> {
    let mut count = [0; 10];
    d[..10].iter().for_each(|byte| count[digit(*byte) as usize % 10] += 1);
    let repeated = count.iter().filter(|times| **times > 1).count();
    when(d[0] != b'0' && repeated <= 1 && count.iter().all(|times| *times <= 3) && mod11_10(d), Good)
}

fn de_tax_number(_: &[u8]) -> Option<Proof> {
    Some(Bare)
}

fn de_lanr(d: &[u8]) -> Option<Proof> {
    let check = (10 - weighted(d, &[4, 9, 4, 9, 4, 9]) % 10) % 10;
    // A tenth of all numbers pass, and nothing but a word tells the number of a doctor.
    when(check == digit(d[6]), Told)
}

fn it_vat(d: &[u8]) -> Option<Proof> {
    when(d[..7] != *b"0000000" && luhn(d), Told)
}

fn se_pnr(d: &[u8]) -> Option<Proof> {
    let short = &d[d.len() - 10..];
    let (year, month, day) = (number(&short[..2]), number(&short[2..4]), number(&short[4..6]));
    let day = if day > 60 { day - 60 } else { day };
    let century = if d.len() == 12 { number(&d[..2]) } else { 19 };
    let real = if d.len() == 12 {
        matches!(century, 18..=20) && is_date(century * 100 + year, month, day)
    } else {
        is_recent_date(year, month, day)
    };
    when(real && luhn(short), Weak)
}

fn se_orgnr(d: &[u8]) -> Option<Proof> {
    when(d[2] >= b'2' && d[0] != b'0' && luhn(d), Weak)
}

fn no_fnr(d: &[u8]) -> Option<Proof> {
    let (day, month, year, serial) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]), number(&d[6..9]));
    let century = match (serial, year) {
        (0..500, _) => 1900,
        (500..750, 54..) => 1800,
        (500.., ..40) => 2000,
        (900.., 40..) => 1900,
        _ => return None,
    };
    let first = weighted(d, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11);
    let second = weighted(d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11);
    let day = if day > 40 { day - 40 } else { day };
    let month = if month > 40 { month - 40 } else { month };
    when(first && second && is_date(century + year, month, day), Strong)
}

/// The last year in which anybody who has a number can be born. Later centuries only look like years.
const NEWEST: u64 = 2036;

fn dk_cpr(d: &[u8]) -> Option<Proof> {
    let (day, month, year) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    let century = match (d[6], year) {
        (b'0'..=b'3', _) | (b'4' | b'9', 37..) => 1900,
        (b'5'..=b'8', 58..) => 1800,
        _ => 2000,
    };
    when(century + year <= NEWEST && is_date(century + year, month, day), Written)
}

/// A Finnish code whose check character is a digit; those with a letter are among the mixed ones.
fn fi_hetu(d: &[u8]) -> Option<Proof> {
    let (day, month, year) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    let serial = (2..900).contains(&number(&d[6..9]));
    when(serial && number(&d[..9]) % 31 == u64::from(digit(d[9])) && is_recent_date(year, month, day), Weak)
}

fn be_nn(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[..2]), number(&d[2..4]) % 20, number(&d[4..6]));
    let (body, check) = (number(&d[..9]), number(&d[9..]));
    let old = 97 - body % 97 == check && is_date(1900 + year, month, day);
    let new = 97 - (2_000_000_000 + body) % 97 == check && is_date(2000 + year, month, day);
    let unknown = 97 - body % 97 == check && (month == 0 || day == 0) && day <= 31 && month <= 12;
    when(old || new || unknown, Strong)
}

fn ch_ahv(d: &[u8]) -> Option<Proof> {
    let sum = weighted(d, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    when(d.starts_with(b"756") && sum.is_multiple_of(10), Good)
}

fn cz_rc(d: &[u8]) -> Option<Proof> {
    let (short, month, day) = (number(&d[..2]), number(&d[2..4]) % 50 % 20, number(&d[4..6]));
    let year = match (d.len(), short) {
        (9, ..54) => 1900 + short,
        (9, _) => return None,
        (_, ..54) => 2000 + short,
        _ => 1900 + short,
    };
    if !is_date(year, month, day) {
        return None;
    }
    if d.len() == 9 {
        return Some(Bare);
    }
    when(number(&d[..9]) % 11 % 10 == number(&d[9..]), Weak)
}

fn ro_cnp(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[1..3]), number(&d[3..5]), number(&d[5..7]));
    let century = match d[0] {
        b'1' | b'2' => 1900,
        b'3' | b'4' => 1800,
        b'5' | b'6' => 2000,
        b'7'..=b'9' if is_date(1900 + year, month, day) => 1900,
        b'7'..=b'9' => 2000,
        _ => return None,
    };
    let county = matches!(number(&d[7..9]), 1..=48 | 51 | 52 | 70 | 80..=83);
    let rest = weighted(d, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    let check = if rest == 10 { 1 } else { rest };
    when(county && is_date(century + year, month, day) && check == digit(d[12]), Good)
}

fn bg_egn(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    let (century, month) = match month {
        41.. => (2000, month - 40),
        21.. => (1800, month - 20),
        _ => (1900, month),
    };
    let check = weighted(d, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10;
    when(is_date(century + year, month, day) && check == digit(d[9]), Weak)
}

fn hr_oib(d: &[u8]) -> Option<Proof> {
    when(mod11_10(d), Weak)
}

fn ee_ik(d: &[u8]) -> Option<Proof> {
    let (year, month, day) = (number(&d[1..3]), number(&d[3..5]), number(&d[5..7]));
    let century = match d[0] {
        b'1'..=b'8' => 1800 + u64::from(digit(d[0]) - 1) / 2 * 100,
        _ => return None,
    };
    let first = weighted(d, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11;
    let second = weighted(d, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11 % 10;
    let check = if first == 10 { second } else { first };
    when(is_date(century + year, month, day) && check == digit(d[10]), Good)
}

fn gr_amka(d: &[u8]) -> Option<Proof> {
    let (day, month, year) = (number(&d[..2]), number(&d[2..4]), number(&d[4..6]));
    when(is_recent_date(year, month, day) && luhn(d), Good)
}

fn pt_nif(d: &[u8]) -> Option<Proof> {
    let check = (11 - weighted(d, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11 % 10;
    when(d[0] != b'0' && check == digit(d[8]), Weak)
}

fn tr_tckn(d: &[u8]) -> Option<Proof> {
    let odd = weighted(d, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighted(d, &[0, 1, 0, 1, 0, 1, 0, 1, 0]);
    let tenth = (odd * 7 + 100 - even) % 10;
    let last = (odd + even + tenth) % 10;
    when(d[0] != b'0' && tenth == digit(d[9]) && last == digit(d[10]), Strong)
}

fn ua_rntrc(d: &[u8]) -> Option<Proof> {
    let check = weighted(d, &[10, 5, 7, 9, 4, 6, 10, 5, 7]) % 11 % 10;
    when(check == digit(d[9]), Weak)
}
