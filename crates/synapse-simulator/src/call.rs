//! One request in the hands of a wire format: its parts, and the questions every format asks of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;

use crate::behaviour::Behaviour;
use crate::control::Shared;
use crate::fault::Fault;
use crate::options::Engine;
use crate::text::{self, Random};
use crate::tokens::Usage;

/// A request, with the simulator it came to.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) behaviour: &'a Arc<Behaviour>,
    pub(crate) number: u64,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
}

impl Call<'_> {
    pub(crate) fn engine(&self) -> Engine {
        self.shared.options.engine
    }

    /// Whether the path is one of the engine's own, where its own error shape holds.
    pub(crate) fn is_native(&self) -> bool {
        self.path.starts_with("/api/")
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(self.body).map_err(|error| {
            Fault::invalid(format!("We could not parse the JSON body of your request: {error}"))
        })
    }

    /// The served model that a request names.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<String, Fault> {
        self.find_model(name.ok_or_else(|| Fault::missing("model"))?).map(str::to_owned)
    }

    /// Counts a call for generated text, and looks its prompt up in the prefix cache.
    pub(crate) fn usage(&self, model: &str, prompt: &str, completion: u32) -> Usage {
        self.shared.accounts.add(model, prompt, completion, self.behaviour.cache_blocks)
    }

    /// The served model that `name` means.
    pub(crate) fn find_model(&self, name: &str) -> Result<&str, Fault> {
        let served = &self.behaviour.models;
        let found = match self.engine() {
            // One process serves one model, whatever it is called in the request.
            Engine::Tgi => served.first(),
            // A name without a tag means `latest`.
            Engine::Ollama => served
                .iter()
                .find(|model| model.trim_end_matches(":latest") == name.trim_end_matches(":latest")),
            _ => served.iter().find(|model| *model == name),
        };
        found.map(String::as_str).ok_or_else(|| Fault::unknown_model(self.engine(), name))
    }

    /// An identifier nobody else has, the same in every run with the same seed.
    pub(crate) fn id(&self, prefix: &str) -> String {
        let seed = self.shared.options.seed ^ text::hash(prefix.as_bytes());
        let mut random = Random::new(seed.wrapping_add(self.number));
        format!("{prefix}{:016x}{:08x}", random.next(), self.number)
    }

    /// The prompt may not exceed the model's context.
    pub(crate) fn check_context(&self, prompt: u32) -> Result<(), Fault> {
        let limit = self.shared.options.context_length;
        if prompt > limit { Err(Fault::context_length(limit, prompt)) } else { Ok(()) }
    }
}

/// The current time in whole seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}
