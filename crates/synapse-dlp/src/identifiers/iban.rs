//! IBANs: the countries that have them, their lengths, and the check of ISO 7064 mod 97-10.

use super::checks::mod97;

/// A country's IBANs.
pub(super) struct Country {
    code: [u8; 2],
    length: usize,
    pub(super) category: &'static str,
}

const fn country(code: [u8; 2], length: usize, category: &'static str) -> Country {
    Country { code, length, category }
}

/// The registry of ISO 13616, by code.
pub(super) const COUNTRIES: &[Country] = &[
    country(*b"AD", 24, "iban_ad"),
    country(*b"AE", 23, "iban_ae"),
    country(*b"AL", 28, "iban_al"),
    country(*b"AT", 20, "iban_at"),
    country(*b"AZ", 28, "iban_az"),
    country(*b"BA", 20, "iban_ba"),
    country(*b"BE", 16, "iban_be"),
    country(*b"BG", 22, "iban_bg"),
    country(*b"BH", 22, "iban_bh"),
    country(*b"BI", 27, "iban_bi"),
    country(*b"BR", 29, "iban_br"),
    country(*b"BY", 28, "iban_by"),
    country(*b"CH", 21, "iban_ch"),
    country(*b"CR", 22, "iban_cr"),
    country(*b"CY", 28, "iban_cy"),
    country(*b"CZ", 24, "iban_cz"),
    country(*b"DE", 22, "iban_de"),
    country(*b"DJ", 27, "iban_dj"),
    country(*b"DK", 18, "iban_dk"),
    country(*b"DO", 28, "iban_do"),
    country(*b"EE", 20, "iban_ee"),
    country(*b"EG", 29, "iban_eg"),
    country(*b"ES", 24, "iban_es"),
    country(*b"FI", 18, "iban_fi"),
    country(*b"FK", 18, "iban_fk"),
    country(*b"FO", 18, "iban_fo"),
    country(*b"FR", 27, "iban_fr"),
    country(*b"GB", 22, "iban_gb"),
    country(*b"GE", 22, "iban_ge"),
    country(*b"GI", 23, "iban_gi"),
    country(*b"GL", 18, "iban_gl"),
    country(*b"GR", 27, "iban_gr"),
    country(*b"GT", 28, "iban_gt"),
    country(*b"HN", 28, "iban_hn"),
    country(*b"HR", 21, "iban_hr"),
    country(*b"HU", 28, "iban_hu"),
    country(*b"IE", 22, "iban_ie"),
    country(*b"IL", 23, "iban_il"),
    country(*b"IQ", 23, "iban_iq"),
    country(*b"IS", 26, "iban_is"),
    country(*b"IT", 27, "iban_it"),
    country(*b"JO", 30, "iban_jo"),
    country(*b"KW", 30, "iban_kw"),
    country(*b"KZ", 20, "iban_kz"),
    country(*b"LB", 28, "iban_lb"),
    country(*b"LC", 32, "iban_lc"),
    country(*b"LI", 21, "iban_li"),
    country(*b"LT", 20, "iban_lt"),
    country(*b"LU", 20, "iban_lu"),
    country(*b"LV", 21, "iban_lv"),
    country(*b"LY", 25, "iban_ly"),
    country(*b"MC", 27, "iban_mc"),
    country(*b"MD", 24, "iban_md"),
    country(*b"ME", 22, "iban_me"),
    country(*b"MK", 19, "iban_mk"),
    country(*b"MN", 20, "iban_mn"),
    country(*b"MR", 27, "iban_mr"),
    country(*b"MT", 31, "iban_mt"),
    country(*b"MU", 30, "iban_mu"),
    country(*b"NI", 28, "iban_ni"),
    country(*b"NL", 18, "iban_nl"),
    country(*b"NO", 15, "iban_no"),
    country(*b"OM", 23, "iban_om"),
    country(*b"PK", 24, "iban_pk"),
    country(*b"PL", 28, "iban_pl"),
    country(*b"PS", 29, "iban_ps"),
    country(*b"PT", 25, "iban_pt"),
    country(*b"QA", 29, "iban_qa"),
    country(*b"RO", 24, "iban_ro"),
    country(*b"RS", 22, "iban_rs"),
    country(*b"RU", 33, "iban_ru"),
    country(*b"SA", 24, "iban_sa"),
    country(*b"SC", 31, "iban_sc"),
    country(*b"SD", 18, "iban_sd"),
    country(*b"SE", 24, "iban_se"),
    country(*b"SI", 19, "iban_si"),
    country(*b"SK", 24, "iban_sk"),
    country(*b"SM", 27, "iban_sm"),
    country(*b"SO", 23, "iban_so"),
    country(*b"ST", 25, "iban_st"),
    country(*b"SV", 28, "iban_sv"),
    country(*b"TL", 23, "iban_tl"),
    country(*b"TN", 24, "iban_tn"),
    country(*b"TR", 26, "iban_tr"),
    country(*b"UA", 29, "iban_ua"),
    country(*b"VA", 22, "iban_va"),
    country(*b"VG", 24, "iban_vg"),
    country(*b"XK", 20, "iban_xk"),
    country(*b"YE", 30, "iban_ye"),
];

/// For each two letters, the place of their country, counted from one.
static PLACES: [[u8; 26]; 26] = {
    let mut places = [[0; 26]; 26];
    let mut place = 0;
    while place < COUNTRIES.len() {
        let [first, second] = COUNTRIES[place].code;
        places[(first - b'A') as usize][(second - b'A') as usize] = place as u8 + 1;
        place += 1;
    }
    places
};

/// The country whose IBANs start as `text` does: its length, and its category.
pub(super) fn begins(text: &[u8]) -> Option<(usize, &'static str)> {
    let [a, b, c, d, ..] = *text else { return None };
    if !(c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let letter = |byte: u8| usize::from(byte.wrapping_sub(b'A'));
    let place = *PLACES.get(letter(a))?.get(letter(b))?;
    let country = COUNTRIES.get(usize::from(place).checked_sub(1)?)?;
    Some((country.length, country.category))
}

/// Whether the check digits fit. Upper case, no separators.
pub(super) fn is_valid(text: &[u8]) -> bool {
    text.len() > 4 && mod97(text[4..].iter().chain(&text[..4])) == Some(1)
}
