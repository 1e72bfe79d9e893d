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
/// How many capitals a code has at least.
const CODE: usize = 8;
/// How long something encoded is at least.
const ENCODED: usize = 16;

fn has_code(run: &[u8]) -> bool {
    run.split(|byte| !byte.is_ascii_uppercase()).any(|capitals| capitals.len() >= CODE)
}

impl Survey {
    /// Looks at a text.
    pub(crate) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let class = |at: usize| bytes.get(at).map(|byte| CLASSES[usize::from(*byte)]);
        let mut survey = Self::default();
        let mut seen = 0;
        let mut at = 0;
        while let Some(first) = class(at) {
            seen |= first;
            let start = at;
            at += 1;
            if first & TOKEN == 0 {
                continue;
            }
            let mut run = first;
            while let Some(next) = class(at).filter(|next| next & TOKEN != 0) {
                run |= next;
                at += 1;
            }
            seen |= run;
            let length = at - start;
            if length >= CODE {
                survey.capitals |= run & CAPITAL != 0 && has_code(&bytes[start..at]);
                survey.tokens |= length >= WITHOUT_DIGIT || (length >= WITH_DIGIT && run & DIGIT != 0);
                survey.encoded |= length >= ENCODED;
                survey.long |= length >= ADDRESS;
                survey.values = true;
            }
        }
        survey.digits = seen & DIGIT != 0;
        survey.at_sign = seen & AT != 0;
        survey.brackets = seen & BRACKET != 0;
        survey.encoded |= seen & ESCAPE != 0;
        survey.spread = seen & (DIGIT | UNDERSCORE) != 0;
        survey.values |= seen & COLON != 0;
        survey.tokens |= seen & CAPITAL != 0 && ARMOUR.find(bytes).is_some();
        survey
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
