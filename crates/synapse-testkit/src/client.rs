//! Callers: every request on a connection of its own, so that no test leans on another's.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    answer::Answer,
    connection::{Connection, Protocol},
    events::Events,
    wait::within,
};

/// Somebody who calls a gateway.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    key: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, key: Option<&str>) -> Self {
        Self { address, key: key.map(str::to_owned), headers: Vec::new() }
    }

    /// The same caller, who sends one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// A caller without a key, of whatever listens there.
    pub fn to(address: SocketAddr) -> Self {
        Self::new(address, None)
    }

    /// A request as this caller sends it; `body` may be empty.
    ///
    /// # Panics
    /// When the path is none.
    pub fn request(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let body = body.into();
        let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::from(body)).expect("a request")
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path, Bytes::new())).await
    }

    /// Posts a document.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    /// Posts exactly this text as JSON.
    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.send(self.request(Method::POST, path, body.to_owned())).await
    }

    /// Asks for a chat about nothing in particular.
    pub async fn chat(&self, model: &str) -> Answer {
        self.post("/v1/chat/completions", &chat(model, false)).await
    }

    /// Asks for a streamed chat and reads it to its end.
    pub async fn stream(&self, model: &str) -> Answer {
        self.post("/v1/chat/completions", &chat(model, true)).await
    }

    /// Asks for a streamed chat; returns once the head of the answer is there.
    pub async fn open(&self, model: &str) -> Events {
        self.open_at("/v1/chat/completions", &chat(model, true)).await
    }

    /// Posts a document; returns once the head of the answer is there.
    pub async fn open_at(&self, path: &str, body: &Value) -> Events {
        let request = self.request(Method::POST, path, body.to_string());
        let mut connection = self.connect().await;
        let response = within("the head of an answer", connection.send(request)).await;
        Events::new(response.expect("the head of an answer"), connection)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.expect("an answer")
    }

    /// Sends a request and reads the whole answer, if there is one.
    ///
    /// # Errors
    /// When nobody listens or the connection breaks before the head.
    pub async fn try_send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        Connection::open(self.address, Protocol::Http1).await?.ask(request).await
    }

    /// An HTTP/1.1 connection, for several requests in a row.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address, Protocol::Http1).await.expect("a connection")
    }

    /// Writes exactly these bytes and reads until the gateway closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        read_to_end(self.write(bytes).await).await
    }

    /// Writes exactly these bytes and, when `arrived` is over, says that no more will come.
    pub async fn raw_then_half_close(&self, bytes: &[u8], arrived: impl Future<Output = ()>) -> String {
        let mut stream = self.write(bytes).await;
        arrived.await;
        let _refused = stream.shutdown().await;
        read_to_end(stream).await
    }

    async fn write(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        // What is refused early need not be taken whole.
        let _refused = stream.write_all(bytes).await;
        stream
    }
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _reset = within("the gateway to close", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Say something."}]})
}
