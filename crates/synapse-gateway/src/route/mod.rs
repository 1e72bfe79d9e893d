//! From a public model name to the backend that serves the next attempt: the fleet of backends, the
//! catalogue of models, the order of attempts and the choice among equals, and the line of those who
//! wait for a place.

pub mod admission;
mod average;
pub mod breaker;
pub mod budget;
pub mod catalog;
pub mod endpoint;
pub mod fleet;
pub mod paths;
pub mod plan;
pub mod reach;
pub mod realm;
pub(crate) mod report;
mod standing;
mod strategy;
#[cfg(test)]
mod testing;
mod window;
