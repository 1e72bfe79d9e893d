//! Integration tests: the binary as its users meet it, as one test program.
// It tells clippy that helpers, too, are test code.
#![cfg(test)]

mod cli;
