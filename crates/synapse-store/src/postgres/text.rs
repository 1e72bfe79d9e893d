//! Texts in PostgreSQL, which takes any character but the one with number zero. A text that has it is written with a
//! mark in its place, and reads back as it was.

use std::borrow::Cow;

/// A code point that stands for no character and never will, so that hardly any text has it.
const MARK: char = '\u{FDD0}';

/// A text as PostgreSQL takes it.
pub(crate) fn packed(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut packed = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => packed.extend([MARK, '0']),
            MARK => packed.extend([MARK, MARK]),
            other => packed.push(other),
        }
    }
    Cow::Owned(packed)
}

/// Whether a text was packed into another one.
pub(super) fn is_packed(text: &str) -> bool {
    text.contains(MARK)
}

/// The text that was packed; what never was one stays as it is.
pub(crate) fn unpacked(text: String) -> String {
    strictly_unpacked(&text).unwrap_or(text)
}

/// The text that was packed; nothing where that is not how any text is packed.
pub(super) fn strictly_unpacked(text: &str) -> Option<String> {
    let mut unpacked = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        unpacked.push(match character {
            MARK => match characters.next()? {
                '0' => '\0',
                MARK => MARK,
                _ => return None,
            },
            other => other,
        });
    }
    Some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_reads_back_and_has_no_zero() {
        for text in
            ["", "plain", "\0", "a\0b\0", "\u{FDD0}", "\u{FDD0}0", "\0\u{FDD0}\0", "0\u{FDD0}\u{FDD0}0"]
        {
            let packed = packed(text).into_owned();
            assert!(!packed.contains('\0'), "{text:?}");
            assert_eq!(strictly_unpacked(&packed).as_deref(), Some(text));
            assert_eq!(unpacked(packed), text);
        }
    }

    #[test]
    fn no_two_cells_hold_the_same_text() {
        let marks = ["", "\u{FDD0}", "0", "x", "\u{FDD0}\u{FDD0}"];
        for cell in marks.iter().flat_map(|one| marks.map(|two| format!("a{one}{two}b{one}"))) {
            if let Some(text) = strictly_unpacked(&cell) {
                assert_eq!(packed(&text), cell);
            }
        }
        assert_eq!(strictly_unpacked("\u{FDD0}lab"), None);
        assert_eq!(strictly_unpacked("lab\u{FDD0}"), None);
    }
}
