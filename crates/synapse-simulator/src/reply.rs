//! An answer before it is played: a status with a whole body, or a row of events. What it says is
//! decided by the wire formats; when it is sent, and what goes wrong, by `playback`.

use std::fmt::Write as _;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

/// The end mark of OpenAI's streams.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// An answer to one request.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) retry_after_s: Option<u32>,
    pub(crate) content: Content,
}

/// What an answer carries.
pub(crate) enum Content {
    /// One body, at once or after the time it takes to generate as many tokens.
    Whole { bytes: Bytes, tokens: Option<u32> },
    /// A stream.
    Events { framing: Framing, events: Vec<Event> },
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

    pub(crate) fn reply(self) -> Reply {
        Reply {
            status: StatusCode::OK,
            content_type: self.framing.content_type(),
            retry_after_s: None,
            content: Content::Events { framing: self.framing, events: self.events },
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
        let content = Content::Whole { bytes: body.into(), tokens: None };
        Self { status: StatusCode::OK, content_type, retry_after_s: None, content }
    }

    /// The same answer, once the engine has worked for it and generated `count` tokens.
    pub(crate) fn after_tokens(mut self, count: u32) -> Self {
        if let Content::Whole { tokens, .. } = &mut self.content {
            *tokens = Some(count);
        }
        self
    }

    /// Whether the engine has to work for it, rather than to look something up.
    pub(crate) fn takes_work(&self) -> bool {
        !matches!(self.content, Content::Whole { tokens: None, .. })
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}
