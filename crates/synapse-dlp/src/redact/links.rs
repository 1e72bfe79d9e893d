//! Where in a text that streams by a link stands. A value that was taken out of a prompt is not put back there: a model
//! that somebody else's text leads astray could carry it away in an address.
//!
//! In doubt it is a link: a placeholder that stays does no harm.

/// What a link begins with, in lower case, in the spellings that programs take.
const MARKS: &[&[u8]] = &[
    b"//", b"/\\", b"\\/", b"\\\\", b"](", b"http:", b"https:", b"www.", b"&#", b"&colon;", b"&sol;",
    b"&bsol;",
];

/// How a link ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// As the destination of a link in Markdown, within so many brackets, behind a backslash or not.
    Destination { depth: usize, escaped: bool },
    /// With this sign.
    Sign(u8),
    /// With a space.
    Space,
}

/// What is known of a text up to where it goes on. One for each text; it is the same in whatever pieces that comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// The latest bytes, in lower case.
    latest: u64,
    /// What stands before the latest word.
    opened: u8,
    link: Option<End>,
}

impl Links {
    /// Whether what comes next is part of a link.
    pub(super) const fn is_inside(&self) -> bool {
        self.link.is_some()
    }

    /// Goes on with a text.
    pub(super) fn feed(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.add(byte));
    }

    fn add(&mut self, byte: u8) {
        let first = self.latest.to_be_bytes()[6..] == *b"](";
        self.latest = self.latest << 8 | u64::from(byte.to_ascii_lowercase());
        self.link = match self.link {
            None => self.begin(byte),
            Some(End::Destination { .. }) if first && byte == b'<' => Some(End::Sign(b'>')),
            Some(end) => go_on(end, byte),
        };
        if self.link.is_none() && (byte.is_ascii_whitespace() || b"\"'`<>(=,".contains(&byte)) {
            self.opened = byte;
        }
    }

    fn begin(&self, byte: u8) -> Option<End> {
        if !b"/\\(:.#;".contains(&byte) {
            return None;
        }
        let latest = self.latest.to_be_bytes();
        MARKS.iter().find(|mark| latest.ends_with(mark))?;
        Some(match (byte, self.opened) {
            (b'(', _) => End::Destination { depth: 0, escaped: false },
            (_, b'<') => End::Sign(b'>'),
            (_, quote @ (b'"' | b'\'' | b'`')) => End::Sign(quote),
            _ => End::Space,
        })
    }
}

fn go_on(end: End, byte: u8) -> Option<End> {
    let over = match end {
        End::Sign(b'>') => byte == b'>' || byte == b'\n',
        End::Sign(sign) => byte == sign,
        End::Space => byte.is_ascii_whitespace() || byte == b'<' || byte == b'>',
        End::Destination { depth, escaped } => {
            let depth = match byte {
                b'(' if !escaped => depth + 1,
                b')' if !escaped && depth == 0 => return None,
                b')' if !escaped => depth - 1,
                _ => depth,
            };
            let goes_on = End::Destination { depth, escaped: byte == b'\\' && !escaped };
            return (!byte.is_ascii_whitespace()).then_some(goes_on);
        }
    };
    (!over).then_some(end)
}
