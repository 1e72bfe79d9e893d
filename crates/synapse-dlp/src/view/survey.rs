//! One quick look at a text, which decides what else needs to look at it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What a text has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Decimal digits.
    pub(crate) digits: bool,
    /// `@`.
    pub(crate) at_sign: bool,
    /// A run of capital letters, as long as that of a code.
    pub(crate) capitals: bool,
    /// A run of characters that may be a token, a key or an address.
    pub(crate) tokens: bool,
    /// A run as long as the address of a machine.
    pub(crate) long: bool,
    /// Brackets, as links have them.
    pub(crate) brackets: bool,
    /// What may be decoded.
    pub(crate) encoded: bool,
    /// What may be part of a token with spaces in it.
    pub(crate) spread: bool,
    /// What may be the value of a name that tells of a secret.
    pub(crate) values: bool,
}

/// Which bytes may be part of a token, a key or an address.
static TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        token[byte] = matches!(byte as u8, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'+' | b'/' | b'.' | b'~')
            || matches!(byte as u8, b'|' | b'#' | b';' | b'_' | b':' | b'=' | b'%' | b'\\' | b'&' | b'@');
        byte += 1;
    }
    token
};

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// What a text may have somewhere.
const DIGIT: u8 = 1;
const AT: u8 = 2;
const BRACKET: u8 = 4;
const ESCAPE: u8 = 8;
const UNDERSCORE: u8 = 16;
const COLON: u8 = 32;

/// What a byte may have in common with its neighbours. Visible is more than part of a token, but quick to tell.
const VISIBLE: u8 = 1;
const CAPITAL: u8 = 2;

/// A run of token characters is worth a look from this length on, if it has a digit.
const WITH_DIGIT: usize = 12;
/// And from this one on if it has none: longer than words are.
const WITHOUT_DIGIT: usize = 20;
/// What the first line of an armoured key says.
static ARMOUR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"PRIVATE KEY"));
/// How long hardware addresses are, which may have no digit.
const ADDRESS: usize = 17;
/// How long something encoded is at least.
const ENCODED: usize = 16;

/// How much of a text is looked at before it is decided whether its runs have to be.
const PIECE: usize = 1024;
/// How much is marked at once.
const BLOCK: usize = 256;

/// What a piece of text has, at a glance: without a branch and without a table, so that it costs the same
/// whatever stands there, and processors do many bytes at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Glance {
    /// What some byte is.
    seen: u8,
    /// What four bytes in a row are, and so on.
    four: u8,
    eight: u8,
    twelve: u8,
    sixteen: u8,
}

impl Glance {
    fn at(piece: &[u8]) -> Self {
        let mut glance = Self { seen: seen(piece), ..Self::default() };
        let (mut ones, mut pairs, mut fours, mut eights) =
            ([0; BLOCK + 16], [0; BLOCK + 14], [0; BLOCK + 12], [0; BLOCK + 8]);
        let mut rest = piece;
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(BLOCK + 16)];
            // Of a short text, no more is looked at than there is.
            let room = window.len().next_multiple_of(32).min(BLOCK);
            mark(window, &mut ones[..room + 16]);
            in_a_row(&ones[..room + 16], 1, &mut pairs[..room + 14]);
            in_a_row(&pairs[..room + 14], 2, &mut fours[..room + 12]);
            in_a_row(&fours[..room + 12], 4, &mut eights[..room + 8]);
            glance.four |= union(&fours[..room]);
            glance.eight |= union(&eights[..room]);
            let (eights, fours) = (&eights[..room + 8], &fours[..room + 8]);
            glance.twelve |= eights.iter().zip(&fours[8..]).fold(0, |all, (eight, four)| all | eight & four);
            glance.sixteen |= eights.iter().zip(&eights[8..]).fold(0, |all, (one, other)| all | one & other);
            rest = &rest[rest.len().min(BLOCK)..];
        }
        glance
    }
}

/// Which of the characters that say something by themselves a text has.
fn seen(text: &[u8]) -> u8 {
    let of = |is: bool, mark: u8| if is { mark } else { 0 };
    text.iter().fold(0, |seen, byte| {
        seen | of(byte.is_ascii_digit(), DIGIT)
            | of(*byte == b'@', AT)
            | of((*byte == b'[') | (*byte == b'<') | (*byte == b'('), BRACKET)
            | of((*byte == b'=') | (*byte == b'\\') | (*byte == b'%') | (*byte == b'&'), ESCAPE)
            | of(*byte == b'_', UNDERSCORE)
            | of(*byte == b':', COLON)
    })
}

/// Marks a window's bytes, and none behind it.
fn mark(window: &[u8], marks: &mut [u8]) {
    let (of_window, behind) = marks.split_at_mut(window.len());
    for (mark, byte) in of_window.iter_mut().zip(window) {
        let visible = if byte.cast_signed() > b' '.cast_signed() { VISIBLE } else { 0 };
        *mark = visible | if byte.is_ascii_uppercase() { CAPITAL } else { 0 };
    }
    behind.fill(0);
}

/// What each has in common with that so far behind it.
fn in_a_row(classes: &[u8], distance: usize, common: &mut [u8]) {
    for (common, (one, other)) in common.iter_mut().zip(classes.iter().zip(&classes[distance..])) {
        *common = one & other;
    }
}

fn union(classes: &[u8]) -> u8 {
    classes.iter().fold(0, |union, class| union | class)
}

impl Survey {
    /// Looks at a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut survey = Self::default();
        let (mut seen, mut four) = (0, 0);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let goes_on = rest.iter().skip(PIECE).take_while(|byte| is_token(**byte)).count();
            let piece;
            (piece, rest) = rest.split_at(rest.len().min(PIECE + goes_on));
            let glance = Glance::at(piece);
            seen |= glance.seen;
            four |= glance.four;
            survey.values |= glance.eight & VISIBLE != 0;
            survey.capitals |= glance.eight & CAPITAL != 0;
            if (glance.sixteen | if glance.seen & DIGIT != 0 { glance.twelve } else { 0 }) & VISIBLE != 0 {
                survey.look_at_runs(piece);
            }
        }
        survey.digits = seen & DIGIT != 0;
        survey.at_sign = seen & AT != 0;
        survey.brackets = seen & BRACKET != 0;
        survey.encoded |= seen & ESCAPE != 0;
        survey.spread = seen & (DIGIT | UNDERSCORE) != 0;
        survey.values |= seen & COLON != 0;
        survey.tokens |= four & CAPITAL != 0 && ARMOUR.find(text.as_bytes()).is_some();
        survey
    }

    /// Notes how long the runs of a piece are, none of which goes on beyond it.
    fn look_at_runs(&mut self, piece: &[u8]) {
        for run in piece.split(|byte| !is_token(*byte)) {
            if self.encoded && self.long && self.tokens {
                return;
            }
            self.encoded |= run.len() >= ENCODED;
            self.long |= run.len() >= ADDRESS;
            self.tokens |= run.len() >= WITHOUT_DIGIT
                || (run.len() >= WITH_DIGIT && run.iter().any(|byte| byte.is_ascii_digit()));
        }
    }

    /// Whether identifiers may stand in it.
    pub(crate) fn may_have_identifiers(&self) -> bool {
        self.digits || self.at_sign || self.capitals || self.long
    }

    /// Whether secrets may.
    pub(crate) fn may_have_secrets(&self) -> bool {
        self.tokens || self.at_sign
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_glance_sees_the_runs_that_a_closer_look_does(text in "([a-z]{1,20}|[A-Z]{3,9}|[0-9]{1,18}|[ _:@=<,é\\n]){0,300}") {
            let glance = Glance::at(text.as_bytes());
            let longest = |is: fn(u8) -> bool| text.as_bytes().split(|byte| !is(*byte)).map(<[u8]>::len).max();
            let visible = longest(|byte| byte.is_ascii_graphic());
            let capitals = longest(|byte| byte.is_ascii_uppercase());
            for (length, of) in [(4, glance.four), (8, glance.eight), (12, glance.twelve), (16, glance.sixteen)] {
                prop_assert_eq!(of & VISIBLE != 0, visible >= Some(length), "{} visible", length);
                prop_assert_eq!(of & CAPITAL != 0, capitals >= Some(length), "{} capitals", length);
            }
        }

        #[test]
        fn a_survey_knows_the_longest_runs(text in "([a-z]{1,22}|[A-Z]{6,9}|[a-z0-9]{1,25}|[ _:@=<,é]{1,3}){0,300}") {
            let survey = Survey::of(&text);
            let runs = || text.as_bytes().split(|byte| !is_token(*byte));
            let longest = runs().map(<[u8]>::len).max().unwrap_or(0);
            prop_assert_eq!(survey.long, longest >= ADDRESS);
            let has_digit = |run: &[u8]| run.iter().any(u8::is_ascii_digit);
            let mut tokens = runs().map(|run| run.len() >= WITHOUT_DIGIT || run.len() >= WITH_DIGIT && has_digit(run));
            prop_assert_eq!(survey.tokens, tokens.any(|is_token| is_token));
            let capitals = text.as_bytes().windows(8).any(|codes| codes.iter().all(u8::is_ascii_uppercase));
            prop_assert_eq!(survey.capitals, capitals);
        }
    }
}
