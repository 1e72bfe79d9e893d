//! The record that accepts a request: without it, no engine is asked.

use synapse_core::error::Fault;

use super::inspect::Cleared;
use crate::audit::Record;

/// A call that the audit log knows of.
pub struct Accepted {
    pub(super) cleared: Cleared,
}

/// Writes the record that accepts the call.
///
/// # Errors
/// `audit_unavailable`.
pub async fn journal(cleared: Cleared, record: &mut Record) -> Result<Accepted, Fault> {
    record.accept().await?;
    Ok(Accepted { cleared })
}
