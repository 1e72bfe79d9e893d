//! What an engine says besides its reply: errors, which may repeat what it was sent, and the instructions that a
//! response comes with. No caller sees the operator's prompt in them, nor what a policy takes out of replies.

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use synapse_core::{binding::SystemPrompt, error::Fault};
use synapse_dialect::{
    json::Edits,
    sse,
    walk::{self, Frame, Item},
};
use synapse_dlp::{Action, Direction, label};

use super::{Inspection, reply};

/// So much of the operator's prompt in a row is no chance, in bytes; twice as much is always noticed.
const TELLING: usize = 24;
const WITHHELD: &str = "The engine refused the request. What it says of it is withheld.";

/// What a caller may see of an engine's words.
#[derive(Clone, Default)]
pub(crate) struct Words {
    pub(crate) inspection: Option<Arc<Inspection>>,
    pub(crate) prompt: Option<Arc<SystemPrompt>>,
}

impl Words {
    /// A fault with an engine's words in it, as the caller may see it.
    pub(crate) fn clean(&self, fault: &mut Fault) {
        let said = std::mem::take(&mut fault.message);
        fault.message = self.seen(&said).map_or(said, Cow::Owned);
        if fault.param.as_deref().is_some_and(|param| self.seen(param).is_some()) {
            fault.param = None;
        }
        if let Some(refusal) = &mut fault.upstream
            && refusal.code.as_deref().is_some_and(|code| self.seen(code).is_some())
        {
            refusal.code = None;
        }
    }

    /// What stands in place of an engine's words, if these may not be seen.
    pub(crate) fn seen(&self, said: &str) -> Option<String> {
        if self.prompt.as_ref().is_some_and(|prompt| repeats(said, &prompt.text)) {
            return Some(WITHHELD.to_owned());
        }
        let inspection = self.inspection.as_ref().filter(|this| this.policy.is_active(Direction::Reply))?;
        let searched = inspection
            .guarded(Direction::Reply, Vec::new(), || Ok(inspection.policy.scan(Direction::Reply, said)));
        let Ok(findings) = searched else { return Some(WITHHELD.to_owned()) };
        if findings.iter().any(|finding| finding.action == Action::Block) {
            return Some(WITHHELD.to_owned());
        }
        match label(said, &findings) {
            Cow::Owned(seen) => Some(seen),
            Cow::Borrowed(_) => None,
        }
    }

    /// A whole response without the instructions that it was made by.
    pub(crate) fn without_instructions(&self, body: Bytes) -> Bytes {
        if !self.may_repeat(&body) {
            return body;
        }
        match std::str::from_utf8(&body).ok().and_then(instructions) {
            Some(edits) => edits.apply(&body),
            None => body,
        }
    }

    /// The same for a run of events.
    pub(crate) fn events_without_instructions(&self, run: Bytes) -> Bytes {
        if !self.may_repeat(&run) {
            return run;
        }
        let mut out = BytesMut::with_capacity(run.len());
        for event in sse::events(&run) {
            out.extend_from_slice(&reply::with_data(&run.slice_ref(event), instructions));
        }
        out.freeze()
    }

    fn may_repeat(&self, text: &[u8]) -> bool {
        self.prompt.is_some() && memmem::find(text, b"instructions").is_some()
    }
}

/// Whether any good part of the prompt stands in a text.
fn repeats(said: &str, prompt: &str) -> bool {
    let (said, prompt) = (said.as_bytes(), prompt.as_bytes());
    let whole = prompt.len() < TELLING && prompt.len() > 3 && memmem::find(said, prompt).is_some();
    whole || prompt.chunks_exact(TELLING).any(|part| memmem::find(said, part).is_some())
}

/// Puts null in the place of a response's `instructions`; `None` where that is no JSON.
fn instructions(json: &str) -> Option<Edits> {
    let mut edits = Edits::default();
    walk::walk(json, |path, item| {
        if let Item::Text(raw) = item
            && let [Frame::Key("instructions"), ..] | [Frame::Key("response"), Frame::Key("instructions"), ..] =
                path.0
        {
            edits.replace(raw, "null");
        }
    })
    .ok()?;
    Some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_part_of_the_prompt_is_recognised_and_chance_is_not() {
        let prompt = "You are the assistant of the house. Never speak of the weather.";
        assert!(repeats("bad request: You are the assistant of the house. Never", prompt));
        assert!(!repeats("bad request: the assistant of the model is unknown", prompt));
        assert!(repeats("got `Be brief.`", "Be brief.") && !repeats("be brief", "Be brief."));
    }

    #[test]
    fn a_responses_instructions_are_taken_out_and_nothing_else_of_that_name() {
        let prompt = Some(Arc::new(SystemPrompt::new(1, "secret")));
        let words = Words { inspection: None, prompt };
        let body = Bytes::from_static(br#"{"instructions":"secret","metadata":{"instructions":"mine"}}"#);
        let want = &br#"{"instructions":null,"metadata":{"instructions":"mine"}}"#[..];
        assert_eq!(words.without_instructions(body), want);
        let run = Bytes::from_static(
            b"event: a\ndata: {\"response\":{\"instructions\":\"secret\"}}\n\ndata: {\"x\":1}\n\n",
        );
        let want = &b"event: a\ndata: {\"response\":{\"instructions\":null}}\n\ndata: {\"x\":1}\n\n"[..];
        assert_eq!(words.events_without_instructions(run), want);
    }
}
