//! The texts of a JSON body, searched as one, so that neither a boundary between two parts of a message nor
//! the place of a field hides anything; and the same body with what was found taken out.

use std::{borrow::Cow, ops::Range};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use synapse_dialect::{
    json::{self, Edits, quote},
    walk::{self, Frame, Item, Path},
};
use synapse_dlp::{Action, Direction, Finding, label};

use super::Inspection;

/// Between two texts that have nothing to do with each other: nothing that is looked for has it.
const BREAK: char = '\u{1e}';
/// How much of each side is looked at where two texts may belong together, in bytes.
const SEAM: usize = 80;
/// Keys that protocols have; all others are searched like texts.
fn is_protocol_key(key: &str) -> bool {
    matches!(
        key,
        "role"
            | "content"
            | "type"
            | "text"
            | "model"
            | "messages"
            | "name"
            | "function"
            | "arguments"
            | "tools"
            | "tool_calls"
            | "tool_call_id"
            | "parameters"
            | "description"
            | "properties"
            | "required"
            | "input"
            | "prompt"
            | "stream"
            | "id"
            | "url"
            | "image_url"
            | "temperature"
            | "max_tokens"
            | "metadata"
            | "stream_options"
            | "response_format"
    )
}

/// Strings of replies that protocols have, and models do not write.
pub(super) fn is_protocol_text(key: &str) -> bool {
    matches!(
        key,
        "id" | "object"
            | "model"
            | "role"
            | "type"
            | "finish_reason"
            | "system_fingerprint"
            | "service_tier"
            | "item_id"
            | "call_id"
    )
}

/// Roles that say nothing but who speaks.
fn is_role(text: &str) -> bool {
    matches!(
        text,
        "\"user\"" | "\"assistant\"" | "\"system\"" | "\"developer\"" | "\"tool\"" | "\"function\""
    )
}

/// A text of the body.
struct Piece {
    /// Where it stands in the buffer.
    text: Range<usize>,
    /// Where it stands in the body, quotes included.
    raw: Range<usize>,
    /// What it was taken out of.
    wrapping: Wrapping,
}

/// How a text is wrapped in its string.
enum Wrapping {
    /// Not at all.
    Plain,
    /// It is the content of a data URI; this comes before it.
    DataUri(String),
}

/// Two neighbouring texts looked at as one.
struct Seam {
    /// Where it stands in the buffer.
    text: Range<usize>,
    /// How much of it belongs to the first.
    first: usize,
    /// Their indices.
    pieces: (usize, usize),
}

/// The texts of a body.
#[derive(Default)]
pub(crate) struct Document {
    buffer: String,
    pieces: Vec<Piece>,
    seams: Vec<Seam>,
    /// The role of the message before.
    role: Option<Range<usize>>,
    /// Whether the text stands there a second time, token by token.
    pub(super) has_logprobs: bool,
}

/// What a search made of a body.
#[derive(Default)]
pub(crate) struct Verdict {
    /// What to change.
    pub(crate) edits: Edits,
    /// Whether it may not pass at all.
    pub(crate) is_blocked: bool,
}

impl Document {
    /// Collects the texts of a request; `None` where that is not JSON.
    pub(crate) fn of(body: &str) -> Option<Self> {
        let mut document = Self { buffer: String::with_capacity(body.len()), ..Self::default() };
        let mut last_content = None;
        walk::walk(body, |path, item| match item {
            Item::Text(raw) => {
                let key = path.key().unwrap_or_default();
                if key == "role" {
                    document.note_role(body, raw.clone(), &mut last_content);
                    if is_role(&body[raw.clone()]) {
                        return;
                    }
                }
                let is_content = matches!(key, "content" | "text" | "input" | "prompt");
                if document.add(body, path, raw) && is_content {
                    let this = document.pieces.len() - 1;
                    if let Some(before) = last_content.replace(this) {
                        document.join(before, this);
                    }
                }
            }
            Item::Key(raw) => {
                if !is_protocol_key(path.key().unwrap_or_default()) {
                    document.add(body, path, raw);
                }
            }
            Item::Number(raw) => {
                // A long number deep inside may be one of a person; at the top it is a parameter.
                if raw.len() >= 8 && path.0.len() > 2 {
                    document.push(&body[raw.clone()], raw, path, Wrapping::Plain);
                }
            }
        })
        .ok()?;
        Some(document)
    }

    /// Collects the texts of a whole reply; `None` where that is not JSON.
    pub(super) fn of_reply(body: &str) -> Option<Self> {
        let mut document = Self { buffer: String::with_capacity(body.len()), ..Self::default() };
        walk::walk(body, |path, item| {
            let Item::Text(raw) = item else { return };
            if path.0.contains(&Frame::Key("logprobs")) {
                document.has_logprobs = true;
            } else if !is_protocol_text(path.key().unwrap_or_default()) {
                document.add(body, path, raw);
            }
        })
        .ok()?;
        Some(document)
    }

    /// Another speaker does not go on with what was said before.
    fn note_role(&mut self, body: &str, raw: Range<usize>, last_content: &mut Option<usize>) {
        let same = self.role.as_ref().is_none_or(|role| body[role.clone()] == body[raw.clone()]);
        if !same {
            *last_content = None;
        }
        self.role = Some(raw);
    }

    /// Adds a string; whether there was anything to add.
    fn add(&mut self, body: &str, path: Path<'_, '_>, raw: Range<usize>) -> bool {
        if path.0 == [Frame::Key("model")] {
            return false;
        }
        let Some(text) = walk::unquote(&body[raw.clone()]) else { return false };
        if text.is_empty() {
            return false;
        }
        match data_uri(&text) {
            Some(Uri::Text { head, content }) => {
                self.push(&content, raw, path, Wrapping::DataUri(head));
                true
            }
            // Whether media may pass is decided elsewhere.
            Some(Uri::Media) => false,
            None => {
                self.push(&text, raw, path, Wrapping::Plain);
                true
            }
        }
    }

    fn push(&mut self, text: &str, raw: Range<usize>, path: Path<'_, '_>, wrapping: Wrapping) {
        if !self.buffer.is_empty() {
            // What stands beside its key belongs to it.
            let follows_key = matches!(path.0.last(), Some(Frame::Key(_)))
                && self
                    .pieces
                    .last()
                    .is_some_and(|last| last.raw.end < raw.start && raw.start - last.raw.end <= 2);
            if follows_key {
                self.buffer.push_str(": ");
            } else {
                self.buffer.push(BREAK);
            }
        }
        let start = self.buffer.len();
        self.buffer.push_str(text);
        let text = start..self.buffer.len();
        self.pieces.push(Piece { text, raw, wrapping });
    }

    /// Two texts that an engine may put together.
    fn join(&mut self, first: usize, second: usize) {
        let head = &self.buffer[self.pieces[first].text.clone()];
        let tail = &self.buffer[self.pieces[second].text.clone()];
        let head = &head[floor(head, head.len().saturating_sub(SEAM))..];
        let tail = &tail[..floor(tail, SEAM)];
        let joined = format!("{BREAK}{head}{tail}");
        let first_len = head.len();
        let start = self.buffer.len() + BREAK.len_utf8();
        self.buffer.push_str(&joined);
        self.seams.push(Seam { text: start..self.buffer.len(), first: first_len, pieces: (first, second) });
    }

    /// Searches the texts and says what is to change.
    pub(crate) fn search(&self, body: &str, inspection: &Inspection, direction: Direction) -> Verdict {
        let findings = inspection.policy.scan(direction, &self.buffer);
        if findings.is_empty() {
            return Verdict::default();
        }
        let mut state = inspection.state();
        let state = &mut *state;
        let mut per_piece: Vec<(usize, Finding)> = Vec::new();
        for finding in &findings {
            let before = per_piece.len();
            self.locate(finding, &mut per_piece);
            if let Some((piece, _)) = per_piece.get(before) {
                let path = path_at(body, self.pieces[*piece].raw.start);
                state.tally.note(direction, finding, &path);
            }
        }
        per_piece.sort_by_key(|(piece, finding)| (*piece, finding.range.start));
        let mut verdict = Verdict {
            is_blocked: per_piece.iter().any(|(_, f)| f.action == Action::Block),
            ..Verdict::default()
        };
        if verdict.is_blocked {
            return verdict;
        }
        for group in per_piece.chunk_by(|a, b| a.0 == b.0) {
            let piece = &self.pieces[group[0].0];
            let text = &self.buffer[piece.text.clone()];
            let findings = without_overlaps(group.iter().map(|(_, finding)| finding.clone()));
            // What is taken out of a reply does not come back.
            let redacted = match direction {
                Direction::Prompt => state.placeholders.redact(text, &findings),
                Direction::Reply => label(text, &findings),
            };
            if let Cow::Owned(redacted) = redacted {
                verdict.edits.replace(piece.raw.clone(), piece.rewrapped(text, redacted));
            }
        }
        verdict
    }

    /// The parts of a finding in each text that it touches, by the text's index and within the text.
    fn locate(&self, finding: &Finding, parts: &mut Vec<(usize, Finding)>) {
        let seam = self.seams.partition_point(|seam| seam.text.end <= finding.range.start);
        if let Some(seam) = self.seams.get(seam).filter(|seam| seam.text.start <= finding.range.start) {
            let (start, end) = (finding.range.start - seam.text.start, finding.range.end - seam.text.start);
            // What stands in one of the two was found there.
            if start < seam.first && end > seam.first {
                let first = &self.pieces[seam.pieces.0].text;
                let offset = first.len() - seam.first;
                parts
                    .push((seam.pieces.0, Finding { range: start + offset..first.len(), ..finding.clone() }));
                parts.push((seam.pieces.1, Finding { range: 0..end - seam.first, ..finding.clone() }));
            }
            return;
        }
        let from = self.pieces.partition_point(|piece| piece.text.end <= finding.range.start);
        for (at, piece) in self.pieces.iter().enumerate().skip(from) {
            if piece.text.start >= finding.range.end {
                break;
            }
            let start = finding.range.start.max(piece.text.start) - piece.text.start;
            let end = finding.range.end.min(piece.text.end) - piece.text.start;
            parts.push((at, Finding { range: start..end, ..finding.clone() }));
        }
    }
}

impl Piece {
    /// `redacted`, in what the text was wrapped in, as JSON.
    fn rewrapped(&self, text: &str, redacted: String) -> String {
        match &self.wrapping {
            Wrapping::DataUri(head) => quote(&format!("{head}{}", STANDARD.encode(redacted))),
            Wrapping::Plain => quote(&rewritten(text, redacted)),
        }
    }
}

/// The path of the string or number that begins at this byte of a body.
fn path_at(body: &str, at: usize) -> String {
    let mut found = String::new();
    // The body was walked over before.
    let _walked = walk::walk(body, |path, item| {
        let (Item::Text(range) | Item::Key(range) | Item::Number(range)) = item;
        if range.start == at {
            found = path.to_string();
        }
    });
    found
}

/// JSON within a string stays JSON: a placeholder in the place of a number needs quotes.
pub(super) fn rewritten(text: &str, redacted: String) -> String {
    if is_json(text) && !is_json(&redacted) { with_quotes(&redacted) } else { redacted }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && json::check(text.as_bytes()).is_ok()
}

/// Puts placeholders that stand where a JSON value is expected in quotes.
fn with_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let end = after.find(']').map_or(after.len(), |end| end + 1);
        let is_value = before.trim_end().ends_with([':', ',', '[']) || before.trim().is_empty();
        let inner = &after[1..end.max(2) - 1];
        let is_placeholder = inner.starts_with("REDACTED:")
            || (!inner.is_empty()
                && inner.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
        if is_value && is_placeholder {
            out.push_str(&quote(&after[..end]));
            rest = &after[end..];
        } else {
            out.push('[');
            rest = &after[1..];
        }
    }
    out.push_str(rest);
    out
}

/// Of findings in order, those that do not begin within one before.
fn without_overlaps(findings: impl Iterator<Item = Finding>) -> Vec<Finding> {
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        match kept.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                last.range.end = last.range.end.max(finding.range.end);
                last.action = last.action.max(finding.action);
            }
            _ => kept.push(finding),
        }
    }
    kept
}

/// The greatest boundary between characters that is not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// What a data URI holds.
enum Uri {
    Text { head: String, content: String },
    Media,
}

fn data_uri(text: &str) -> Option<Uri> {
    const READABLE: [&str; 8] = [
        "text/",
        "application/json",
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/csv",
        "application/x-ndjson",
        "application/toml",
    ];
    let rest = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).map(|_| &text[5..])?;
    let (head, payload) = rest.split_once(',')?;
    let kind = head.to_ascii_lowercase();
    if !kind.trim_end().ends_with(";base64") {
        return None;
    }
    let compact: String = payload.chars().filter(|c| !c.is_whitespace()).collect();
    let decoded = || String::from_utf8(STANDARD.decode(&compact).ok()?).ok();
    // What it says of itself may be a lie: what reads as text is text.
    match decoded() {
        Some(content) => Some(Uri::Text { head: format!("data:{head},"), content }),
        None if READABLE.iter().any(|readable| kind.starts_with(readable)) => None,
        None => Some(Uri::Media),
    }
}
