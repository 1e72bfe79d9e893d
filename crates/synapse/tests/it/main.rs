//! Integration tests: the binary as its users meet it, as one test program.
// It tells clippy that helpers, too, are test code.
#![cfg(test)]

mod admin;
mod admission;
mod alerts;
mod audit;
mod bad_input;
mod binding;
mod chat;
mod classes;
mod cli;
mod cli_bound;
mod dice;
mod disconnects;
mod discovery;
mod dlp;
mod drain;
mod endpoints;
mod errors;
mod failover;
mod frames;
mod groups;
mod hostile;
mod install;
mod keys;
mod limits;
mod litellm;
mod load;
mod models;
mod postgres;
mod prove;
mod records;
mod redis;
mod reload;
mod routing;
mod sinks;
mod smuggling;
mod start;
mod streams;
mod tidy;
mod transport;
mod tunnel;
mod update;
mod worker;
