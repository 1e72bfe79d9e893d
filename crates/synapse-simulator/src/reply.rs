//! An answer before it is played: a status with a whole body, or a row of events. What it says is
//! decided by the wire formats; when it is sent, and what goes wrong, by `playback`.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::comeback::RetryForm;
use crate::tokens::Usage;

/// The end mark of OpenAI's streams.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// An answer to one request.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// When to come back, and in which form that is said.
    pub(crate) retry_after: Option<(Duration, RetryForm)>,
    pub(crate) content: Content,
}

/// What an engine has to do for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// With which model.
    pub(crate) model: String,
    /// The tokens of it.
    pub(crate) usage: Usage,
    /// The tokens to generate, one after the other, before an answer that is not streamed.
    pub(crate) longest: u32,
    /// Whether the model stays loaded afterwards.
    pub(crate) keeps: bool,
}

impl Work {
    /// Work with a model that takes the time to its first token and no more.
    pub(crate) fn with(model: impl Into<String>) -> Self {
        Self { model: model.into(), usage: Usage::default(), longest: 0, keeps: true }
    }

    /// Work on a prompt of so many tokens that are read and no more.
    pub(crate) fn reading(model: impl Into<String>, prompt: u32) -> Self {
        Self { usage: Usage { prompt, ..Usage::default() }, ..Self::with(model) }
    }

    /// Work on a prompt, and on a reply whose longest choice has `longest` tokens.
    pub(crate) fn on(model: impl Into<String>, usage: Usage, longest: u32) -> Self {
        Self { usage, longest, ..Self::with(model) }
    }
}

/// What an answer carries.
pub(crate) enum Content {
    /// A body that is there already.
    Ready(Bytes),
    /// A body for which the engine has to work.
    Made(Made),
}

/// A body for which the engine has to work.
pub(crate) struct Made {
    pub(crate) work: Work,
    pub(crate) framing: Framing,
    pub(crate) events: Vec<Event>,
    /// Whether each event is sent when it is there, rather than one body when all of it is.
    pub(crate) is_streamed: bool,
}

/// How events are told apart on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON document a line.
    Ndjson,
    /// No frames at all, as in audio.
    Raw(&'static str),
}

/// One piece of a stream.
pub(crate) struct Event {
    pub(crate) bytes: Bytes,
    /// Whether the engine had to generate a token for it, which takes time.
    pub(crate) is_token: bool,
}

impl Framing {
    fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Raw(content_type) => content_type,
        }
    }

    /// A JSON document as one event.
    pub(crate) fn frame(self, body: &Value) -> Bytes {
        match self {
            Self::Sse => Bytes::from(format!("data: {body}\n\n")),
            Self::Ndjson => Bytes::from(format!("{body}\n")),
            Self::Raw(_) => Bytes::from(body.to_string()),
        }
    }

    /// An event that looks right until it is parsed.
    pub(crate) fn malformed(self) -> Bytes {
        match self {
            Self::Sse => Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\n\n"),
            Self::Ndjson => Bytes::from_static(b"{\"message\":{\"content\":\n"),
            Self::Raw(_) => Bytes::from_static(b"\0"),
        }
    }
}

/// The events of one stream, as they are written down.
pub(crate) struct Script {
    framing: Framing,
    events: Vec<Event>,
}

impl Script {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, events: Vec::new() }
    }

    /// Adds an event that costs a token's time.
    pub(crate) fn token(&mut self, body: &Value) {
        self.push(self.framing.frame(body), true);
    }

    /// Adds an event that follows at once.
    pub(crate) fn mark(&mut self, body: &Value) {
        self.push(self.framing.frame(body), false);
    }

    /// Adds a server-sent event with a name.
    pub(crate) fn named(&mut self, name: &str, body: &Value, is_token: bool) {
        let mut event = String::new();
        // Writing to a string cannot fail.
        let _ = write!(event, "event: {name}\ndata: {body}\n\n");
        self.push(Bytes::from(event), is_token);
    }

    /// Adds the end mark of OpenAI's streams.
    pub(crate) fn done(&mut self) {
        self.push(Bytes::from_static(DONE), false);
    }

    pub(crate) fn push(&mut self, bytes: Bytes, is_token: bool) {
        self.events.push(Event { bytes, is_token });
    }

    /// The stream, for which the engine has to work.
    pub(crate) fn reply(self, work: Work) -> Reply {
        Reply {
            status: StatusCode::OK,
            content_type: self.framing.content_type(),
            retry_after: None,
            content: Content::Made(Made {
                work,
                framing: self.framing,
                events: self.events,
                is_streamed: true,
            }),
        }
    }
}

impl Reply {
    /// A JSON document.
    pub(crate) fn json(body: &Value) -> Self {
        Self::bytes("application/json", body.to_string())
    }

    /// Plain text.
    pub(crate) fn text(body: impl Into<Bytes>) -> Self {
        Self::bytes("text/plain; charset=utf-8", body)
    }

    /// Any body.
    pub(crate) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let (status, content) = (StatusCode::OK, Content::Ready(body.into()));
        Self { status, content_type, retry_after: None, content }
    }

    /// The same answer, once the engine has worked for it.
    pub(crate) fn after(mut self, work: Work) -> Self {
        if let Content::Ready(bytes) = self.content {
            let (framing, events) = (Framing::Raw(self.content_type), vec![Event { bytes, is_token: false }]);
            self.content = Content::Made(Made { work, framing, events, is_streamed: false });
        }
        self
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}
