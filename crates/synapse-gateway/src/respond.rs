//! The one place that turns a fault into HTTP: status, headers, and the envelope of the caller's
//! dialect.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE},
};
use synapse_core::{
    error::{Fault, FaultKind},
    id::RequestId,
};
use synapse_dialect::openai::error;

/// Correlates a reply with logs and records.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every fault's status. 499 is only ever recorded.
pub const fn status(kind: FaultKind) -> StatusCode {
    use FaultKind as K;
    match kind {
        K::InvalidJson
        | K::MissingField
        | K::InvalidField
        | K::UnsupportedField
        | K::UpstreamRejected
        | K::ContextExceeded
        | K::DlpBlocked
        | K::DlpResponseBlocked
        | K::ContentUnscannable
        | K::MalformedRequest => StatusCode::BAD_REQUEST,
        K::MissingApiKey | K::ConflictingCredentials | K::Unauthenticated => StatusCode::UNAUTHORIZED,
        K::InvalidApiKey
        | K::KeyRevoked
        | K::KeyExpired
        | K::KeyDisabled
        | K::ModelNotAllowed
        | K::OperationNotAllowed
        | K::DataClassNotAllowed
        | K::NetworkNotAllowed => StatusCode::FORBIDDEN,
        K::ModelNotFound | K::NotFound => StatusCode::NOT_FOUND,
        K::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        K::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
        K::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        K::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        K::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        K::UpstreamRateLimited
        | K::RequestLimit
        | K::TokenLimit
        | K::ConcurrencyLimit
        | K::BudgetExceeded => StatusCode::TOO_MANY_REQUESTS,
        K::UriTooLong => StatusCode::URI_TOO_LONG,
        K::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        K::UpstreamAuth
        | K::UpstreamUnsupported
        | K::Upstream
        | K::UpstreamInvalidResponse
        | K::UpstreamTruncated => StatusCode::BAD_GATEWAY,
        K::NoBackendAvailable
        | K::CircuitOpen
        | K::Overloaded
        | K::NoClientBinary
        | K::DlpFailed
        | K::LimitsUnavailable
        | K::AuditUnavailable
        | K::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        K::UpstreamTimeout | K::FirstTokenTimeout => StatusCode::GATEWAY_TIMEOUT,
        K::LoopDetected => StatusCode::LOOP_DETECTED,
        // The caller is gone; whoever reads this is a log.
        K::ClientClosedRequest | K::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The reply for a fault.
pub fn fault(fault: &Fault) -> Response<Bytes> {
    let own = fault.upstream.as_ref().and_then(|said| StatusCode::from_u16(said.status).ok());
    let code = own.unwrap_or(status(fault.kind));
    let mut response = Response::new(Bytes::from(error::envelope(fault).to_string()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if code == StatusCode::UPGRADE_REQUIRED {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // Where the request ends is not known: nothing may follow it.
    if matches!(fault.kind, FaultKind::MalformedRequest | FaultKind::RequestTimeout) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let wait =
        fault.retry_after.or((code == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1)));
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
    }
    response
}

/// Puts the request's identifier on a reply.
pub fn tag(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_a_status_that_fits_its_class() {
        for &kind in FaultKind::ALL {
            let status = status(kind).as_u16();
            let fits = match kind.class() {
                "invalid_request_error" => (400..500).contains(&status) || matches!(status, 500 | 508),
                "authentication_error" => status == 401,
                "permission_error" => status == 403,
                "policy_violation" => status == 400,
                "rate_limit_error" => status == 429,
                "unavailable_error" => status == 503,
                "upstream_error" => status == 502 || status == 504,
                "server_error" => status == 500,
                other => panic!("unknown class {other}"),
            };
            assert!(fits, "{kind:?} → {status}");
        }
    }

    #[test]
    fn a_fault_names_the_field_and_when_to_come_back() {
        let reply = fault(&Fault::new(FaultKind::InvalidField, "Bad.").param("messages[0].role"));
        assert_eq!(reply.status(), 400);
        let body: serde_json::Value = serde_json::from_slice(reply.body()).expect("JSON");
        assert_eq!(body["error"]["param"], "messages[0].role");
        assert_eq!(body["error"]["code"], "invalid_field");
        let reply =
            fault(&Fault::new(FaultKind::Overloaded, "Busy.").retry_after(Duration::from_millis(2500)));
        assert_eq!(reply.headers()[RETRY_AFTER], "3");
    }
}
