//! What the events of a streamed reply mean: whether content has begun, whether the reply is whole,
//! what it cost, and which event was only for the gateway.

use std::{collections::HashSet, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use memchr::{
    memchr_iter,
    memmem::{self, Finder},
};
use serde_json::Value;
use synapse_core::{error::Fault, operation::Operation, usage::Usage};

use super::{
    error,
    event::{EventKind, classify, is_known, is_plausible},
};
use crate::{peek, sse};

static ERROR_NAME: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["event: error", "event:error"].map(Finder::new));
static DONE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("[DONE]"));

/// How a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    Open,
    /// The reply is whole; `[DONE]` or its like may still be outstanding.
    Finished,
    /// The last event was seen.
    Done,
    /// The engine reported a failure, in the middle.
    Failed(String),
    /// The engine sent what its protocol does not allow.
    Broken,
}

/// Follows a stream after its first content, at little more than the cost of searching.
#[derive(Debug)]
pub struct Observer {
    operation: Operation,
    hide_usage: bool,
    choices: u32,
    /// Which choices have finished.
    finished: HashSet<u64>,
    progress: Progress,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    lines: u64,
}

impl Observer {
    /// `hide_usage`: the usage chunk was asked for by the gateway, not by the caller. `choices`: how
    /// many have to finish.
    pub fn new(operation: Operation, hide_usage: bool, choices: u32) -> Self {
        Self {
            operation,
            hide_usage,
            choices,
            finished: HashSet::new(),
            progress: Progress::Open,
            usage: None,
            finish_reason: None,
            lines: 0,
        }
    }

    /// How the stream stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Tokens, once the engine has told.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// About how many events there were.
    pub fn events(&self) -> u64 {
        // Those of responses bear a name besides their data.
        self.lines / if self.operation == Operation::Responses { 3 } else { 2 }
    }

    /// Why the engine stopped.
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// The end marker that callers of this dialect wait for.
    pub fn end_marker(&self) -> &'static [u8] {
        match self.operation {
            Operation::Chat | Operation::Completion => b"data: [DONE]\n\n",
            _ => b"",
        }
    }

    /// The event that tells a caller that the stream broke.
    pub fn error_event(&self, fault: &Fault) -> Bytes {
        match self.operation {
            Operation::Responses => error::responses_event(fault),
            _ => error::event(fault),
        }
    }

    /// Whether the engine has said that the reply is whole.
    pub fn is_whole(&self) -> bool {
        matches!(self.progress, Progress::Finished | Progress::Done)
    }

    /// Whether an end of the connection now is an end of the reply, too.
    pub fn may_end(&self) -> bool {
        match self.operation {
            Operation::Chat | Operation::Completion | Operation::Responses => self.is_whole(),
            _ => !matches!(self.progress, Progress::Failed(_) | Progress::Broken),
        }
    }

    /// Looks at a run of whole events; gives what the caller is to see of it.
    pub fn observe(&mut self, run: Bytes) -> Bytes {
        if matches!(self.progress, Progress::Failed(_) | Progress::Broken) {
            return Bytes::new();
        }
        self.lines += memchr_iter(b'\n', &run).count() as u64;
        let named = ERROR_NAME.iter().any(|name| name.find(&run).is_some());
        let suspected = named || peek::may_have_error(&run);
        if suspected && let Some((before, message)) = self.find_error(&run) {
            self.progress = Progress::Failed(message);
            return run.slice(..before);
        }
        if let Some(before) = self.find_malformed(&run) {
            self.progress = Progress::Broken;
            return run.slice(..before);
        }
        if self.operation == Operation::Responses {
            self.observe_responses(&run);
            return run;
        }
        self.note_finished(&run);
        let usage = peek::usage(&run);
        self.usage = usage.or(self.usage);
        let mut run = run;
        if let Some(end) = end_of_done(&run) {
            self.progress = Progress::Done;
            // What an engine says after its last word is no part of the reply.
            run.truncate(end);
        }
        if self.hide_usage && usage.is_some() { without_usage_chunk(run) } else { run }
    }

    fn observe_responses(&mut self, run: &[u8]) {
        const ENDS: [&str; 2] = ["response.completed", "response.incomplete"];
        if ENDS.iter().all(|end| memmem::find(run, end.as_bytes()).is_none()) {
            return;
        }
        let is_end = |event: &[u8]| {
            let data = sse::Event::parse(event).data.unwrap_or_default();
            let json = serde_json::from_slice::<Value>(&data).unwrap_or_default();
            json["type"].as_str().is_some_and(|kind| ENDS.contains(&kind))
        };
        if sse::events(run).any(is_end) {
            self.usage = peek::usage(run).or(self.usage);
            self.progress = Progress::Done;
        }
    }

    /// Notes which choices have finished, and why.
    fn note_finished(&mut self, run: &[u8]) {
        let mut looked = 0;
        for (at, _) in peek::finishes(run) {
            // Several choices may stand in one event.
            if at < looked {
                continue;
            }
            let event = sse::event_at(run, at);
            looked = event.end;
            let data = sse::Event::parse(&run[event]).data.unwrap_or_default();
            let json = serde_json::from_slice::<Value>(&data).unwrap_or_default();
            for choice in json["choices"].as_array().map(Vec::as_slice).unwrap_or_default() {
                if let Some(reason) = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()) {
                    self.finished.insert(choice["index"].as_u64().unwrap_or(0));
                    self.finish_reason = Some(reason.to_owned());
                }
            }
        }
        if self.finished.len() >= self.choices as usize {
            self.progress = Progress::Finished;
        }
    }

    /// Where the first event starts that is none of this protocol. Objects are not parsed: how they
    /// begin and end tells garbage from what was cut.
    fn find_malformed(&self, run: &[u8]) -> Option<usize> {
        if !matches!(self.operation, Operation::Chat | Operation::Completion | Operation::Responses) {
            return None;
        }
        if std::str::from_utf8(run).is_ok() && sse::lines(run).all(is_plausible) {
            return None;
        }
        let mut at = 0;
        for event in sse::events(run) {
            let text = std::str::from_utf8(event).is_ok();
            if !text
                || classify(self.operation, event) == EventKind::Malformed
                || !sse::lines(event).all(is_known)
            {
                return Some(at);
            }
            at += event.len();
        }
        None
    }

    /// The first event that really is an error: where it starts, and its message.
    fn find_error(&self, run: &[u8]) -> Option<(usize, String)> {
        let mut at = 0;
        for event in sse::events(run) {
            if classify(self.operation, event) == EventKind::Error {
                let data = sse::Event::parse(event).data.unwrap_or_default();
                return Some((at, error::read(&data).message));
            }
            at += event.len();
        }
        None
    }
}

/// Where the event ends that is the end marker. Content may be full of the word: of each event, only the
/// first one is looked at.
fn end_of_done(run: &[u8]) -> Option<usize> {
    let mut looked = 0;
    DONE.find_iter(run).find_map(|at| {
        if at < looked {
            return None;
        }
        let event = sse::event_at(run, at);
        looked = event.end;
        let is_done = sse::Event::parse(&run[event]).data.is_some_and(|data| data.trim_ascii() == b"[DONE]");
        is_done.then_some(looked)
    })
}

/// The run without the chunk that has usage and no choices.
fn without_usage_chunk(run: Bytes) -> Bytes {
    let is_usage_chunk = |event: &[u8]| {
        let data = sse::Event::parse(event).data.unwrap_or_default();
        serde_json::from_slice::<Value>(&data).is_ok_and(|json| {
            json["usage"].is_object() && json["choices"].as_array().is_some_and(Vec::is_empty)
        })
    };
    let (mut kept, mut done, mut looked) = (BytesMut::new(), 0, 0);
    for (at, _) in peek::usages(&run) {
        if at < looked {
            continue;
        }
        let event = sse::event_at(&run, at);
        looked = event.end;
        if is_usage_chunk(&run[event.clone()]) {
            kept.extend_from_slice(&run[done..event.start]);
            done = event.end;
        }
    }
    if done == 0 {
        return run;
    }
    kept.extend_from_slice(&run[done..]);
    kept.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":1}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn run(events: &[&str]) -> Bytes {
        events.concat().into()
    }

    #[test]
    fn the_usage_chunk_is_dropped_unless_the_caller_asked() {
        let mut hiding = Observer::new(Operation::Chat, true, 1);
        assert_eq!(hiding.observe(run(&[DELTA, STOP, USAGE, DONE])), run(&[DELTA, STOP, DONE]));
        assert_eq!(hiding.usage().map(|u| u.output_tokens), Some(1));
        assert_eq!(hiding.progress(), &Progress::Done);
        let mut showing = Observer::new(Operation::Chat, false, 1);
        assert_eq!(showing.observe(run(&[USAGE])), run(&[USAGE]));
    }

    #[test]
    fn usage_beside_choices_is_kept() {
        let both = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":1}}\n\n";
        assert_eq!(Observer::new(Operation::Chat, true, 1).observe(run(&[both])), run(&[both]));
    }

    #[test]
    fn an_end_before_a_finish_reason_is_no_end() {
        let mut observer = Observer::new(Operation::Chat, true, 1);
        observer.observe(run(&[DELTA]));
        assert!(!observer.may_end());
        observer.observe(run(&[STOP]));
        assert!(observer.may_end());
        assert_eq!(observer.finish_reason(), Some("stop"));
    }

    #[test]
    fn a_flat_error_ends_what_the_caller_sees_as_well() {
        for error in [
            "data: {\"object\":\"error\",\"message\":\"boom\"}\n\n",
            "event:error\ndata: {\"message\":\"boom\"}\n\n",
        ] {
            let mut observer = Observer::new(Operation::Chat, true, 1);
            assert_eq!(observer.observe(run(&[DELTA, error, DONE])), run(&[DELTA]));
            assert_eq!(observer.progress(), &Progress::Failed("boom".into()), "{error}");
        }
    }

    #[test]
    fn text_that_names_the_last_event_does_not_end_a_response() {
        let mut observer = Observer::new(Operation::Responses, false, 1);
        observer.observe(run(&[
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"response.completed\"}\n\n",
        ]));
        assert_eq!(observer.progress(), &Progress::Open);
    }

    #[test]
    fn every_choice_has_to_finish() {
        let mut observer = Observer::new(Operation::Chat, true, 2);
        observer.observe(run(&[DELTA, STOP]));
        assert!(!observer.may_end());
        observer
            .observe(run(&[STOP, &STOP.replace("\"stop\"", "\"\"").replace("\"index\":0", "\"index\":1")]));
        assert!(!observer.may_end(), "the first has finished twice, and an empty reason is none");
        observer.observe(run(&[&STOP.replace("\"index\":0", "\"index\":1")]));
        assert!(observer.may_end());
    }

    #[test]
    fn garbage_in_the_middle_breaks_the_stream() {
        for garbage in ["data: {\"choices\":[\n\n", "<html>\n\n", "error: {}\n\n", "data: oops\n\n"] {
            let mut observer = Observer::new(Operation::Chat, true, 1);
            assert_eq!(observer.observe(run(&[DELTA, garbage, STOP, DONE])), run(&[DELTA]), "{garbage}");
            assert_eq!(observer.progress(), &Progress::Broken);
        }
        let mut observer = Observer::new(Operation::Chat, true, 1);
        let spread = "data: {\"choices\":\ndata: []}\n\n";
        assert_eq!(observer.observe(run(&[spread])), run(&[spread]), "an event may have several lines");
    }

    #[test]
    fn an_end_marker_behind_content_full_of_end_markers_is_found() {
        let full = DELTA.replace("hi", &"[DONE]".repeat(10_000));
        let mut observer = Observer::new(Operation::Chat, true, 1);
        assert_eq!(observer.observe(run(&[&full, STOP])), run(&[&full, STOP]));
        assert_eq!(observer.progress(), &Progress::Finished);
        observer.observe(run(&[&full, DONE]));
        assert_eq!(observer.progress(), &Progress::Done);
    }

    #[test]
    fn what_follows_the_end_marker_is_no_part_of_the_reply() {
        let mut observer = Observer::new(Operation::Chat, true, 1);
        assert_eq!(observer.observe(run(&[DELTA, STOP, DONE, DELTA])), run(&[DELTA, STOP, DONE]));
    }

    #[test]
    fn an_end_marker_after_an_error_does_not_mend_the_stream() {
        let mut observer = Observer::new(Operation::Chat, true, 1);
        observer.observe(run(&[DELTA, "data: {\"error\":{\"message\":\"boom\"}}\n\n"]));
        assert!(observer.observe(run(&[DONE])).is_empty());
        assert!(!observer.may_end());
    }

    #[test]
    fn an_error_in_the_middle_ends_what_the_caller_sees() {
        let mut observer = Observer::new(Operation::Chat, true, 1);
        let seen =
            observer.observe(run(&[DELTA, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", DONE]));
        assert_eq!(seen, run(&[DELTA]));
        assert_eq!(observer.progress(), &Progress::Failed("out of memory".into()));
    }

    #[test]
    fn text_that_talks_of_errors_and_done_is_only_text() {
        let tricky = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\": {} [DONE] \\\"finish_reason\\\":\\\"stop\\\"\"},\"finish_reason\":null}]}\n\n";
        let mut observer = Observer::new(Operation::Chat, true, 1);
        assert_eq!(observer.observe(run(&[tricky])), run(&[tricky]));
        assert_eq!(observer.progress(), &Progress::Open);
    }

    #[test]
    fn a_responses_stream_ends_with_its_own_event() {
        let created = "event: response.created\ndata: {\"type\":\"response.created\"}\n\n";
        assert_eq!(classify(Operation::Responses, created.as_bytes()), EventKind::Preamble);
        let mut observer = Observer::new(Operation::Responses, false, 1);
        observer.observe(run(&["data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n"]));
        assert!(!observer.may_end());
        observer.observe(run(&["data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":4,\"output_tokens\":2}}}\n\n"]));
        assert!(observer.may_end());
        assert_eq!(observer.usage().map(|u| u.input_tokens), Some(4));
    }
}
