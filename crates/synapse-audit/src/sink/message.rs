//! A checkpoint as one line of JSON, for those who take messages and not files: `data.note` is the signed note. Copies
//! of such messages are read back from whatever log their receiver has put them into.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{checkpoint::Checkpoint, note};

/// What such a message says that it is.
const KIND: &str = "audit.checkpoint";
/// In how many places of a line one may begin: lines of others are not searched for long.
const BEGINNINGS: usize = 8;

#[derive(Serialize)]
struct Message<'n> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'n>,
}

#[derive(Serialize)]
struct Data<'n> {
    chain: String,
    seq: u64,
    note: &'n str,
}

/// What of a message counts when it is read: all else is in the note.
#[derive(Deserialize)]
struct Found {
    r#type: String,
    data: FoundData,
}

#[derive(Deserialize)]
struct FoundData {
    note: String,
}

/// The message of a checkpoint: one line of ASCII without control characters, so that nothing on its way has a reason
/// to change it.
pub fn of(checkpoint: &Checkpoint, note: &str) -> String {
    let data = Data { chain: checkpoint.chain.to_string(), seq: checkpoint.last, note };
    let message = Message { r#type: KIND, timestamp: checkpoint.at.to_string(), data };
    // Texts and numbers are always JSON.
    let json = serde_json::to_string(&message).unwrap_or_default();
    let mut line = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if c.is_ascii() {
            line.push(c);
        } else {
            // Writing into a string does not fail.
            let _ = c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(line, "\\u{unit:04x}"));
        }
    }
    line
}

/// The note of the message in a line, behind whatever stands before it.
pub(super) fn find(line: &str) -> Option<String> {
    if !line.contains(KIND) {
        return None;
    }
    let found = line.match_indices('{').take(BEGINNINGS).find_map(|(at, _)| {
        let mut documents = serde_json::Deserializer::from_str(&line[at..]).into_iter::<Found>();
        documents.next()?.ok().filter(|found| found.r#type == KIND)
    });
    found.map(|found| found.data.note).filter(|note| note::is_note(note))
}
