//! One quick look at a text, which decides what else needs to look at it.

/// What a text has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Characters beyond ASCII.
    pub(crate) non_ascii: bool,
    /// Decimal digits.
    pub(crate) digits: bool,
    /// `@`.
    pub(crate) at_sign: bool,
    /// A run of capital letters, as long as that of a code.
    pub(crate) capitals: bool,
    /// A run of characters that may be a token, a key or an address.
    pub(crate) tokens: bool,
    /// Brackets, as links have them.
    pub(crate) brackets: bool,
}

/// Classes of bytes.
const DIGIT: u8 = 1;
const TOKEN: u8 = 2;
const CAPITAL: u8 = 4;
const AT: u8 = 8;
const BRACKET: u8 = 16;
const HIGH: u8 = 32;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | TOKEN,
            b'A'..=b'Z' => CAPITAL | TOKEN,
            b'a'..=b'z'
            | b'_'
            | b'-'
            | b'+'
            | b'/'
            | b'='
            | b'.'
            | b'~'
            | b':'
            | b'%'
            | b'|'
            | b'\\'
            | b'&'
            | b'#'
            | b';' => TOKEN,
            b'@' => AT | TOKEN,
            b'[' | b'<' | b'(' => BRACKET,
            128.. => HIGH,
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
/// Armour and the like begin with this many dashes.
const DASHES: &[u8] = b"-----";
/// How many capitals a code has at least.
const CODE: usize = 8;

impl Survey {
    /// Looks at a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut seen = 0;
        let mut survey = Self::default();
        let (mut run, mut run_seen, mut capitals) = (0, 0, 0);
        for byte in text.bytes() {
            let class = CLASSES[usize::from(byte)];
            seen |= class;
            capitals = if class & CAPITAL != 0 { capitals + 1 } else { 0 };
            survey.capitals |= capitals >= CODE;
            if class & TOKEN != 0 {
                run += 1;
                run_seen |= class;
                survey.tokens |= run >= WITHOUT_DIGIT || (run >= WITH_DIGIT && run_seen & DIGIT != 0);
            } else {
                (run, run_seen) = (0, 0);
            }
        }
        survey.non_ascii = seen & HIGH != 0;
        survey.digits = seen & DIGIT != 0;
        survey.at_sign = seen & AT != 0;
        survey.brackets = seen & BRACKET != 0;
        survey.tokens |= memchr::memmem::find(text.as_bytes(), DASHES).is_some();
        survey
    }

    /// Whether identifiers may stand in it.
    pub(crate) fn may_have_identifiers(&self) -> bool {
        self.digits || self.at_sign || self.capitals || self.tokens
    }

    /// Whether secrets may.
    pub(crate) fn may_have_secrets(&self) -> bool {
        self.tokens || self.at_sign
    }
}
