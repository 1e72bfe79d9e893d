//! One connection and one exchange on it.

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

/// What is asked, of whom, and what a complete answer has.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    body: Bytes,
    events: Option<u64>,
    busy_us: u64,
}

impl Target {
    /// A chat request of about 1 KB to `model`; streamed if `events` are expected.
    pub(crate) fn new(address: SocketAddr, model: &str, events: Option<u64>) -> Self {
        let prompt = "Say in one sentence what this report is about, and leave out the names. ".repeat(12);
        let body = json!({
            "model": model,
            "messages": [
                {"role": "system", "content": "Answer briefly."},
                {"role": "user", "content": prompt},
            ],
            "temperature": 0.2,
            "stream": events.is_some(),
        });
        Self { address, body: body.to_string().into(), events, busy_us: 0 }
    }

    /// The same, keeping the proxy's thread busy with every request.
    pub(crate) fn busy(&self, micros: u64) -> Self {
        Self { busy_us: micros, ..self.clone() }
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post("/v1/chat/completions")
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json");
        if self.busy_us > 0 {
            request = request.header("x-busy-us", self.busy_us);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
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
    pub(crate) events: u64,
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
    let response = sender.send_request(target.request()?).await?;
    let status = response.status();
    ensure!(status == StatusCode::OK, "the answer has status {status}");
    let mut body = response.into_body();
    let (mut bytes, mut lines) = (0, BlankLines::default());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes += data.len();
            if target.events.is_some() {
                lines.push(&data);
            }
        }
    }
    // A blank line ends each event; the last one says that the stream is done.
    let events = lines.count.saturating_sub(1);
    ensure!(bytes > 0, "the answer is empty");
    ensure!(target.events.is_none_or(|n| n == events), "the stream ended after {events} events");
    Ok(Answer { took: since.elapsed(), events })
}

/// Counts blank lines, also where one is cut in two.
#[derive(Default)]
struct BlankLines {
    count: u64,
    at_line_start: bool,
}

impl BlankLines {
    fn push(&mut self, data: &[u8]) {
        for &byte in data {
            let line_ends = byte == b'\n';
            self.count += u64::from(line_ends && self.at_line_start);
            self.at_line_start = line_ends;
        }
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
}
