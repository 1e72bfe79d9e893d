//! The audit log below databases and HTTP: entries are sealed into a [`chain`], kept in a local [`journal`] until
//! a database has them, and vouched for by signed [`checkpoint`]s that are kept outside that database, too.
//!
//! How it goes together: the request path appends to [`journal::Journal`]; a shipper reads entries from it, gives
//! them to the store, pushes them into a [`checkpoint::Checkpointer`], and acknowledges them. A checkpoint goes to
//! the store first and to the sinks second, and one that a sink lacks is given to it again. Verification needs no
//! more than the store's entries, the checkpoints of store and sinks, and the public key.

pub mod anchor;
pub mod chain;
pub mod checkpoint;
pub mod digest;
pub mod files;
pub mod journal;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod sink;
pub mod verify;
