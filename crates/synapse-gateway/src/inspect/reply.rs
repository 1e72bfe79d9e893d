//! Replies that are searched before the caller gets them: whole ones, and streams of events. An event of a
//! stream waits until nothing that is looked for can still be going on in its text; then it goes out as the
//! engine sent it, unless something was found.

mod event;
mod lane;

use std::{borrow::Cow, collections::VecDeque, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use synapse_core::{
    error::{Fault, FaultKind},
    operation::Operation,
};
use synapse_dialect::{
    json::{Edits, quote},
    sse,
    walk::{self, Item},
};
use synapse_dlp::{Action, Direction, Placeholders, PuttingBack, label};

use super::{Document, Inspection, document::is_json, failed};
pub(super) use event::with_data;
use event::{Class, Reading};
use lane::{Lane, LaneKey};

/// Texts of one reply that are told apart.
const MAX_LANES: usize = 1024;
/// What may wait of one reply, in bytes.
const MAX_HELD: usize = 4 * 1024 * 1024;
/// Runs of more than this are not kept for one event in them, in bytes.
const LONG_RUN: usize = 2048;

/// Whether replies of an operation hold texts that a model or an engine made.
pub(crate) const fn has_text(operation: Operation) -> bool {
    !matches!(operation, Operation::Embeddings | Operation::Moderation | Operation::Image | Operation::Speech)
}

/// Searches one text; gives what stands in its place, if anything does. What stops the reply is noted.
fn search_text(inspection: &Inspection, text: &str, at: usize, path: impl Fn() -> String) -> Option<String> {
    let findings = inspection.policy.scan(Direction::Reply, text);
    let mut state = inspection.state();
    for finding in &findings {
        state.tally.note(Direction::Reply, finding, at, &path);
    }
    let found = label(text, &findings);
    let restored = put_back(&mut state.placeholders, &found);
    (*restored != *text).then(|| restored.into_owned())
}

/// A whole text with the values of its placeholders.
fn put_back<'t>(placeholders: &mut Placeholders, text: &'t str) -> Cow<'t, str> {
    if !placeholders.has_values() {
        return Cow::Borrowed(text);
    }
    let mut before = PuttingBack::default();
    before.is_json = is_json(text);
    placeholders.restore(text, &mut before)
}

impl Inspection {
    /// A plain text, such as a transcript.
    ///
    /// # Errors
    /// `dlp_response_blocked` or `dlp_failed`.
    pub(crate) fn search_reply_text(&self, text: Bytes) -> Result<Bytes, Fault> {
        let Ok(string) = std::str::from_utf8(&text) else {
            // What cannot be read cannot be searched.
            return if self.policy.rewrites(Direction::Reply) { Err(failed()) } else { Ok(text) };
        };
        let search = || Ok(search_text(self, string, 0, || "text".to_owned()));
        let new = self.guarded(Direction::Reply, None, search)?;
        self.check_reply()?;
        Ok(new.map_or(text, Bytes::from))
    }

    /// Whether replies are searched, or values put back in them.
    pub(crate) fn searches_replies(&self) -> bool {
        self.policy.is_active(Direction::Reply) || self.state().placeholders.has_values()
    }

    /// A text of an upload's form; gives what stands in its place, if anything does.
    pub(crate) fn search_form_text(&self, text: &str) -> Option<String> {
        let findings = self.policy.scan(Direction::Prompt, text);
        let mut state = self.state();
        let state = &mut *state;
        for finding in &findings {
            state.tally.note(Direction::Prompt, finding, 0, || "prompt".to_owned());
        }
        match state.placeholders.redact(text, &findings) {
            Cow::Owned(new) => Some(new),
            Cow::Borrowed(_) => None,
        }
    }

    /// A whole JSON reply.
    ///
    /// # Errors
    /// `dlp_response_blocked`, `dlp_failed`, or `upstream_invalid_response` for what is no JSON.
    pub(crate) fn search_reply(&self, body: &Bytes) -> Result<Bytes, Fault> {
        let edited = self.guarded(Direction::Reply, body.clone(), || self.edit_reply(body))?;
        self.check_reply()?;
        Ok(edited)
    }

    fn edit_reply(&self, body: &Bytes) -> Result<Bytes, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| not_json())?;
        let document = Document::of_reply(text).ok_or_else(not_json)?;
        let edits = document.search(text, self, Direction::Reply).edits;
        let changed = !edits.is_empty();
        let mut edited = edits.apply(body);
        if changed && document.has_logprobs {
            edited = without_logprobs(&edited);
        }
        if self.state().placeholders.has_values() { self.restore(&edited) } else { Ok(edited) }
    }

    /// Puts the values of named placeholders back.
    fn restore(&self, body: &Bytes) -> Result<Bytes, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| not_json())?;
        let mut state = self.state();
        let mut edits = Edits::default();
        walk::walk(text, |_, item| {
            if let Item::Text(raw) = item
                && let Some(string) = walk::unquote(&text[raw.clone()])
                && let Cow::Owned(restored) = put_back(&mut state.placeholders, &string)
            {
                edits.replace(raw, quote(&restored));
            }
        })
        .map_err(|_| not_json())?;
        Ok(edits.apply(body))
    }

    /// Whether anything was found that stops the reply.
    fn check_reply(&self) -> Result<(), Fault> {
        if self.state().tally.is_stopped(Direction::Reply) {
            Err(self.blocked(Direction::Reply))
        } else {
            Ok(())
        }
    }
}

fn not_json() -> Fault {
    Fault::new(FaultKind::UpstreamInvalidResponse, "The engine's answer is not the JSON that it should be.")
}

/// Probabilities repeat the text token by token: where it was changed, they go.
fn without_logprobs(body: &[u8]) -> Bytes {
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else { return Bytes::new() };
    clear_logprobs(&mut json);
    json.to_string().into()
}

fn clear_logprobs(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), &*value) {
                    ("logprobs", Value::Array(_)) => *value = Value::Array(Vec::new()),
                    ("logprobs", _) => *value = Value::Null,
                    _ => clear_logprobs(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clear_logprobs),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A stream of events that is searched.
pub(crate) struct Guard {
    inspection: Arc<Inspection>,
    /// Whether events may have to change, as opposed to being told of only.
    rewrites: bool,
    waiting: VecDeque<Waiting>,
    held: usize,
    lanes: Vec<Lane>,
    reading: Reading,
}

/// An event that waits for its texts.
struct Waiting {
    run: Bytes,
    event: Range<usize>,
    spans: Vec<Span>,
    has_logprobs: bool,
}

impl Waiting {
    /// Keeps no more of a long run in memory than the event itself: its caller may never read.
    fn let_go(&mut self) {
        if self.run.len() > LONG_RUN && self.run.len() > 2 * self.event.len() {
            self.run = Bytes::copy_from_slice(&self.run[self.event.clone()]);
            self.event = 0..self.run.len();
        }
    }
}

/// A part of a lane's text, and where it stands in its event.
struct Span {
    lane: usize,
    raw: Range<usize>,
    text: Range<u64>,
}

impl Guard {
    /// For a stream under this inspection; `None` where nothing is looked for in replies.
    pub(crate) fn new(inspection: &Arc<Inspection>, operation: Operation) -> Option<Box<Self>> {
        let policy = &inspection.policy;
        if !has_text(operation) || !inspection.searches_replies() {
            return None;
        }
        let restores = inspection.state().placeholders.has_values();
        Some(Box::new(Self {
            rewrites: policy.rewrites(Direction::Reply) || restores,
            inspection: Arc::clone(inspection),
            waiting: VecDeque::new(),
            held: 0,
            lanes: Vec::new(),
            reading: Reading::default(),
        }))
    }

    /// Takes a run of whole events; gives those that may go out.
    ///
    /// # Errors
    /// `dlp_response_blocked`, `dlp_failed`, or `upstream_invalid_response` for an event that is no JSON.
    pub(crate) fn pass(&mut self, run: Bytes) -> Result<Bytes, Fault> {
        let inspection = Arc::clone(&self.inspection);
        inspection.guarded(Direction::Reply, run.clone(), || self.take(run))
    }

    /// The end of the stream: what waited goes out.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub(crate) fn finish(&mut self) -> Result<Bytes, Fault> {
        let inspection = Arc::clone(&self.inspection);
        let end = || {
            self.finish_lanes(|_| true);
            inspection.check_reply()?;
            let mut out = Outgoing::default();
            self.release(&mut out);
            Ok(out.take())
        };
        inspection.guarded(Direction::Reply, Bytes::new(), end)
    }

    fn take(&mut self, run: Bytes) -> Result<Bytes, Fault> {
        let (mut at, mut out) = (0, Outgoing::default());
        for event in sse::events(&run) {
            let range = at..at + event.len();
            at = range.end;
            self.take_event(&run, range)?;
            if self.rewrites {
                self.release(&mut out);
            } else {
                self.waiting.clear();
            }
        }
        self.inspection.check_reply()?;
        if !self.rewrites {
            return Ok(run);
        }
        if self.held > MAX_HELD {
            return Err(Fault::new(FaultKind::DlpFailed, "The reply is too long to be held back."));
        }
        self.waiting.iter_mut().for_each(Waiting::let_go);
        Ok(out.take())
    }

    fn take_event(&mut self, run: &Bytes, range: Range<usize>) -> Result<(), Fault> {
        let mut reading = std::mem::take(&mut self.reading);
        let read = reading.read(run, range.clone());
        let taken = read.map_err(|()| not_json()).and_then(|line| self.take_texts(run, line, &reading));
        let mut waiting = taken?;
        waiting.has_logprobs = reading.has_logprobs;
        self.held += waiting.event.len();
        self.waiting.push_back(waiting);
        if reading.is_last {
            self.finish_lanes(|_| true);
        } else {
            for choice in &reading.finished {
                self.finish_lanes(|lane| lane.key.group == *choice);
            }
        }
        self.reading = reading;
        Ok(())
    }

    /// Puts an event's texts where they belong.
    fn take_texts(
        &mut self,
        run: &Bytes,
        (run_of_event, event): (Option<Bytes>, Range<usize>),
        reading: &Reading,
    ) -> Result<Waiting, Fault> {
        let mut run = run_of_event.unwrap_or_else(|| run.clone());
        let mut event = event;
        let mut spans = Vec::new();
        let mut edits = Edits::default();
        for text in &reading.texts {
            let raw = text.raw.clone();
            let quoted = std::str::from_utf8(&run[raw.clone()]).map_err(|_| not_json())?;
            let string = walk::unquote(quoted).ok_or_else(not_json)?;
            match &text.class {
                Class::Stream(key) => {
                    let lane = self.lane(*key, || event::path_at(&run, event.clone(), raw.start))?;
                    let range = self.lanes[lane].push(&self.inspection, &string);
                    spans.push(Span {
                        lane,
                        raw: raw.start - event.start..raw.end - event.start,
                        text: range,
                    });
                }
                Class::Whole => {
                    let path = || event::path_at(&run, event.clone(), raw.start);
                    if let Some(new) = search_text(&self.inspection, &string, raw.start, path) {
                        edits.replace(raw.start - event.start..raw.end - event.start, quote(&new));
                    }
                }
            }
        }
        if self.rewrites && !edits.is_empty() {
            // Texts that stream and texts that do not hardly ever share an event.
            run = edits.apply(&run.slice(event.clone()));
            if reading.has_logprobs {
                run = event::without_logprobs(&run);
            }
            event = 0..run.len();
            spans = respan(&run, &spans)?;
        }
        Ok(Waiting { run, event, spans, has_logprobs: false })
    }

    fn lane(&mut self, key: LaneKey, path: impl FnOnce() -> String) -> Result<usize, Fault> {
        if let Some(at) = self.lanes.iter().position(|lane| lane.key == key) {
            return Ok(at);
        }
        if self.lanes.len() == MAX_LANES {
            return Err(Fault::new(
                FaultKind::UpstreamInvalidResponse,
                "The engine's stream has too many parts.",
            ));
        }
        self.lanes.push(Lane::new(key, path(), &self.inspection));
        Ok(self.lanes.len() - 1)
    }

    fn finish_lanes(&mut self, which: impl Fn(&Lane) -> bool) {
        for lane in self.lanes.iter_mut().filter(|lane| which(lane)) {
            lane.finish(&self.inspection);
        }
    }

    /// Events at the front whose texts are settled.
    fn release(&mut self, out: &mut Outgoing) {
        while let Some(first) = self.waiting.front() {
            let settled = |span: &Span| self.lanes[span.lane].settled() >= span.text.end;
            if !first.spans.iter().all(settled) {
                break;
            }
            let Some(event) = self.waiting.pop_front() else { break };
            self.held -= event.event.len();
            match self.patched(&event) {
                None => out.pass(event.run, event.event),
                Some(patched) => out.add(patched),
            }
        }
    }

    /// The event with its texts changed, if they are.
    fn patched(&mut self, event: &Waiting) -> Option<Bytes> {
        let mut edits = Edits::default();
        for span in &event.spans {
            let quoted =
                std::str::from_utf8(&event.run[event.event.clone()][span.raw.clone()]).unwrap_or("\"\"");
            if let Some(new) = self.lanes[span.lane].claim(&span.text, quoted) {
                edits.replace(span.raw.clone(), quote(&new));
            }
        }
        if edits.is_empty() {
            return None;
        }
        let edited = edits.apply(&event.run.slice(event.event.clone()));
        Some(if event.has_logprobs { event::without_logprobs(&edited) } else { edited })
    }
}

/// Where texts stand after others in their event have changed: the same strings, in the same order.
fn respan(run: &Bytes, spans: &[Span]) -> Result<Vec<Span>, Fault> {
    let mut reading = Reading::default();
    let (line, event) = reading.read(run, 0..run.len()).map_err(|()| not_json())?;
    debug_assert!(line.is_none());
    let streams = reading.texts.iter().filter(|text| matches!(text.class, Class::Stream(..)));
    let moved = spans.iter().zip(streams).map(|(span, text)| Span {
        lane: span.lane,
        raw: text.raw.start - event.start..text.raw.end - event.start,
        text: span.text.clone(),
    });
    Ok(moved.collect())
}

/// Events on their way out; neighbours of one run are not copied.
#[derive(Default)]
struct Outgoing {
    run: Bytes,
    range: Range<usize>,
    more: BytesMut,
}

impl Outgoing {
    fn pass(&mut self, run: Bytes, event: Range<usize>) {
        let same = std::ptr::eq(self.run.as_ptr(), run.as_ptr()) && self.run.len() == run.len();
        if same && self.range.end == event.start {
            self.range.end = event.end;
        } else {
            self.settle();
            (self.run, self.range) = (run, event);
        }
    }

    fn add(&mut self, event: Bytes) {
        self.settle();
        self.more.extend_from_slice(&event);
    }

    fn settle(&mut self) {
        self.more.extend_from_slice(&self.run[self.range.clone()]);
        (self.run, self.range) = (Bytes::new(), 0..0);
    }

    fn take(mut self) -> Bytes {
        if self.more.is_empty() {
            return self.run.slice(self.range);
        }
        self.settle();
        self.more.freeze()
    }
}

/// Whether something that was found must not go out as it is.
fn changes(action: Action) -> bool {
    action >= Action::Redact
}
