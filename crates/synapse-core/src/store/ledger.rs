//! Counters that several gateways share.

use async_trait::async_trait;

use crate::ledger::{Amounts, Meter, Verdict};

/// The end of a reservation: what it took is replaced by what was spent.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The reservation.
    pub ticket: u128,
    /// The meters it was made on.
    pub meters: Vec<Meter>,
    /// What it took.
    pub reserved: Amounts,
    /// What is to stay.
    pub spent: Amounts,
}

/// Why shared counters did not count. It never holds their address.
#[derive(Debug, thiserror::Error)]
pub enum SharedLedgerError {
    /// They cannot be reached, or do nothing for anyone now.
    #[error("the shared counters failed: {0}")]
    Unreachable(String),
    /// They answer, and will never do this.
    #[error("the shared counters refuse this: {0}")]
    Refused(String),
}

/// Counters that several gateways share. Whoever asks sets the time limit.
#[async_trait]
pub trait SharedLedger: Send + Sync {
    /// Takes `amounts` from all `meters`, or from none. Places (`Span::Held`) come back by themselves
    /// within a minute unless they are renewed.
    async fn reserve(
        &self,
        ticket: u128,
        meters: &[Meter],
        amounts: &Amounts,
    ) -> Result<Verdict, SharedLedgerError>;

    /// Settles reservations, each for itself, and gives how many were refused. One that is settled already, or
    /// was never made, is passed over.
    async fn settle(&self, settlements: &[Settlement]) -> Result<u64, SharedLedgerError>;

    /// Keeps the places of these reservations, each for itself, and gives how many were refused.
    async fn renew(&self, held: &[(u128, Vec<Meter>)]) -> Result<u64, SharedLedgerError>;

    /// Whether it answers.
    async fn ping(&self) -> Result<(), SharedLedgerError>;
}
