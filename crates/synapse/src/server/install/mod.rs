//! How workers come to their software: `/run` hands out a script that installs it, `/getclient` the
//! binary, and a worker that is older than its gateway is told.

mod binaries;
mod download;
mod newer;
mod origin;
mod script;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    },
};
use synapse_core::{
    config::snapshot::Server,
    error::{Fault, FaultKind},
};
use synapse_gateway::{
    gateway::Gateway,
    metrics::{DownloadLabels, Label},
    stream::body::ReplyBody,
};
use synapse_tunnel::message::{Hello, Notice};
use tokio::sync::Semaphore;

use crate::binary::{Platform, SUM_HEADER};
use binaries::{Binaries, Binary, Offer};
use download::Download;
pub(super) use origin::Asked;

type Reply = Response<ReplyBody>;

/// Downloads at once. After an update a whole fleet comes; the rest is asked to wait.
const MAX_DOWNLOADS: usize = 16;
/// How long whoever finds no place is asked to wait.
const WAIT: Duration = Duration::from_secs(5);

/// What workers are offered.
pub(crate) struct Install {
    gateway: Arc<Gateway>,
    binaries: Arc<Binaries>,
    slots: Arc<Semaphore>,
}

impl Install {
    /// Offers this gateway's own binary, or `own` in its place.
    pub(crate) fn new(gateway: &Arc<Gateway>, own: Option<PathBuf>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(MAX_DOWNLOADS));
        Arc::new(Self { gateway: Arc::clone(gateway), binaries: Binaries::new(own), slots })
    }

    /// `GET /run`: the script.
    ///
    /// # Errors
    /// When the request names no proper host, or there is nothing to install. No message has anything in
    /// it that a shell would run.
    pub(super) async fn script(&self, asked: &Asked<'_>, server: &Server) -> Result<Reply, Fault> {
        let url = origin::base_url(asked, server)?;
        let offer = self.offer(server).await?;
        let mut reply = Response::new(ReplyBody::whole(Bytes::from(script::render(&url, &offer))));
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/x-shellscript; charset=utf-8"));
        attach(headers, "attachment; filename=\"install-client.sh\"");
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(reply)
    }

    /// `GET /getclient?os=…&arch=…`: a binary.
    ///
    /// # Errors
    /// When there is none for the platform, or too many are downloaded at once.
    pub(super) async fn binary(&self, asked: &Asked<'_>, server: &Server) -> Result<Reply, Fault> {
        let offer = self.offer(server).await?;
        let query = asked.uri.query().unwrap_or_default();
        let parameter = |name| query.split('&').filter_map(|p| p.split_once('=')).find(|p| p.0 == name);
        let (os, arch) = (parameter("os"), parameter("arch"));
        let platform = Platform::like_own(os.map(|p| p.1), arch.map(|p| p.1));
        let found = platform.and_then(|platform| Some((offer.find(&platform)?, platform.clone())));
        let (binary, platform) = found.ok_or_else(|| not_offered(&offer))?;
        let etag = format!("\"{}\"", binary.sum);
        let is_known =
            asked.headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
        let body = if is_known { ReplyBody::whole(Bytes::new()) } else { self.download(&platform, binary)? };
        let mut reply = Response::new(body);
        if is_known {
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        attach(headers, "attachment; filename=\"synapse-client\"");
        let sum = HeaderValue::try_from(binary.sum.to_string()).ok();
        headers.extend(sum.map(|sum| (HeaderName::from_static(SUM_HEADER), sum)));
        headers.extend(HeaderValue::try_from(etag).ok().map(|etag| (ETAG, etag)));
        Ok(reply)
    }

    fn download(&self, platform: &Platform, binary: &Binary) -> Result<ReplyBody, Fault> {
        let metrics = Arc::clone(&self.gateway.metrics);
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => Ok(ReplyBody::passing(Download::new(platform, binary, metrics, slot))),
            Err(_) => {
                let labels =
                    DownloadLabels { platform: Label::from(platform.as_str()), outcome: "turned_away" };
                metrics.client_downloads.get_or_create(&labels).inc();
                let message = "Too many workers are downloading at once. Try again.";
                Err(Fault::new(FaultKind::Overloaded, message).retry_after(WAIT))
            }
        }
    }

    /// What a worker should know that is older than this gateway.
    pub(crate) fn newer_version(&self, hello: &Hello) -> Option<Notice> {
        let live = self.gateway.live();
        let offer = || self.binaries.known(live.snapshot.server.client_binaries.as_deref());
        newer::notice(&hello.version, env!("CARGO_PKG_VERSION"), offer)
    }

    async fn offer(&self, server: &Server) -> Result<Arc<Offer>, Fault> {
        let offer = self.binaries.offer(server.client_binaries.as_deref()).await;
        if offer.iter().next().is_some() {
            return Ok(offer);
        }
        let message =
            "This gateway has no binary to install. Its operator can name one with --client-binary.";
        Err(Fault::new(FaultKind::NoClientBinary, message))
    }
}

fn attach(headers: &mut HeaderMap, disposition: &'static str) {
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
}

fn not_offered(offer: &Offer) -> Fault {
    let offered = offer.iter().map(|(platform, _)| {
        let (os, arch) = platform.parts();
        format!("os={os}&arch={arch}")
    });
    let offered: Vec<_> = offered.collect();
    let message = format!("There is no binary for this platform, but for: {}.", offered.join(", "));
    Fault::new(FaultKind::NotFound, message)
}
