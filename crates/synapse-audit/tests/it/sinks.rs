//! Checkpoints in a file.

use std::{fs, io::Write, os::unix::fs::PermissionsExt};

use synapse_audit::{note::SigningKey, sink::FileSink};

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
