//! An inference engine simulator: a server that speaks the wire formats of real engines without any
//! model. It is deterministic by seed, its faults are scripted, and its [`Control`] shows what it saw.
//! It knows nothing of the gateway in front of it.
//!
//! A request is recorded (`control`), routed (`dispatch`), answered by a pure function of its content
//! (`openai`, `ollama`, `engine`), and played back in time (`playback`), where every fault happens.

mod behaviour;
mod call;
mod comeback;
mod control;
mod dispatch;
mod durations;
mod engine;
mod fault;
mod generation;
mod interruption;
mod ledger;
mod ollama;
mod openai;
mod options;
mod playback;
mod prefix;
mod reply;
mod residents;
mod schema;
mod server;
mod slots;
mod socket;
mod steer;
mod text;
mod timeline;
mod tokens;

pub use behaviour::{Behaviour, ForcedStatus, Health};
pub use comeback::RetryForm;
pub use control::{Control, InvalidChange};
pub use interruption::{ByteRange, Interruption, InterruptionKind, Point, Stage};
pub use ledger::{Counters, Outcome, Recorded};
pub use options::{Engine, Options, UnknownEngine};
pub use server::Simulator;
pub use timeline::Step;
pub use tokens::Totals;
