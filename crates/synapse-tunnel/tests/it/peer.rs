//! A worker made by hand, which can do everything wrong.

use std::{net::SocketAddr, pin::Pin};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use synapse_core::key::SecretHash;
use synapse_testkit::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::kit::KEY;

/// A WebSocket to a gateway, and nothing in it yet.
pub(crate) async fn dial(address: SocketAddr, key: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{address}/ws").into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().expect("a value"));
    request.headers_mut().insert("sec-websocket-protocol", "synapse.tunnel.v1".parse().expect("a value"));
    let tcp = TcpStream::connect(address).await.expect("a connection");
    Ok(client_async(request, tcp).await?.0)
}

/// How the gateway closes this connection, whatever it says before.
pub(crate) async fn closed(mut socket: WebSocketStream<TcpStream>) -> (u16, String) {
    within("a close", async {
        loop {
            let message = socket.next().await.expect("a close before the end").expect("no broken connection");
            if let Message::Close(frame) = message {
                let frame = frame.expect("a reason");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    })
    .await
}

/// A worker whose control stream is in the test's hands.
pub(crate) struct Peer {
    said: Pin<Box<Incoming>>,
    unread: Vec<u8>,
    says: mpsc::UnboundedSender<Bytes>,
    close: oneshot::Receiver<(u16, String)>,
    _working: JoinSet<()>,
}

impl Peer {
    /// One that has come as far as the control stream.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = dial(address, KEY).await.expect("a WebSocket");
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (closing, close) = oneshot::channel();
        let (opened, mut controls) = mpsc::unbounded_channel();
        let mut working = JoinSet::new();
        working.spawn(carry(socket, far, closing));
        let service = service_fn(move |request: Request<Incoming>| {
            let (says, lines) = mpsc::unbounded_channel::<Bytes>();
            let _unwanted = opened.send((request.into_body(), says));
            let frames = futures_util::stream::unfold(lines, |mut lines| async move {
                let line = lines.recv().await?;
                Some((Ok::<_, std::io::Error>(http_body::Frame::data(line)), lines))
            });
            async { Ok::<_, std::io::Error>(Response::new(StreamBody::new(frames))) }
        });
        working.spawn(async move {
            let served =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(near), service);
            let _ended = served.await;
        });
        let (said, says) = within("the control stream", controls.recv()).await.expect("a stream");
        Self { said: Box::pin(said), unread: Vec::new(), says, close, _working: working }
    }

    /// The next line of the gateway.
    pub(crate) async fn hear(&mut self) -> Value {
        within("a line", async {
            loop {
                if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.unread.drain(..=end).collect();
                    return serde_json::from_slice(&line).expect("JSON");
                }
                let frame = self.said.frame().await.expect("a line").expect("unbroken");
                self.unread.extend_from_slice(&frame.into_data().expect("data"));
            }
        })
        .await
    }

    /// Says bytes, whatever they are.
    pub(crate) fn say_bytes(&self, bytes: impl Into<Bytes>) {
        // The gateway may have heard enough.
        let _unheard = self.says.send(bytes.into());
    }

    /// Says a line.
    pub(crate) fn say(&self, line: &Value) {
        self.say_bytes(format!("{line}\n"));
    }

    /// Hears the greeting and says a hello that is in order but for these changes.
    pub(crate) async fn hello(&mut self, changes: Value) {
        let greeting = self.hear().await;
        assert_eq!(greeting["type"], "greeting");
        let mut hello = json!({
            "type": "hello",
            "protocol": {"min": 1, "max": 1},
            "version": "by hand",
            "name": "peer",
            "instance": "i",
            "nonce": "n".repeat(32),
            "status": {"health": "up"},
        });
        let mac = proof(greeting["nonce"].as_str().expect("a nonce"), &"n".repeat(32), "peer", "i");
        hello["proof"] = mac.into();
        for (key, value) in changes.as_object().expect("changes") {
            hello[key] = value.clone();
        }
        self.say(&hello);
    }

    /// How the gateway closes the connection.
    pub(crate) async fn closed(self) -> (u16, String) {
        within("a close", self.close).await.expect("a close frame")
    }
}

/// The proof as `docs/tunnel.md` describes it, made without the product's code.
fn proof(gateway_nonce: &str, worker_nonce: &str, name: &str, instance: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SecretHash::of(KEY).as_bytes()).expect("a key");
    for part in ["synapse.tunnel.v1 worker proof", gateway_nonce, worker_nonce, name, instance] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Carries bytes between a WebSocket and a pipe; tells how the gateway closes.
async fn carry(
    mut socket: WebSocketStream<TcpStream>,
    pipe: tokio::io::DuplexStream,
    closing: oneshot::Sender<(u16, String)>,
) {
    let (mut read, mut write) = tokio::io::split(pipe);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => if write.write_all(&bytes).await.is_err() { return },
                Some(Ok(Message::Close(Some(frame)))) => {
                    let _unwanted = closing.send((frame.code.into(), frame.reason.to_string()));
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            count = read.read(&mut buffer) => {
                let Ok(count @ 1..) = count else { return };
                let bytes = Bytes::copy_from_slice(&buffer[..count]);
                if socket.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
        }
    }
}
