//! HTTP engines and providers: a pooled HTTP/1.1 client per backend. A connection is polled inside
//! the response body that it carries, without a task of its own; for streams that costs a third of
//! what a client with connection tasks does, and back-pressure and cancellation come for free.

mod connect;
mod exchange;
mod inline;
mod pool;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use hyper::{
    HeaderMap, Request, Uri,
    header::{AUTHORIZATION, HOST, HeaderName, HeaderValue},
};
use secrecy::ExposeSecret;
use synapse_core::{
    config::snapshot::{BackendSpec, Locality},
    id::BackendId,
};

pub use connect::{LeadsOutside, TlsSetup};
pub use pool::{pin_shard, set_shards};

use super::{Backend, BackendError, FailedAt, UpstreamBody, UpstreamCall, UpstreamReply};
use connect::Connector;
use exchange::Unsent;
use pool::Pool;

/// The header by which gateways recognise a request that has passed them before.
pub const HOP_HEADER: HeaderName = HeaderName::from_static("x-synapse-hop");

/// A kept-alive connection that turns out to be dead does so within this time. What takes longer, the
/// engine has worked on.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A backend that is reached by HTTP/1.1.
pub struct HttpBackend {
    id: BackendId,
    connector: Connector,
    pool: Arc<Pool>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    hop: HeaderValue,
}

impl HttpBackend {
    /// A client for the backend that `spec` describes; it connects with the first call. `hop` is
    /// this gateway's instance id.
    ///
    /// # Errors
    /// When the key or the host cannot stand in a header, or the CA file cannot be used.
    pub fn new(
        spec: &BackendSpec,
        tls: &TlsSetup,
        hop: &str,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let authorization = spec.api_key.as_ref().map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))?;
            value.set_sensitive(true);
            Ok::<_, hyper::header::InvalidHeaderValue>(value)
        });
        Ok(Self {
            id: spec.id.clone(),
            connector: Connector::new(spec, tls)?,
            pool: Pool::new(),
            host: HeaderValue::from_str(&spec.url.authority())?,
            authorization: authorization.transpose()?,
            hop: HeaderValue::from_str(hop)?,
        })
    }

    /// The same, but it connects to no address outside the house, whatever the host's name leads to.
    #[must_use]
    pub fn within_house(mut self) -> Self {
        self.connector.stay_in_house();
        self
    }

    /// Where the latest connection led to; `None` before the first.
    pub fn reached(&self) -> Option<Locality> {
        self.connector.reached()
    }

    fn request(&self, call: UpstreamCall) -> Result<Request<UpstreamBody>, BackendError> {
        let mut request = Request::new(call.body);
        *request.method_mut() = call.method;
        *request.uri_mut() = Uri::try_from(call.path).map_err(|e| BackendError::new(FailedAt::Connect, e))?;
        *request.headers_mut() = call.headers;
        self.add_own_headers(request.headers_mut());
        Ok(request)
    }

    fn add_own_headers(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, self.host.clone());
        headers.append(HOP_HEADER, self.hop.clone());
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
    }
}

#[async_trait]
impl Backend for HttpBackend {
    fn id(&self) -> &BackendId {
        &self.id
    }

    async fn call(&self, call: UpstreamCall) -> Result<UpstreamReply, BackendError> {
        let timeout = call.connect_timeout;
        let use_idle = !call.on_fresh_connection;
        let mut request = self.request(call)?;
        // An idle connection may die just as it is taken. What was not sent goes to the next one.
        while let Some((connection, taken)) = self.pool.checkout().filter(|_| use_idle) {
            match exchange::start(connection, request, &self.pool).await {
                Ok(reply) => return Ok(reply),
                Err(Unsent::Request(unsent)) => request = *unsent,
                Err(Unsent::Lost(mut error)) => {
                    if taken.elapsed() < AT_ONCE {
                        error.at = FailedAt::Stale;
                    }
                    return Err(error);
                }
            }
        }
        // Boxed, as it is seldom needed and large.
        let connect = Box::pin(tokio::time::timeout(timeout, self.connector.connect()));
        let connection =
            connect.await.map_err(|_| BackendError::new(FailedAt::Connect, "no connection in time"))??;
        match exchange::start(connection, request, &self.pool).await {
            Ok(reply) => Ok(reply),
            Err(Unsent::Request(_)) => {
                Err(BackendError::new(FailedAt::Connect, "the new connection was closed at once"))
            }
            Err(Unsent::Lost(error)) => Err(error),
        }
    }
}
