//! What stands behind the attempt: one trait, as small as it can be. Health, breaker, load and
//! in-flight counts live around it (`route`), translation happens before it.

pub mod body;
pub mod http;
pub mod tunnel;

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body;
use hyper::{HeaderMap, Method, StatusCode};
use synapse_core::id::BackendId;

pub use body::{Segment, UpstreamBody};

/// Something that answers HTTP-shaped calls.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name.
    fn id(&self) -> &BackendId;
    /// Sends a call and waits for the head of the reply; the body streams. Dropping the future or
    /// the body cancels the work.
    async fn call(&self, call: UpstreamCall) -> Result<UpstreamReply, BackendError>;
}

/// A call on its way out.
pub struct UpstreamCall {
    /// The method.
    pub method: Method,
    /// The absolute path, with the query.
    pub path: String,
    /// Headers, without `Host` and the backend's own credential, which the backend adds.
    pub headers: HeaderMap,
    /// The body.
    pub body: UpstreamBody,
    /// How long a new connection may take.
    pub connect_timeout: Duration,
    /// Whether it must not go over a connection that was used before.
    pub on_fresh_connection: bool,
}

/// The body of a reply. Its errors tell how the reply broke.
pub type ReplyStream = Pin<Box<dyn Body<Data = Bytes, Error = BackendError> + Send>>;

/// A reply whose head has arrived.
pub struct UpstreamReply {
    /// The status.
    pub status: StatusCode,
    /// The headers, as they came.
    pub headers: HeaderMap,
    /// The body.
    pub body: ReplyStream,
}

/// How far a failed call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedAt {
    /// Nothing reached the backend: safe to send again, whatever it was.
    Connect,
    /// A connection that was used before had ended, as it turned out when the request had been sent. Sent
    /// again on a fresh one, it does no harm, unless the engine keeps something of it.
    Stale,
    /// The request was at least partly sent; no head came back.
    Head,
    /// The head came, the body broke.
    Body,
}

/// A call that failed for want of a connection or of a proper reply.
#[derive(Debug)]
pub struct BackendError {
    /// How far it got.
    pub at: FailedAt,
    /// For logs only: it may name addresses.
    pub detail: Box<dyn std::error::Error + Send + Sync>,
}

impl BackendError {
    /// A failure at this stage.
    pub fn new(at: FailedAt, detail: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { at, detail: detail.into() }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.at {
            FailedAt::Connect => "connecting",
            FailedAt::Stale => "using an idle connection",
            FailedAt::Head => "waiting for the reply",
            FailedAt::Body => "reading the reply",
        };
        write!(f, "{stage}: {}", self.detail)?;
        let mut cause = self.detail.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for BackendError {}
