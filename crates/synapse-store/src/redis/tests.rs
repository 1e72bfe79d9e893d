//! Counters on a real Redis.
