//! Both ends of a tunnel over real sockets, as one test program.
// It tells clippy that helpers, too, are test code.
#![cfg(test)]

mod calls;
mod comings;
mod handshake;
mod kit;
mod networks;
mod peer;
mod sessions;
mod streams;
