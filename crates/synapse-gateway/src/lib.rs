//! The request path: from a caller's request to an engine's reply. `pipeline` is the place to
//! start reading.

pub mod audit;
pub mod backend;
pub mod discover;
pub mod drain;
pub mod gateway;
pub mod health;
pub mod inspect;
pub mod limits;
pub mod metrics;
pub mod models;
pub mod phase;
pub mod pipeline;
pub mod respond;
pub mod route;
pub mod stream;
pub mod tasks;
pub mod workers;
