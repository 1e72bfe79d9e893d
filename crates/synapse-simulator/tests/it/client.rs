//! A caller on one connection, and the simulator it calls. No expectations here.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use synapse_simulator::{Control, Engine, Options, Simulator};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A running simulator; dropped, it dies.
pub(crate) struct Sim {
    pub(crate) addr: SocketAddr,
    pub(crate) control: Control,
    pub(crate) tasks: JoinSet<()>,
}

/// A simulated `engine` that serves the model `m`.
pub(crate) async fn engine(engine: Engine) -> Sim {
    start(Options { engine, ..options() }).await
}

/// Options that serve the model `m` at once.
pub(crate) fn options() -> Options {
    Options { models: vec!["m".to_owned()], tokens: 6, ..Options::default() }
}

pub(crate) async fn start(options: Options) -> Sim {
    let simulator = Simulator::bind(options).await.unwrap();
    let (addr, control) = (simulator.addr(), simulator.control());
    let mut tasks = JoinSet::new();
    tasks.spawn(simulator.run());
    Sim { addr, control, tasks }
}

impl Sim {
    pub(crate) async fn connect(&self) -> Caller {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Caller { sender, _driver: driver }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.connect().await.get(path).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.connect().await.post(path, body).await
    }
}

/// One connection. Dropped, it closes.
pub(crate) struct Caller {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Caller {
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(path).body(Full::default()).unwrap();
        Answer::read(self.send(request).await.unwrap()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Answer {
        Answer::read(self.send(json_request(path, body)).await.unwrap()).await
    }

    /// Sends a request and returns as soon as the head of the answer is there.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

pub(crate) fn json_request(path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path).header("content-type", "application/json").body(Full::from(body.to_string())).unwrap()
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the connection broke before the end.
    pub(crate) broken: bool,
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        let mut broken = false;
        while let Some(frame) = incoming.frame().await {
            match frame {
                Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        Self { status: head.status, headers: head.headers, body: body.into(), broken }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The data of each server-sent event.
    pub(crate) fn data(&self) -> Vec<&str> {
        self.text().split_terminator("\n\n").filter_map(|event| event.split("data: ").nth(1)).collect()
    }

    /// The JSON documents of a stream, without its end mark.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let data = self.data().into_iter().filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The documents of a stream with one document a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
