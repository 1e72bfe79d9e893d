//! Words that say what a value beside them is.

use std::{ops::Range, sync::LazyLock};

use super::{categories::Cat, words::WORDS};

/// How far a word reaches, in bytes.
const REACH: usize = 50;
/// How many telling words within reach are listened to.
const ROOM: usize = 24;
/// The longest word there is in the table, and then some.
const LONGEST: usize = 32;

/// The table has so many buckets, as a power of two, that most have no word.
const BUCKET_BITS: u32 = 11;

/// A word, or two in a row, and what they speak of.
pub(super) struct Word {
    pub(super) text: &'static str,
    pub(super) second: Option<&'static str>,
    /// Whether it names these categories and no others: a number of their length beside it that fails their
    /// checks is a mistyped one of them, and nothing else.
    pub(super) names: bool,
    pub(super) cats: &'static [Cat],
}

/// A telling word in a text.
#[derive(Clone, Copy)]
struct Heard {
    start: usize,
    end: usize,
    word: &'static Word,
}

/// The telling words of a text around the place that is looked at, which only ever moves on: no word is read
/// twice.
pub(super) struct Context<'t> {
    text: &'t str,
    /// What has been heard, in order.
    heard: Vec<Heard>,
    /// The last word, of which the next may be a part.
    last: Option<Spoken>,
    /// From where on words have been heard, and up to where.
    from: usize,
    at: usize,
    /// The words within reach.
    near: Range<usize>,
}

static BUCKETS: LazyLock<Vec<Vec<Word>>> = LazyLock::new(|| {
    let mut buckets: Vec<Vec<Word>> = (0..1 << BUCKET_BITS).map(|_| Vec::new()).collect();
    for (texts, names, cats) in WORDS {
        for text in texts.split(',').map(str::trim) {
            let (text, second) = text.split_once(' ').map_or((text, None), |(one, two)| (one, Some(two)));
            let word = Word { text, second, names: *names, cats };
            buckets[bucket(text.as_bytes())].push(word);
        }
    }
    // Two words say more than one of them.
    buckets.iter_mut().for_each(|bucket| bucket.sort_by_key(|word| word.second.is_none()));
    buckets
});

fn bucket(word: &[u8]) -> usize {
    let ([first, second, ..], Some(last)) = (word, word.last()) else { return 0 };
    let letters = u32::from_le_bytes([*first, *second, *last, word.len() as u8]);
    (letters.wrapping_mul(0x9E37_79B1) >> (u32::BITS - BUCKET_BITS)) as usize
}

/// The letter without its accent, in lower case.
fn plain(letter: char) -> char {
    const FROM: &str = "àáâãäåçèéêëìíîïñòóôõöøùúûüýÿăąćčďđęěğıłńňőřśşšţťůűźżžșț";
    const TO: &str = "aaaaaaceeeeiiiinoooooouuuuyyaaccddeegilnnorsssttuuzzzst";
    if letter >= '\u{3000}' {
        // No letters there have a case or an accent.
        return letter;
    }
    let letter = letter.to_lowercase().next().unwrap_or(letter);
    if letter > 'ț' {
        return letter;
    }
    FROM.chars().zip(TO.chars()).find(|(from, _)| *from == letter).map_or(letter, |(_, to)| to)
}

/// A word as the table has it, and where it stood.
struct Spoken {
    letters: [u8; LONGEST],
    len: usize,
    range: Range<usize>,
}

impl Spoken {
    fn text(&self) -> &[u8] {
        &self.letters[..self.len]
    }
}

/// The next word of `text` from `at` on: letters, up to a capital after a small one.
fn next_word(text: &str, at: &mut usize, end: usize) -> Option<Spoken> {
    let bytes = text.as_bytes();
    while *at < end && bytes[*at].is_ascii() && !bytes[*at].is_ascii_alphabetic() {
        *at += 1;
    }
    if *at >= end {
        return None;
    }
    let mut word = Spoken { letters: [0; LONGEST], len: 0, range: *at..*at };
    let mut small = false;
    while *at < end {
        let byte = bytes[*at];
        if byte.is_ascii() {
            if !byte.is_ascii_alphabetic() || (small && byte.is_ascii_uppercase()) {
                break;
            }
            small = byte.is_ascii_lowercase();
            if word.len < LONGEST {
                word.letters[word.len] = byte.to_ascii_lowercase();
            }
            word.len += 1;
            *at += 1;
            continue;
        }
        let Some(letter) = text.get(*at..).and_then(|rest| rest.chars().next()) else { break };
        *at += letter.len_utf8();
        if !letter.is_alphanumeric() && word.len == 0 {
            word.range.start = *at;
            break;
        }
        let mut buffer = [0; 4];
        for byte in plain(letter).encode_utf8(&mut buffer).bytes() {
            if word.len < LONGEST {
                word.letters[word.len] = byte;
            }
            word.len += 1;
        }
        small = true;
    }
    word.len = word.len.min(LONGEST);
    word.range.end = *at;
    Some(word)
}

/// What a word tells, alone or with the one that follows it.
fn hear(word: &Spoken, following: Option<&Spoken>) -> Option<Heard> {
    let goes_on = |second: &&str| {
        following.is_some_and(|following| {
            following.text() == second.as_bytes() && following.range.start - word.range.end <= 3
        })
    };
    let known = BUCKETS[bucket(word.text())]
        .iter()
        .find(|known| known.text.as_bytes() == word.text() && known.second.as_ref().is_none_or(goes_on))?;
    let end = following.filter(|_| known.second.is_some()).map_or(word.range.end, |next| next.range.end);
    Some(Heard { start: word.range.start, end, word: known })
}

impl<'t> Context<'t> {
    /// Of a text of which nothing has been heard.
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, heard: Vec::new(), last: None, from: 0, at: 0, near: 0..0 }
    }

    /// Listens to what stands around `range`.
    pub(super) fn listen(&mut self, range: Range<usize>) {
        let text = self.text;
        let start = text.floor_char_boundary(range.start.saturating_sub(REACH));
        let end = text.ceil_char_boundary((range.end + REACH).min(text.len()));
        if start < self.from || start > self.at {
            self.begin(start);
        }
        while self.last.as_ref().is_none_or(|last| last.range.start < end) {
            let following = next_word(text, &mut self.at, text.len());
            if let Some(last) = self.last.take() {
                self.heard.extend(hear(&last, following.as_ref()));
            }
            let Some(following) = following else { break };
            self.last = Some(following);
        }
        let first = self.near.start;
        let passed = self.heard[first..].iter().take_while(|heard| heard.start < start).count();
        let within =
            self.heard[first + passed..].iter().take(ROOM).take_while(|heard| heard.end <= end).count();
        self.near = first + passed..first + passed + within;
    }

    /// Forgets everything, and begins again at `start`. A word that is cut off there is none.
    fn begin(&mut self, start: usize) {
        let bytes = self.text.as_bytes();
        let cut = start > 0 && bytes[start - 1].is_ascii_alphabetic();
        let letters = bytes[start..].iter().take_while(|byte| byte.is_ascii_alphabetic());
        self.heard.clear();
        self.last = None;
        self.from = start;
        self.at = start + if cut { letters.count() } else { 0 };
        self.near = 0..0;
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = &Heard> + '_ {
        self.heard[self.near.clone()].iter()
    }

    /// Whether a word within reach of `range` speaks of the category.
    pub(super) fn speaks_of(&self, cat: Cat, range: &Range<usize>) -> bool {
        let near = |heard: &Heard| {
            (heard.end <= range.start && range.start - heard.end <= REACH)
                || (heard.start >= range.end && heard.start - range.end <= REACH)
        };
        self.iter().any(|heard| heard.word.cats.contains(&cat) && near(heard))
    }

    /// The word that speaks of the number at `start` and of no other: one before it, with no other number between
    /// them. The last that names categories, or else the last that hints at some.
    pub(super) fn named(&self, start: usize) -> Option<&'static Word> {
        let alone = |heard: &&Heard| {
            heard.end <= start
                && start - heard.end <= REACH
                && !self.text.as_bytes()[heard.end..start].iter().any(|b| b.is_ascii_digit() || *b == b';')
        };
        let before = || self.iter().filter(alone).map(|heard| heard.word);
        before().rfind(|word| word.names).or_else(|| before().next_back())
    }
}
