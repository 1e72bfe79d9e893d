//! One request and its reply on one connection, which is polled wherever the reply is.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{Request, body::Incoming};

use super::{
    connect::Connection,
    pool::{Home, Pool},
};
use crate::backend::{BackendError, FailedAt, UpstreamBody, UpstreamReply};

/// Why there is no reply.
pub(super) enum Unsent {
    /// The connection had ended before anything was sent; here is the request again.
    Request(Box<Request<UpstreamBody>>),
    /// The request was sent, maybe in part.
    Lost(BackendError),
}

/// Sends `request` and waits for the head of the reply.
pub(super) async fn start(
    mut connection: Connection,
    request: Request<UpstreamBody>,
    pool: &Arc<Pool>,
) -> Result<UpstreamReply, Unsent> {
    let mut sending = pin!(connection.sender.try_send_request(request));
    let inline = connection.inline.clone();
    let sent = poll_fn(|cx| {
        inline.poll(cx, |cx| {
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                return Poll::Ready(sent);
            }
            // However the connection ends, `sending` is told.
            let _ended = connection.poll_driver(cx);
            sending.as_mut().poll(cx)
        })
    });
    match sent.await {
        Ok(response) => {
            let (head, incoming) = response.into_parts();
            let body = InlineBody { incoming, connection: Some(connection), home: pool.home(), ended: false };
            Ok(UpstreamReply { status: head.status, headers: head.headers, body: Box::pin(body) })
        }
        Err(mut error) => Err(match error.take_message() {
            Some(request) => Unsent::Request(Box::new(request)),
            None => Unsent::Lost(BackendError::new(FailedAt::Head, error.into_error())),
        }),
    }
}

/// A reply's body that owns and drives its connection.
struct InlineBody {
    incoming: Incoming,
    connection: Option<Connection>,
    home: Home,
    ended: bool,
}

impl InlineBody {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BackendError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled.map(|frame| frame.map(|f| f.map_err(|e| BackendError::new(FailedAt::Body, e))))
    }
}

impl Body for InlineBody {
    type Data = Bytes;
    type Error = BackendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BackendError>>> {
        let Some(inline) = self.connection.as_ref().map(|connection| connection.inline.clone()) else {
            return self.poll_incoming(cx);
        };
        inline.poll(cx, |cx| {
            if let ready @ Poll::Ready(_) = self.poll_incoming(cx) {
                return ready;
            }
            if let Some(connection) = &mut self.connection {
                let _ended = connection.poll_driver(cx);
            }
            self.poll_incoming(cx)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for InlineBody {
    fn drop(&mut self) {
        // hyper may not poll a body of known length to its `None`. Anything unread closes the
        // connection, which is how an engine learns that its work is not wanted any more.
        if (self.ended || self.incoming.is_end_stream())
            && let Some(connection) = self.connection.take()
        {
            self.home.put(connection);
        }
    }
}
