//! Data loss prevention: text in, findings out, and the same text with its sensitive parts
//! disguised, whole or as it streams by. Knows nothing of HTTP, of async, or of the rest of Synapse.

pub mod hit;
pub mod identifiers;
