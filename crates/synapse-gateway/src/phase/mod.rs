//! The phases of a request, in order: authenticate → receive → bind → admit → inspect → journal → attempt → deliver.
//! What a phase returns is the proof that it ran: only it can make that type.

pub mod admit;
pub mod attempt;
pub mod authenticate;
pub mod bind;
pub mod deliver;
pub mod inspect;
pub mod journal;
pub mod receive;
mod refusal;
