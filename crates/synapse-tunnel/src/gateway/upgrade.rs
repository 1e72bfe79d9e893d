//! The HTTP/1.1 request by which a worker asks for its WebSocket, and the answer to it.

use http::{HeaderMap, HeaderValue, Method, Version, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::protocol::SUBPROTOCOL;

/// Why there is no WebSocket. Each names what to send instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a GET.
    #[error("a worker asks with GET")]
    Method,
    /// Not a request for a WebSocket at all: 426.
    #[error("this route is for workers, which ask for a WebSocket (`Upgrade: websocket`) by HTTP/1.1")]
    NoUpgrade,
    /// Another version of WebSocket: 426.
    #[error("only version 13 of WebSocket is spoken (`Sec-WebSocket-Version: 13`)")]
    Version,
    /// A missing or malformed `Sec-WebSocket-Key`.
    #[error("`Sec-WebSocket-Key` must be given once, as 16 bytes in base64")]
    Key,
    /// The subprotocol is not offered.
    #[error("`Sec-WebSocket-Protocol` must offer `synapse.tunnel.v1`")]
    Subprotocol,
}

impl Refusal {
    /// The status that says it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NoUpgrade | Self::Version => 426,
            Self::Key | Self::Subprotocol => 400,
        }
    }
}

/// The headers of the `101 Switching Protocols` that accepts a worker's request.
///
/// # Errors
/// When it is no request of a worker.
pub fn answer(method: &Method, version: Version, headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
    if method != Method::GET {
        return Err(Refusal::Method);
    }
    if version != Version::HTTP_11
        || !has_token(headers, header::CONNECTION, "upgrade")
        || !has_token(headers, header::UPGRADE, "websocket")
    {
        return Err(Refusal::NoUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::Version);
    }
    if !has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(Refusal::Subprotocol);
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(Refusal::Key) };
    // 16 bytes are 22 digits and two signs of padding.
    if key.len() != 24 || !key.as_bytes().ends_with(b"==") {
        return Err(Refusal::Key);
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Key)?;
    Ok(HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL)),
    ]))
}

/// Whether a header that is a list has this element, in whatever case.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut elements = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    elements.any(|element| element.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(changes: &[(&'static str, Option<&'static str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "other, synapse.tunnel.v1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in changes {
            match value {
                Some(value) => headers.insert(*name, HeaderValue::from_static(value)),
                None => headers.remove(*name),
            };
        }
        headers
    }

    #[test]
    fn a_workers_request_is_answered_as_the_standard_says() {
        let answer = answer(&Method::GET, Version::HTTP_11, &request(&[])).expect("an answer");
        // The example of RFC 6455, section 1.3.
        assert_eq!(answer[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer[header::SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
    }

    #[test]
    fn anything_else_is_refused_for_its_reason() {
        for (change, want) in [
            (("connection", None), Refusal::NoUpgrade),
            (("upgrade", Some("h2c")), Refusal::NoUpgrade),
            (("sec-websocket-version", Some("8")), Refusal::Version),
            (("sec-websocket-key", None), Refusal::Key),
            (("sec-websocket-key", Some("short")), Refusal::Key),
            (("sec-websocket-protocol", None), Refusal::Subprotocol),
            (("sec-websocket-protocol", Some("synapse.tunnel.v10")), Refusal::Subprotocol),
        ] {
            let refused = answer(&Method::GET, Version::HTTP_11, &request(&[change]));
            assert_eq!(refused.expect_err("a refusal"), want, "{change:?}");
        }
        let posted = answer(&Method::POST, Version::HTTP_11, &request(&[]));
        assert_eq!(posted.expect_err("a refusal"), Refusal::Method);
        let old = answer(&Method::GET, Version::HTTP_10, &request(&[]));
        assert_eq!(old.expect_err("a refusal"), Refusal::NoUpgrade);
    }
}
