//! The texts of a JSON body, searched as one, so that neither a boundary between two parts of a message nor
//! the place of a field hides anything; and the same body with what was found taken out.

use std::{borrow::Cow, cell::Cell, mem, ops::Range};

use base64::{
    Engine as _,
    alphabet::STANDARD as STANDARD_ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use synapse_dialect::{
    json::{self, Edits, quote},
    walk::{self, Frame, Item, Path},
};
use synapse_dlp::{Action, Direction, Finding, label};

use super::Inspection;

/// Between two texts that have nothing to do with each other: nothing that is looked for has it.
const BREAK: char = '\u{1e}';
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

/// Texts of one speaker, which an engine may put together, looked at as one.
struct Seam {
    /// Where it stands in the buffer.
    text: Range<usize>,
    /// The index of each text, and where it begins within this.
    parts: Vec<(usize, usize)>,
}

/// The texts of a body.
pub(crate) struct Document {
    buffer: String,
    pieces: Vec<Piece>,
    seams: Vec<Seam>,
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

thread_local! {
    /// The room of a document that is done with: taking it anew for each costs more than its search.
    static SPARE: Cell<(String, Vec<Piece>)> = const { Cell::new((String::new(), Vec::new())) };
}
/// More room than this is not kept, in bytes.
const MAX_SPARE: usize = 64 * 1024;

impl Drop for Document {
    fn drop(&mut self) {
        let (mut buffer, mut pieces) = (mem::take(&mut self.buffer), mem::take(&mut self.pieces));
        if buffer.capacity() <= MAX_SPARE && pieces.capacity() * size_of::<Piece>() <= MAX_SPARE {
            buffer.clear();
            pieces.clear();
            // A thread that ends needs none.
            let _ended = SPARE.try_with(|spare| spare.set((buffer, pieces)));
        }
    }
}

impl Document {
    fn with_room(length: usize) -> Self {
        let (mut buffer, pieces) = SPARE.take();
        buffer.reserve(length);
        Self { buffer, pieces, seams: Vec::new(), has_logprobs: false }
    }

    /// Collects the texts of a request; `None` where that is not JSON.
    pub(crate) fn of(body: &str) -> Option<Self> {
        let mut document = Self::with_room(body.len());
        let mut spoken = Spoken::default();
        walk::walk(body, |path, item| match item {
            Item::Text(raw) => {
                let key = path.key().unwrap_or_default();
                if key == "role" {
                    spoken.by(&body[raw.clone()], &mut document);
                    if is_role(&body[raw.clone()]) {
                        return;
                    }
                }
                // A key that is spelled with escapes may be any of them.
                let is_content = matches!(key, "content" | "text" | "input" | "prompt") || key.contains('\\');
                if document.add(body, path, raw) && is_content {
                    spoken.pieces.push(document.pieces.len() - 1);
                }
            }
            Item::Key(raw) => {
                if !is_protocol_key(path.key().unwrap_or_default()) {
                    document.add(body, path, raw);
                }
            }
            Item::Number(raw) => {
                // A long number deep inside may be one of a person; at the top it is a parameter.
                if raw.len() >= 8 && path.0.len() > 1 && !is_token(path) {
                    document.push(&body[raw.clone()], raw, path, Wrapping::Plain);
                }
            }
        })
        .ok()?;
        document.join(&spoken.pieces);
        Some(document)
    }

    /// Collects the texts of a whole reply; `None` where that is not JSON.
    pub(super) fn of_reply(body: &str) -> Option<Self> {
        let mut document = Self::with_room(body.len());
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

    /// Adds a string; whether there was anything to add.
    fn add(&mut self, body: &str, path: Path<'_, '_>, raw: Range<usize>) -> bool {
        if path.0 == [Frame::Key("model")] {
            return false;
        }
        let Some(text) = walk::unquote(&body[raw.clone()]) else { return false };
        if text.is_empty() {
            return false;
        }
        match data_uri(&text, path) {
            Some(Uri::Text { head, content }) => self.push(&content, raw, path, Wrapping::DataUri(head)),
            // Whether media may pass is decided elsewhere.
            Some(Uri::Media) => return false,
            None => self.push(&text, raw, path, Wrapping::Plain),
        }
        true
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

    /// Texts that an engine may put together.
    fn join(&mut self, pieces: &[usize]) {
        if pieces.len() < 2 {
            return;
        }
        self.buffer.push(BREAK);
        let start = self.buffer.len();
        let mut parts = Vec::with_capacity(pieces.len());
        for &piece in pieces {
            parts.push((piece, self.buffer.len() - start));
            self.buffer.extend_from_within(self.pieces[piece].text.clone());
        }
        self.seams.push(Seam { text: start..self.buffer.len(), parts });
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
                let raw = self.pieces[*piece].raw.start;
                state.tally.note(direction, finding, raw, || path_at(body, raw));
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
            return self.locate_in(seam, finding, parts);
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

    /// The same for one in texts that were put together. What stands in one of them alone was found there.
    fn locate_in(&self, seam: &Seam, finding: &Finding, parts: &mut Vec<(usize, Finding)>) {
        let (start, end) = (finding.range.start - seam.text.start, finding.range.end - seam.text.start);
        let first = seam.parts.partition_point(|(_, at)| *at <= start).saturating_sub(1);
        let touched = || seam.parts[first..].iter().take_while(|(_, at)| *at < end);
        if touched().count() < 2 {
            return;
        }
        for &(piece, at) in touched() {
            let length = self.pieces[piece].text.len();
            let range = start.max(at) - at..end.min(at + length) - at;
            if !range.is_empty() {
                parts.push((piece, Finding { range, ..finding.clone() }));
            }
        }
    }
}

/// What one speaker has said so far.
#[derive(Default)]
struct Spoken {
    role: Option<String>,
    pieces: Vec<usize>,
}

impl Spoken {
    /// Another speaker does not go on with what was said before.
    fn by(&mut self, role: &str, document: &mut Document) {
        if self.role.as_deref().is_some_and(|known| known != role) {
            document.join(&std::mem::take(&mut self.pieces));
        }
        if self.role.as_deref() != Some(role) {
            self.role = Some(role.to_owned());
        }
    }
}

/// Whether a number is one of a vocabulary, as opposed to one that says something.
fn is_token(path: Path<'_, '_>) -> bool {
    matches!(path.0, [Frame::Key("prompt" | "input"), Frame::Index(_), ..])
        && path.0[1..].iter().all(|frame| matches!(frame, Frame::Index(_)))
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

/// The place of the string or number that begins at this byte of a body.
pub(super) fn path_at(body: &str, at: usize) -> String {
    let mut found = String::new();
    // The body was walked over before.
    let _walked = walk::walk(body, |path, item| {
        let (Item::Text(range) | Item::Key(range) | Item::Number(range)) = item;
        if range.start == at {
            found = place(path);
        }
    });
    found
}

/// A path as it may be told of: a key that no protocol has may be what was found.
fn place(path: Path<'_, '_>) -> String {
    let mut frames = path.0.to_vec();
    for frame in &mut frames {
        if matches!(frame, Frame::Key(key) if !is_protocol_key(key) && !is_protocol_text(key)) {
            *frame = Frame::Key("*");
        }
    }
    Path(&frames).to_string()
}

/// JSON within a string stays JSON: a placeholder in the place of a number needs quotes.
pub(super) fn rewritten(text: &str, redacted: String) -> String {
    if is_json(text) && !is_json(&redacted) { with_quotes(&redacted) } else { redacted }
}

pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && json::check(text.as_bytes()).is_ok()
}

/// No placeholder is longer, in bytes.
const LONGEST_PLACEHOLDER: usize = 160;

/// Puts placeholders that stand where a JSON value is expected in quotes.
fn with_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let reach = floor(after, LONGEST_PLACEHOLDER);
        let end = after[..reach].find(']').map_or(reach.max(1), |end| end + 1);
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

/// Base64 as writers of URIs write it, with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD_ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes a text for a file only where all of it is one. What it says of itself may be a lie: what reads as text is
/// text, and only where media stand can the rest be one.
fn data_uri(text: &str, path: Path<'_, '_>) -> Option<Uri> {
    let rest = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).map(|_| &text[5..])?;
    let (head, payload) = rest.split_once(',')?;
    if !head.to_ascii_lowercase().trim_end().ends_with(";base64") {
        return None;
    }
    let compact: String = payload.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let decoded = LENIENT.decode(&compact).ok()?;
    let is_media = || matches!(path.key(), Some("url" | "image_url" | "file_data" | "file_url" | "data"));
    match String::from_utf8(decoded) {
        Ok(content) => Some(Uri::Text { head: format!("data:{head},"), content }),
        Err(_) => is_media().then_some(Uri::Media),
    }
}
