//! The access log: one line per closed request. JSON for machines, a short line for people; fields
//! that do not apply are left out.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::Serialize;
use synapse_core::audit::RequestRecord;
use synapse_gateway::audit::RecordSink;

use crate::logs::LogWriter;

/// Writes records as log lines.
pub(crate) struct AccessLog {
    writer: LogWriter,
    pretty: bool,
    on: AtomicBool,
}

impl AccessLog {
    pub(crate) fn new(writer: LogWriter, pretty: bool, on: bool) -> Self {
        Self { writer, pretty, on: AtomicBool::new(on) }
    }

    /// Switches it on or off.
    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }
}

impl RecordSink for AccessLog {
    fn accept(&self, record: &RequestRecord) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let mut line = Vec::with_capacity(512);
        if self.pretty {
            line.extend_from_slice(pretty(record).as_bytes());
        } else if serde_json::to_writer(&mut line, &Line::from(record)).is_err() {
            // Writing to memory does not fail; a line that cannot be written is no reason to fail.
            return;
        }
        line.push(b'\n');
        self.writer.append(&line);
    }
}

#[derive(Serialize)]
struct Line<'r> {
    timestamp: jiff::Timestamp,
    level: &'static str,
    target: &'static str,
    message: &'static str,
    request_id: &'r str,
    route: &'static str,
    status: u16,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<f64>,
    overhead_ms: f64,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'r> From<&'r RequestRecord> for Line<'r> {
    fn from(record: &'r RequestRecord) -> Self {
        let target = &record.target;
        Self {
            timestamp: record.at,
            level: "INFO",
            target: "synapse::access",
            message: "request",
            request_id: record.id.as_str(),
            route: record.route,
            status: record.status,
            outcome: record.outcome.name(),
            code: record.code,
            team: record.actor.team.as_ref().map(|t| t.as_str()),
            key: record.actor.key.as_ref().map(|k| k.as_str()),
            address: record.actor.address,
            model: target.model.as_ref().map(|m| m.as_str()),
            backend: target.backend.as_ref().map(|b| b.as_str()),
            attempts: (target.attempts > 0).then_some(target.attempts),
            stream: target.stream.then_some(true),
            finish_reason: record.finish_reason.as_deref(),
            input_tokens: record.usage.map(|u| u.input_tokens),
            output_tokens: record.usage.map(|u| u.output_tokens),
            duration_ms: milliseconds(record.duration),
            first_token_ms: first_token(record).map(milliseconds),
            overhead_ms: milliseconds(record.overhead),
            bytes_in: record.bytes.0,
            bytes_out: record.bytes.1,
        }
    }
}

fn first_token(record: &RequestRecord) -> Option<Duration> {
    record.first_token.filter(|_| record.target.stream)
}

/// Milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn pretty(record: &RequestRecord) -> String {
    let mut line = format!("{:.3} {} {}", record.at, record.status, record.route);
    // Writing to a string does not fail.
    let mut add = |key: &str, value: Option<&dyn std::fmt::Display>| {
        if let Some(value) = value {
            let _ = write!(line, " {key}={value}");
        }
    };
    let target = &record.target;
    let duration = format!("{:.1}ms", record.duration.as_secs_f64() * 1e3);
    add("outcome", Some(&record.outcome.name()));
    add("code", record.code.as_ref().map(|v| v as _));
    add("model", target.model.as_ref().map(|v| v as _));
    add("backend", target.backend.as_ref().map(|v| v as _));
    add("attempts", Some(&target.attempts).filter(|n| **n > 1).map(|v| v as _));
    add("key", record.actor.key.as_ref().map(|v| v as _));
    add("output_tokens", record.usage.as_ref().map(|u| &u.output_tokens as _));
    add("duration", Some(&duration));
    add("request_id", Some(&record.id));
    line
}
