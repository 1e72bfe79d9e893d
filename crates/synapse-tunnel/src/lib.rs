//! Both ends of a worker's connection. A worker dials out to the gateway by WebSocket; inside that
//! byte stream they speak HTTP/2 with the roles reversed, so that a worker is to the gateway one more
//! HTTP server. `docs/tunnel.md` is the protocol. Nothing here knows of stores, configuration files
//! or routes of the gateway.

pub mod body;
pub mod gateway;
mod lines;
mod link;
pub mod message;
mod proof;
pub mod protocol;
pub mod socket;
mod tasks;
pub mod worker;
