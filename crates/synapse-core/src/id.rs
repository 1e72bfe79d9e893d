//! Identifiers. Cheap to clone, because every record, label and log line carries some of them.

use std::{
    borrow::Borrow,
    cell::Cell,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps `text` as it is; validity is the business of whoever made it.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&$name> for Arc<str> {
            fn from(id: &$name) -> Self {
                Arc::clone(&id.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}

text_id!(
    /// The name of a backend, as configured or as found on this machine.
    BackendId
);
text_id!(
    /// A model's name: the public one a caller asks for.
    ModelName
);
text_id!(
    /// The public half of a key (`syn_<id>_…`, `synw_<id>_…`), or the name of a static key.
    KeyId
);
text_id!(
    /// A team's name.
    TeamName
);
text_id!(
    /// The name of a group: the keys, workers and backends that belong together.
    GroupName
);
text_id!(
    /// The name of a class of data, such as `sensitive`.
    ClassName
);
text_id!(
    /// The name of a policy for sensitive data.
    PolicyName
);
text_id!(
    /// Correlates one request across the response, logs and records.
    RequestId
);

impl GroupName {
    /// The group of whatever names none.
    pub const DEFAULT: &str = "default";
    /// The longest name, in characters.
    pub const MAX_LEN: usize = 128;

    /// Whether a group can have this name.
    pub fn is_well_formed(&self) -> bool {
        (1..=Self::MAX_LEN).contains(&self.0.len()) && fits_header(&self.0)
    }
}

/// Whether a class or a policy can have this name: short, and in need of no quotes anywhere.
fn is_plain_word(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

impl ClassName {
    /// Whether a class of data can have this name.
    pub fn is_well_formed(&self) -> bool {
        is_plain_word(&self.0)
    }
}

impl PolicyName {
    /// Whether a policy can have this name.
    pub fn is_well_formed(&self) -> bool {
        is_plain_word(&self.0)
    }
}

/// Whether a name can stand in a header as it is: printable ASCII without spaces at its ends.
pub(crate) fn fits_header(name: &str) -> bool {
    name.bytes().all(|b| (b' '..=b'~').contains(&b)) && name.trim() == name
}

impl Default for GroupName {
    fn default() -> Self {
        Self::DEFAULT.into()
    }
}

/// A sequence of scattered numbers (SplitMix64) from a random start: identifiers have to differ, not
/// to be secret, and asking the system for randomness costs more than the rest of making one.
struct Scatter(Cell<u64>);

impl Scatter {
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

thread_local! {
    /// The hasher's keys are random for each process and differ between threads.
    static SCATTER: Scatter = Scatter(Cell::new(RandomState::new().build_hasher().finish()));
}

/// A UUID of version 7 for something of this time, in milliseconds since 1970.
pub(crate) fn time_ordered(millis: u64) -> Uuid {
    let mut random = [0; 10];
    SCATTER.with(|scatter| {
        random[..8].copy_from_slice(&scatter.next().to_le_bytes());
        random[8..].copy_from_slice(&scatter.next().to_le_bytes()[..2]);
    });
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

impl RequestId {
    /// The longest identifier accepted from a caller.
    pub const MAX_LEN: usize = 128;

    /// A new, time-ordered identifier.
    pub fn generate() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = time_ordered(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        Self::new(&*id.simple().encode_lower(&mut Uuid::encode_buffer()))
    }

    /// Takes over a caller's identifier if it is 1–128 characters of `[A-Za-z0-9._:-]`; anything
    /// else could forge log lines.
    pub fn accept(text: &[u8]) -> Option<Self> {
        let fine = |b: &u8| b.is_ascii_alphanumeric() || b"._:-".contains(b);
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.iter().all(fine) {
            return None;
        }
        std::str::from_utf8(text).ok().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_formed_request_id_is_taken_over() {
        assert_eq!(RequestId::accept(b"req-1:a.b_C").map(|id| id.to_string()), Some("req-1:a.b_C".into()));
    }

    #[test]
    fn a_groups_name_is_short_and_fits_a_header() {
        for good in ["lab", "Team R&D", &"g".repeat(128)] {
            assert!(GroupName::from(good).is_well_formed(), "{good}");
        }
        for bad in ["", " lab", "lab ", "l\nab", "lä", &"g".repeat(129)] {
            assert!(!GroupName::from(bad).is_well_formed(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_id_that_could_forge_a_log_line_is_refused() {
        for bad in [&b""[..], b"a\nb", b"a b", "ü".as_bytes(), &[b'a'; 129]] {
            assert_eq!(RequestId::accept(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn generated_request_ids_differ_and_are_acceptable() {
        let (a, b) = (RequestId::generate(), RequestId::generate());
        assert_ne!(a, b);
        assert_eq!(RequestId::accept(a.as_str().as_bytes()), Some(a));
    }
}
