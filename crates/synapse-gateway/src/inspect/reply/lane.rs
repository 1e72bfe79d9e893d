//! One text of a streamed reply: a field of a choice, or the arguments of one tool call. Its pieces come in
//! events; a piece is settled once nothing that is looked for can still be going on in it.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use synapse_dialect::walk;
use synapse_dlp::{Direction, Step, Window};

use super::{Inspection, changes};

/// Which text of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneKey {
    /// What ends together: a choice, or an item of a response.
    pub(super) group: u64,
    /// Which of its fields.
    pub(super) field: u64,
}

/// A text on its way, in bytes from its beginning.
pub(super) struct Lane {
    pub(super) key: LaneKey,
    path: String,
    window: Window,
    /// How much has come.
    pushed: u64,
    /// How much the window has let out.
    passed: u64,
    /// How much is settled.
    settled: u64,
    /// What the window let out and a placeholder may still be growing in.
    unsettled: String,
    is_changed: bool,
    patches: VecDeque<Patch>,
}

/// What stands in the place of a part of the text.
struct Patch {
    range: Range<u64>,
    text: String,
}

impl Lane {
    pub(super) fn new(key: LaneKey, path: String, inspection: &Inspection) -> Self {
        let policy = &inspection.policy;
        Self {
            key,
            path,
            window: Window::new(Arc::clone(policy), Direction::Reply),
            pushed: 0,
            passed: 0,
            settled: 0,
            unsettled: String::new(),
            is_changed: false,
            patches: VecDeque::new(),
        }
    }

    /// Up to where the text is settled.
    pub(super) const fn settled(&self) -> u64 {
        self.settled
    }

    /// Takes the next piece; gives its place.
    pub(super) fn push(&mut self, inspection: &Inspection, text: &str) -> Range<u64> {
        let start = self.pushed;
        self.pushed += text.len() as u64;
        let step = self.window.push(text, &mut inspection.state().placeholders);
        self.absorb(inspection, step, false);
        start..self.pushed
    }

    /// The end of the text: all of it is settled.
    pub(super) fn finish(&mut self, inspection: &Inspection) {
        let step = self.window.finish(&mut inspection.state().placeholders);
        self.absorb(inspection, step, true);
    }

    /// Takes what the window lets out of the text.
    fn absorb(&mut self, inspection: &Inspection, step: Step, is_end: bool) {
        let passed = if is_end { self.pushed } else { self.pushed - self.window.held() as u64 };
        let length = passed - self.passed;
        let mut state = inspection.state();
        for finding in &step.findings {
            state.tally.note(Direction::Reply, finding, &self.path);
        }
        if step.blocked {
            state.tally.stop(Direction::Reply);
        }
        self.is_changed |=
            step.text.len() as u64 != length || step.findings.iter().any(|finding| changes(finding.action));
        let before = std::mem::replace(&mut self.passed, passed);
        if !state.placeholders.has_values() {
            drop(state);
            match pieces(before..passed, &step).filter(|_| self.is_changed) {
                Some(patches) => {
                    (self.settled, self.is_changed) = (passed, false);
                    self.patches.extend(patches);
                }
                None => self.settle(step.text),
            }
            return;
        }
        self.unsettled.push_str(&step.text);
        if is_end || state.placeholders.open_at(&self.unsettled).is_none() {
            let text = std::mem::take(&mut self.unsettled);
            let restored = state.placeholders.restore(&text);
            self.is_changed |= *restored != *text;
            let restored = restored.into_owned();
            drop(state);
            self.settle(restored);
        }
    }

    fn settle(&mut self, text: String) {
        let range = self.settled..self.passed;
        self.settled = self.passed;
        if std::mem::take(&mut self.is_changed) && !range.is_empty() {
            self.patches.push_back(Patch { range, text });
        }
    }

    /// The text that stands in the place of a settled piece, if another one does. Pieces are asked for in order.
    pub(super) fn claim(&mut self, piece: &Range<u64>, quoted: &str) -> Option<String> {
        if piece.is_empty() || self.patches.front().is_none_or(|patch| patch.range.start >= piece.end) {
            return None;
        }
        let original = walk::unquote(quoted)?;
        let part = |from: u64, to: u64| {
            original.get((from - piece.start) as usize..(to - piece.start) as usize).unwrap_or_default()
        };
        let mut text = String::new();
        let mut at = piece.start;
        while let Some(patch) = self.patches.front().filter(|patch| patch.range.start < piece.end) {
            if patch.range.start >= piece.start {
                text.push_str(part(at, patch.range.start));
                text.push_str(&patch.text);
            }
            at = patch.range.end.min(piece.end);
            if patch.range.end > piece.end {
                break;
            }
            self.patches.pop_front();
        }
        text.push_str(part(at, piece.end));
        Some(text)
    }
}

/// The findings of a step one by one, so that what stands between them stays as it is; `None` where they do not
/// account for all that has changed.
fn pieces(range: Range<u64>, step: &Step) -> Option<Vec<Patch>> {
    let mut patches = Vec::new();
    let (mut at, mut out) = (range.start, 0);
    for finding in step.findings.iter().filter(|finding| changes(finding.action)) {
        let (start, end) = (finding.range.start as u64, finding.range.end as u64);
        let text = format!("[REDACTED:{}]", finding.category);
        out += start.checked_sub(at)? as usize;
        if end > range.end || step.text.get(out..out + text.len()) != Some(&text) {
            return None;
        }
        out += text.len();
        at = end;
        patches.push(Patch { range: start..end, text });
    }
    out += range.end.checked_sub(at)? as usize;
    (out == step.text.len()).then_some(patches)
}
