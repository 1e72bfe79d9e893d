//! Prometheus' text format, as far as engines use it here: counters and gauges with one label or none.

use std::fmt::{Display, Write as _};

use crate::reply::Reply;

/// A page of metrics.
#[derive(Default)]
pub(super) struct Exposition {
    page: String,
    labels: String,
}

impl Exposition {
    /// A page on which every metric has this label.
    pub(super) fn labelled(name: &str, value: &str) -> Self {
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
        Self { page: String::new(), labels: format!("{{{name}=\"{value}\"}}") }
    }

    pub(super) fn gauge(self, name: &str, help: &str, value: impl Display) -> Self {
        self.metric("gauge", name, help, value)
    }

    pub(super) fn counter(self, name: &str, help: &str, value: impl Display) -> Self {
        self.metric("counter", name, help, value)
    }

    fn metric(mut self, kind: &str, name: &str, help: &str, value: impl Display) -> Self {
        let labels = &self.labels;
        // Writing to a string cannot fail.
        let _ = writeln!(self.page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}");
        self
    }

    pub(super) fn reply(self) -> Reply {
        Reply::bytes("text/plain; version=0.0.4; charset=utf-8", self.page)
    }
}
