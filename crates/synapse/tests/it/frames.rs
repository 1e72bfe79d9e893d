//! HTTP/2 as no client speaks it: frames byte by byte.

use synapse_testkit::{Gateway, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The codes of errors.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame, whole.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head in HPACK, each field in plain letters.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A connection that has said its preface.
pub(crate) struct Frames(TcpStream);

/// What the gateway said: the kind of the frame, its stream and its payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Said {
    /// The code of the error, where it is one.
    pub(crate) fn error(&self) -> Option<u32> {
        let code = match self.kind {
            RESET => self.payload.get(..4),
            GO_AWAY => self.payload.get(4..8),
            _ => None,
        };
        code.and_then(|code| code.try_into().ok()).map(u32::from_be_bytes)
    }
}

impl Frames {
    pub(crate) async fn open(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        let settings = frame(SETTINGS, 0, 0, &[]);
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat();
        stream.write_all(&hello).await.expect("written");
        Self(stream)
    }

    /// Writes for as long as the gateway takes it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next frame, or none where the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        within("a frame", async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Said { kind: head[3], stream, payload })
        })
        .await
    }

    /// The frames up to one that `wanted` wants, which is returned.
    pub(crate) async fn until(&mut self, mut wanted: impl FnMut(&Said) -> bool) -> Option<Said> {
        while let Some(said) = self.next().await {
            if wanted(&said) {
                return Some(said);
            }
        }
        None
    }
}
