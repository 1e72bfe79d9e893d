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

/// Classes of bytes.
const DIGIT: u8 = 1;
const TOKEN: u8 = 2;
const CAPITAL: u8 = 4;
const AT: u8 = 8;
const BRACKET: u8 = 16;
const ESCAPE: u8 = 32;
const UNDERSCORE: u8 = 64;
const COLON: u8 = 128;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | TOKEN,
            b'A'..=b'Z' => CAPITAL | TOKEN,
            b'a'..=b'z' | b'-' | b'+' | b'/' | b'.' | b'~' | b'|' | b'#' | b';' => TOKEN,
            b'_' => UNDERSCORE | TOKEN,
            b':' => COLON | TOKEN,
            b'=' | b'%' | b'\\' | b'&' => ESCAPE | TOKEN,
            b'@' => AT | TOKEN,
            b'[' | b'<' | b'(' => BRACKET,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

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
/// How much is classified at once.
const BLOCK: usize = 256;
/// Where blocks are not worth their while.
const SHORT: usize = 96;

fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// What a piece of text has, at a glance: without a branch, so that it costs the same whatever stands there.
#[derive(Default)]
struct Glance {
    /// The classes of all bytes.
    seen: u8,
    /// The classes that all of four bytes in a row have, and so on.
    four: u8,
    eight: u8,
    twelve: u8,
    sixteen: u8,
}

impl Glance {
    fn at(piece: &[u8]) -> Self {
        if piece.len() < SHORT { Self::one_by_one(piece) } else { Self::block_by_block(piece) }
    }

    fn one_by_one(piece: &[u8]) -> Self {
        let (mut seen, mut run, mut longest, mut capitals, mut most_capitals) = (0, 0, 0, 0, 0);
        for byte in piece {
            let class = class(*byte);
            seen |= class;
            run = if class & TOKEN == 0 { 0 } else { run + 1 };
            capitals = if class & CAPITAL == 0 { 0 } else { capitals + 1 };
            longest = longest.max(run);
            most_capitals = most_capitals.max(capitals);
        }
        let reaches = |length| if longest >= length { TOKEN } else { 0 };
        let capitals = |length| if most_capitals >= length { CAPITAL } else { 0 };
        let (four, eight) = (reaches(4) | capitals(4), reaches(8) | capitals(8));
        Self { seen, four, eight, twelve: reaches(12), sixteen: reaches(16) }
    }

    fn block_by_block(piece: &[u8]) -> Self {
        let mut glance = Self::default();
        let (mut classes, mut pairs, mut fours, mut eights) =
            ([0; BLOCK + 16], [0; BLOCK + 14], [0; BLOCK + 12], [0; BLOCK + 8]);
        for start in (0..piece.len()).step_by(BLOCK) {
            let window = &piece[start..piece.len().min(start + BLOCK + 16)];
            classify(window, &mut classes);
            in_a_row(&classes, 1, &mut pairs);
            in_a_row(&pairs, 2, &mut fours);
            in_a_row(&fours, 4, &mut eights);
            glance.seen |= union(&classes);
            glance.four |= union(&fours);
            glance.eight |= union(&eights);
            let (mut twelves, mut sixteens) = ([0; BLOCK], [0; BLOCK]);
            for (twelve, (eight, four)) in twelves.iter_mut().zip(eights.iter().zip(&fours[8..])) {
                *twelve = eight & four;
            }
            in_a_row(&eights, 8, &mut sixteens);
            glance.twelve |= union(&twelves);
            glance.sixteen |= union(&sixteens);
        }
        glance
    }
}

/// The classes of a window's bytes, and none behind it. By eights, which the compiler writes out.
fn classify(window: &[u8], classes: &mut [u8]) {
    let (eights, rest) = window.as_chunks::<8>();
    let (of_window, behind) = classes.split_at_mut(window.len());
    let (classes_of_eights, classes_of_rest) = of_window.as_chunks_mut::<8>();
    for (classes, bytes) in classes_of_eights.iter_mut().zip(eights) {
        *classes = bytes.map(class);
    }
    for (of_byte, byte) in classes_of_rest.iter_mut().zip(rest) {
        *of_byte = class(*byte);
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
            let goes_on = rest.iter().skip(PIECE).take_while(|byte| class(**byte) & TOKEN != 0).count();
            let piece;
            (piece, rest) = rest.split_at(rest.len().min(PIECE + goes_on));
            let glance = Glance::at(piece);
            seen |= glance.seen;
            four |= glance.four;
            survey.values |= glance.eight & TOKEN != 0;
            survey.capitals |= glance.eight & CAPITAL != 0;
            if (glance.sixteen | if glance.seen & DIGIT != 0 { glance.twelve } else { 0 }) & TOKEN != 0 {
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
        for run in piece.split(|byte| class(*byte) & TOKEN == 0) {
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
        fn a_text_has_the_same_at_a_glance_and_byte_by_byte(text in "([a-z]{1,20}|[A-Z]{6,9}|[0-9]{1,18}|[ _:@=<,é]){0,300}") {
            let (whole, each) = (Glance::block_by_block(text.as_bytes()), Glance::one_by_one(text.as_bytes()));
            prop_assert_eq!((whole.seen, whole.eight & (TOKEN | CAPITAL)), (each.seen, each.eight));
            prop_assert_eq!(whole.four & (TOKEN | CAPITAL), each.four);
            prop_assert_eq!((whole.twelve & TOKEN, whole.sixteen & TOKEN), (each.twelve, each.sixteen));
        }

        #[test]
        fn a_survey_knows_the_longest_runs(text in "([a-z]{1,22}|[A-Z]{6,9}|[a-z0-9]{1,25}|[ _:@=<,é]{1,3}){0,300}") {
            let survey = Survey::of(&text);
            let runs = || text.as_bytes().split(|byte| class(*byte) & TOKEN == 0);
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
