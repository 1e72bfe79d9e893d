//! Configurations, built up from one that suits tests. Written as JSON, which YAML includes.

use serde_json::{Value, json};

use crate::engine::Engine;

/// The key that callers have unless a test says otherwise.
pub const KEY: &str = "sk-integration-test";

/// A configuration in the making.
#[derive(Clone, Debug)]
pub struct Config(Value);

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// No backend yet, free ports, a key, and discovery that is quick to notice changes.
    pub fn new() -> Self {
        Self(json!({
            "server": {"host": "127.0.0.1", "port": 0, "metrics": {"port": 0}},
            "auth": {"static_keys": [{"id": "it", "secret": KEY}]},
            "discovery": {"local": false, "models_s": 0.1, "health_s": 0.1},
            "logs": {"format": "json"},
        }))
    }

    /// With these engines as backends, of which nothing is known but what discovery finds.
    pub fn with(engines: &[&Engine]) -> Self {
        engines.iter().fold(Self::new(), |config, engine| config.backend(engine))
    }

    /// With a public model that these engines serve under the same name, in this order.
    pub fn in_order(model: &str, engines: &[&Engine]) -> Self {
        let places: Vec<_> = (1u32..)
            .zip(engines)
            .map(|(order, engine)| json!({"backend": engine.name(), "model": model, "order": order}))
            .collect();
        Self::with(engines).model(model, &places)
    }

    /// Adds an engine as a backend of its kind.
    #[must_use]
    pub fn backend(self, engine: &Engine) -> Self {
        self.backend_at(engine.name(), engine.kind(), &engine.url())
    }

    /// Adds a backend that no simulator stands for.
    #[must_use]
    pub fn backend_at(self, name: &str, kind: &str, url: &str) -> Self {
        self.push("backends", json!({"name": name, "type": kind, "url": url}))
    }

    /// Adds a public model with its deployments.
    #[must_use]
    pub fn model(self, name: &str, deployments: &[Value]) -> Self {
        self.push("models", json!({"name": name, "deployments": deployments}))
    }

    /// Sets the value at a JSON pointer (`/routing/retries`); sections come into being as needed.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.0;
        for key in pointer.split('/').skip(1) {
            place = match key.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[key],
            };
        }
        *place = value.into();
        self
    }

    /// Appends to a list.
    #[must_use]
    pub fn push(mut self, list: &str, value: Value) -> Self {
        match &mut self.0[list] {
            Value::Array(items) => items.push(value),
            empty => *empty = Value::Array(vec![value]),
        }
        self
    }

    /// The file's text.
    pub fn text(&self) -> String {
        format!("{:#}", self.0)
    }
}
