//! The audit log as its callers see it.
// It tells clippy that helpers, too, are test code.
#![cfg(test)]

mod chains;
mod failing;
mod journal;
mod sinks;
mod texts;
mod verification;
