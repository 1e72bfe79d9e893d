//! The gateway's side: who may come in, who is in, and the way to each.

mod admission;
mod control;
mod flapping;
mod host;
mod hub;
mod session;
mod upgrade;

pub use admission::{Admission, Busy};
pub use hub::{Counters, Hub, HubOptions, Notices};
pub use session::{CallError, Credential, End, FailedAt, Identity, ReplyBody, Session};
pub use upgrade::{Refusal, answer};
