//! Servers that say exactly the given bytes, for what no simulator should be able to do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What came, byte by byte.
type Requests = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that answers every POST with the same bytes and then closes, and every other request
/// with 404, as an engine without discovery does.
pub struct Script {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    requests: Requests,
    _serving: JoinSet<()>,
}

impl Script {
    /// A server that answers with these bytes, status line and all.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn saying(reply: impl Into<Vec<u8>>) -> Self {
        Self::saying_at(SocketAddr::from(([127, 0, 0, 1], 0)), reply).await
    }

    /// The same, at this address.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn saying_at(address: SocketAddr, reply: impl Into<Vec<u8>>) -> Self {
        Self::serving(address, Some(reply.into())).await
    }

    /// A server that answers 200 with what each request asks for: its field `say` has a `type` and a `body`.
    pub async fn obeying() -> Self {
        Self::serving(SocketAddr::from(([127, 0, 0, 1], 0)), None).await
    }

    async fn serving(address: SocketAddr, reply: Option<Vec<u8>>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::new(AtomicUsize::new(0));
        let (reply, counted) = (reply.map(Arc::new), Arc::clone(&calls));
        let requests = Requests::default();
        let kept = Arc::clone(&requests);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, reply.clone(), Arc::clone(&counted), Arc::clone(&kept)));
            }
        });
        Self { address, calls, requests, _serving: serving }
    }

    /// A server that answers 200 with a body that ends when the connection does.
    pub async fn replying(content_type: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n");
        Self::saying(head + body).await
    }

    /// A server that streams these events and closes.
    pub async fn streaming(events: &str) -> Self {
        Self::replying("text/event-stream", events).await
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The POST requests that came, head and body.
    pub fn requests(&self) -> Vec<String> {
        let kept = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|request| String::from_utf8_lossy(request).into_owned()).collect()
    }

    /// How many POST requests came.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn converse(
    mut stream: TcpStream,
    reply: Option<Arc<Vec<u8>>>,
    calls: Arc<AtomicUsize>,
    kept: Requests,
) {
    let Some(request) = read_request(&mut stream).await else { return };
    let is_call = request.starts_with(b"POST");
    let reply = reply.unwrap_or_else(|| Arc::new(wanted(&request)));
    if is_call {
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        calls.fetch_add(1, Ordering::SeqCst);
    }
    let nothing = &b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"[..];
    let bytes = if is_call { &reply[..] } else { nothing };
    // Whoever asked may have gone; that is theirs to know.
    let _gone = stream.write_all(bytes).await;
    let _gone = stream.shutdown().await;
}

/// The answer that a request asks for.
fn wanted(request: &[u8]) -> Vec<u8> {
    let body = request.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
    let json: Value = serde_json::from_slice(&request[body..]).unwrap_or_default();
    let (kind, body) = (json["say"]["type"].as_str(), json["say"]["body"].as_str());
    let kind = kind.unwrap_or("text/event-stream");
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{}",
        body.unwrap_or_default()
    )
    .into_bytes()
}

/// Reads a request whole.
async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text[..head].lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(Some(0), |digits| digits.trim().parse().ok())?;
            if read.len() >= head + 4 + length {
                return Some(read);
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
