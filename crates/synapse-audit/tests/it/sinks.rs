//! Checkpoints in a file, and the messages that others keep of them.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path};

use jiff::Timestamp;
use synapse_audit::{
    checkpoint::Checkpoint,
    note::SigningKey,
    sink::{FileSink, message},
};
use uuid::Uuid;

#[test]
fn notes_are_read_back_whatever_a_crash_left_between_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = SigningKey::generate("synapse-audit").expect("a key");
    let notes: Vec<_> = (0..3).map(|n| key.sign(&format!("title\nnumber {n}\n"))).collect();
    let torn = &notes[1];
    for length in (0..torn.len()).filter(|length| torn.is_char_boundary(*length)) {
        let path = folder.path().join(format!("{length}"));
        let mut sink = FileSink::open(&path).expect("a sink");
        sink.append(&notes[0]).expect("appended");
        drop(sink);
        let mut file = fs::File::options().append(true).open(&path).expect("the file");
        file.write_all(&torn.as_bytes()[..length]).expect("written");
        drop(file);
        let mut sink = FileSink::open(&path).expect("a sink");
        sink.append(&notes[1]).expect("appended");
        sink.append(&notes[2]).expect("appended");
        let mut read: Vec<_> =
            FileSink::read(&path).expect("notes").map(|note| note.expect("a note")).collect();
        // One that was whole already stands there twice.
        read.dedup();
        assert_eq!(read, notes, "torn at {length}");
        assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    }
}

/// Three checkpoints of a chain, each with its note.
fn checkpoints() -> Vec<(Checkpoint, String)> {
    let key = SigningKey::generate("synapse-audit").expect("a key");
    let chain = Uuid::now_v7();
    let checkpoint = |n: u64| Checkpoint {
        chain,
        first: n * 10,
        last: n * 10 + 9,
        root: [1; 32],
        head: [2; 32],
        previous: [3; 32],
        at: Timestamp::UNIX_EPOCH,
    };
    (0..3).map(checkpoint).map(|made| (made, made.sign(&key).note)).collect()
}

fn read(path: &Path) -> Vec<String> {
    FileSink::read(path).expect("a file").map(|note| note.expect("a note")).collect()
}

#[test]
fn a_message_is_one_line_of_plain_characters() {
    for (checkpoint, note) in checkpoints() {
        let line = message::of(&checkpoint, &note);
        assert!(line.bytes().all(|b| b.is_ascii() && !b.is_ascii_control()), "{line}");
        assert!(line.len() < 1024, "it fits into a datagram: {}", line.len());
    }
}

#[test]
fn messages_are_read_back_from_whatever_log_they_were_put_into() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("messages");
    let made = checkpoints();
    let lines: Vec<_> = made.iter().map(|(checkpoint, note)| message::of(checkpoint, note)).collect();
    let rewritten: serde_json::Value = serde_json::from_str(&lines[2]).expect("JSON");
    let text = format!(
        "<109>1 2026-01-01T00:00:00Z host synapse 7 checkpoint - {}\n\
         Jan  1 00:00:00 host other[7]: {{\"a\": 1}} says audit.checkpoint {{\n\
         <109>1 2026-01-01T00:00:00Z {{host}} synapse 7 checkpoint - {}\r\n\
         {{\"received\":1}} {rewritten} and more\n\
         <109>1 cut off: {}\n",
        lines[0],
        lines[1],
        &lines[0][..200],
    );
    fs::write(&path, text).expect("written");
    assert_eq!(read(&path), made.iter().map(|(_, note)| note.clone()).collect::<Vec<_>>());
}

#[test]
fn reading_goes_on_where_a_note_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    let made = checkpoints();
    let mut sink = FileSink::open(&path).expect("a sink");
    sink.append(&made[0].1).expect("appended");
    sink.append(&made[1].1).expect("appended");
    let mut notes = FileSink::read(&path).expect("a file");
    assert_eq!(notes.next().expect("one").expect("a note"), made[0].1);
    let place = notes.place();
    sink.append(&made[2].1).expect("appended");
    let rest: Vec<_> =
        FileSink::read_from(&path, place).expect("a file").map(|note| note.expect("a note")).collect();
    assert_eq!(rest, [made[1].1.clone(), made[2].1.clone()]);
    assert!(sink.is_at(&folder.path().join(".").join("notes")).expect("a file"));
    assert!(!sink.is_at(folder.path()).expect("a folder"));
}

#[test]
fn what_a_note_says_can_be_told_without_its_key() {
    let (checkpoint, note) = checkpoints().swap_remove(1);
    assert_eq!(Checkpoint::unverified(&note), Some(checkpoint));
    assert_eq!(Checkpoint::unverified(&note.replace("entries 10", "entries 010")), None);
}
