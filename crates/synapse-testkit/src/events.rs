//! Streams that are read event by event. Dropped, the caller hangs up.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{answer::Answer, connection::Connection, wait::within};

/// An answer whose head has arrived.
pub struct Events {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    incoming: Incoming,
    read: Vec<u8>,
    seen: usize,
    broken: bool,
    _connection: Connection,
}

impl Events {
    /// An answer whose head came over this connection.
    pub fn new(response: Response<Incoming>, connection: Connection) -> Self {
        let (head, incoming) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            incoming,
            read: Vec::new(),
            seen: 0,
            broken: false,
            _connection: connection,
        }
    }

    /// The next event as it stands on the wire; none at the end.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let rest = &self.read[self.seen..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let event = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.seen += end + 2;
                return Some(event);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads on until an event has this text in it.
    ///
    /// # Panics
    /// When none comes.
    pub async fn until(&mut self, text: &str) -> String {
        while let Some(event) = self.next().await {
            if event.contains(text) {
                return event;
            }
        }
        panic!("no event with `{text}` in {}", String::from_utf8_lossy(&self.read));
    }

    /// Reads to the end; the answer has what was read before, too.
    pub async fn finish(mut self) -> Answer {
        while self.more().await {}
        Answer {
            status: self.status,
            headers: self.headers,
            body: Bytes::from(self.read),
            broken: self.broken,
        }
    }

    async fn more(&mut self) -> bool {
        match within("more of a stream", self.incoming.frame()).await {
            Some(Ok(frame)) => {
                self.read.extend_from_slice(&frame.into_data().unwrap_or_default());
                true
            }
            Some(Err(_)) => {
                self.broken = true;
                false
            }
            None => false,
        }
    }
}
