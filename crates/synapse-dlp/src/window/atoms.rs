//! Where a text that streams by may be cut: between tokens, unless they may be parts of one value.
//!
//! Characters are fed one after the other, and where a cut falls depends on them alone, not on the pieces in
//! which they came. An *atom*, what lies between two cuts, is looked at as a whole. Most are single words.
//! Tokens with digits link: to each other, and to short tokens between and before them.

use std::ops::Range;

use crate::{
    secrets::pem,
    view::{is_digit, stands_for_itself},
};

/// From this length on, a token is worth a look whatever it is made of.
const LONG_TOKEN: usize = 16;
/// A token that has come to this length is looked at before it ends.
const OPEN_TOKEN: usize = 1024;
/// How much of such a token is kept back: more than secrets are long.
const TOKEN_LAG: usize = 512;
/// Linked tokens that have come to this length are looked at before they end.
const OPEN_RUN: usize = 320;
/// How much of them is kept back: more than identifiers are long.
const RUN_LAG: usize = 96;
/// A token with no more letters may be a part of an identifier.
const SHORT: usize = 4;
/// How many short tokens may stand before the first digit of an identifier,
const BEFORE: usize = 2;
/// and how many if they have one letter each.
const BEFORE_SINGLE: usize = 16;
/// How many short tokens may stand between two with digits.
const BETWEEN: usize = 6;
/// How many characters may stand between two tokens of a value.
const GAP: usize = 3;

/// A place at which everything before can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The place.
    pub(super) at: usize,
    /// How much before it must be kept back.
    pub(super) lag: usize,
    /// Whether there is anything to look at.
    pub(super) look: bool,
    /// Whether it is in the middle of a token.
    pub(super) open: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A cut.
    Cut(Cut),
    /// More text is needed.
    More,
    /// A private key that does not end: what of it is known to be one, whatever pieces it came in.
    Endless(Range<usize>),
}

#[derive(Clone, Copy, Debug)]
struct Token {
    start: usize,
    /// Where it was cut last, or its start.
    since: usize,
    letters: usize,
    digit: bool,
    look: bool,
    ascii: bool,
    others: bool,
    colon: bool,
    dashes: usize,
    many_dashes: bool,
}

impl Token {
    const fn at(start: usize) -> Self {
        Self {
            start,
            since: start,
            letters: 0,
            digit: false,
            look: false,
            ascii: false,
            others: false,
            colon: false,
            dashes: 0,
            many_dashes: false,
        }
    }

    fn add(&mut self, c: char) {
        // A colon tells something unless it is the last character.
        self.look |= self.colon;
        self.colon = c == ':';
        self.dashes = if c == '-' { self.dashes + 1 } else { 0 };
        self.many_dashes |= self.dashes >= 5;
        match c {
            'a'..='z' => (self.letters, self.ascii) = (self.letters + 1, true),
            'A'..='Z' => {
                self.look |= self.letters >= 2;
                (self.letters, self.ascii) = (self.letters + 1, true);
            }
            '0'..='9' => (self.letters, self.digit, self.ascii) = (self.letters + 1, true, true),
            '@' | '%' | '\\' | '&' | '=' | '_' => self.look = true,
            _ if c.is_ascii() => {}
            _ => {
                self.letters += 1;
                self.others |= c.is_alphabetic();
                self.digit |= is_digit(c);
                self.look |= !stands_for_itself(c);
            }
        }
    }

    fn is_worth_a_look(&self, end: usize) -> bool {
        self.digit
            || self.look
            || self.many_dashes
            || (self.ascii && self.others)
            || end - self.start >= LONG_TOKEN
    }
}

/// A short token that may be the beginning of a value.
#[derive(Clone, Copy, Debug)]
struct Short {
    start: usize,
    single: bool,
    look: bool,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    begin: usize,
    body: Option<usize>,
}

/// Finds the cuts of a text that grows.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// All before has been fed.
    cursor: usize,
    /// Where the latest cut was.
    cut: usize,
    token: Option<Token>,
    gap: usize,
    shorts: Vec<Short>,
    /// Whether there are tokens with digits since the latest cut that may go on.
    linked: bool,
    key: Option<Key>,
    keys: bool,
}

impl Cutter {
    /// At the beginning of a text. `keys`: whether private keys are to be kept together.
    pub(super) fn new(keys: bool) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The next cut of `text`, of which what was fed before is the beginning; `last` when no more will come.
    pub(super) fn next(&mut self, text: &str, last: bool) -> Next {
        loop {
            if let Some(key) = self.key {
                match self.go_on_with_key(key, text.as_bytes(), last) {
                    Some(next) => return next,
                    None => continue,
                }
            }
            let Some(c) = text.get(self.cursor..).and_then(|rest| rest.chars().next()) else {
                return if last { self.at_end(text) } else { Next::More };
            };
            if is_delimiter(c) {
                if let Some(token) = self.token.take() {
                    match self.end_token(token, text) {
                        Some(cut) => return Next::Cut(cut),
                        None => continue,
                    }
                }
                self.cursor += c.len_utf8();
                self.gap += 1;
                if self.gap > GAP {
                    self.gap = 0;
                    return Next::Cut(self.cut_all(self.cursor, false));
                }
                continue;
            }
            let cursor = self.cursor;
            let token = self.token.get_or_insert(Token::at(cursor));
            token.add(c);
            self.gap = 0;
            self.cursor += c.len_utf8();
            if self.cursor - token.since >= OPEN_TOKEN {
                token.since = self.cursor;
                token.look = true;
                self.shorts.clear();
                self.cut = self.cursor;
                return Next::Cut(Cut { at: self.cursor, lag: TOKEN_LAG, look: true, open: true });
            }
        }
    }

    /// The end of the text.
    fn at_end(&mut self, text: &str) -> Next {
        if let Some(token) = self.token.take() {
            return match self.end_token(token, text) {
                Some(cut) => Next::Cut(cut),
                None => self.next(text, true),
            };
        }
        if self.cut == text.len() {
            return Next::More;
        }
        Next::Cut(self.cut_all(text.len(), false))
    }

    /// Everything up to `at` is one atom.
    fn cut_all(&mut self, at: usize, look: bool) -> Cut {
        let look = look || self.linked || self.shorts.iter().any(|short| short.look);
        self.shorts.clear();
        self.linked = false;
        self.cut = at;
        Cut { at, lag: 0, look, open: false }
    }

    fn end_token(&mut self, token: Token, text: &str) -> Option<Cut> {
        let end = self.cursor;
        if self.keys
            && token.many_dashes
            && let Some(at) = text.get(token.start..end).and_then(|token| token.find(pem::BEGIN))
        {
            self.key = Some(Key { begin: token.start + at, body: None });
            return None;
        }
        let look = token.is_worth_a_look(end);
        if token.since > token.start {
            // What became of its beginning may be the fate of all of it, but of nothing else.
            return Some(self.cut_all(end, true));
        }
        if token.digit {
            self.shorts.clear();
            self.linked = true;
        } else if token.letters > SHORT {
            return Some(self.cut_all(end, look));
        } else {
            self.shorts.push(Short { start: token.start, single: token.letters == 1, look });
            if let Some(cut) = self.drop_shorts() {
                return Some(cut);
            }
        }
        if self.linked && end - self.cut >= OPEN_RUN {
            self.cut = end;
            return Some(Cut { at: end, lag: RUN_LAG, look: true, open: false });
        }
        None
    }

    /// When there are too many short tokens for one value, all but the latest are an atom.
    fn drop_shorts(&mut self) -> Option<Cut> {
        let single = self.shorts.iter().all(|short| short.single);
        let most = match (self.linked, single) {
            (true, false) => BETWEEN,
            (_, true) => BEFORE_SINGLE,
            (false, false) => BEFORE,
        };
        if self.shorts.len() <= most {
            return None;
        }
        let stays = if single { most } else { BEFORE };
        let latest = self.shorts.split_off(self.shorts.len() - stays);
        let at = latest.first().map_or(self.cursor, |short| short.start);
        let cut = self.cut_all(at, false);
        self.shorts = latest;
        Some(cut)
    }

    /// A private key may have begun: nothing is cut before it is over.
    fn go_on_with_key(&mut self, key: Key, bytes: &[u8], last: bool) -> Option<Next> {
        let Some(body) = key.body else {
            match pem::first_line(bytes, key.begin, last) {
                pem::FirstLine::Unknown => return Some(Next::More),
                pem::FirstLine::Ends(body) => self.key = Some(Key { body: Some(body), ..key }),
                pem::FirstLine::Other => return Some(self.give_up_key()),
            }
            return None;
        };
        let end = pem::last_line_end(bytes, body);
        let known = &bytes[body..end.unwrap_or(bytes.len())];
        if pem::is_prose(known) {
            return Some(self.give_up_key());
        }
        match end {
            Some(end) => {
                self.key = None;
                self.cursor = end;
                Some(Next::Cut(self.cut_all(end, true)))
            }
            None if known.len() >= pem::LONGEST => Some(Next::Endless(key.begin..body + pem::LONGEST)),
            None if last => {
                self.key = None;
                self.cursor = bytes.len();
                Some(Next::Cut(self.cut_all(bytes.len(), true)))
            }
            None => Some(Next::More),
        }
    }

    /// It was no key: what was fed since is fed again.
    fn give_up_key(&mut self) -> Next {
        self.key = None;
        Next::Cut(self.cut_all(self.cursor, true))
    }

    /// The first `bytes` of the text are gone.
    pub(super) fn shift(&mut self, bytes: usize) {
        self.cursor -= bytes;
        self.cut -= bytes;
        if let Some(token) = &mut self.token {
            token.start = token.start.saturating_sub(bytes);
            token.since -= bytes;
        }
        for short in &mut self.shorts {
            short.start -= bytes;
        }
        if let Some(key) = &mut self.key {
            key.begin -= bytes;
            key.body = key.body.map(|body| body - bytes);
        }
    }
}

/// Whether a character stands between tokens. Scripts that have no spaces between words cut anywhere.
pub(crate) fn is_delimiter(c: char) -> bool {
    match c {
        ' ' | '\n' | '\t' | '\r' | '"' | '{' | '}' | '<' | '>' | '`' => true,
        _ if c.is_ascii() => false,
        '\u{E00}'..='\u{E4F}' | '\u{3001}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}' => true,
        _ => c.is_whitespace(),
    }
}
