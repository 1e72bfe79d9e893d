//! The search for sensitive data in what passes: prompts before any engine sees them, replies before the
//! caller does. What is sensitive, and what becomes of it, is the business of `synapse-dlp`.

mod document;
pub mod policies;
pub(crate) mod reply;
mod tally;
mod words;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use synapse_core::{
    error::{Fault, FaultKind},
    usage::Usage,
};
use synapse_dlp::{Direction, Placeholders, Policy};
use tokio::{sync::Semaphore, task::spawn_blocking};

pub(crate) use document::{Document, Verdict};
pub(crate) use tally::{Tally, direction_name};
pub(crate) use words::Words;

/// Texts above this size are searched on threads of their own, so that no core stalls; in bytes.
const LARGE: usize = 64 * 1024;

/// What is found in one request under one policy. The request keeps the version of the policy that it began
/// with.
pub(crate) struct Inspection {
    pub(crate) policy: Arc<Policy>,
    /// How many large texts are searched at once, for all requests.
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

/// What the prompt leaves behind for the reply.
pub(crate) struct State {
    /// Which placeholder stands for which value.
    pub(crate) placeholders: Placeholders,
    /// What was found so far.
    pub(crate) tally: Tally,
    /// What a reply has cost that was stopped before the caller got any of it.
    pub(crate) usage: Option<Usage>,
}

impl Inspection {
    /// For a request under this policy; `None` where it looks for nothing.
    pub(crate) fn new(policy: Arc<Policy>, places: &Arc<Semaphore>) -> Option<Arc<Self>> {
        let is_active = Direction::ALL.into_iter().any(|direction| policy.is_active(direction));
        is_active.then(|| {
            let placeholders = Placeholders::new(&policy);
            let state = Mutex::new(State { placeholders, tally: Tally::default(), usage: None });
            Arc::new(Self { policy, places: Arc::clone(places), state })
        })
    }

    /// Runs a search of a text of so many bytes where it holds up nobody. Its place is kept until it ends, even if
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// Those of the search, and `dlp_failed`.
    pub(crate) async fn search<T: Send + 'static>(
        self: &Arc<Self>,
        size: usize,
        search: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        if size <= LARGE {
            return search(self);
        }
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| failed().source(error))?;
        let inspection = Arc::clone(self);
        let searched = spawn_blocking(move || {
            let _place = place;
            search(&inspection)
        });
        searched.await.map_err(|error| failed().source(error))?
    }

    /// Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a search. One that fails is no search: where the policy redacts or blocks, nothing passes; elsewhere
    /// `unsearched` does.
    ///
    /// # Errors
    /// Those of the search, and `dlp_failed`.
    pub(crate) fn guarded<T>(
        &self,
        direction: Direction,
        unsearched: T,
        search: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        catch_unwind(AssertUnwindSafe(search)).unwrap_or_else(|_| {
            tracing::error!(policy = self.policy.name(), "the search for sensitive data failed");
            if self.policy.rewrites(direction) { Err(failed()) } else { Ok(unsearched) }
        })
    }

    /// The fault for what a policy blocks. It names categories, never what was found.
    pub(crate) fn blocked(&self, direction: Direction) -> Fault {
        let state = self.state();
        let blocking = state.tally.blocking(direction);
        let names: Vec<&str> = blocking.iter().map(|entry| entry.category.as_str()).collect();
        let (kind, what, remedy) = match direction {
            Direction::Prompt => (FaultKind::DlpBlocked, "request", " Remove it and send the request again."),
            Direction::Reply => (FaultKind::DlpResponseBlocked, "reply", ""),
        };
        let message = format!(
            "The {what} holds data that the policy `{}` does not let pass: {}.{remedy}",
            self.policy.name(),
            names.join(", "),
        );
        let findings: Vec<serde_json::Value> = state.tally.summary(direction);
        let mut fault =
            Fault::new(kind, message).detail("incident_id", state.tally.id()).detail("findings", findings);
        if let Some(path) = blocking.first().and_then(|entry| entry.paths.first()) {
            fault = fault.param(path.clone());
        }
        fault
    }
}

/// Where the policy demands a search that cannot be made.
pub(crate) fn failed() -> Fault {
    Fault::new(FaultKind::DlpFailed, "The search for sensitive data failed, and the policy demands it.")
}
