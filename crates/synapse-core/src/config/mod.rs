//! Configuration in three types: raw (as written) → validated (every error at once) → a
//! [`snapshot::Snapshot`] that requests hold and reloads replace.

pub mod snapshot;
