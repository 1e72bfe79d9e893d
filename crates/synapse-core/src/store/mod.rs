//! What must last, as narrow traits by consumer. `synapse-store` implements them.

pub mod admin_tokens;
pub mod alerts;
pub mod audit;
pub mod counters;
pub mod incidents;
pub mod keys;
pub mod ledger;
pub mod retention;
pub mod teams;
pub mod worker_keys;

use std::error::Error;

use crate::{binding::Unfit, id::GroupName};

/// A failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has this identifier.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// Such as `team` or `key`.
        kind: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is already a {kind} named {name}")]
    AlreadyExists {
        /// Such as `team` or `key`.
        kind: &'static str,
        /// The taken name.
        name: String,
    },
    /// The value can never be stored; the message names the rule it breaks.
    #[error("{0}")]
    Invalid(String),
    /// The change makes no sense in the present state.
    #[error("{0}")]
    Conflict(String),
    /// The store cannot be used at all. The message says why, and what to do about it.
    #[error("cannot use {place}: {problem}")]
    Unusable {
        /// The file, folder or server, without credentials.
        place: String,
        /// In full sentences, with the remedy.
        problem: String,
        /// What the system said.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The store itself failed.
    #[error("the store failed")]
    Backend(#[source] Box<dyn Error + Send + Sync>),
}

impl From<Unfit> for StoreError {
    fn from(unfit: Unfit) -> Self {
        Self::Invalid(unfit.to_string())
    }
}

/// The longest name of a team or a key, in characters.
pub const MAX_NAME_LEN: usize = 128;

/// Names end up in terminals, logs and metrics, so they are short and printable; any script will do.
fn check_name(kind: &str, name: &str) -> Result<(), StoreError> {
    check_text(&format!("the name of a {kind}"), name)
}

/// The same for any text that an operator gives to something; `what` says which.
fn check_text(what: &str, text: &str) -> Result<(), StoreError> {
    let fine = (1..=MAX_NAME_LEN).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && text.trim() == text;
    let rule = || {
        format!(
            "{what} has 1 to {MAX_NAME_LEN} printable characters, and no space at either end; got {text:?}"
        )
    };
    if fine { Ok(()) } else { Err(StoreError::Invalid(rule())) }
}

fn check_group(group: &GroupName) -> Result<(), StoreError> {
    if group.is_well_formed() {
        return Ok(());
    }
    let rule = format!(
        "the name of a group has 1 to {} printable ASCII characters, and no space at either end; got {group:?}",
        GroupName::MAX_LEN
    );
    Err(StoreError::Invalid(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_printable() {
        let longest = "ü".repeat(MAX_NAME_LEN);
        for good in ["lab", "R & D", "研究室", "'; DROP TABLE teams; --", longest.as_str()] {
            assert!(check_name("team", good).is_ok(), "{good}");
        }
        let too_long = format!("{longest}ü");
        for bad in ["", " ", " lab", "lab\n", "a\0b", "\u{1b}[31mred", too_long.as_str()] {
            assert!(check_name("team", bad).is_err(), "{bad:?}");
        }
    }
}
