//! What is kept of requests.

use std::time::Duration;

use super::{Check, raw, seconds, sinks};
use crate::config::snapshot::{Audit, Durability};

pub(super) fn check(raw: raw::Audit, check: &mut Check<'_>) -> Audit {
    let plain_digests = matches!(raw.digests, raw::Digests::Sha256);
    if raw.enabled && plain_digests {
        check.warn(
            "/audit/digests",
            "whoever can read the audit log can guess short prompts from their SHA-256; `hmac` prevents that",
        );
    }
    Audit {
        enabled: raw.enabled,
        durability: match raw.durability {
            raw::Durability::Journal => Durability::Journal,
            raw::Durability::Fsync => Durability::Fsync,
            raw::Durability::Database => Durability::Database,
        },
        plain_digests,
        journal_bytes: raw.journal_mb << 20,
        max_wait: seconds(raw.max_wait_s),
        retention: (raw.retention_days > 0)
            .then(|| Duration::from_secs(u64::from(raw.retention_days) * 86_400)),
        checkpoint_file: raw.checkpoint_file.map(Into::into),
        sinks: sinks::check(raw.checkpoints, check),
    }
}
