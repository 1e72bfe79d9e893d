//! Where a gateway is.

use std::fmt;

use url::{Host, Url};

/// A gateway's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether to speak TLS.
    pub tls: bool,
    /// A name or an address (IPv6 without brackets).
    pub host: String,
    /// Explicit or the scheme's own.
    pub port: u16,
    /// Where workers are taken in.
    pub path: String,
}

/// Why a URL cannot be a gateway's. No message repeats the URL, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Not a URL.
    #[error("is not a URL; write `wss://gateway/ws` or `ws://gateway:8080/ws`")]
    Malformed,
    /// Another scheme.
    #[error("must begin with `ws://`, `wss://`, `http://` or `https://`")]
    Scheme,
    /// `user:password@`.
    #[error("must not hold a user or a password; pass the key with --ws-auth-key")]
    UserInfo,
    /// `?…` or `#…`.
    #[error("must not have a query or a fragment; pass the key with --ws-auth-key")]
    Query,
    /// `:0`
    #[error("must not have port 0")]
    Port,
}

impl ServerUrl {
    /// Reads a URL; no path means `/ws`.
    ///
    /// # Errors
    /// For anything that is not a plain URL of a gateway.
    pub fn parse(text: &str) -> Result<Self, ServerUrlError> {
        if !text.contains("://") {
            return Err(ServerUrlError::Scheme);
        }
        let url = Url::parse(text.trim()).map_err(|_| ServerUrlError::Malformed)?;
        let tls = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(ServerUrlError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ServerUrlError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ServerUrlError::Query);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(ServerUrlError::Malformed),
        };
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(ServerUrlError::Port)?;
        let path = if url.path() == "/" { "/ws".to_owned() } else { url.path().to_owned() };
        Ok(Self { tls, host, port, path })
    }

    /// The path of another of the gateway's routes: a gateway below `/ai/` has all of them there.
    pub fn beside(&self, route: &str) -> String {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{route}")
    }

    /// `host[:port]` as the `Host` header spells it.
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_url_is_taken_apart() {
        for (text, want) in [
            ("ws://localhost:8080/ws", "ws://localhost:8080/ws"),
            ("wss://gateway.example.com", "wss://gateway.example.com/ws"),
            ("https://gateway/", "wss://gateway/ws"),
            ("http://[::1]:8080", "ws://[::1]:8080/ws"),
            ("ws://gateway/tunnel/ws", "ws://gateway/tunnel/ws"),
        ] {
            assert_eq!(ServerUrl::parse(text).map(|url| url.to_string()), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_gateways_other_routes_lie_beside_the_one_for_workers() {
        for (text, want) in [
            ("ws://g", "/run"),
            ("ws://g/ws", "/run"),
            ("ws://g/ai/ws", "/ai/run"),
            ("ws://g/a/b/", "/a/b/run"),
        ] {
            assert_eq!(ServerUrl::parse(text).map(|url| url.beside("run")), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_url_that_is_no_gateways_is_refused_and_not_repeated() {
        for (text, want) in [
            ("gateway:8080", ServerUrlError::Scheme),
            ("ftp://gateway", ServerUrlError::Scheme),
            ("ws://", ServerUrlError::Malformed),
            ("ws://me:secret@gateway", ServerUrlError::UserInfo),
            ("ws://gateway/ws?ws_auth_key=secret", ServerUrlError::Query),
            ("ws://gateway:0", ServerUrlError::Port),
        ] {
            assert_eq!(ServerUrl::parse(text), Err(want), "{text}");
            assert!(!want.to_string().contains("secret"));
        }
    }
}
