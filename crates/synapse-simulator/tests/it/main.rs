//! Round trips over real sockets: every test starts its own simulator and talks to it as a caller does.

mod client;
mod control;
mod discovery;
mod generation;
mod ollama;
mod vectors;
