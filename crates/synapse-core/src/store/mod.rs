//! What must last, as narrow traits by consumer. `synapse-store` implements them.

pub mod keys;
pub mod teams;

use std::error::Error;

/// A failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has this identifier.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// `team` or `key`.
        kind: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is already a {kind} named {name}")]
    AlreadyExists {
        /// `team` or `key`.
        kind: &'static str,
        /// The taken name.
        name: String,
    },
    /// The change makes no sense in the present state.
    #[error("{0}")]
    Conflict(String),
    /// The store itself failed.
    #[error("the store failed: {0}")]
    Backend(#[source] Box<dyn Error + Send + Sync>),
}
