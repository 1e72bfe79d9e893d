//! Characters that were set apart by spaces in a regular distance, moved together.

use super::View;

/// How many spaces must follow each other in the same distance.
const SPACES: usize = 4;

/// Distances between spaces: after every character, and after every four, three and two of them.
const PERIODS: [usize; 4] = [5, 2, 4, 3];

/// `text` with such runs moved together; nothing if it has none.
pub(super) fn join(text: &str) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view = View::default();
    let mut kept = 0;
    let mut done = 0;
    for space in memchr::memchr_iter(b' ', bytes) {
        if space < done {
            continue;
        }
        let Some(period) = PERIODS.into_iter().find(|period| spaces(bytes, space, *period) >= SPACES) else {
            continue;
        };
        let last = space + (spaces(bytes, space, period) - 1) * period;
        done = last;
        let mut start = space.saturating_sub(period - 1).max(kept);
        if start > 0 && bytes[start - 1].is_ascii_alphanumeric() {
            // The first space is that behind the word before.
            start = space + 1;
        }
        let tail = bytes[last + 1..].iter().take(period - 1);
        let end =
            last + 1 + tail.take_while(|byte| byte.is_ascii_graphic() && !b"\"'`".contains(byte)).count();
        let run = &bytes[start..end];
        if !run.is_ascii() || !run.iter().any(|byte| byte.is_ascii_digit() || *byte == b'_') {
            continue;
        }
        view.keep_near(text, kept..start);
        let mut from = start;
        for at in (space..=last).step_by(period).filter(|at| *at >= start) {
            view.keep(text, from..at);
            from = at + 1;
        }
        view.keep(text, from..end);
        kept = end;
        done = end;
    }
    if kept == 0 {
        return None;
    }
    view.keep_near(text, kept..text.len());
    Some(view)
}

/// How many spaces there are from `at` on in this distance; none if there are others between them. What was
/// set apart in fours may have had some of its own.
fn spaces(bytes: &[u8], at: usize, period: usize) -> usize {
    let is_space = |at: &usize| bytes.get(*at) == Some(&b' ');
    // The run is followed to its end only where it begins like one: nearly every space is tried.
    let regular = (at..).step_by(period).take(SPACES).take_while(is_space).count();
    if regular < SPACES {
        return regular;
    }
    let all = (at..).take((SPACES - 1) * period + 1).filter(is_space).count();
    if all - SPACES > usize::from(period == PERIODS[0]) {
        return 0;
    }
    (at..).step_by(period).take_while(is_space).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_four_are_moved_together() {
        let text = "TOKEN=ab1_ cdef ghij klmn opqr st\nnext";
        let view = join(text).unwrap();
        assert_eq!(view.text, "TOKEN=ab1_cdefghijklmnopqrst\nnext");
        assert_eq!(&text[view.source(6..28).unwrap()], "ab1_ cdef ghij klmn opqr st");
    }

    #[test]
    fn single_characters_are_moved_together() {
        assert_eq!(join("is a 1 b 2 c 3 d").unwrap().text, "is a1b2c3d");
    }

    #[test]
    fn spaces_alone_are_looked_at_once() {
        // Each run to its end from each of its spaces would take many minutes.
        for unit in [" ", "  ", " \t", " a", "    a"] {
            let text = format!("1{}", unit.repeat((1 << 20) / unit.len()));
            let _ = join(&text);
        }
    }

    #[test]
    fn prose_stays() {
        assert!(join("then they went home with some more milk than ever").is_none());
    }
}
