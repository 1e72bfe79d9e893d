//! Places outside that the gateway sends something to, other than backends.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A URL taken apart once. Those of chat services are secrets, so its path is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct OutsideUrl {
    /// Whether to speak TLS.
    pub https: bool,
    /// A name or an address (IPv6 without brackets).
    pub host: String,
    /// Explicit or the scheme's own.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl OutsideUrl {
    /// `host[:port]` as the `Host` header spells it.
    pub fn authority(&self) -> String {
        let usual = if self.https { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// The scheme and the authority, without a slash at the end.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Display for OutsideUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.origin())
    }
}

impl fmt::Debug for OutsideUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of signatures, as it is configured.
#[derive(Clone, Debug)]
pub struct SigningSecret(pub SecretString);

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for SigningSecret {}
