//! Round trips over real sockets: every test starts its own simulator and talks to it as a caller does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers may stop at the first surprise too")]

mod audio;
mod capacity;
mod client;
mod control;
mod discovery;
mod faults;
mod generation;
mod ollama;
mod responses;
mod timeline;
mod vectors;
