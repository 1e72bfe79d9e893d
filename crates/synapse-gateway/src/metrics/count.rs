//! Counting a closed request. Finding a metric by its labels costs more than counting, and the same
//! labels come again and again: each core remembers what it counted last.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use synapse_core::audit::RequestRecord;

use super::{
    CostLabels, DurationLabels, Metrics, ModelBackendLabels, ModelLabel, OperationLabel, RequestLabels,
    StatusLabel, TokenLabels,
};

/// Sets of labels that a core remembers.
const REMEMBERED: usize = 32;

static INSTANCES: AtomicUsize = AtomicUsize::new(0);

/// Tells several registries in one process apart.
#[derive(Debug)]
pub(super) struct Instance(usize);

impl Default for Instance {
    fn default() -> Self {
        Self(INSTANCES.fetch_add(1, Ordering::Relaxed))
    }
}

/// Everything that is counted of a request with these labels.
struct Counted {
    instance: usize,
    labels: RequestLabels,
    /// The same in metrics, where names beyond a bound are not told apart.
    told_apart: RequestLabels,
    requests: Counter,
    /// Requests that never found their operation have no more than a count.
    times: Option<Times>,
}

struct Times {
    duration: Histogram,
    overhead: Histogram,
    /// What not every request has comes into being with the first that has it.
    first_token: OnceCell<Histogram>,
    tokens: OnceCell<[Counter; 2]>,
    cost: OnceCell<Counter<f64, AtomicU64>>,
}

thread_local! {
    /// The one used last comes first.
    static RECENT: RefCell<Vec<Rc<Counted>>> = const { RefCell::new(Vec::new()) };
}

/// The labels of a record, not yet copied.
#[derive(Clone, Copy)]
struct Borrowed<'r> {
    operation: &'static str,
    model: &'r str,
    backend: &'r str,
    status: u16,
    team: &'r str,
}

impl<'r> Borrowed<'r> {
    fn of(record: &'r RequestRecord) -> Self {
        let target = &record.target;
        let backend = target.backend.as_ref().map_or("", |b| b.as_str());
        // Only names that exist may become labels: anything else would let callers fill memory.
        let model = target.pattern.as_ref().or(target.model.as_ref()).filter(|_| !backend.is_empty());
        Self {
            operation: target.operation.map_or("", |o| o.name()),
            model: model.map_or("", |m| m.as_str()),
            backend,
            status: record.status,
            team: record.actor.team.as_ref().map_or("", |t| t.as_str()),
        }
    }

    fn is(&self, labels: &RequestLabels) -> bool {
        self.status == labels.status
            && *self.model == *labels.model.0
            && *self.backend == *labels.backend.0
            && *self.team == *labels.team.0
            && self.operation == labels.operation
    }

    fn to_owned(self) -> RequestLabels {
        RequestLabels {
            operation: self.operation,
            model: self.model.into(),
            backend: self.backend.into(),
            status: self.status,
            team: self.team.into(),
        }
    }
}

/// More tokens than any request has: an engine that claims them must not turn a counter over.
const MOST_TOKENS: u64 = u32::MAX as u64;

impl Metrics {
    /// Counts a closed request.
    pub fn count(&self, record: &RequestRecord) {
        let counted = self.remembered(Borrowed::of(record));
        counted.requests.inc();
        self.records.get_or_create(&StatusLabel { status: record.outcome.name() }).inc();
        let Some(times) = &counted.times else { return };
        times.duration.observe(record.duration.as_secs_f64());
        times.overhead.observe(record.overhead.as_secs_f64());
        if let Some(first) = record.first_token.filter(|_| record.target.stream) {
            let histogram = times.first_token.get_or_init(|| self.first_token_of(&counted.told_apart));
            histogram.observe(first.as_secs_f64());
        }
        if let Some(cost) = record.cost {
            times.cost.get_or_init(|| self.cost_of(&counted.told_apart)).inc_by(cost.units());
        }
        if record.unpriced {
            let model = counted.told_apart.model.clone();
            self.unpriced.get_or_create(&ModelLabel { model }).inc();
        }
        if let Some(usage) = record.usage.filter(|_| !record.is_estimate) {
            let [input, output] = times.tokens.get_or_init(|| self.tokens_of(&counted.told_apart));
            input.inc_by(usage.input_tokens.min(MOST_TOKENS));
            output.inc_by(usage.output_tokens.min(MOST_TOKENS));
        }
    }

    fn remembered(&self, labels: Borrowed<'_>) -> Rc<Counted> {
        RECENT.with_borrow_mut(|recent| {
            let known =
                recent.iter().position(|known| known.instance == self.instance.0 && labels.is(&known.labels));
            match known {
                Some(at) => recent[..=at].rotate_right(1),
                None => {
                    recent.truncate(REMEMBERED - 1);
                    recent.insert(0, Rc::new(self.look_up(labels.to_owned())));
                }
            }
            Rc::clone(&recent[0])
        })
    }

    fn look_up(&self, labels: RequestLabels) -> Counted {
        let told_apart = RequestLabels {
            model: self.model_label(&labels.model.0),
            backend: self.backend_label(&labels.backend.0),
            ..labels.clone()
        };
        let (operation, model) = (labels.operation, &told_apart.model);
        let times = || Times {
            duration: self.duration.get_or_create_owned(&DurationLabels { operation, model: model.clone() }),
            overhead: self.overhead.get_or_create_owned(&OperationLabel { operation }),
            first_token: OnceCell::new(),
            tokens: OnceCell::new(),
            cost: OnceCell::new(),
        };
        Counted {
            instance: self.instance.0,
            requests: self.requests.get_or_create_owned(&told_apart),
            times: (!operation.is_empty()).then(times),
            labels,
            told_apart,
        }
    }

    fn first_token_of(&self, labels: &RequestLabels) -> Histogram {
        let (model, backend) = (labels.model.clone(), labels.backend.clone());
        self.first_token.get_or_create_owned(&ModelBackendLabels { model, backend })
    }

    fn tokens_of(&self, labels: &RequestLabels) -> [Counter; 2] {
        ["input", "output"].map(|direction| {
            let (model, team) = (labels.model.clone(), labels.team.clone());
            self.tokens.get_or_create_owned(&TokenLabels { direction, model, team })
        })
    }

    fn cost_of(&self, labels: &RequestLabels) -> Counter<f64, AtomicU64> {
        let (model, team) = (labels.model.clone(), labels.team.clone());
        self.cost.get_or_create_owned(&CostLabels { model, team })
    }

    /// The gaps of the streams of a model at a backend.
    pub fn gaps(&self, model: &str, backend: &str) -> Histogram {
        let labels =
            ModelBackendLabels { model: self.model_label(model), backend: self.backend_label(backend) };
        self.inter_token.get_or_create_owned(&labels)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use synapse_core::{audit::Actor, id::RequestId, operation::Operation, usage::Usage};

    use super::*;
    use crate::audit::{RecordSink, Records};

    struct Nowhere;

    impl RecordSink for Nowhere {
        fn accept(&self, _: &RequestRecord) {}
    }

    #[test]
    fn an_engine_that_claims_any_number_does_not_turn_a_counter_over() {
        let metrics = Arc::new(Metrics::new());
        let records = Records::new(Arc::clone(&metrics), Arc::new(Nowhere), None);
        for input_tokens in [7, u64::MAX, u64::MAX] {
            let mut record = records.open(RequestId::from("r"), "/v1/chat/completions", Actor::default());
            record.target(|target| {
                (target.operation, target.model) = (Some(Operation::Chat), Some("m".into()));
            });
            let usage = Usage { input_tokens, ..Usage::default() };
            record.end(|end| (end.status, end.usage) = (200, Some(usage)));
            record.close();
        }
        let text = metrics.encode().expect("text");
        let lines: Vec<_> = text.lines().filter(|line| line.contains("direction=\"input\"")).collect();
        assert!(lines.iter().any(|line| line.ends_with(" 8589934597")), "{lines:?}");
    }
}
