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

/// The text that was packed.
pub(crate) fn unpacked(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    let mut unpacked = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK => unpacked.extend(characters.next().map(|next| if next == '0' { '\0' } else { next })),
            other => unpacked.push(other),
        }
    }
    unpacked
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
            assert_eq!(unpacked(packed), text);
        }
    }
}
