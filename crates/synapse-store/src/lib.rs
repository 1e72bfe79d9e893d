//! Where lasting state lives: implementations of `synapse-core`'s store traits. SQL is written here
//! and nowhere else.

#[cfg(test)]
mod contract;
pub mod lock;
mod private;
pub mod sqlite;
