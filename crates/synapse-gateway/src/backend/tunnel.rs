//! Workers that have dialled in: their engines are called through their tunnel as others are by HTTP.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{Uri, header::HeaderValue};
use synapse_core::id::BackendId;
use synapse_tunnel::{
    gateway::{FailedAt as TunnelFailedAt, ReplyBody, Session},
    protocol::FRESH_HEADER,
};

use super::{Backend, BackendError, FailedAt, UpstreamCall, UpstreamReply, http::HOP_HEADER};

/// An engine behind a worker.
pub struct TunnelBackend {
    id: BackendId,
    session: Session,
    hop: HeaderValue,
}

impl TunnelBackend {
    /// The engine of this session's worker. `hop` is this gateway's instance id.
    pub fn new(id: BackendId, session: Session, hop: HeaderValue) -> Self {
        Self { id, session, hop }
    }
}

#[async_trait]
impl Backend for TunnelBackend {
    fn id(&self) -> &BackendId {
        &self.id
    }

    async fn call(&self, call: UpstreamCall) -> Result<UpstreamReply, BackendError> {
        let mut request = Request::new(call.body);
        *request.method_mut() = call.method;
        *request.uri_mut() = Uri::try_from(call.path).map_err(|e| BackendError::new(FailedAt::Connect, e))?;
        *request.headers_mut() = call.headers;
        request.headers_mut().append(HOP_HEADER, self.hop.clone());
        if call.on_fresh_connection {
            request.headers_mut().insert(FRESH_HEADER, HeaderValue::from_static("1"));
        }
        let reply = self.session.send(request).await.map_err(|error| {
            let at = match error.at {
                TunnelFailedAt::Connect => FailedAt::Connect,
                TunnelFailedAt::Stale => FailedAt::Stale,
                TunnelFailedAt::Head => FailedAt::Head,
            };
            BackendError::new(at, error)
        })?;
        let (head, body) = reply.into_parts();
        Ok(UpstreamReply { status: head.status, headers: head.headers, body: Box::pin(TunnelBody(body)) })
    }
}

/// A reply's body; dropped before its end, it cancels the engine's work.
struct TunnelBody(ReplyBody);

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = BackendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BackendError>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(|e| BackendError::new(FailedAt::Body, e))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
