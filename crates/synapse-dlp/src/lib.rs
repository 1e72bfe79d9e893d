//! Data loss prevention: text in, findings out, and the same text with its sensitive parts
//! disguised, whole or as it streams by. Knows nothing of HTTP, of async, or of the rest of Synapse.

mod custom;
mod exfiltration;
mod finding;
pub mod hit;
pub mod identifiers;
mod invisible;
mod policy;
mod redact;
mod scan;
mod secrets;
mod view;
mod window;

pub use custom::{CustomKind, CustomRule, RuleError, exact_hash};
pub use finding::{Action, Category, Direction, Finding};
pub use hit::{CategoryInfo, Certainty, Group, Severity};
pub use policy::{Placeholder, Policy, PolicyError, PolicySpec, Selector, categories};
pub use redact::{Placeholders, PuttingBack, label};
#[cfg(any(test, feature = "samples"))]
pub use secrets::samples;
pub use window::{Step, Window};
