//! Which strings of an event are pieces of texts that go on in later events, and which are whole.

use std::ops::Range;

use bytes::Bytes;
use synapse_dialect::{
    json::Edits,
    sse,
    walk::{self, Frame, Item, Path},
};

use super::lane::LaneKey;
use crate::inspect::document::{self, is_protocol_text};

/// What was read of one event. Kept from one to the next, so that its lists need not grow anew.
#[derive(Default)]
pub(super) struct Reading {
    /// Its strings, as they stand in it.
    pub(super) texts: Vec<Text>,
    /// Groups of texts that end with this event.
    pub(super) finished: Vec<u64>,
    /// Whether every text ends with it.
    pub(super) is_last: bool,
    /// Whether it repeats its text token by token.
    pub(super) has_logprobs: bool,
    choices: Vec<u64>,
    tools: Vec<(usize, usize, u64)>,
    ended: Vec<usize>,
}

/// A string of an event.
pub(super) struct Text {
    /// Where it stands, quotes included.
    pub(super) raw: Range<usize>,
    pub(super) class: Class,
    at: Ordinals,
}

/// Which elements of lists lead to a string.
#[derive(Clone, Copy, Default)]
struct Ordinals {
    choice: Option<usize>,
    tool: Option<usize>,
}

/// What a string is.
pub(super) enum Class {
    /// A piece of this text.
    Stream(LaneKey),
    /// A text of its own.
    Whole,
}

/// Where an event is read, and a copy of it where it had to be put together first.
type Place = (Option<Bytes>, Range<usize>);

impl Reading {
    /// Reads the event at `range` of a run.
    pub(super) fn read(&mut self, run: &Bytes, range: Range<usize>) -> Result<Place, ()> {
        self.clear();
        let Some(payload) = payload(run, range.clone())? else { return Ok((None, range)) };
        match payload {
            Payload::Line(line) => {
                self.walk(run, line)?;
                Ok((None, range))
            }
            Payload::Joined(event, line) => {
                self.walk(&event, line)?;
                let whole = 0..event.len();
                Ok((Some(event), whole))
            }
        }
    }

    fn clear(&mut self) {
        self.texts.clear();
        self.finished.clear();
        self.choices.clear();
        self.tools.clear();
        self.ended.clear();
        (self.is_last, self.has_logprobs) = (false, false);
    }

    fn walk(&mut self, run: &[u8], line: Range<usize>) -> Result<(), ()> {
        let data = std::str::from_utf8(&run[line.clone()]).map_err(|_| ())?;
        let trimmed = data.trim();
        if trimmed.is_empty() {
            return Ok(());
        }
        if trimmed == "[DONE]" {
            self.is_last = true;
            return Ok(());
        }
        let mut kind = "";
        let mut item = 0;
        walk::walk(data, |path, found| match found {
            Item::Text(raw) => {
                match path.0 {
                    [Frame::Key("type")] => kind = &data[raw.start + 1..raw.end - 1],
                    [Frame::Key("item_id")] => item = hash(item, &data[raw.clone()]),
                    _ => {}
                }
                self.string(path, line.start, raw);
            }
            Item::Number(raw) => self.number(path, &data[raw], &mut item),
            Item::Key(_) => {}
        })
        .map_err(|_| ())?;
        self.conclude(kind, item);
        Ok(())
    }

    fn string(&mut self, path: Path<'_, '_>, start: usize, raw: Range<usize>) {
        let key = path.key().unwrap_or_default();
        let at = match path.0 {
            [Frame::Key("choices"), Frame::Index(choice), rest @ ..] => {
                if rest == [Frame::Key("finish_reason")] {
                    // Some engines say "not yet" with an empty text.
                    if raw.len() > 2 {
                        self.ended.push(*choice);
                    }
                    return;
                }
                Ordinals { choice: Some(*choice), tool: tool(rest) }
            }
            _ => Ordinals::default(),
        };
        if path.0.contains(&Frame::Key("logprobs")) {
            self.has_logprobs = true;
            return;
        }
        let raw = start + raw.start..start + raw.end;
        let is_delta = matches!(path.0, [Frame::Key("delta"), ..]);
        let streams = (at.choice.is_some() || is_delta) && !is_protocol_text(key) && key != "name";
        if streams {
            let field = path.0.iter().fold(0, |sum, frame| match frame {
                Frame::Key(key) => hash(sum, key),
                Frame::Index(_) => sum,
            });
            self.texts.push(Text { raw, class: Class::Stream(LaneKey { group: 0, field }), at });
        } else if !is_protocol_text(key) {
            self.texts.push(Text { raw, class: Class::Whole, at });
        }
    }

    fn number(&mut self, path: Path<'_, '_>, number: &str, item: &mut u64) {
        match path.0 {
            [Frame::Key("choices"), Frame::Index(choice), Frame::Key("index")] => {
                let missing = (choice + 1).saturating_sub(self.choices.len());
                self.choices.extend(std::iter::repeat_n(0, missing));
                self.choices[*choice] = number.parse().unwrap_or(0);
            }
            [Frame::Key("choices"), Frame::Index(choice), rest @ .., Frame::Key("index")] => {
                if let Some(tool) = tool(rest) {
                    self.tools.push((*choice, tool, number.parse().unwrap_or(0)));
                }
            }
            [Frame::Key("output_index" | "content_index" | "summary_index")] => *item = hash(*item, number),
            _ => {}
        }
    }

    /// Says of each string which text it belongs to: what tells may stand behind it.
    fn conclude(&mut self, kind: &str, item: u64) {
        let number = |choice: usize| self.choices.get(choice).copied().unwrap_or(0);
        for text in &mut self.texts {
            let Class::Stream(key) = &mut text.class else { continue };
            match text.at.choice {
                Some(choice) => {
                    key.group = number(choice);
                    if let Some(tool) = text.at.tool {
                        let known = self.tools.iter().find(|(c, t, _)| (*c, *t) == (choice, tool));
                        let tool = known.map_or(tool as u64, |(_, _, number)| *number);
                        key.field = key.field.wrapping_mul(31).wrapping_add(tool + 1);
                    }
                }
                None => {
                    key.group = item;
                    key.field = hash(key.field, kind);
                }
            }
        }
        for choice in &self.ended {
            self.finished.push(number(*choice));
        }
        if kind.ends_with(".done") {
            self.finished.push(item);
        }
        self.is_last |= matches!(kind, "response.completed" | "response.incomplete" | "response.failed");
    }
}

/// The element of `tool_calls` that leads to a value.
fn tool(path: &[Frame<'_>]) -> Option<usize> {
    path.windows(2).find_map(|pair| match pair {
        [Frame::Key("tool_calls"), Frame::Index(index)] => Some(*index),
        _ => None,
    })
}

/// FNV-1a, which tells short keys apart well enough: a collision makes two texts one, and hides nothing.
fn hash(seed: u64, text: &str) -> u64 {
    let start = seed ^ 0xcbf2_9ce4_8422_2325;
    text.bytes().fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

enum Payload {
    /// The one line of data.
    Line(Range<usize>),
    /// An event whose data came in several lines, with one instead.
    Joined(Bytes, Range<usize>),
}

/// Where an event's data stands.
fn payload(run: &Bytes, range: Range<usize>) -> Result<Option<Payload>, ()> {
    let event = &run[range.clone()];
    let mut data = None;
    for line in sse::lines(event) {
        let Some(rest) = line.strip_prefix(b"data") else { continue };
        let value = match rest.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if rest.is_empty() => rest,
            None => continue,
        };
        if data.is_some() {
            return joined(event).map(Some);
        }
        let start = value.as_ptr() as usize - run.as_ptr() as usize;
        data = Some(start..start + value.len());
    }
    Ok(data.map(Payload::Line))
}

fn joined(event: &[u8]) -> Result<Payload, ()> {
    let parsed = sse::Event::parse(event);
    let data = parsed.data.unwrap_or_default();
    let data = std::str::from_utf8(&data).map_err(|_| ())?.replace('\n', " ");
    let mut text = String::with_capacity(event.len());
    if let Some(name) = parsed.name {
        text.push_str("event: ");
        text.push_str(std::str::from_utf8(name).map_err(|_| ())?);
        text.push('\n');
    }
    text.push_str("data: ");
    let start = text.len();
    text.push_str(&data);
    let line = start..text.len();
    text.push_str("\n\n");
    Ok(Payload::Joined(text.into(), line))
}

/// The path of the string that begins at `at` of a run, within its event's data.
pub(super) fn path_at(run: &Bytes, event: Range<usize>, at: usize) -> String {
    let Ok(Some(Payload::Line(line))) = payload(run, event) else { return String::new() };
    let data = std::str::from_utf8(&run[line.clone()]).unwrap_or_default();
    at.checked_sub(line.start).map_or_else(String::new, |at| document::path_at(data, at))
}

/// The event without probabilities, which repeat its text.
pub(super) fn without_logprobs(event: &Bytes) -> Bytes {
    with_other_data(event, |data| Some(super::without_logprobs(data.as_bytes())))
}

/// The event with its data changed, if that is one line of text.
pub(in crate::inspect) fn with_data(event: &Bytes, edits: impl Fn(&str) -> Option<Edits>) -> Bytes {
    with_other_data(event, |data| Some(edits(data)?.apply(&Bytes::copy_from_slice(data.as_bytes()))))
}

fn with_other_data(event: &Bytes, other: impl Fn(&str) -> Option<Bytes>) -> Bytes {
    let (event, line) = match payload(event, 0..event.len()) {
        Ok(Some(Payload::Line(line))) => (event.clone(), line),
        Ok(Some(Payload::Joined(event, line))) => (event, line),
        _ => return event.clone(),
    };
    let Some(data) = std::str::from_utf8(&event[line.clone()]).ok().and_then(other) else { return event };
    [&event[..line.start], &data[..], &event[line.end..]].concat().into()
}
