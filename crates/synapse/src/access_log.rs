//! The access log: one line per closed request. JSON for machines, a short line for people; fields
//! that do not apply are left out.

use std::{
    cell::RefCell,
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::Timestamp;
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
        let line = if self.pretty { pretty(record).into_bytes() } else { json(record) };
        self.writer.append(&line);
    }
}

/// A record as JSON, on one line.
fn json(record: &RequestRecord) -> Vec<u8> {
    let target = &record.target;
    let mut line = Line(Vec::with_capacity(640));
    line.timestamp(r#"{"timestamp":""#, record.at);
    line.word(r#","level":"INFO","target":"synapse::access","message":"request""#);
    line.text(r#","request_id":"#, Some(record.id.as_str()));
    line.text(r#","route":"#, Some(record.route));
    line.value(r#","status":"#, Some(record.status));
    line.text(r#","outcome":"#, Some(record.outcome.name()));
    line.text(r#","code":"#, record.code);
    line.text(r#","team":"#, record.actor.team.as_ref().map(|t| t.as_str()));
    line.text(r#","key":"#, record.actor.key.as_ref().map(|k| k.as_str()));
    line.value(r#","address":"#, record.actor.address);
    line.text(r#","model":"#, target.model.as_ref().map(|m| m.as_str()));
    line.text(r#","backend":"#, target.backend.as_ref().map(|b| b.as_str()));
    line.value(r#","attempts":"#, (target.attempts > 0).then_some(target.attempts));
    line.value(r#","stream":"#, target.stream.then_some(true));
    line.text(r#","data_class":"#, target.data_class.as_ref().map(|class| class.as_str()));
    line.value(r#","prompt_version":"#, target.prompt.as_ref().map(|prompt| prompt.version));
    line.text(r#","prompt_sha256":"#, target.prompt.as_ref().map(|prompt| &*prompt.digest));
    line.text(r#","finish_reason":"#, record.finish_reason.as_deref());
    line.value(r#","input_tokens":"#, record.usage.map(|u| u.input_tokens));
    line.value(r#","output_tokens":"#, record.usage.map(|u| u.output_tokens));
    line.value(r#","usage_estimated":"#, record.is_estimate.then_some(true));
    if let Some(cost) = record.cost {
        line.word(r#","cost":"#);
        line.word(&cost.to_string());
    }
    line.text(r#","incident":"#, record.incident.as_ref().map(|i| i.id.as_str()));
    line.milliseconds(r#","duration_ms":"#, Some(record.duration));
    line.milliseconds(r#","first_token_ms":"#, first_token(record));
    line.milliseconds(r#","overhead_ms":"#, Some(record.overhead));
    line.value(r#","bytes_in":"#, Some(record.bytes.0));
    line.value(r#","bytes_out":"#, Some(record.bytes.1));
    line.word("}\n");
    line.0
}

/// A JSON line that grows member by member; those without a value are left out. Every request writes one,
/// which is why names come with their punctuation, and why most values take a way shorter than serde's.
struct Line(Vec<u8>);

impl Line {
    fn word(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, name: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.word(name);
            // Numbers, addresses and text can be written, and memory takes them.
            let _ = serde_json::to_writer(&mut self.0, &value);
        }
    }

    fn text(&mut self, name: &str, text: Option<&str>) {
        let Some(plain) = text.filter(|text| is_plain(text)) else { return self.value(name, text) };
        self.word(name);
        self.0.push(b'"');
        self.word(plain);
        self.0.push(b'"');
    }

    /// With three decimals at most, and one at least.
    fn milliseconds(&mut self, name: &str, time: Option<Duration>) {
        let Some(time) = time else { return };
        let micros = time.as_micros();
        self.value(name, Some(u64::try_from(micros / 1000).unwrap_or(u64::MAX)));
        self.decimals((micros % 1000) as u32, 3, 1);
    }

    fn timestamp(&mut self, name: &str, at: Timestamp) {
        self.word(name);
        // Before 1970, parts of a second count backwards; no clock of use is there.
        let at = at.max(Timestamp::UNIX_EPOCH);
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != at.as_second() || text.is_empty() {
                *second = at.as_second();
                let whole = Timestamp::from_second(*second).unwrap_or(at);
                *text = whole.to_string();
                text.pop();
            }
            self.word(text);
        });
        self.decimals(at.subsec_nanosecond().unsigned_abs(), 9, 0);
        self.word("Z\"");
    }

    /// The point and what follows it, without zeros behind that are more than `least` digits.
    fn decimals(&mut self, mut part: u32, mut digits: usize, least: usize) {
        let mut text = *b".000000000";
        while digits > least && part.is_multiple_of(10) {
            (part, digits) = (part / 10, digits - 1);
        }
        for digit in text[1..=digits].iter_mut().rev() {
            *digit += (part % 10) as u8;
            part /= 10;
        }
        if digits > 0 {
            self.0.extend_from_slice(&text[..=digits]);
        }
    }
}

thread_local! {
    /// A second, and how it is written, without the `Z`.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((0, String::new())) };
}

/// Whether the text stands in JSON as it is. Without early exit: this way it takes many at a time.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'))
}

fn first_token(record: &RequestRecord) -> Option<Duration> {
    record.first_token.filter(|_| record.target.stream)
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
    add("class", target.data_class.as_ref().map(|v| v as _));
    add("key", record.actor.key.as_ref().map(|v| v as _));
    add("output_tokens", record.usage.as_ref().map(|u| &u.output_tokens as _));
    add("duration", Some(&duration));
    add("request_id", Some(&record.id));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use synapse_core::{
        audit::{Actor, Outcome, PromptMark, Target},
        id::RequestId,
        usage::Usage,
    };

    use super::*;

    fn record() -> RequestRecord {
        RequestRecord {
            id: RequestId::accept(b"id-1").expect("an id"),
            at: Timestamp::UNIX_EPOCH,
            route: "GET /x",
            actor: Actor::default(),
            target: Target::default(),
            outcome: Outcome::Completed,
            status: 200,
            code: None,
            finish_reason: None,
            usage: None,
            is_estimate: false,
            cost: None,
            unpriced: false,
            duration: Duration::ZERO,
            first_token: None,
            overhead: Duration::ZERO,
            receiving: Duration::ZERO,
            upstream: Duration::ZERO,
            bytes: (0, 0),
            incident: None,
        }
    }

    fn text(record: &RequestRecord) -> String {
        String::from_utf8(json(record)).expect("text")
    }

    #[test]
    fn a_line_has_every_field_that_applies_and_no_other() {
        let mut full = record();
        full.code = Some("some_code");
        full.actor.address = Some("10.0.0.1".parse().expect("an address"));
        let prompt = Some(PromptMark { version: 3, digest: "ab".into() });
        full.target = Target { attempts: 2, stream: true, prompt, ..Target::default() };
        full.target.data_class = Some("sensitive".into());
        full.finish_reason = Some("a \"b\" \\ \n \u{1} \u{7f} é".to_owned());
        full.usage = Some(Usage { input_tokens: 3, output_tokens: 4, cached_tokens: 0 });
        full.is_estimate = true;
        full.cost = Some("0.0025".parse().expect("an amount"));
        full.first_token = Some(Duration::from_micros(1500));
        full.bytes = (5, u64::MAX);
        let line = |extra: &[(&str, Value)]| {
            let mut line = json!({
                "timestamp": "1970-01-01T00:00:00Z", "level": "INFO", "target": "synapse::access",
                "message": "request", "request_id": "id-1", "route": "GET /x", "status": 200,
                "outcome": "completed",
            });
            for (name, value) in extra {
                line[name] = value.clone();
            }
            format!("{line}\n")
        };
        let zero = || json!(0.0);
        assert_eq!(
            text(&record()),
            line(&[
                ("duration_ms", zero()),
                ("overhead_ms", zero()),
                ("bytes_in", json!(0)),
                ("bytes_out", json!(0))
            ])
        );
        assert_eq!(
            text(&full),
            line(&[
                ("code", json!("some_code")),
                ("address", json!("10.0.0.1")),
                ("attempts", json!(2)),
                ("stream", json!(true)),
                ("data_class", json!("sensitive")),
                ("prompt_version", json!(3)),
                ("prompt_sha256", json!("ab")),
                ("finish_reason", json!(full.finish_reason)),
                ("input_tokens", json!(3)),
                ("output_tokens", json!(4)),
                ("usage_estimated", json!(true)),
                ("cost", json!(0.0025)),
                ("duration_ms", zero()),
                ("first_token_ms", json!(1.5)),
                ("overhead_ms", zero()),
                ("bytes_in", json!(5)),
                ("bytes_out", json!(u64::MAX)),
            ])
        );
    }

    proptest::proptest! {
        #[test]
        fn times_are_written_as_others_write_them(
            seconds in 0_i64..100,
            nanos in proptest::sample::select(vec![0, 1, 10, 999_999_999, 120_000_000, 1_000, 77_000_000]),
            micros in 0_u64..10_000_000_000,
            shift in 0_u32..30,
        ) {
            let at = Timestamp::new(seconds, nanos).expect("a time");
            let micros = micros >> shift;
            let written = text(&RequestRecord { at, duration: Duration::from_micros(micros), ..record() });
            let number = json!(micros as f64 / 1000.0);
            proptest::prop_assert!(written.contains(&format!(r#""timestamp":"{at}","#)), "{at} {written}");
            proptest::prop_assert!(written.contains(&format!(r#""duration_ms":{number},"#)), "{number} {written}");
        }
    }
}
