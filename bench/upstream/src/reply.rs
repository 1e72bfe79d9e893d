//! The replies and how their bytes come out.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tokio::time::{Interval, interval};

const ID: &str = "chatcmpl-7f3a9c51d2e84b06";
const CREATED: u64 = 1_780_000_000;

/// Every byte that is ever sent, made once.
pub(crate) struct Replies {
    pub(crate) completion: Bytes,
    pub(crate) models: Bytes,
    token: Bytes,
    last: Bytes,
    events: usize,
}

impl Replies {
    /// Replies whose streams have `events` events.
    pub(crate) fn new(events: usize) -> Self {
        let usage = json!({"prompt_tokens": 210, "completion_tokens": events, "total_tokens": 210 + events});
        let text = "A gateway should add little to the time that a model takes. ".repeat(12);
        let completion = json!({
            "id": ID, "object": "chat.completion", "created": CREATED, "model": "bench",
            "choices": [{
                "index": 0, "message": {"role": "assistant", "content": text}, "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": usage, "system_fingerprint": "fp_bench",
        });
        let model = |id| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "bench"});
        let models = json!({"object": "list", "data": [model("plain"), model("burst"), model("paced")]});
        let token = event(&json!({"content": " word"}), &Value::Null, &Value::Null);
        let last = event(&json!({}), &json!("stop"), &usage);
        Self {
            completion: completion.to_string().into(),
            models: models.to_string().into(),
            token: token.into(),
            last: (last + "data: [DONE]\n\n").into(),
            events,
        }
    }
}

fn event(delta: &Value, finish_reason: &Value, usage: &Value) -> String {
    let chunk = json!({
        "id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": "bench",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
        "usage": usage, "system_fingerprint": "fp_bench",
    });
    format!("data: {chunk}\n\n")
}

/// A reply's body.
pub(crate) enum ReplyBody {
    Whole(Option<Bytes>),
    Stream(Events),
}

/// The rest of a stream.
pub(crate) struct Events {
    token: Bytes,
    last: Bytes,
    left: usize,
    pace: Option<Interval>,
}

impl Events {
    pub(crate) fn new(replies: &Replies, pace: Option<Duration>) -> Self {
        let (token, last) = (replies.token.clone(), replies.last.clone());
        Self { token, last, left: replies.events, pace: pace.map(interval) }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(cx));
        }
        self.left -= 1;
        Poll::Ready(Some(if self.left == 0 { self.last.clone() } else { self.token.clone() }))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(events) => ready!(events.poll_event(cx)),
        };
        Poll::Ready(bytes.map(|b| Ok(Frame::data(b))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_about_a_kilobyte() {
        let size = Replies::new(64).completion.len();
        assert!((1000..1100).contains(&size), "{size}");
    }
}
