//! One connection and one exchange on it.

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

/// What the prompt repeats; the line end is escaped in JSON, as in the documents that fill prompts.
const SENTENCE: &str = "Say in one sentence what this report is about, and leave out the names.\n";

/// A chat request.
pub(crate) struct Ask<'a> {
    pub(crate) model: &'a str,
    /// Events that a complete answer has; without them, the answer is not streamed.
    pub(crate) events: Option<u64>,
    pub(crate) prompt_bytes: usize,
    /// Sent as a bearer token.
    pub(crate) key: Option<&'a str>,
}

/// What is asked, of whom, and what a complete answer has.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    headers: HeaderMap,
    body: Bytes,
    events: Option<u64>,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, ask: &Ask<'_>) -> anyhow::Result<Self> {
        let prompt: String = SENTENCE.chars().cycle().take(ask.prompt_bytes).collect();
        let body = json!({
            "model": ask.model,
            "messages": [
                {"role": "system", "content": "Answer briefly."},
                {"role": "user", "content": prompt},
            ],
            "temperature": 0.2,
            "stream": ask.events.is_some(),
        });
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(&address.to_string())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = ask.key {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))?);
        }
        Ok(Self { address, headers, body: body.to_string().into(), events: ask.events })
    }

    /// The same, keeping the proxy's thread busy with every request.
    pub(crate) fn busy(&self, micros: u64) -> Self {
        let mut busy = self.clone();
        busy.headers.insert("x-busy-us", micros.into());
        busy
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/v1/chat/completions");
        request.headers_mut().clone_from(&self.headers);
        request
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(socket)).await?;
        Ok(Connection { sender, driver: Some(driver) })
    }
}

/// A complete answer.
pub(crate) struct Answer {
    pub(crate) took: Duration,
    /// Until the first bytes of the body.
    pub(crate) first: Duration,
    pub(crate) events: u64,
    /// The time between each event and the next one.
    pub(crate) gaps: Vec<Duration>,
}

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// An open connection to the target.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
}

impl Connection {
    /// Sends a request and reads the whole answer; the time counts from `since`.
    pub(crate) async fn exchange(&mut self, target: &Target, since: Instant) -> anyhow::Result<Answer> {
        let mut exchange = pin!(exchange(&mut self.sender, target, since));
        if let Some(driver) = &mut self.driver {
            tokio::select! {
                biased;
                answer = &mut exchange => return answer,
                _ended = driver => {}
            }
            self.driver = None;
        }
        // What came before the connection ended may still be a complete answer.
        exchange.await
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    target: &Target,
    since: Instant,
) -> anyhow::Result<Answer> {
    sender.ready().await?;
    let response = sender.send_request(target.request()).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut reading = Reading::new(since);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            reading.push(&data, target.events.is_some());
        }
    }
    ensure!(status == StatusCode::OK, "the answer has status {status}");
    reading.finish(target.events)
}

/// An answer's body as it comes in.
struct Reading {
    since: Instant,
    first: Option<Duration>,
    lines: BlankLines,
    last_event: Option<Instant>,
    gaps: Vec<Duration>,
}

impl Reading {
    fn new(since: Instant) -> Self {
        Self { since, first: None, lines: BlankLines::default(), last_event: None, gaps: Vec::new() }
    }

    fn push(&mut self, data: &[u8], is_stream: bool) {
        let now = Instant::now();
        if !data.is_empty() {
            self.first.get_or_insert(now - self.since);
        }
        if !is_stream {
            return;
        }
        // Events that come together are no time apart.
        for _event in 0..self.lines.push(data) {
            if let Some(last) = self.last_event.replace(now) {
                self.gaps.push(now - last);
            }
        }
    }

    fn finish(mut self, expected: Option<u64>) -> anyhow::Result<Answer> {
        let Some(first) = self.first else { bail!("the answer is empty") };
        // A blank line ends each event; the last one says that the stream is done.
        let events = self.lines.count.saturating_sub(1);
        ensure!(expected.is_none_or(|n| n == events), "the stream ended after {events} events");
        self.gaps.pop();
        Ok(Answer { took: self.since.elapsed(), first, events, gaps: self.gaps })
    }
}

/// Counts blank lines, also where one is cut in two.
#[derive(Default)]
struct BlankLines {
    count: u64,
    at_line_start: bool,
}

impl BlankLines {
    /// How many there are in `data`.
    fn push(&mut self, data: &[u8]) -> u64 {
        let before = self.count;
        for &byte in data {
            let line_ends = byte == b'\n';
            self.count += u64::from(line_ends && self.at_line_start);
            self.at_line_start = line_ends;
        }
        self.count - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_counted_across_frames() {
        let mut lines = BlankLines::default();
        for frame in ["data: 1\n", "\ndata: 2\n\nda", "ta: [DONE]\n", "\n"] {
            lines.push(frame.as_bytes());
        }
        assert_eq!(lines.count, 3);
    }

    #[test]
    fn each_event_but_the_end_mark_has_a_gap_to_the_one_before() {
        let mut reading = Reading::new(Instant::now());
        for frame in ["data: 1\n\n", "data: 2\n\ndata: 3\n\n", "data: [DONE]\n\n"] {
            reading.push(frame.as_bytes(), true);
        }
        let answer = reading.finish(Some(3)).expect("complete");
        assert_eq!((answer.events, answer.gaps.len()), (3, 2));
        assert_eq!(answer.gaps[1], Duration::ZERO);
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_answer() {
        let mut reading = Reading::new(Instant::now());
        reading.push(b"data: 1\n\n", true);
        assert!(reading.finish(Some(3)).is_err());
    }

    #[test]
    fn a_prompt_has_the_size_asked_for() {
        let ask = Ask { model: "plain", events: None, prompt_bytes: 1 << 20, key: Some("k") };
        let target = Target::new(([127, 0, 0, 1], 1).into(), &ask).expect("a target");
        assert!((1 << 20..(1 << 20) + 32 * 1024).contains(&target.body.len()), "{}", target.body.len());
        assert_eq!(target.headers[AUTHORIZATION], "Bearer k");
    }
}
