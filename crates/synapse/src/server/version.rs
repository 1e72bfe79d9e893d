//! `GET /version`: JSON, or a line of text for whoever asks for that.

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use serde_json::json;
use synapse_gateway::stream::body::ReplyBody;
use synapse_tunnel::protocol::VERSIONS;

use super::shell::json_reply;

/// The version of this build.
pub(super) const OWN: &str = env!("CARGO_PKG_VERSION");

/// The version, and those of the tunnel's protocol.
pub(super) fn reply(headers: &HeaderMap) -> Response<ReplyBody> {
    if !wants_text(headers) {
        let body = json!({ "name": "synapse", "version": OWN, "protocol": VERSIONS });
        return json_reply(StatusCode::OK, &body);
    }
    let mut reply = Response::new(ReplyBody::whole(Bytes::from_static(
        concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes(),
    )));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

/// Whether plain text is asked for by name, before JSON.
fn wants_text(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    let known = types.find(|range| {
        ["text/plain", "application/json"].iter().any(|name| range.trim().eq_ignore_ascii_case(name))
    });
    known.is_some_and(|range| range.trim().eq_ignore_ascii_case("text/plain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_those_who_ask_for_it_by_name() {
        for (accept, text) in [
            ("text/plain", true),
            ("text/html, Text/Plain;q=0.9, */*", true),
            ("application/json, text/plain, */*", false),
            ("*/*", false),
            ("text/*", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_text(&headers), text, "{accept}");
        }
        assert!(!wants_text(&HeaderMap::new()));
    }
}
