//! A kit for tests that meet the gateway as its users do: the real binary as a process, simulated
//! engines behind it, and a caller in front of it. It holds no expectations of its own, but it
//! panics when what a test relies on does not come about.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a kit fails the test it is used in, and says why"
)]

mod answer;
mod bucket;
mod certificate;
mod client;
mod config;
mod connection;
mod engine;
mod events;
mod gateway;
mod logs;
mod metrics;
mod postgres;
mod reception;
mod redis;
mod relay;
mod script;
mod wait;
mod worker;

pub use answer::Answer;
pub use bucket::Bucket;
pub use certificate::Authority;
pub use client::Client;
pub use config::{Config, KEY};
pub use connection::{Connection, Protocol};
pub use engine::Engine;
pub use events::Events;
pub use gateway::{Gateway, Setup};
pub use logs::Logs;
pub use metrics::Samples;
pub use postgres::Postgres;
pub use reception::Reception;
pub use redis::Redis;
pub use relay::{Passing, Relay};
pub use script::Script;
pub use wait::{poll, within};
pub use worker::Worker;
