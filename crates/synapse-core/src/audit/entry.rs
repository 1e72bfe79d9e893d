//! An entry of the audit log: what is kept for good of one event, column by column; never the text of a prompt
//! or a reply. The table of columns stands here once: hashing, journal, databases and exports go by it.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::id::time_ordered;

/// A SHA-256 digest, or an HMAC by it.
pub type Digest = [u8; 32];

/// What is kept in one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    /// Nothing.
    Null,
    /// A number; times are microseconds since 1970, in UTC, and durations microseconds.
    Integer(i64),
    /// A text.
    Text(&'v str),
    /// Bytes.
    Bytes(&'v [u8]),
}

impl Value<'_> {
    /// The same for its own.
    pub fn into_owned(self) -> Owned {
        match self {
            Self::Null => Owned::Null,
            Self::Integer(number) => Owned::Integer(number),
            Self::Text(text) => Owned::Text(text.to_owned()),
            Self::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
        }
    }
}

/// The same, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Owned {
    /// As it would be written.
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

/// What a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers.
    Integer,
    /// Texts.
    Text,
    /// Bytes.
    Bytes,
}

/// A column of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, in databases and exports alike.
    pub name: &'static str,
    /// What it can hold.
    pub kind: ColumnKind,
}

/// A column's value is none that it can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the column `{0}` of the audit log holds what it cannot")]
pub struct Misfit(pub &'static str);

/// What may stand in a column.
trait Field: Sized {
    const KIND: ColumnKind;

    fn value(&self) -> Value<'_>;

    fn read(value: Owned) -> Option<Self>;
}

impl Field for Option<Arc<str>> {
    const KIND: ColumnKind = ColumnKind::Text;

    fn value(&self) -> Value<'_> {
        self.as_deref().map_or(Value::Null, Value::Text)
    }

    fn read(value: Owned) -> Option<Self> {
        match value {
            Owned::Null => Some(None),
            Owned::Text(text) => Some(Some(text.into())),
            _ => None,
        }
    }
}

impl Field for Option<i64> {
    const KIND: ColumnKind = ColumnKind::Integer;

    fn value(&self) -> Value<'_> {
        self.map_or(Value::Null, Value::Integer)
    }

    fn read(value: Owned) -> Option<Self> {
        match value {
            Owned::Null => Some(None),
            Owned::Integer(number) => Some(Some(number)),
            _ => None,
        }
    }
}

impl Field for Option<Digest> {
    const KIND: ColumnKind = ColumnKind::Bytes;

    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, |digest| Value::Bytes(digest))
    }

    fn read(value: Owned) -> Option<Self> {
        match value {
            Owned::Null => Some(None),
            Owned::Bytes(bytes) => Some(Some(bytes.try_into().ok()?)),
            _ => None,
        }
    }
}

impl Field for Uuid {
    const KIND: ColumnKind = ColumnKind::Bytes;

    fn value(&self) -> Value<'_> {
        Value::Bytes(self.as_bytes())
    }

    fn read(value: Owned) -> Option<Self> {
        match value {
            Owned::Bytes(bytes) => Self::from_slice(&bytes).ok(),
            _ => None,
        }
    }
}

impl Field for Timestamp {
    const KIND: ColumnKind = ColumnKind::Integer;

    fn value(&self) -> Value<'_> {
        Value::Integer(self.as_microsecond())
    }

    fn read(value: Owned) -> Option<Self> {
        match value {
            Owned::Integer(micros) => Self::from_microsecond(micros).ok(),
            _ => None,
        }
    }
}

/// What an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A request is about to go to an engine.
    RequestAccepted,
    /// A request has ended; the outcome says how.
    RequestClosed,
    /// Refusals of callers without a good key, counted over a minute.
    RefusalsCounted,
    /// Somebody changed teams, keys, policies or the like.
    AdminChange,
    /// Somebody logged in or out, or tried to.
    AuthEvent,
    /// Another configuration is in force.
    ConfigVersion,
    /// A chain begins.
    ChainBegun,
    /// Old entries were taken out, up to an anchor.
    EntriesRetired,
}

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RequestAccepted,
        Self::RequestClosed,
        Self::RefusalsCounted,
        Self::AdminChange,
        Self::AuthEvent,
        Self::ConfigVersion,
        Self::ChainBegun,
        Self::EntriesRetired,
    ];

    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestAccepted => "request.accepted",
            Self::RequestClosed => "request.closed",
            Self::RefusalsCounted => "request.refusals",
            Self::AdminChange => "admin.change",
            Self::AuthEvent => "auth.event",
            Self::ConfigVersion => "config.version",
            Self::ChainBegun => "chain.begun",
            Self::EntriesRetired => "entries.retired",
        }
    }

    /// The kind of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Field for EntryKind {
    const KIND: ColumnKind = ColumnKind::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self.name())
    }

    fn read(value: Owned) -> Option<Self> {
        match value {
            Owned::Text(name) => Self::of(&name),
            _ => None,
        }
    }
}

/// Declares an entry and its columns at once: those that every entry has, and those that one may have.
macro_rules! entry {
    (
        $($(#[$doc:meta])* $name:ident: $type:ty,)*
        ---
        $($(#[$doc_of:meta])* $optional:ident: $type_of:ty,)*
    ) => {
        /// An event of the audit log.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Entry {
            $($(#[$doc])* pub $name: $type,)*
            $($(#[$doc_of])* pub $optional: $type_of,)*
        }

        impl Entry {
            /// The columns, in the order of their values. It never changes; new columns come last.
            pub const COLUMNS: &'static [Column] = &[
                $(Column { name: stringify!($name), kind: <$type as Field>::KIND },)*
                $(Column { name: stringify!($optional), kind: <$type_of as Field>::KIND },)*
            ];

            /// An event of this kind, about which nothing else is said yet.
            pub fn new(kind: EntryKind, at: Timestamp) -> Self {
                // What is stored has microseconds.
                let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
                let id = time_ordered(u64::try_from(at.as_millisecond()).unwrap_or_default());
                Self { id, at, kind, $($optional: None,)* }
            }

            /// The value of every column, in order.
            pub fn values(&self) -> [Value<'_>; Self::COLUMNS.len()] {
                [$(self.$name.value(),)* $(self.$optional.value(),)*]
            }

            /// An entry from the values of its columns, in order; columns that are missing at the end are empty.
            ///
            /// # Errors
            /// [`Misfit`].
            pub fn from_values(values: impl IntoIterator<Item = Owned>) -> Result<Self, Misfit> {
                let mut values = values.into_iter();
                let mut next = || values.next().unwrap_or(Owned::Null);
                Ok(Self {
                    $($name: Field::read(next()).ok_or(Misfit(stringify!($name)))?,)*
                    $($optional: Field::read(next()).ok_or(Misfit(stringify!($optional)))?,)*
                })
            }
        }
    };
}

type Text = Option<Arc<str>>;
type Number = Option<i64>;

entry! {
    /// Its own identifier, a UUID of version 7.
    id: Uuid,
    /// When it was written.
    at: Timestamp,
    /// What it tells of.
    kind: EntryKind,
    ---
    /// The request.
    request: Text,
    /// The caller's key.
    key: Text,
    /// The key's team.
    team: Text,
    /// Who changed something, or logged in.
    actor: Text,
    /// The network that the caller is in.
    source: Text,
    /// The route's template; never the raw path.
    route: Text,
    /// The operation.
    operation: Text,
    /// The model that was asked for.
    model_asked: Text,
    /// The model that served, or was to.
    model_served: Text,
    /// The backend that served, or failed last.
    backend: Text,
    /// Where that is: `on_prem` or `cloud`.
    zone: Text,
    /// The class of data that the key has.
    key_class: Text,
    /// The class that was in force for the request.
    data_class: Text,
    /// The policy for sensitive data.
    policy: Text,
    /// Which version of it.
    policy_version: Text,
    /// Which version of the bound system prompt.
    prompt_version: Number,
    /// SHA-256 of the bound system prompt, in hexadecimal.
    prompt_mark: Text,
    /// Which key the digests were made with; `sha256` if with none.
    digest_key: Text,
    /// Of the request's body as it came; of a form with one file, of that file.
    request_digest: Option<Digest>,
    /// Of what the caller was sent.
    reply_digest: Option<Digest>,
    /// Bytes of the request's body.
    request_bytes: Number,
    /// Bytes of the reply's body.
    reply_bytes: Number,
    /// Tokens of the prompt.
    tokens_in: Number,
    /// Tokens of the reply.
    tokens_out: Number,
    /// 1 where tokens are an estimate.
    tokens_estimated: Number,
    /// What it cost, in billionths of the currency's unit.
    cost: Number,
    /// How many backends were tried.
    attempts: Number,
    /// 1 where the caller asked for a stream.
    stream: Number,
    /// How it ended.
    outcome: Text,
    /// The HTTP status.
    status: Number,
    /// The fault's code.
    code: Text,
    /// Why the engine stopped, in its own words.
    finish_reason: Text,
    /// The incident that tells what was found.
    incident: Text,
    /// What was found, in JSON: direction, category, action, count; never the text.
    findings: Text,
    /// Until the first content.
    first_token_us: Number,
    /// Until the last byte.
    duration_us: Number,
    /// Of which in the gateway itself.
    overhead_us: Number,
    /// What else took time, in JSON, in microseconds: `receiving` the request's body, and waiting for `upstream`.
    timings: Text,
    /// What else there is to tell, in JSON: what was changed, how many refusals.
    detail: Text,
}

/// An entry in its place: sealed into a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The chain: that of one gateway's data folder.
    pub chain: Uuid,
    /// Its place in the chain, from 0.
    pub seq: u64,
    /// The hash of the entry before it; zeros before the first.
    pub prev: Digest,
    /// Its own hash.
    pub hash: Digest,
    /// The event.
    pub entry: Entry,
}

/// Where an entry stands in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The chain.
    pub chain: Uuid,
    /// Its place.
    pub seq: u64,
    /// The hash of the entry before it.
    pub prev: Digest,
    /// Its own hash.
    pub hash: Digest,
}

impl Sealed {
    /// Where it stands.
    pub fn link(&self) -> Link {
        Link { chain: self.chain, seq: self.seq, prev: self.prev, hash: self.hash }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn owned(value: Value<'_>) -> Owned {
        match value {
            Value::Null => Owned::Null,
            Value::Integer(number) => Owned::Integer(number),
            Value::Text(text) => Owned::Text(text.to_owned()),
            Value::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
        }
    }

    fn full() -> Entry {
        let first = Entry::new(EntryKind::RequestClosed, Timestamp::now()).values().map(owned);
        let filled =
            first.into_iter().enumerate().map(|(at, value)| match (value, Entry::COLUMNS[at].kind) {
                (Owned::Null, ColumnKind::Integer) => Owned::Integer(at as i64),
                (Owned::Null, ColumnKind::Text) => Owned::Text(format!("text {at}")),
                (Owned::Null, ColumnKind::Bytes) => Owned::Bytes(vec![at as u8; 32]),
                (value, _) => value,
            });
        Entry::from_values(filled).expect("an entry")
    }

    #[test]
    fn an_entry_is_what_its_values_say() {
        for entry in [full(), Entry::new(EntryKind::ChainBegun, Timestamp::now())] {
            assert_eq!(Entry::from_values(entry.values().map(owned)), Ok(entry));
        }
        assert!(!full().values().contains(&Value::Null));
    }

    #[test]
    fn columns_that_came_later_are_empty_in_older_entries() {
        let entry = Entry::new(EntryKind::RequestClosed, Timestamp::now());
        assert_eq!(Entry::from_values(entry.values().map(owned).into_iter().take(5)), Ok(entry));
    }

    #[test]
    fn a_column_holds_nothing_that_it_cannot() {
        for (at, column) in Entry::COLUMNS.iter().enumerate() {
            for (kind, other) in [
                (ColumnKind::Integer, Owned::Integer(7)),
                (ColumnKind::Text, Owned::Text("x".into())),
                (ColumnKind::Bytes, Owned::Bytes(vec![1])),
            ] {
                let mut values = full().values().map(owned);
                values[at] = other;
                let fits = kind == column.kind && !matches!(column.name, "kind") && kind != ColumnKind::Bytes;
                assert_eq!(Entry::from_values(values).is_ok(), fits, "{column:?} {kind:?}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = Entry::COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), Entry::COLUMNS.len());
        assert!(EntryKind::ALL.iter().all(|kind| EntryKind::of(kind.name()) == Some(*kind)));
    }
}
