//! One text of a streamed reply: a field of a choice, or the arguments of one tool call. Its pieces come in
//! events; a piece is settled once nothing that is looked for can still be going on in it.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use synapse_dialect::{json::quote, walk};
use synapse_dlp::{Direction, PuttingBack, Step, Window};

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
    /// How far values of placeholders were put back.
    put_back: PuttingBack,
    is_changed: bool,
    patches: VecDeque<Patch>,
    /// Where the text is JSON itself: which of it is within strings.
    json: Option<JsonText>,
}

/// A text that is JSON, as it comes.
#[derive(Default)]
struct JsonText {
    /// What the window has not let out.
    held: String,
    /// Whether it begins as JSON does.
    is_json: Option<bool>,
    in_string: bool,
    is_escaped: bool,
}

impl JsonText {
    /// Passes over so much of the text; whether a text can stand there without quotes of its own.
    fn pass(&mut self, length: usize) -> bool {
        let first = self.held.trim_start().as_bytes().first().copied();
        self.is_json = self.is_json.or(first.map(|byte| matches!(byte, b'{' | b'[')));
        let end = self.held.floor_char_boundary(length);
        for byte in self.held.drain(..end).as_str().bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
        self.in_string || self.is_json == Some(false)
    }
}

/// What stands in the place of a part of the text.
struct Patch {
    range: Range<u64>,
    text: String,
}

impl Lane {
    pub(super) fn new(key: LaneKey, path: String, inspection: &Inspection) -> Self {
        let policy = &inspection.policy;
        let is_json = path.ends_with("arguments");
        Self {
            key,
            path,
            window: Window::new(Arc::clone(policy), Direction::Reply),
            pushed: 0,
            passed: 0,
            settled: 0,
            unsettled: String::new(),
            put_back: PuttingBack::default(),
            is_changed: false,
            patches: VecDeque::new(),
            json: is_json.then(JsonText::default),
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
        if let Some(json) = &mut self.json {
            json.held.push_str(text);
        }
        let step = self.window.push(text);
        self.absorb(inspection, step, false);
        start..self.pushed
    }

    /// The end of the text: all of it is settled.
    pub(super) fn finish(&mut self, inspection: &Inspection) {
        let step = self.window.finish();
        self.absorb(inspection, step, true);
    }

    /// Takes what the window lets out of the text.
    fn absorb(&mut self, inspection: &Inspection, step: Step, is_end: bool) {
        let passed = if is_end { self.pushed } else { self.pushed - self.window.held() as u64 };
        let length = passed - self.passed;
        let mut state = inspection.state();
        for finding in &step.findings {
            let place = self.key.field as usize ^ self.key.group as usize;
            state.tally.note(Direction::Reply, finding, place, || self.path.clone());
        }
        if step.blocked {
            state.tally.stop(Direction::Reply);
        }
        self.is_changed |=
            step.text.len() as u64 != length || step.findings.iter().any(|finding| changes(finding.action));
        let before = std::mem::replace(&mut self.passed, passed);
        let restores = state.placeholders.has_values();
        let patches = if self.is_changed && !restores { pieces(before..passed, &step) } else { None };
        let patches = self.as_json(before..passed, patches);
        if !restores {
            drop(state);
            match patches {
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
            self.put_back.is_json = self.json.as_ref().is_some_and(|json| json.is_json == Some(true));
            let restored = state.placeholders.restore(&text, &mut self.put_back);
            self.is_changed |= *restored != *text;
            let restored = restored.into_owned();
            drop(state);
            self.settle(restored);
        }
    }

    /// A placeholder in the place of a number needs quotes, where the text is JSON.
    fn as_json(&mut self, range: Range<u64>, patches: Option<Vec<Patch>>) -> Option<Vec<Patch>> {
        let Some(json) = &mut self.json else { return patches };
        let (mut patches, mut at) = (patches, range.start);
        for patch in patches.iter_mut().flatten() {
            if !json.pass((patch.range.start - at) as usize) {
                patch.text = quote(&patch.text);
            }
            at = patch.range.start;
        }
        json.pass((range.end - at) as usize);
        patches
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
