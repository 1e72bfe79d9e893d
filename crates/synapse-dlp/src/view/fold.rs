//! Other forms of the same characters: invisible ones go, compatibility forms and the digits of all scripts
//! become the plain ones.

use unicode_normalization::UnicodeNormalization as _;

use super::View;

/// What becomes of a character.
enum Fate {
    Keep,
    Drop,
    Become(char),
    Decompose,
}

/// The zeros of all decimal digits beyond ASCII; nine more follow each.
const ZEROS: &[u32] = &[
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0,
    0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50,
    0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x10D40, 0x11066,
    0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950,
    0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16A60, 0x16AC0, 0x16B50, 0x1CCF0, 0x1D7CE, 0x1D7D8,
    0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E950, 0x1FBF0,
];

fn digit(code: u32) -> Option<char> {
    let zero = *ZEROS.get(ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?)?;
    char::from_digit(code - zero, 10)
}

fn fate(c: char) -> Fate {
    let code = c as u32;
    match code {
        // Letters of the scripts that most texts are written in.
        0xC0..=0x2AF | 0x370..=0x60F | 0x3041..=0x30FE | 0x4E00..=0x9FFF | 0xAC00..=0xD7A3 => Fate::Keep,
        0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F => {
            Fate::Drop
        }
        0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFF8 => {
            Fate::Drop
        }
        0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF => Fate::Drop,
        0x2010..=0x2013 | 0x2212 | 0xFE58 | 0xFE63 | 0xFF0D => Fate::Become('-'),
        0xA0 | 0x2000..=0x200A | 0x202F | 0x205F | 0x3000 => Fate::Become(' '),
        0xAA | 0xB2 | 0xB3 | 0xB9 | 0xBA | 0x2B0..=0x2B8 | 0x2070..=0x209C | 0x2100..=0x218B => {
            Fate::Decompose
        }
        0x2024..=0x2026 | 0x2460..=0x24EA | 0xFB00..=0xFB06 | 0xFE10..=0xFE19 | 0xFE30..=0xFE6B => {
            Fate::Decompose
        }
        0xFF01..=0xFF5E => char::from_u32(code - 0xFEE0).map_or(Fate::Keep, Fate::Become),
        0x1D7CE..=0x1D7FF => digit(code).map_or(Fate::Keep, Fate::Become),
        0xFF5F..=0xFFEE | 0x1D400..=0x1D7CD | 0x1F100..=0x1F16B => Fate::Decompose,
        0x660.. => digit(code).map_or(Fate::Keep, Fate::Become),
        _ => Fate::Keep,
    }
}

/// Whether a character beyond ASCII is a decimal digit, or contains one.
pub(crate) fn is_digit(c: char) -> bool {
    match fate(c) {
        Fate::Become(plain) => plain.is_ascii_digit(),
        Fate::Decompose => std::iter::once(c).nfkc().any(|plain| plain.is_ascii_digit()),
        Fate::Keep | Fate::Drop => false,
    }
}

/// Whether folding leaves a character as it is.
pub(crate) fn stands_for_itself(c: char) -> bool {
    matches!(fate(c), Fate::Keep)
}

/// `text` with every character folded, or nothing if none changes.
pub(super) fn fold(text: &str) -> Option<View> {
    let mut view = View::with_room(text.len());
    let mut kept = 0;
    let mut at = 0;
    while let Some(next) = text.as_bytes()[at..].iter().position(|byte| *byte >= 128) {
        at += next;
        let Some(c) = text[at..].chars().next() else { break };
        let range = at..at + c.len_utf8();
        at = range.end;
        let fate = fate(c);
        if matches!(fate, Fate::Keep) {
            continue;
        }
        view.keep(text, kept..range.start);
        kept = range.end;
        match fate {
            Fate::Keep | Fate::Drop => {}
            Fate::Become(plain) => view.put(plain.encode_utf8(&mut [0; 4]), range),
            Fate::Decompose => {
                let plain: String = std::iter::once(c).nfkc().collect();
                view.put(&plain, range);
            }
        }
    }
    if kept == 0 {
        return None;
    }
    view.keep(text, kept..text.len());
    Some(view)
}

/// Whether a text has letters of the scripts that look-alikes of Latin letters come from.
pub(super) fn has_look_alikes(text: &str) -> bool {
    // The lead bytes of Greek, Cyrillic and Armenian; of Cherokee and Lisu.
    text.bytes().any(|byte| matches!(byte, 0xC9..=0xD6 | 0xE1 | 0xEA))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        fold(text).map_or_else(|| text.to_owned(), |view| view.text)
    }

    #[test]
    fn digits_of_all_scripts_are_digits() {
        assert_eq!(folded("٢١٩ २१९ ２１９ 𝟐𝟏𝟗 𝟸𝟷𝟿"), "219 219 219 219 219");
    }

    #[test]
    fn invisible_characters_go() {
        assert_eq!(folded("2\u{200B}1\u{AD}9\u{2060}\u{E0041}"), "219");
    }

    #[test]
    fn letters_of_other_scripts_stay() {
        assert!(fold("Grüße, Привет, 漢字, ελληνικά").is_none());
    }

    #[test]
    fn a_part_of_the_view_leads_back_to_all_it_stands_for() {
        let text = "a ２\u{200B}１ b";
        let view = fold(text).unwrap();
        assert_eq!(view.text, "a 21 b");
        assert_eq!(&text[view.source(2..4).unwrap()], "２\u{200B}１");
        assert_eq!(&text[view.source(3..6).unwrap()], "１ b");
    }
}
