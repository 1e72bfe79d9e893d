//! Canonical bytes, trees, checkpoints, digests.

use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;
use proptest::prelude::*;
use synapse_audit::{
    chain::Chain,
    checkpoint::{Checkpoint, Checkpointer},
    digest::{Content, DigestKey, Epoch, KeyRing},
    merkle,
    note::{self, KeyError, NoteError, PublicKey, SigningKey},
};
use synapse_core::audit::{
    canonical::{Malformed, decode, encode},
    entry::{ColumnKind, Entry, EntryKind, Owned},
};
use uuid::Uuid;

use crate::texts::{change, full, values};

fn any_entry() -> impl Strategy<Value = Entry> {
    let columns: Vec<_> = Entry::COLUMNS
        .iter()
        .map(|column| match (column.name, column.kind) {
            ("id", _) => any::<[u8; 16]>().prop_map(|id| Owned::Bytes(id.to_vec())).boxed(),
            ("at", _) => (0..4_000_000_000_000_000_i64).prop_map(Owned::Integer).boxed(),
            ("kind", _) => (0..EntryKind::ALL.len())
                .prop_map(|kind| Owned::Text(EntryKind::ALL[kind].name().to_owned()))
                .boxed(),
            (_, ColumnKind::Integer) => {
                prop_oneof![Just(Owned::Null), any::<i64>().prop_map(Owned::Integer)].boxed()
            }
            (_, ColumnKind::Text) => prop_oneof![Just(Owned::Null), ".{0,20}".prop_map(Owned::Text)].boxed(),
            (_, ColumnKind::Bytes) => {
                let digest = any::<[u8; 32]>().prop_map(|bytes| Owned::Bytes(bytes.to_vec()));
                prop_oneof![Just(Owned::Null), digest].boxed()
            }
        })
        .collect();
    columns.prop_map(|values| Entry::from_values(values).expect("an entry"))
}

fn bytes_of(chain: Uuid, seq: u64, entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(chain, seq, entry, &mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_entry_is_read_back_as_it_was(entry in any_entry(), seq: u64, chain: [u8; 16]) {
        let chain = Uuid::from_bytes(chain);
        prop_assert_eq!(decode(&bytes_of(chain, seq, &entry)), Ok((chain, seq, entry)));
    }

    #[test]
    fn bytes_are_no_entry_or_the_one_form_of_one(entry in any_entry(), at: prop::sample::Index, bit in 0..8_u32) {
        let mut bytes = bytes_of(Uuid::nil(), 7, &entry);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok((chain, seq, entry)) = decode(&bytes) {
            prop_assert_eq!(bytes_of(chain, seq, &entry), bytes);
        }
    }

    #[test]
    fn every_leaf_is_proven_and_nothing_else(size in 1..70_usize, other: [u8; 32]) {
        let leaves: Vec<_> = (0..size).map(|n| [n as u8; 32]).collect();
        let root = merkle::root(&leaves);
        for (index, leaf) in leaves.iter().enumerate() {
            let path = merkle::path(&leaves, index).expect("a path");
            let leads = |leaf, index: usize, path: &[[u8; 32]]| {
                merkle::leads(leaf, index as u64, size as u64, path, &root)
            };
            prop_assert!(leads(*leaf, index, &path));
            prop_assert!(!leads(other, index, &path));
            prop_assert!(size == 1 || !leads(*leaf, (index + 1) % size, &path));
            prop_assert!(path.is_empty() || !leads(*leaf, index, &path[1..]));
        }
        prop_assert_eq!(merkle::path(&leaves, size), None);
    }
}

#[test]
fn entries_that_end_early_or_late_are_refused() {
    let bytes = bytes_of(Uuid::nil(), 0, &full());
    for length in 0..bytes.len() {
        // At the end of a column, it is what an entry without the later ones has.
        if let Ok((chain, seq, shorter)) = decode(&bytes[..length]) {
            assert_eq!(bytes_of(chain, seq, &shorter), bytes[..length]);
            assert_ne!(shorter, full());
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(decode(&longer), Err(Malformed::Columns));
    let mut other = bytes;
    other[0] = 2;
    assert_eq!(decode(&other), Err(Malformed::Version));
    let mut padded = bytes_of(Uuid::nil(), 0, &Entry::new(EntryKind::ChainBegun, Timestamp::now()));
    padded.push(0);
    assert_eq!(decode(&padded), Err(Malformed::Form));
}

#[test]
fn roots_are_those_of_the_standard() {
    // The empty tree, and two leaves: RFC 6962, section 2.1.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let hex = |digest: [u8; 32]| digest.map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(hex(merkle::root(&[])), empty);
    let chain = Uuid::nil();
    let bytes = bytes_of(chain, 0, &change("x"));
    let leaf = synapse_audit::chain::hash(&bytes, &[0; 32]);
    assert_eq!(merkle::root(&[leaf]), leaf);
}

fn signed(n: usize) -> (SigningKey, Vec<Checkpoint>, Vec<String>) {
    let key = SigningKey::generate("synapse-audit").expect("a key");
    let mut chain = Chain::new(Uuid::now_v7());
    let mut maker = Checkpointer::new(chain.id);
    let mut made = Vec::new();
    for period in 0..n {
        for entry in 0..=period {
            maker.push(chain.seal(change(&entry.to_string())).link()).expect("the next one");
        }
        made.extend(maker.checkpoint(Timestamp::now()));
    }
    let notes = made.iter().map(|checkpoint| checkpoint.sign(&key).note).collect();
    (key, made, notes)
}

#[test]
fn checkpoints_are_read_from_their_notes_and_linked() {
    let (key, made, notes) = signed(4);
    let keys = [key.public().clone()];
    for (checkpoint, note) in made.iter().zip(&notes) {
        assert_eq!(Checkpoint::open(note, &keys), Ok(*checkpoint));
    }
    for pair in made.windows(2) {
        assert_eq!((pair[1].first, pair[1].previous), (pair[0].last + 1, pair[0].hash()));
    }
    assert!(Checkpointer::after(&made[3]).checkpoint(Timestamp::now()).is_none());
}

#[test]
fn a_note_with_any_change_is_refused() {
    let (key, _, notes) = signed(1);
    let keys = [key.public().clone()];
    let note = &notes[0];
    for at in (0..note.len()).filter(|at| note.is_char_boundary(*at) && note.as_bytes()[*at].is_ascii()) {
        let mut changed = note.clone().into_bytes();
        changed[at] ^= 1;
        let changed = String::from_utf8(changed).expect("ASCII there");
        assert!(Checkpoint::open(&changed, &keys).is_err(), "{at}: {changed}");
    }
    let other = SigningKey::generate("synapse-audit").expect("a key");
    assert_eq!(Checkpoint::open(note, &[other.public().clone()]), Err(NoteError::Unsigned));
    assert_eq!(Checkpoint::open("", &keys), Err(NoteError::Malformed));
}

#[test]
fn a_note_of_another_implementation_verifies() {
    // The example of the standard's reference implementation.
    let key: PublicKey =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().expect("a key");
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let note = format!(
        "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
    assert_eq!(note::open(&note, std::slice::from_ref(&key)), Ok(text));
    assert_eq!(key.to_string().parse::<PublicKey>().expect("a key"), key);
}

#[test]
fn a_key_is_kept_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints.key");
    let made = SigningKey::load_or_generate(&path, "synapse-audit").expect("a key");
    assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    let read = SigningKey::load_or_generate(&path, "another").expect("the same key");
    assert_eq!(read.public(), made.public());
    assert!(!format!("{made:?}").contains("PRIVATE"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
    assert!(matches!(SigningKey::load_or_generate(&path, "x"), Err(KeyError::Exposed(_))));
    assert!(matches!(SigningKey::generate("two words"), Err(KeyError::Name)));
}

#[test]
fn digests_depend_on_team_month_and_kind_and_not_on_cuts() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = KeyRing::open(folder.path()).expect("a ring");
    let month = Epoch::at("2026-11-30T23:59:59Z".parse().expect("a time"));
    assert_eq!(month.to_string(), "2026-11");
    let next = Epoch::at("2026-12-01T00:00:00Z".parse().expect("a time"));
    let key = ring.get_or_make(&"a".into(), month).expect("a key");
    let of = |key: &DigestKey, content| key.digest(content, b"a short prompt");
    let digests = [
        of(&key, Content::Request),
        of(&key, Content::Reply),
        of(&ring.get_or_make(&"b".into(), month).expect("a key"), Content::Request),
        of(&ring.get_or_make(&"a".into(), next).expect("a key"), Content::Request),
        of(&DigestKey::plain(), Content::Request),
    ];
    let distinct: std::collections::HashSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
    let mut pieces = key.begin(Content::Request);
    b"a short prompt".chunks(3).for_each(|piece| pieces.update(piece));
    assert_eq!(pieces.finish(), digests[0]);
    assert!(key.name().starts_with("2026-11."));
    assert_eq!(&**DigestKey::plain().name(), "sha256");
}

#[test]
fn a_destroyed_key_is_gone_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = KeyRing::open(folder.path()).expect("a ring");
    let month = Epoch::at(Timestamp::now());
    let team = "a team/with ünusual letters".into();
    let before = ring.get_or_make(&team, month).expect("a key").digest(Content::Request, b"x");
    let other = KeyRing::open(folder.path()).expect("the same ring");
    assert_eq!(other.get(&team, month).expect("a key").digest(Content::Request, b"x"), before);
    assert!(ring.destroy(&team, month).expect("destroyed"));
    assert!(!ring.destroy(&team, month).expect("nothing to destroy"));
    other.refresh().expect("refreshed");
    assert!(other.get(&team, month).is_none() && other.all().is_empty());
    let after = ring.get_or_make(&team, month).expect("a new key");
    assert_ne!(after.digest(Content::Request, b"x"), before);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    assert_eq!(values(&full()).len(), Entry::COLUMNS.len());
}
