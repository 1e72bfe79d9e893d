//! The configuration as users write it. The JSON Schema and `docs/config.md` are made from these
//! types, so every comment here is user documentation. Fields that a file must have are `Option`
//! all the same: a broken one is reported and left out, and the checks go on.

mod alerts;
mod audit;
mod binding;
mod dlp;
mod limits;
mod prices;
mod routing;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::id::GroupName;

pub(super) use alerts::{AlertSeverity, Alerts, Anomaly, Day, RuleName, WebhookFormat};
pub(super) use audit::{Audit, CheckpointSinks, Digests, Durability, S3Sink, WebhookSink};
pub(super) use binding::{Binding, DataClass, Defaults, KeyLimits, Unscannable};
pub(super) use dlp::{Dlp, DlpAction, DlpBase, DlpPlaceholder, DlpRule, DlpSeverity};
pub(super) use limits::{Limits, OnRedisFailure};
pub(super) use prices::{ModelPrice, Prices};
pub(super) use routing::{Affinity, Routing, Strategy};

/// The configuration of a Synapse gateway. Every key is optional unless marked required.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(
    title = "Synapse configuration",
    extend("x-planned" = ["speech", "telemetry"])
)]
pub(super) struct Config {
    /// The listener and its limits.
    pub(super) server: Server,
    /// The folder for everything that must last. Created on first start.
    #[schemars(length(min = 1), extend("default" = "./data"))]
    pub(super) data_dir: Option<String>,
    /// Where keys and teams are kept.
    pub(super) database: Database,
    /// Redis, for limits that several gateways hold together.
    pub(super) redis: Option<Redis>,
    /// How limits are counted. What they are is said of keys and teams.
    pub(super) limits: Limits,
    /// What models cost.
    pub(super) prices: Prices,
    /// Who may call.
    pub(super) auth: Auth,
    /// How sensitive traffic can be, the least sensitive class first; keys name one of them. Default:
    /// `non_sensitive`, which may go anywhere, and `sensitive`, which stays on premises.
    pub(super) data_classes: Vec<DataClass>,
    /// Engines and providers.
    pub(super) backends: Vec<Backend>,
    /// Public model names. A backend's own models are found by discovery and need no entry.
    pub(super) models: Vec<Model>,
    /// How a request finds its backend.
    pub(super) routing: Routing,
    /// Groups: keys, workers and backends that belong together. A key reaches exactly the backends
    /// and workers of its own group. What names no group is in `default`. Any other that a backend or
    /// a static key names must stand here, even if all its keys are issued ones.
    pub(super) groups: Vec<Group>,
    /// The search for sensitive data in prompts and replies.
    pub(super) dlp: Dlp,
    /// What is kept of every request, provably.
    pub(super) audit: Audit,
    /// What counts as unusual. Nothing of it stands in the way of a request: alerts tell people.
    pub(super) anomaly: Anomaly,
    /// Where alerts go.
    pub(super) alerts: Alerts,
    /// How engines are found and watched.
    pub(super) discovery: Discovery,
    /// What is logged, and how.
    pub(super) logs: Logs,
}

/// A text that is never shown: written out, as `${NAME}`, or as `file:/path`.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
pub(super) struct Secret(pub(super) SecretString);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1, "writeOnly": true})
    }
}

/// The listener and its limits.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    /// The name or address to listen on. `localhost` binds both families, `0.0.0.0` every interface.
    #[schemars(length(min = 1))]
    pub(super) host: String,
    /// The port to listen on; 0 picks a free one.
    pub(super) port: u16,
    /// Serves TLS with these files.
    pub(super) tls: Option<Tls>,
    /// The listener for Prometheus, apart from the public one.
    pub(super) metrics: Metrics,
    /// The largest JSON body, in MiB.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) max_body_mb: u32,
    /// The largest multipart upload, in MiB.
    #[schemars(range(min = 1, max = 10_240))]
    pub(super) max_upload_mb: u32,
    /// How long a request's body may take to arrive, in seconds. Within it, no pause may be longer
    /// than 30 s.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(super) body_timeout_s: f64,
    /// Open connections at once. When all are taken, those that have been idle longest give way.
    /// Default: half of what the process may open, 16384 at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_connections: Option<u32>,
    /// Open connections at once from one address (IPv6: one /64 network), trusted proxies aside.
    /// Default: not limited.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_connections_per_ip: Option<u32>,
    /// Requests at once on one HTTP/2 connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) max_streams: u32,
    /// Networks (CIDR) or addresses whose `X-Forwarded-For`, `-Host` and `-Proto` are believed.
    pub(super) trusted_proxies: Vec<String>,
    /// The URL that others reach the gateway by, such as `https://gateway.example.com`; the script of
    /// `/run` names it. Default: what each request says of its host.
    #[schemars(length(min = 1))]
    pub(super) external_url: Option<String>,
    /// A folder of binaries that `/getclient` offers to workers, named `synapse-OS-ARCH`, such as
    /// `synapse-linux-aarch64` or `synapse-darwin-aarch64`. The gateway offers its own anyway.
    #[schemars(length(min = 1))]
    pub(super) client_binaries: Option<String>,
    /// How long a shutdown lets open requests finish, in seconds.
    #[schemars(range(min = 0, max = 86_400))]
    pub(super) drain_grace_s: f64,
    /// Whether replies name the backend, the number of attempts and the receipt.
    pub(super) response_headers: bool,
    /// Origins that browsers may call from, such as `https://app.example.com`, or `*`. Empty
    /// switches CORS off.
    pub(super) cors_origins: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 8080,
            tls: None,
            metrics: Metrics::default(),
            max_body_mb: 32,
            max_upload_mb: 200,
            body_timeout_s: 600.0,
            max_connections: None,
            max_connections_per_ip: None,
            max_streams: 100,
            trusted_proxies: Vec::new(),
            external_url: None,
            client_binaries: None,
            drain_grace_s: 30.0,
            response_headers: true,
            cors_origins: Vec::new(),
        }
    }
}

/// TLS files.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// The certificate chain, leaf first: a PEM file.
    #[schemars(required, length(min = 1))]
    pub(super) cert: Option<String>,
    /// The private key: a PEM file.
    #[schemars(required, length(min = 1))]
    pub(super) key: Option<String>,
}

/// The listener for Prometheus.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    /// Whether there is one.
    pub(super) enabled: bool,
    /// The name or address to listen on.
    #[schemars(length(min = 1))]
    pub(super) host: String,
    /// The port to listen on; 0 picks a free one.
    pub(super) port: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, host: "127.0.0.1".to_owned(), port: 9464 }
    }
}

/// Where keys and teams are kept.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Database {
    /// `sqlite://FILE`, or `postgres://USER:PASSWORD@HOST:5432/DATABASE`. Default: a SQLite file in `data_dir`.
    #[serde(skip_serializing)]
    pub(super) url: Option<Secret>,
}

/// Redis.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    /// `redis://…` or `rediss://…`.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(super) url: Option<Secret>,
}

/// Who may call.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    /// Whether a key is needed.
    pub(super) mode: AuthMode,
    /// Keys of your own spelling, besides those that `synapse key create` issues. They belong to
    /// team `default`.
    pub(super) static_keys: Vec<StaticKey>,
    /// What all callers are bound to while `mode` is `open`.
    pub(super) open: Binding,
}

/// Whether a key is needed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuthMode {
    /// Every call needs a key.
    #[default]
    Keys,
    /// Nobody is asked.
    Open,
}

/// A key of your own spelling.
// Serde cannot refuse unknown fields beside flattened ones; the reader has done it by the schema before.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct StaticKey {
    /// Its name in records and metrics.
    #[schemars(required, length(min = 1, max = 128))]
    pub(super) id: Option<String>,
    /// What callers send.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(super) secret: Option<Secret>,
    /// The group whose backends and workers it reaches: `default`, or one of `groups`.
    #[serde(default = "default_group")]
    #[schemars(length(min = 1, max = 128))]
    pub(super) group: String,
    /// Globs over the models that it may use.
    #[serde(default = "every_model")]
    pub(super) models: Vec<String>,
    /// What else it decides for its callers.
    #[serde(flatten)]
    pub(super) binding: Binding,
}

fn default_group() -> String {
    GroupName::DEFAULT.to_owned()
}

fn every_model() -> Vec<String> {
    vec!["*".to_owned()]
}

/// One engine or provider.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backend {
    /// Its name, unique among backends. Deployments, metrics and records use it.
    #[schemars(required, length(min = 1, max = 128))]
    pub(super) name: Option<String>,
    /// The groups whose keys reach it: `default`, or any of `groups`.
    #[serde(default = "default_groups")]
    #[schemars(length(min = 1))]
    pub(super) groups: Vec<String>,
    /// What speaks there; decides discovery, health checks and load signals.
    #[serde(rename = "type", default)]
    pub(super) kind: EngineType,
    /// The base URL, `http` or `https`. One without a path means `/v1`.
    #[schemars(required, length(min = 1))]
    pub(super) url: Option<String>,
    /// Sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing)]
    pub(super) api_key: Option<Secret>,
    /// Whether traffic to it stays in the house. Default: `on_prem` for private addresses and
    /// local names, `cloud` otherwise.
    #[serde(default)]
    pub(super) locality: Option<Locality>,
    /// How long to wait for what.
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    /// Requests at once; without it there is no limit.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_in_flight: Option<u32>,
    /// A PEM file with certificate authorities to trust besides the system's.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) ca_file: Option<String>,
}

fn default_groups() -> Vec<String> {
    vec![default_group()]
}

/// What speaks at a backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(extend("x-planned" = [
    "azure-openai", "anthropic", "gemini", "chatterbox", "faster-whisper", "pyannote", "deepfilter",
    "openai-audio", "grpc"
]))]
pub(super) enum EngineType {
    /// Any OpenAI-compatible server or provider.
    #[default]
    Openai,
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
    TensorrtLlm,
}

/// Whether traffic stays in the house.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Locality {
    /// Your own machines.
    OnPrem,
    /// Somebody else's.
    Cloud,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Timeouts {
    /// For a connection, TLS included, in seconds. Default: 5.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(super) connect_s: Option<f64>,
    /// For the first content of a stream, in seconds; a plain reply has all of `total_s`. Default: 60.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(super) first_token_s: Option<f64>,
    /// Between two pieces of a stream, in seconds. Default: 60.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(super) idle_s: Option<f64>,
    /// For the whole request, all attempts together, in seconds. Default: 600.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(super) total_s: Option<f64>,
}

/// A public model name and where it is served.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    /// What callers ask for. May be a glob (`openai/*`), whose first `*` is carried over into the
    /// deployments' names.
    #[schemars(required, length(min = 1, max = 256))]
    pub(super) name: Option<String>,
    /// Further names for the same.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    /// Where it is served.
    #[schemars(required, length(min = 1))]
    pub(super) deployments: Option<Vec<Deployment>>,
    /// Public names to try, in this order, when every deployment failed.
    #[serde(default)]
    pub(super) fallbacks: Vec<String>,
    /// Public names to try, in this order, when a request is too long for this model's context.
    #[serde(default)]
    pub(super) context_fallbacks: Vec<String>,
    /// Values for what chats, completions and responses leave open. The bounds of a key hold all the same.
    #[serde(default)]
    pub(super) defaults: Defaults,
}

/// A model at a backend.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deployment {
    /// The backend's name.
    #[schemars(required, length(min = 1))]
    pub(super) backend: Option<String>,
    /// The backend's own name for the model.
    #[schemars(required, length(min = 1))]
    pub(super) model: Option<String>,
    /// Lower is tried first; equals share the load.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) order: u32,
    /// The share among equals; 0 takes none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) weight: u32,
    /// Where they differ from the backend's, which are the default here.
    #[serde(default)]
    pub(super) timeouts: Option<Timeouts>,
}

fn one() -> u32 {
    1
}

/// Keys, workers and backends that belong together.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Its name, unique among groups. `default` may be written, too.
    #[schemars(required, length(min = 1, max = 128))]
    pub(super) name: Option<String>,
    /// What its workers present to connect, besides keys that `synapse worker-key create` issues. These
    /// never allow an engine outside the house.
    #[serde(default, skip_serializing)]
    pub(super) ws_auth_keys: Vec<Secret>,
    /// What its callers present, for all models, besides keys that `synapse key create` issues. They
    /// belong to team `default`.
    #[serde(default, skip_serializing)]
    pub(super) api_keys: Vec<Secret>,
    /// What each of `api_keys` decides for its callers.
    #[serde(default)]
    pub(super) binding: Binding,
}

/// How engines are found and watched.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Discovery {
    /// Whether to look for engines on this machine's usual ports. Default: only when no backend is
    /// configured.
    pub(super) local: Option<bool>,
    /// How often a backend's models are read, in seconds.
    #[schemars(range(min = 0.1, max = 86_400))]
    pub(super) models_s: f64,
    /// How often a backend's health and load are read, in seconds.
    #[schemars(range(min = 0.1, max = 86_400))]
    pub(super) health_s: f64,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { local: None, models_s: 30.0, health_s: 5.0 }
    }
}

/// What is logged, and how.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Logs {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; or a filter such as `info,hyper=warn`.
    #[schemars(length(min = 1))]
    pub(super) level: String,
    /// The shape of a line.
    pub(super) format: LogFormat,
    /// Whether each request is a line.
    pub(super) access: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default(), access: true }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}
