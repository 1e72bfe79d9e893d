//! The gateway as the place where a worker's binary comes from.

use std::{io::Write, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail, ensure};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{HeaderValue, RETRY_AFTER},
};
use synapse_core::config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, PemFile, Timeouts};
use synapse_gateway::backend::{
    Backend, ReplyStream, UpstreamBody, UpstreamCall, UpstreamReply,
    http::{HttpBackend, TlsSetup},
};
use synapse_tunnel::worker::ServerUrl;
use tempfile::NamedTempFile;
use tokio::{task::spawn_blocking, time::timeout};

use crate::binary::{Platform, SUM_HEADER, Sum, Summing};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the gateway may take to answer, and to send the next piece.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a download may take.
const TIME: Duration = Duration::from_secs(900);
/// The largest binary.
const MAX_LENGTH: u64 = 1 << 30;
/// What is written at once.
const BATCH: usize = 1 << 20;

/// The gateway's answer to the question for a binary.
pub(super) struct Offered {
    /// What is said of its sum.
    pub(super) sum: Sum,
    body: ReplyStream,
}

/// Where a gateway offers binaries.
pub(super) struct Source {
    transport: HttpBackend,
    path: String,
    server: ServerUrl,
}

impl Source {
    /// The routes of the gateway that is dialled at `server`. What comes unencrypted is taken from a
    /// neighbour only: never from a public address.
    pub(super) fn new(server: &ServerUrl, ca_file: Option<&Path>, hop: &str) -> anyhow::Result<Self> {
        let url =
            BaseUrl { https: server.tls, host: server.host.clone(), port: server.port, path: String::new() };
        let spec = BackendSpec {
            id: "gateway".into(),
            groups: Vec::new(),
            kind: EngineKind::OpenAi,
            url,
            api_key: None,
            locality: Locality::OnPrem,
            is_confined: false,
            timeouts: Timeouts::default(),
            max_in_flight: None,
            ca_file: ca_file.map(PemFile::once),
            is_worker: false,
        };
        let transport =
            HttpBackend::new(&spec, &TlsSetup::default(), hop).map_err(anyhow::Error::from_boxed)?;
        let transport = if server.tls { transport } else { transport.within_house() };
        let platform = Platform::own();
        let (os, arch) = platform.parts();
        let path = format!("{}?os={os}&arch={arch}", server.beside("getclient"));
        Ok(Self { transport, path, server: server.clone() })
    }

    /// The sum of what the gateway offers.
    pub(super) async fn sum(&self) -> anyhow::Result<Sum> {
        Ok(self.ask(Method::HEAD).await?.sum)
    }

    /// The binary that the gateway offers.
    pub(super) async fn open(&self) -> anyhow::Result<Offered> {
        self.ask(Method::GET).await
    }

    async fn ask(&self, method: Method) -> anyhow::Result<Offered> {
        let call = UpstreamCall {
            method,
            path: self.path.clone(),
            headers: HeaderMap::new(),
            body: UpstreamBody::empty(),
            connect_timeout: CONNECT,
            on_fresh_connection: true,
        };
        let answered = timeout(PATIENCE, self.transport.call(call)).await;
        let reply = answered.map_err(|_| anyhow!("the gateway does not answer"))?;
        let reply = reply.with_context(|| {
            let hint =
                if self.server.tls { "" } else { "; over ws://, updates come from private addresses only" };
            format!("{} cannot be asked for a binary{hint}", self.server)
        })?;
        let UpstreamReply { status, headers, body } = reply;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => bail!("the gateway has no binary for {}", Platform::own()),
            StatusCode::SERVICE_UNAVAILABLE => bail!("the gateway is busy{}", later(&headers)),
            status => bail!("the gateway answered {status}"),
        }
        let sum = headers.get(SUM_HEADER).map(HeaderValue::to_str).and_then(Result::ok);
        let sum = sum.and_then(|text| text.parse().ok());
        Ok(Offered { sum: sum.context("the gateway does not tell the binary's SHA-256")?, body })
    }
}

fn later(headers: &HeaderMap) -> String {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or("a few");
    format!("; it asks for {seconds} s")
}

impl Offered {
    /// Writes the binary into a file, which is handed back if it is what was wanted. What is said of it
    /// beforehand counts for nothing.
    pub(super) async fn save(self, file: NamedTempFile, wanted: Sum) -> anyhow::Result<NamedTempFile> {
        let saved = timeout(TIME, save(self.body, file)).await;
        let (file, sum) = saved.map_err(|_| anyhow!("the download took too long"))??;
        ensure!(sum == wanted, "what came is not what was announced: SHA-256 {sum} instead of {wanted}");
        Ok(file)
    }
}

async fn save(mut body: ReplyStream, file: NamedTempFile) -> anyhow::Result<(NamedTempFile, Sum)> {
    let mut state = (file, Summing::default());
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let next = timeout(PATIENCE, body.frame()).await;
        let next = next.map_err(|_| anyhow!("the download has stopped"))?;
        let is_over = next.is_none();
        if let Some(frame) = next {
            let frame = frame.map_err(|error| anyhow!("the download broke: {error}"))?;
            batch.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        if batch.len() >= BATCH || is_over {
            ensure!(state.1.length + batch.len() as u64 <= MAX_LENGTH, "the binary is larger than 1 GiB");
            let (piece, (mut file, mut summing)) = (std::mem::take(&mut batch), state);
            // Away from the calls that this thread serves.
            let writing = spawn_blocking(move || {
                summing.add(&piece);
                file.write_all(&piece)?;
                anyhow::Ok((file, summing))
            });
            state = writing.await?.context("the download cannot be written")?;
        }
        if is_over {
            return Ok((state.0, state.1.sum()));
        }
    }
}
