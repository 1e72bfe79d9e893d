//! The validated, immutable configuration. The request path reads nothing else.

mod alerts;
mod audit;
mod dlp;
mod outside;
mod sinks;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;

pub use alerts::{Anomaly, Calendar, Repeated, UsageSpike, Watch, Webhook, WebhookFormat};
pub use audit::{Audit, Durability};
pub use dlp::{Dlp, DlpAction, DlpMatcher, DlpPolicy, DlpRule, DlpSeverity};
pub use outside::{OutsideUrl, SigningSecret};
pub use sinks::{CheckpointSink, S3Bucket, SinkKind, SinkWebhook, SyslogAddress};

use super::ExternalUrl;
pub use super::address::IpNet;
use crate::{
    binding::Binding,
    data_class::DataClasses,
    glob::Glob,
    id::{BackendId, GroupName, KeyId},
    price::Prices,
    principal::Principal,
};

/// Everything that a configuration file says, checked and with defaults filled in.
#[derive(Debug)]
pub struct Snapshot {
    /// The listener.
    pub server: Server,
    /// Where state lives.
    pub data_dir: PathBuf,
    /// `sqlite://…`; by default a file in `data_dir`.
    pub database_url: Option<SecretString>,
    /// `redis://…` or `rediss://…`, where gateways hold limits together.
    pub redis_url: Option<SecretString>,
    /// How limits are counted.
    pub counting: Counting,
    /// What models cost.
    pub prices: Arc<Prices>,
    /// Who may call.
    pub auth: Auth,
    /// How sensitive traffic can be.
    pub data_classes: DataClasses,
    /// Engines and providers.
    pub backends: Vec<Arc<BackendSpec>>,
    /// Public model names.
    pub models: Vec<Arc<ModelSpec>>,
    /// How a request finds its backend.
    pub routing: Routing,
    /// The search for sensitive data.
    pub dlp: Dlp,
    /// What is kept of requests.
    pub audit: Audit,
    /// What counts as unusual.
    pub anomaly: Anomaly,
    /// Where alerts go.
    pub webhooks: Vec<Webhook>,
    /// How engines are watched.
    pub discovery: Discovery,
    /// What is logged.
    pub logs: Logs,
    /// What is accepted, but deserves a word.
    pub warnings: Vec<String>,
}

/// The listener and its limits.
#[derive(Clone, Debug)]
pub struct Server {
    /// A name or address; `localhost` binds both families.
    pub host: String,
    /// 0 picks a free port.
    pub port: u16,
    /// PEM files; both or none.
    pub tls: Option<TlsFiles>,
    /// The metrics listener; `None` switches it off.
    pub metrics: Option<(String, u16)>,
    /// Limit for JSON bodies, in bytes.
    pub max_body_bytes: usize,
    /// Limit for multipart uploads, in bytes.
    pub max_upload_bytes: u64,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Open connections at once; by default as many as the process can bear.
    pub max_connections: Option<usize>,
    /// Open connections at once from one address.
    pub max_connections_per_ip: Option<usize>,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Networks whose `X-Forwarded-…` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The URL that others reach the gateway by, where it is told.
    pub external_url: Option<ExternalUrl>,
    /// A folder of binaries for workers.
    pub client_binaries: Option<PathBuf>,
    /// How long SIGTERM lets open requests finish.
    pub drain_grace: Duration,
    /// Whether replies name the backend and the number of attempts.
    pub reveal_backend: bool,
    /// Origins that browsers may call from; empty switches CORS off.
    pub cors_origins: Vec<String>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Who may call.
#[derive(Clone, Debug)]
pub struct Auth {
    /// With keys, or everyone.
    pub mode: AuthMode,
    /// Keys of the operator's own spelling, from flags or files; the last one with a secret counts.
    pub static_keys: Vec<StaticKey>,
    /// Who callers are while nobody is asked for a key.
    pub open: Arc<Principal>,
    /// The same for workers.
    pub worker_keys: Vec<StaticWorkerKey>,
}

/// Whether a key is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Every call needs a key.
    Keys,
    /// Nobody is asked. Only by explicit choice.
    Open,
}

/// A key of the operator's own spelling; it belongs to team `default`.
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// Its name in records.
    pub id: KeyId,
    /// What callers send.
    pub secret: SecretString,
    /// The group whose backends and workers it reaches.
    pub group: GroupName,
    /// The models it may use.
    pub models: Vec<Glob>,
    /// What else it decides for its callers.
    pub binding: Arc<Binding>,
}

/// How limits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// While Redis cannot be reached.
    pub on_redis_failure: OnRedisFailure,
    /// Tokens of reply that are reserved where a request does not say how many it wants.
    pub assumed_output_tokens: u32,
}

/// What happens to requests with limits while Redis cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRedisFailure {
    /// They are refused.
    Closed,
    /// Each gateway counts for itself.
    Open,
}

/// A worker's key of the operator's own spelling. It allows no engine outside the house.
#[derive(Clone, Debug)]
pub struct StaticWorkerKey {
    /// Its name in records.
    pub id: KeyId,
    /// What workers send.
    pub secret: SecretString,
    /// The group that its workers join.
    pub group: GroupName,
}

/// What speaks at the other end; decides discovery, health, load signals and quirks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Any OpenAI-compatible server or provider.
    OpenAi,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp's `llama-server`.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// Hugging Face Text Generation Inference.
    Tgi,
    /// `trtllm-serve`.
    TensorRtLlm,
}

impl EngineKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::OpenAi, Self::Vllm, Self::Sglang, Self::LlamaCpp, Self::Ollama, Self::Tgi, Self::TensorRtLlm];

    /// The spelling in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama-cpp",
            Self::Ollama => "ollama",
            Self::Tgi => "tgi",
            Self::TensorRtLlm => "tensorrt-llm",
        }
    }

    /// The kind that is spelled so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Whether traffic to a backend leaves the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Locality {
    /// The operator's own machines.
    OnPrem,
    /// Somebody else's.
    Cloud,
}

impl Locality {
    /// The name in configuration and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnPrem => "on_prem",
            Self::Cloud => "cloud",
        }
    }
}

/// One engine or provider.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// Its name, unique.
    pub id: BackendId,
    /// The groups whose keys reach it.
    pub groups: Vec<GroupName>,
    /// Whether it is a worker that has dialled in, and not something configured or found.
    pub is_worker: bool,
    /// What speaks there.
    pub kind: EngineKind,
    /// Where it listens.
    pub url: BaseUrl,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<SecretString>,
    /// Whether traffic to it leaves the house.
    pub locality: Locality,
    /// Whether it may be reached at private addresses only: its name looks like one of the house, but
    /// nobody has said that it is.
    pub is_confined: bool,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Requests at once; `None` has no bound of ours.
    pub max_in_flight: Option<u32>,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PemFile>,
}

/// A PEM file, and what it held when the configuration was read: by that a change shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it held.
    pub text: String,
}

impl PemFile {
    /// One that is read once, so that its changes do not matter.
    pub fn once(path: &Path) -> Self {
        Self { path: path.to_owned(), text: String::new() }
    }
}

/// An `http(s)` base URL, taken apart once. `path` has no trailing slash: `""`, `/v1`, `/api/v1`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// Whether to speak TLS.
    pub https: bool,
    /// A name or an address (IPv6 without brackets).
    pub host: String,
    /// Explicit or the scheme's own.
    pub port: u16,
    /// As described above.
    pub path: String,
}

impl BaseUrl {
    /// The path without a trailing `/v1`: where engines keep `/health` and `/metrics`.
    pub fn root_path(&self) -> &str {
        self.path.strip_suffix("/v1").unwrap_or(&self.path)
    }

    /// `host[:port]` as the `Host` header spells it.
    pub fn authority(&self) -> String {
        let usual = if self.https { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the first content of a stream; a plain reply has all of `total`.
    pub first_token: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
    /// For the whole request, all attempts together.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// A public model name and where it is served.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// What callers ask for. May be a glob (`openai/*`); the first `*` is carried over into the
    /// deployments' names.
    pub name: Glob,
    /// Further names for the same.
    pub aliases: Vec<Glob>,
    /// Where it is served; lower `order` first.
    pub deployments: Vec<Deployment>,
    /// Public names to try when every deployment failed.
    pub fallbacks: Vec<String>,
    /// Public names to try when a request is too long for this model.
    pub context_fallbacks: Vec<String>,
    /// Values, in JSON, for parameters that a request leaves open.
    pub defaults: Arc<[(&'static str, String)]>,
}

/// A model at a backend.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Which backend.
    pub backend: BackendId,
    /// The backend's own name for the model; may carry a `*`.
    pub model: Glob,
    /// Lower is tried first; equals share the load.
    pub order: u32,
    /// The share among equals.
    pub weight: u32,
    /// Where they differ from the backend's.
    pub timeouts: Option<Timeouts>,
}

/// How a request finds its backend.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// How equals share the load.
    pub strategy: Strategy,
    /// Whether a conversation stays at the backend that has its beginning in its cache.
    pub prefix_affinity: bool,
    /// Attempts after the first.
    pub retries: u32,
    /// Retries as a share of live traffic.
    pub retry_budget: f64,
    /// When a backend is left alone.
    pub breaker: Breaker,
    /// The next order serves when a request would wait for longer than this at the one before.
    pub spill_after: Duration,
    /// How long a backend that takes up work again needs to get its full share.
    pub slow_start: Duration,
    /// Where requests wait for a backend that is at its `max_in_flight`.
    pub queue: Queue,
}

/// Where requests wait for a backend.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Requests that may wait per backend; 0 refuses at once.
    pub max_waiting: u32,
    /// How long one may wait.
    pub max_wait: Duration,
    /// What the bodies of all waiting requests may take together, in bytes.
    pub max_bytes: u64,
}

/// How deployments of the same order share the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The less loaded of two picked at random.
    LeastLoaded,
    /// In turn.
    RoundRobin,
    /// At random by weight.
    Weighted,
    /// The one that has begun to answer fastest lately.
    Latency,
}

/// When a backend is left alone, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// Consecutive failures that open it.
    pub failures: u32,
    /// How long it stays open at most before one probe.
    pub open_for: Duration,
    /// The share of requests that must succeed, of those of the last half minute.
    pub success_rate: f64,
}

/// How engines are watched.
#[derive(Clone, Copy, Debug)]
pub struct Discovery {
    /// Whether to look for engines on this machine's usual ports.
    pub local: bool,
    /// Between two looks at a backend's models.
    pub models_every: Duration,
    /// Between two health checks and load readings.
    pub health_every: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter.
    pub level: String,
    /// Pretty, JSON, or by whether stderr is a terminal.
    pub format: LogFormat,
    /// One line per request.
    pub access: bool,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}
