//! Wire formats: reading just enough of a body to route it, editing it without rewriting it, and
//! taking event streams apart. Pure functions over bytes; nothing here does I/O.

mod bounded;
pub mod json;
pub mod multipart;
pub mod openai;
pub mod peek;
mod scan;
mod skim;
pub mod sse;
pub mod walk;
