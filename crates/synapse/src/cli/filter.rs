//! The filters that all listings of what happened have.

use clap::Args;
use jiff::Timestamp;
use synapse_core::id::{KeyId, TeamName};

use super::time::past;

/// When, and whose.
#[derive(Args, Debug)]
pub(super) struct SliceArgs {
    /// Since a time (2026-01-31, 2026-01-31T12:00:00Z), or for so long (24h, 7d)
    #[arg(long, value_name = "TIME", value_parser = past)]
    pub(super) since: Option<Timestamp>,
    /// Before a time, or until so long ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    pub(super) until: Option<Timestamp>,
    /// Only of this team
    #[arg(long)]
    pub(super) team: Option<TeamName>,
    /// Only of this key
    #[arg(long)]
    pub(super) key: Option<KeyId>,
}
