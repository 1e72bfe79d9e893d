//! Letters of other scripts that look like Latin ones, where they stand in one word with ASCII characters.

use std::sync::OnceLock;

use super::View;

/// Each string's letters look like those of the other one in the same place.
const PAIRS: &[(&str, &str)] = &[
    // Cyrillic
    ("АВСЕНІЈКМОРЅТХУҮԚԜԌЗ", "ABCEHIJKMOPSTXYYQWG3"),
    ("асеһіјкорѕхуԛԝԁɡӏ", "acehijkopsxyqwdgl"),
    // Greek
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"),
    ("αικνορτυχγ", "aikvoptuxy"),
    // Armenian
    ("ՍՏԼօսոհցյզ", "USLounhgjq"),
    // Cherokee
    ("ᎪᏴᏟᎬᎻᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᏃᎡ", "ABCEHJKLMPRSTVWZR"),
    // Lisu
    ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "ABCDEFGHIJKLMNOPRSTUVWXYZ"),
    // Latin letters of their own
    ("ıɑɩʟꜱ", "iails"),
];

/// The Latin letter that a letter beyond ASCII looks like.
fn latin(c: char) -> Option<char> {
    static SORTED: OnceLock<Vec<(char, char)>> = OnceLock::new();
    let sorted = SORTED.get_or_init(|| {
        let pairs = PAIRS.iter().flat_map(|(others, latin)| others.chars().zip(latin.chars()));
        let mut sorted: Vec<_> = pairs.collect();
        sorted.sort_unstable();
        sorted
    });
    let at = sorted.binary_search_by_key(&c, |(other, _)| *other).ok()?;
    sorted.get(at).map(|(_, latin)| *latin)
}

/// `text` with look-alikes replaced in words that have ASCII letters or digits too, and whose other letters
/// are all look-alikes; nothing if there is no such word.
pub(super) fn fold(text: &str) -> Option<View> {
    let mut view = View::with_room(text.len());
    let mut kept = 0;
    let mut word: Option<Word> = None;
    let ends = text.char_indices().chain(std::iter::once((text.len(), ' ')));
    for (at, c) in ends {
        if c.is_ascii_alphanumeric() {
            word.get_or_insert(Word::at(at)).ascii = true;
        } else if !c.is_ascii() && c.is_alphabetic() {
            let word = word.get_or_insert(Word::at(at));
            word.others = true;
            word.strange |= latin(c).is_none();
        } else if let Some(word) = word.take()
            && word.ascii
            && word.others
            && !word.strange
        {
            view.keep(text, kept..word.start);
            replace(text, word.start..at, &mut view);
            kept = at;
        }
    }
    if kept == 0 {
        return None;
    }
    view.keep(text, kept..text.len());
    Some(view)
}

struct Word {
    start: usize,
    ascii: bool,
    others: bool,
    strange: bool,
}

impl Word {
    const fn at(start: usize) -> Self {
        Self { start, ascii: false, others: false, strange: false }
    }
}

fn replace(text: &str, word: std::ops::Range<usize>, view: &mut View) {
    for (offset, c) in text[word.clone()].char_indices() {
        let range = word.start + offset..word.start + offset + c.len_utf8();
        match latin(c).filter(|_| !c.is_ascii()) {
            Some(latin) => view.put(latin.encode_utf8(&mut [0; 4]), range),
            None => view.keep(text, range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_strings_of_a_pair_are_equally_long() {
        for (others, latin) in PAIRS {
            assert_eq!(others.chars().count(), latin.chars().count(), "{latin}");
        }
    }

    #[test]
    fn a_word_of_mixed_scripts_becomes_latin() {
        assert_eq!(fold("iban NL91АВНА0417").unwrap().text, "iban NL91ABHA0417");
    }

    #[test]
    fn words_of_one_script_stay() {
        assert!(fold("рост 10 см, 5м и x").is_none());
    }
}
