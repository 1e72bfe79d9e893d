//! Prometheus metrics: base units, route templates, key teams but never people.

mod count;
mod findings;
mod names;
mod workers;

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::route::fleet::ListedModel;
pub(crate) use workers::Seen;

/// A label's value that is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub Arc<str>);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&&*self.0, encoder)
    }
}

impl<T: Into<Arc<str>>> From<T> for Label {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $(#[doc = "The label of this name."] pub $field: $type,)* }
    )*};
}

labels! {
    /// Of a closed request.
    RequestLabels { operation: &'static str, model: Label, backend: Label, status: u16, team: Label }
    /// Of a request's duration.
    DurationLabels { operation: &'static str, model: Label }
    /// Of time spent in Synapse itself.
    OperationLabel { operation: &'static str }
    /// Of token times.
    ModelBackendLabels { model: Label, backend: Label }
    /// Of token counts.
    TokenLabels { direction: &'static str, model: Label, team: Label }
    /// Of a backend.
    BackendLabel { backend: Label }
    /// Of an attempt.
    AttemptLabels { backend: Label, outcome: &'static str }
        /// Of a step from one backend to the next.
    FallbackLabels { model: Label, from: Label, to: Label }
    /// Of a group.
    GroupLabel { group: Label }
    /// Of a worker, by group and name.
    WorkerLabel { worker: Label }
    /// Of what becomes of a worker's session.
    EventLabel { event: &'static str }
    /// Of a model at a backend.
    ModelStateLabels { backend: Label, model: Label, state: &'static str }
    /// Of a download of a worker's binary.
    DownloadLabels { platform: Label, outcome: &'static str }
    /// Of a request or connection that was refused, or had to give way.
    ReasonLabel { reason: &'static str }
    /// Of a configuration reload or a closed record.
    ResultLabel { result: &'static str }
    /// Of a sink of checkpoints.
    SinkLabel { sink: Label }
    /// Of a checkpoint that was given to a sink.
    SinkLabels { sink: Label, result: &'static str }
    /// Of what was found in texts.
    FindingLabels { category: Label, action: &'static str, direction: &'static str }
    /// Of an alert.
    AlertLabels { rule: &'static str, severity: &'static str }
    /// Of a request that was over a limit.
    LimitLabels { team: Label, limit: &'static str }
    /// Of what models cost.
    CostLabels { model: Label, team: Label }
    /// Of a model.
    ModelLabel { model: Label }
    /// Of a closed record.
    StatusLabel { status: &'static str }
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted.
pub struct Metrics {
    instance: count::Instance,
    backends: names::Names,
    models: names::Names,
    categories: names::Names,
    /// The registry, for the metrics listener.
    pub registry: Registry,
    /// `synapse_requests_total`
    pub requests: Family<RequestLabels, Counter>,
    /// `synapse_request_duration_seconds`
    pub duration: Histograms<DurationLabels>,
    /// `synapse_overhead_seconds`
    pub overhead: Histograms<OperationLabel>,
    /// `synapse_time_to_first_token_seconds`
    pub first_token: Histograms<ModelBackendLabels>,
    /// `synapse_inter_token_seconds`
    pub inter_token: Histograms<ModelBackendLabels>,
    /// `synapse_tokens_total`
    pub tokens: Family<TokenLabels, Counter>,
    /// `synapse_requests_in_flight`
    pub in_flight: Family<BackendLabel, Gauge>,
    /// `synapse_queue_waiting`
    pub queue_waiting: Family<BackendLabel, Gauge>,
    /// `synapse_queue_wait_seconds`
    pub queue_wait: Histograms<OperationLabel>,
    /// `synapse_shed_total`
    pub shed: Family<ReasonLabel, Counter>,
    /// `synapse_attempts_total`
    pub attempts: Family<AttemptLabels, Counter>,
    /// `synapse_fallbacks_total`
    pub fallbacks: Family<FallbackLabels, Counter>,
    /// `synapse_connections_kept_in_house_total`: not made, as the backend's name leads to a public address
    pub leads_outside: Family<BackendLabel, Counter>,
    /// `synapse_backend_up`
    pub backend_up: Family<BackendLabel, Gauge>,
    /// `synapse_backend_queue_depth`
    pub queue_depth: Family<BackendLabel, Gauge>,
    /// `synapse_backend_kv_cache_usage_ratio`
    pub kv_usage: Family<BackendLabel, Gauge<f64, AtomicU64>>,
    /// `synapse_breaker_state`: 0 closed, 1 half-open, 2 open; the worst of a backend's models
    pub breaker: Family<BackendLabel, Gauge>,
    /// `synapse_model_state`: 1 for the state that holds
    pub model_state: Family<ModelStateLabels, Gauge>,
    /// `synapse_audit_records_total`
    pub records: Family<StatusLabel, Counter>,
    /// `synapse_dlp_findings_total`
    pub findings: Family<FindingLabels, Counter>,
    /// `synapse_audit_pending`
    pub audit_pending: Gauge,
    /// `synapse_audit_months_without_place`
    pub audit_months_without_place: Gauge,
    /// `synapse_audit_commit_seconds`
    pub audit_commit: Histogram,
    /// `synapse_audit_lost_total`
    pub audit_lost: Counter,
    /// `synapse_audit_checkpoints_total`: attempts to give one to a sink that were `delivered`, `failed`, or `refused`
    /// for good
    pub checkpoints: Family<SinkLabels, Counter>,
    /// `synapse_audit_checkpoints_waiting`
    pub checkpoints_waiting: Family<SinkLabel, Gauge>,
    /// `synapse_incidents_dropped_total`
    pub incidents_dropped: Counter,
    /// `synapse_alerts_total`
    pub alerts: Family<AlertLabels, Counter>,
    /// `synapse_webhook_deliveries_total`: attempts that were `delivered`, `failed`, or the last one (`dead`)
    pub webhook_deliveries: Family<ResultLabel, Counter>,
    /// `synapse_observations_dropped_total`
    pub observations_dropped: Counter,
    /// `synapse_workers_connected`
    pub workers_connected: Family<GroupLabel, Gauge>,
    /// `synapse_tunnel_streams`
    pub tunnel_streams: Family<WorkerLabel, Gauge>,
    /// `synapse_worker_sessions_total`: `welcomed`, `refused`, `turned_away`, `superseded`, `revoked`, `lost`,
    /// `flapping`
    pub worker_sessions: Family<EventLabel, Counter>,
    /// `synapse_client_downloads_total`: `completed`, `cancelled`, `failed` or `turned_away`
    pub client_downloads: Family<DownloadLabels, Counter>,
    /// `synapse_connections_open`
    pub connections: Gauge,
    /// `synapse_connections_refused_total`: `full`, `source` or `descriptors`; or `idle`, where one
    /// gave way to another
    pub connections_refused: Family<ReasonLabel, Counter>,
    /// `synapse_log_events_dropped_total`
    pub log_dropped: Counter,
    /// `synapse_cost_total`, in the operator's currency
    pub cost: Family<CostLabels, Counter<f64, AtomicU64>>,
    /// `synapse_unpriced_requests_total`
    pub unpriced: Family<ModelLabel, Counter>,
    /// `synapse_rate_limited_total`
    pub rate_limited: Family<LimitLabels, Counter>,
    /// `synapse_limit_errors_total`: `timeout`, `failed`, `refused`, `busy`, `settlement_lost` or `not_saved`
    pub limit_errors: Family<ReasonLabel, Counter>,
    /// `synapse_redis_up`; there is none before Redis was asked for the first time
    pub redis_up: Family<[(&'static str, &'static str); 0], Gauge>,
    /// `synapse_config_reloads_total`
    pub reloads: Family<ResultLabel, Counter>,
}

/// From 1 ms to 10 min; engines are slow, refusals fast.
fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
        300.0, 600.0,
    ])
}

/// From 10 µs to 100 ms: what a gateway may cost.
fn overhead_seconds() -> Histogram {
    Histogram::new([
        0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1,
    ])
}

/// After OpenTelemetry's advice for time per output token.
fn token_seconds() -> Histogram {
    Histogram::new([0.001, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5])
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero, and registered.
    pub fn new() -> Self {
        let mut m = Self {
            instance: count::Instance::default(),
            backends: names::Names::default(),
            models: names::Names::default(),
            categories: names::Names::default(),
            registry: Registry::with_prefix("synapse"),
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            overhead: Family::new_with_constructor(overhead_seconds),
            first_token: Family::new_with_constructor(seconds),
            inter_token: Family::new_with_constructor(token_seconds),
            tokens: Family::default(),
            in_flight: Family::default(),
            queue_waiting: Family::default(),
            queue_wait: Family::new_with_constructor(seconds),
            shed: Family::default(),
            leads_outside: Family::default(),
            attempts: Family::default(),
            fallbacks: Family::default(),
            backend_up: Family::default(),
            queue_depth: Family::default(),
            kv_usage: Family::default(),
            breaker: Family::default(),
            model_state: Family::default(),
            records: Family::default(),
            findings: Family::default(),
            audit_pending: Gauge::default(),
            audit_months_without_place: Gauge::default(),
            audit_commit: seconds(),
            audit_lost: Counter::default(),
            checkpoints: Family::default(),
            checkpoints_waiting: Family::default(),
            incidents_dropped: Counter::default(),
            alerts: Family::default(),
            webhook_deliveries: Family::default(),
            observations_dropped: Counter::default(),
            workers_connected: Family::default(),
            tunnel_streams: Family::default(),
            worker_sessions: Family::default(),
            client_downloads: Family::default(),
            connections: Gauge::default(),
            connections_refused: Family::default(),
            cost: Family::default(),
            unpriced: Family::default(),
            rate_limited: Family::default(),
            limit_errors: Family::default(),
            redis_up: Family::default(),
            reloads: Family::default(),
            log_dropped: Counter::default(),
        };
        m.register();
        m
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let s = Unit::Seconds;
        r.register("requests", "Requests, closed", self.requests.clone());
        r.register_with_unit(
            "request_duration",
            "From arrival to the last byte",
            s.clone(),
            self.duration.clone(),
        );
        r.register_with_unit("overhead", "Time spent in Synapse itself", s.clone(), self.overhead.clone());
        r.register_with_unit(
            "time_to_first_token",
            "From arrival to the first content of a stream",
            s.clone(),
            self.first_token.clone(),
        );
        r.register_with_unit(
            "inter_token",
            "Between two pieces of a stream",
            s.clone(),
            self.inter_token.clone(),
        );
        r.register_with_unit("queue_wait", "Waiting for a place at a backend", s, self.queue_wait.clone());
        r.register("queue_waiting", "Requests waiting for a place at a backend", self.queue_waiting.clone());
        r.register(
            "connections_kept_in_house",
            "Connections not made, as the name of a backend on premises leads to a public address",
            self.leads_outside.clone(),
        );
        r.register("shed", "Requests refused for want of a place, by reason", self.shed.clone());
        r.register("tokens", "Tokens as engines reported them", self.tokens.clone());
        r.register("cost", "What requests cost, in the configured currency", self.cost.clone());
        r.register("unpriced_requests", "Requests to providers without a price", self.unpriced.clone());
        r.register("rate_limited", "Requests refused for a limit or budget", self.rate_limited.clone());
        r.register("limit_errors", "Failures of counting, by reason", self.limit_errors.clone());
        r.register("redis_up", "Whether Redis answers", self.redis_up.clone());
        r.register("requests_in_flight", "Requests at a backend now", self.in_flight.clone());
        r.register("attempts", "Attempts at backends", self.attempts.clone());
        r.register("fallbacks", "Steps to a further backend", self.fallbacks.clone());
        r.register("backend_up", "Whether the last health checks succeeded", self.backend_up.clone());
        r.register("backend_queue_depth", "Requests waiting inside the engine", self.queue_depth.clone());
        r.register(
            "backend_kv_cache_usage_ratio",
            "How full the engine's KV cache is",
            self.kv_usage.clone(),
        );
        r.register("breaker_state", "0 closed, 1 half-open, 2 open", self.breaker.clone());
        r.register("model_state", "1 for the state a model is in", self.model_state.clone());
        r.register("audit_records", "Records closed, by outcome", self.records.clone());
        r.register(
            "audit_pending",
            "Entries of the audit log that the database does not have",
            self.audit_pending.clone(),
        );
        r.register(
            "audit_months_without_place",
            "Months, this one or to come, whose entries have no partition of their own",
            self.audit_months_without_place.clone(),
        );
        r.register_with_unit(
            "audit_commit",
            "How long the database takes for a batch of entries",
            Unit::Seconds,
            self.audit_commit.clone(),
        );
        r.register(
            "audit_lost",
            "Entries that could not be written to the audit log",
            self.audit_lost.clone(),
        );
        r.register(
            "audit_checkpoints",
            "Attempts to give a checkpoint to a sink, by result",
            self.checkpoints.clone(),
        );
        r.register(
            "audit_checkpoints_waiting",
            "Checkpoints that a sink does not have",
            self.checkpoints_waiting.clone(),
        );
        r.register("dlp_findings", "Sensitive data found in prompts and replies", self.findings.clone());
        r.register(
            "incidents_dropped",
            "Incidents that the store could not take in time",
            self.incidents_dropped.clone(),
        );
        r.register("alerts", "Alerts raised, muted ones too", self.alerts.clone());
        r.register(
            "webhook_deliveries",
            "Attempts to tell webhooks of alerts, by result",
            self.webhook_deliveries.clone(),
        );
        r.register(
            "observations_dropped",
            "Requests that nobody could look at for what is unusual",
            self.observations_dropped.clone(),
        );
        r.register("workers_connected", "Workers that have dialled in", self.workers_connected.clone());
        r.register("tunnel_streams", "Calls open through a worker's tunnel", self.tunnel_streams.clone());
        r.register("worker_sessions", "What became of workers' sessions", self.worker_sessions.clone());
        r.register("client_downloads", "Downloads of the worker's binary", self.client_downloads.clone());
        r.register("connections_open", "Connections of callers", self.connections.clone());
        r.register(
            "connections_refused",
            "Connections refused, or closed to make room",
            self.connections_refused.clone(),
        );
        r.register("log_events_dropped", "Log lines that nobody took in time", self.log_dropped.clone());
        r.register("config_reloads", "Configuration reloads", self.reloads.clone());
    }

    /// A backend's name as a counter's label.
    pub fn backend_label(&self, name: &str) -> Label {
        self.backends.label(name)
    }

    /// A model's name as a counter's label.
    pub fn model_label(&self, name: &str) -> Label {
        self.models.label(name)
    }

    /// Drops the series of a backend that has left the fleet.
    pub fn forget_backend(&self, id: &str, models: &[ListedModel]) {
        let label = BackendLabel { backend: Label::from(id) };
        for family in
            [&self.in_flight, &self.queue_waiting, &self.backend_up, &self.queue_depth, &self.breaker]
        {
            family.remove(&label);
        }
        self.kv_usage.remove(&label);
        self.forget_models(id, models, &[]);
    }

    /// Drops the series of models that a backend listed `before` and does not list now.
    pub fn forget_models(&self, backend: &str, before: &[ListedModel], now: &[ListedModel]) {
        let told: Vec<_> = before.iter().filter(|model| model.loaded.is_some()).collect();
        if told.is_empty() {
            return;
        }
        let listed: HashSet<&str> = now.iter().map(|model| model.id.as_str()).collect();
        for model in told.into_iter().filter(|model| !listed.contains(model.id.as_str())) {
            for state in ["loaded", "unloaded"] {
                let (backend, model) = (Label::from(backend), Label::from(model.id.as_str()));
                self.model_state.remove(&ModelStateLabels { backend, model, state });
            }
        }
    }

    /// The metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When formatting fails, which it does not in memory.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
