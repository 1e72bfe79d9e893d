//! OpenAI's dialect: what of a request decides its way, what the events of a reply mean, and the
//! shape of errors.

pub mod binding;
pub mod error;
pub mod estimate;
pub mod event;
pub mod media;
pub mod preferences;
pub mod prefix;
mod prompt;
pub mod request;
pub mod stream;
