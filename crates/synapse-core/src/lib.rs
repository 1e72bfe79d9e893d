//! The words Synapse is written in: ids, faults, keys, usage, records, configuration and store
//! traits. Pure data and pure functions: nothing here knows of sockets, runtimes or SQL.

pub mod alert;
pub mod anomaly;
pub mod audit;
pub mod binding;
pub mod config;
pub mod data_class;
pub mod error;
pub mod glob;
mod hex;
pub mod id;
pub mod incident;
pub mod key;
pub mod ledger;
pub mod limits;
pub mod network;
pub mod operation;
pub mod price;
pub mod principal;
pub mod store;
pub mod usage;
pub mod worker;

pub use hex::hex;
