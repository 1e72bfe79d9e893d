//! An inference engine simulator: a server that speaks the wire formats of real engines without any
//! model. It is deterministic by seed, its faults are scripted, and its [`Control`] shows what it saw.
//! It knows nothing of the gateway in front of it.
//!
//! A request is recorded (`control`), routed (`dispatch`), answered by a pure function of its content
//! (`openai`, `ollama`, `engine`), and played back in time (`playback`), where every fault happens.

mod behaviour;
mod call;
mod control;
mod dispatch;
mod engine;
mod fault;
mod generation;
mod ledger;
mod ollama;
mod openai;
mod options;
mod playback;
mod reply;
mod residents;
mod schema;
mod server;
mod socket;
mod steer;
mod text;
mod tokens;

pub use behaviour::{Behaviour, ForcedStatus, Health, Interruption, InterruptionKind};
pub use control::Control;
pub use ledger::{Counters, Outcome, Recorded};
pub use options::{Engine, Options, UnknownEngine};
pub use server::Simulator;
