//! Answers that have arrived whole.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

/// An answer read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it came.
    pub body: Bytes,
    /// Whether the connection broke before the body's end.
    pub broken: bool,
}

impl Answer {
    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// A header's value; empty without one.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Status, type and code of an error in OpenAI's envelope; empty where there is none.
    pub fn refusal(&self) -> (u16, String, String) {
        let error = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let field = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
        (self.status, field("type"), field("code"))
    }

    /// The data of each server-sent event.
    pub fn data(&self) -> Vec<&str> {
        self.text().split_terminator("\n\n").filter_map(|event| event.split("data: ").nth(1)).collect()
    }

    /// The JSON documents of a stream, without its end mark.
    ///
    /// # Panics
    /// When an event is something else.
    pub fn chunks(&self) -> Vec<Value> {
        let documents = self.data().into_iter().filter(|data| *data != "[DONE]");
        documents
            .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
            .collect()
    }

    /// The text of a chat, streamed or not.
    pub fn content(&self) -> String {
        if self.header("content-type").starts_with("text/event-stream") {
            let pieces = self.chunks();
            pieces.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect()
        } else {
            self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
        }
    }

    /// Whether the stream ends as a complete one does.
    pub fn is_done(&self) -> bool {
        self.data().last() == Some(&"[DONE]")
    }

    /// The code of the error event that ends the stream; empty without one.
    pub fn broken_by(&self) -> String {
        let chunks = self.chunks();
        let code = chunks.last().and_then(|last| last["error"]["code"].as_str());
        code.unwrap_or_default().to_owned()
    }
}
