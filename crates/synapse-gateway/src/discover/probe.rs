//! Small questions to a backend, with a time limit and a size limit.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method};
use serde_json::Value;
use synapse_core::config::snapshot::BackendSpec;

use crate::{
    backend::{Backend, FailedAt, UpstreamBody, UpstreamCall},
    route::fleet::BackendHandle,
};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("{0}")]
    Failed(#[from] crate::backend::BackendError),
    #[error("it answered {0}")]
    Status(u16),
    #[error("its answer is longer than {} MiB", MAX_ANSWER / 1024 / 1024)]
    TooLong,
    #[error("its answer is not what its API promises: {0}")]
    Shape(&'static str),
}

/// Asks one backend.
pub(super) struct Probe {
    pub(super) spec: Arc<BackendSpec>,
    transport: Arc<dyn Backend>,
}

impl Probe {
    pub(super) fn new(handle: &BackendHandle) -> Self {
        Self { spec: Arc::clone(&handle.spec), transport: Arc::clone(&handle.transport) }
    }

    /// A path below the base URL without its `/v1`.
    pub(super) fn root(&self, path: &str) -> String {
        format!("{}{path}", self.spec.url.root_path())
    }

    /// A path below the OpenAI-compatible base.
    pub(super) fn api(&self, path: &str) -> String {
        crate::route::paths::openai(&self.spec, path)
    }

    /// The body of a successful answer.
    pub(super) async fn get(&self, path: String) -> Result<Bytes, ProbeError> {
        let call = |on_fresh_connection| UpstreamCall {
            method: Method::GET,
            path: path.clone(),
            headers: HeaderMap::new(),
            body: UpstreamBody::empty(),
            connect_timeout: self.spec.timeouts.connect,
            on_fresh_connection,
        };
        let asked = async {
            let mut reply = match self.transport.call(call(false)).await {
                Err(error) if error.at == FailedAt::Stale => self.transport.call(call(true)).await?,
                reply => reply?,
            };
            if !reply.status.is_success() {
                return Err(ProbeError::Status(reply.status.as_u16()));
            }
            let mut answer = BytesMut::new();
            while let Some(frame) = reply.body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    answer.extend_from_slice(&data);
                }
                if answer.len() > MAX_ANSWER {
                    return Err(ProbeError::TooLong);
                }
            }
            Ok(answer.freeze())
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| ProbeError::TimedOut)?
    }

    /// A successful answer in JSON.
    pub(super) async fn json(&self, path: String) -> Result<Value, ProbeError> {
        serde_json::from_slice(&self.get(path).await?).map_err(|_| ProbeError::Shape("not JSON"))
    }
}
