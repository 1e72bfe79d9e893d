//! Where state lives that outlasts a process or is shared by several: implementations of `synapse-core`'s
//! store traits. SQL and what Redis is told are written here and nowhere else.

#[cfg(test)]
mod contract;
pub mod lock;
mod private;
pub mod redis;
pub mod sqlite;
