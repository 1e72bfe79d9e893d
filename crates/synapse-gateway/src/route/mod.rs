//! From a public model name to the backend that serves the next attempt: the fleet of backends, the
//! catalogue of models, and the choice among candidates.

pub mod breaker;
pub mod budget;
pub mod catalog;
pub mod endpoint;
pub mod fleet;
pub mod paths;
pub mod plan;
