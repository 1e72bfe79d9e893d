//! Floods of HTTP/2 frames that cost a caller nothing: streams cancelled as soon as they begin, and
//! frames that carry no request at all. `h2` bounds some of them for each moment; this bounds all of
//! them over time, by reading nothing but the frames' heads.

use std::time::Duration;

use tokio::time::Instant;

/// What a connection in HTTP/2 begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

/// Read as frames, this is too many continuations of a head: `h2` answers it with
/// `ENHANCE_YOUR_CALM` and ends the connection, as its own bounds do.
pub(super) const CALM_DOWN: [u8; HEAD * 65] = {
    let mut frames = [0; HEAD * 65];
    let mut at = 0;
    while at < 65 {
        let frame = at * HEAD;
        frames[frame + 3] = if at == 0 { HEADERS } else { CONTINUATION };
        // A stream that nobody else has: the last one there can be.
        frames[frame + 5] = 0x7f;
        (frames[frame + 6], frames[frame + 7], frames[frame + 8]) = (0xff, 0xff, 0xff);
        at += 1;
    }
    frames
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// So many at once, and so many a second.
#[derive(Debug)]
struct Allowance {
    burst: f64,
    rate: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(burst: u32, rate: u32) -> Self {
        let burst = f64::from(burst);
        Self { burst, rate: rate.into(), left: burst, at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        if self.left < 1.0 {
            let gone: Duration = self.at.elapsed();
            self.left = (self.left + gone.as_secs_f64() * self.rate).min(self.burst);
            self.at += gone;
        }
        self.left -= 1.0;
        self.left >= 0.0
    }
}

/// Follows the frames that a caller sends.
#[derive(Debug)]
pub(super) struct Frames {
    /// What is left of the current frame, or of the preface.
    left: usize,
    resets: Allowance,
    others: Allowance,
}

impl Frames {
    pub(super) fn new() -> Self {
        // Callers who leave are no flood, not even a proxy's whole crowd of them; and some clients
        // measure the way with a ping for each piece they get.
        Self { left: PREFACE.len(), resets: Allowance::new(200, 50), others: Allowance::new(10_000, 2_000) }
    }

    /// How many of `bytes` may pass; `false` where a flood begins behind them. A frame's head passes
    /// as a whole.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut passed = 0;
        loop {
            let skipped = self.left.min(bytes.len() - passed);
            passed += skipped;
            self.left -= skipped;
            let Some(&[a, b, c, kind, flags, ..]) = bytes.get(passed..).filter(|rest| rest.len() >= HEAD)
            else {
                return (passed, true);
            };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let allowed = match kind {
                HEADERS | WINDOW_UPDATE => true,
                DATA => length > 0 || flags & END_STREAM != 0 || self.others.take(),
                RESET => self.resets.take(),
                // Settings, pings, priorities, continuations, and what nobody knows.
                _ => self.others.take(),
            };
            if !allowed {
                return (passed, false);
            }
            passed += HEAD;
            self.left = length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIORITY: u8 = 2;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, 0, 0, 0, 0, 1][..], &vec![0; length.into()]].concat()
    }

    /// How many of these frames pass.
    fn passing(kind: u8, length: u8) -> usize {
        let (mut frames, frame) = (Frames::new(), frame(kind, length));
        let (preface, calm) = frames.advance(PREFACE);
        assert!(calm && preface == PREFACE.len());
        (0..50_000).take_while(|_| frames.advance(&frame).1).count()
    }

    #[tokio::test(start_paused = true)]
    async fn floods_end_and_work_does_not() {
        assert_eq!(passing(RESET, 4), 200);
        for (kind, length) in [(PING, 8), (SETTINGS, 0), (PRIORITY, 5), (CONTINUATION, 1), (DATA, 0), (77, 3)]
        {
            assert_eq!(passing(kind, length), 10_000, "{kind}");
        }
        for (kind, length) in [(HEADERS, 20), (DATA, 100), (WINDOW_UPDATE, 4)] {
            assert_eq!(passing(kind, length), 50_000, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_may_leave_at_a_steady_pace() {
        let mut frames = Frames::new();
        frames.advance(PREFACE);
        for _ in 0..2_000 {
            assert!(frames.advance(&frame(RESET, 4)).1);
            tokio::time::advance(Duration::from_millis(21)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_followed_however_they_are_cut() {
        let all = [PREFACE, &frame(HEADERS, 30), &frame(DATA, 200), &frame(PING, 8)].concat();
        for piece in 1..all.len() {
            let (mut frames, mut held, mut count) = (Frames::new(), Vec::new(), 0);
            for bytes in all.chunks(piece) {
                held.extend_from_slice(bytes);
                let (passed, calm) = frames.advance(&held);
                assert!(calm);
                held.drain(..passed);
                count += passed;
            }
            assert_eq!((count, frames.left), (all.len(), 0), "in pieces of {piece}");
        }
    }
}
