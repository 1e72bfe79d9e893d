//! Where state lives that outlasts a process or is shared by several: implementations of `synapse-core`'s
//! store traits. SQL and what Redis is told are written here and nowhere else.

mod audit;
#[cfg(test)]
mod contract;
mod listing;
pub mod lock;
pub mod place;
pub mod postgres;
mod private;
mod records;
pub mod redis;
mod rows;
pub mod sqlite;
