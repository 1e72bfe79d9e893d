//! One download of a binary: read piece by piece as it goes out, for a limited time, and counted.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use synapse_gateway::{
    backend::{Segment, UpstreamBody},
    metrics::{DownloadLabels, Label, Metrics},
};
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};

use super::binaries::Binary;
use crate::binary::Platform;

/// How long one may take: nobody keeps the place of another for ever.
const TIME: Duration = Duration::from_secs(600);

/// The body of a download.
pub(super) struct Download {
    pieces: UpstreamBody,
    time: Pin<Box<Sleep>>,
    left: u64,
    count: Count,
    _slot: OwnedSemaphorePermit,
}

impl Download {
    pub(super) fn new(
        platform: &Platform,
        binary: &Binary,
        metrics: Arc<Metrics>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            pieces: UpstreamBody::segments([Segment::File(Arc::clone(&binary.file), 0..binary.length)]),
            time: Box::pin(tokio::time::sleep(TIME)),
            left: binary.length,
            count: Count { metrics, platform: platform.as_str().into(), outcome: None },
            _slot: slot,
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        this.count.outcome.get_or_insert("cancelled");
        if this.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let next = ready!(Pin::new(&mut this.pieces).poll_frame(cx));
        match &next {
            Some(Ok(frame)) => this.left -= frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(error)) => {
                tracing::warn!(%error, "a worker's binary cannot be read");
                this.count.outcome = Some("failed");
            }
            None => {}
        }
        if this.left == 0 {
            this.count.outcome = Some("completed");
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Counts a download when it ends. One that nobody has asked for (a HEAD) does not count.
struct Count {
    metrics: Arc<Metrics>,
    platform: Label,
    outcome: Option<&'static str>,
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome {
            let labels = DownloadLabels { platform: self.platform.clone(), outcome };
            self.metrics.client_downloads.get_or_create(&labels).inc();
        }
    }
}
