//! The worker's side: dialling out, serving calls, coming back.

mod address;
mod backoff;
mod dial;
mod keeper;
mod replicas;
mod serve;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Incoming;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::{
    body::{BodyError, BoxBody},
    message::Status,
    protocol::Liveness,
};

pub use address::{ServerUrl, ServerUrlError};
pub use backoff::luck;
pub use keeper::run;

/// Who this worker is, and where it connects to.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Its name within its group; see [`crate::message::is_name`].
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Calls at once that it wants at most.
    pub capacity: Option<u32>,
    /// The software's version.
    pub version: String,
    /// The gateways.
    pub servers: Vec<ServerUrl>,
    /// The key, as the gateway knows it.
    pub key: SecretString,
    /// How `wss://` is spoken: the authorities that are trusted.
    pub tls: Arc<rustls::ClientConfig>,
    /// How long calls may go on once the worker is to end.
    pub grace: Duration,
    /// When a silent gateway is given up.
    pub liveness: Liveness,
    /// Where it is told that this software is too old.
    pub outdated: watch::Sender<Option<Outdated>>,
}

/// What a gateway has said of a worker's software that does not suit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// The gateway.
    pub server: ServerUrl,
    /// Whether it lets the worker in all the same.
    pub is_let_in: bool,
    /// The SHA-256 of what it offers instead, by platform; empty where it has not said.
    pub sha256: BTreeMap<String, String>,
}

/// What a gateway has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The group that the key belongs to.
    pub group: String,
    /// Whether the engine may be outside the house.
    pub allows_cloud: bool,
}

/// What stands behind a worker.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers a call. The request's target is its path; dropping the future or the reply's body means
    /// that nobody wants the answer any more.
    ///
    /// # Errors
    /// When the answer is not the engine's.
    async fn call(&self, request: Request<Incoming>, terms: &Terms) -> Result<Response<BoxBody>, Failure>;
}

/// How far a call got that the engine has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedAt {
    /// Nothing has reached the engine.
    Connect,
    /// A connection that was used before had ended, as it turned out when the call had been sent.
    Stale,
    /// The engine may have got it, and gave no proper reply.
    Head,
    /// The worker does not let it through.
    Refused,
}

/// A call that the engine has not answered.
#[derive(Debug)]
pub struct Failure {
    /// How far it got.
    pub at: FailedAt,
    /// For the worker's own log.
    pub detail: BodyError,
}

/// The current status, and whoever changes it.
pub type StatusFeed = watch::Receiver<Arc<Status>>;
