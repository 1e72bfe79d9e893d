//! What an engine's status means: the caller's fault, ours, or a reason to try elsewhere.

use std::time::Duration;

use hyper::{HeaderMap, StatusCode, header::RETRY_AFTER};
use synapse_core::error::{Fault, FaultKind, Refusal};
use synapse_dialect::openai::error::{self, EngineError};

/// Nobody is asked to stay away for longer.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The fault that a reply of this status stands for; `None` for a success.
pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8], model: &str) -> Option<Fault> {
    if status.is_success() {
        return None;
    }
    let said = error::read(body);
    let fault = match status.as_u16() {
        code @ (400 | 413 | 422) => return Some(passed_on(code, said)),
        401..=403 => Fault::new(
            FaultKind::UpstreamAuth,
            "The engine refuses the gateway's own credential. The operator has to renew it.",
        ),
        404 => Fault::new(
            FaultKind::ModelNotFound,
            format!("No backend serves the model `{model}` at this route now."),
        )
        .param("model"),
        405 | 501 => Fault::new(
            FaultKind::UpstreamUnsupported,
            format!("No backend of the model `{model}` offers this operation."),
        ),
        408 | 504 => Fault::new(FaultKind::UpstreamTimeout, "The engine did not answer in time."),
        429 => {
            Fault::new(FaultKind::UpstreamRateLimited, "Every backend of this model is at its rate limit.")
        }
        508 => Fault::new(
            FaultKind::LoopDetected,
            "The address of one of this model's backends leads back to a gateway.",
        ),
        300..=399 => Fault::new(FaultKind::UpstreamInvalidResponse, "The engine answered with a redirect."),
        _ => Fault::new(FaultKind::Upstream, "The engine failed to serve the request."),
    };
    // Engines echo what they were sent: their words are for no log.
    let fault = fault.source(format!("the engine answered {status}"));
    Some(match retry_after(headers) {
        Some(wait) => fault.retry_after(wait),
        None => fault,
    })
}

/// The engine's own words on what is wrong with the request.
fn passed_on(status: u16, said: EngineError) -> Fault {
    let kind = if error::is_context_overflow(&said) {
        FaultKind::ContextExceeded
    } else {
        FaultKind::UpstreamRejected
    };
    let mut fault = Fault::new(kind, said.message);
    // A number is only the status again.
    let code = said.code.filter(|code| code.parse::<u32>().is_err());
    fault.upstream = Some(Box::new(Refusal { status, code }));
    fault.param = said.param.map(Into::into);
    fault
}

/// `Retry-After` in seconds or as a date, or OpenAI's millisecond variant.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok()) {
        return wait(ms / 1000.0);
    }
    let value = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = value.parse::<f64>() {
        return wait(seconds);
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?;
    wait(at.timestamp().duration_since(jiff::Timestamp::now()).as_secs_f64())
}

fn wait(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds > 0.0)
        .then(|| Duration::from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16) -> &'static str {
        let status = StatusCode::from_u16(status).expect("a status");
        of(status, &HeaderMap::new(), b"{}", "m").expect("a fault").kind.code()
    }

    #[test]
    fn a_status_is_blamed_on_the_right_party() {
        assert_eq!(kind(400), "upstream_rejected");
        assert_eq!(kind(401), "upstream_auth_error");
        assert_eq!(kind(404), "model_not_found");
        assert_eq!(kind(429), "rate_limit_exceeded");
        assert_eq!(kind(302), "upstream_invalid_response");
        assert_eq!(kind(500), "upstream_error");
        assert!(of(StatusCode::OK, &HeaderMap::new(), b"", "m").is_none());
    }

    #[test]
    fn the_engines_words_are_passed_on_with_its_status() {
        let body = br#"{"error":{"message":"too long","param":"messages","code":"context_length_exceeded"}}"#;
        let fault = of(StatusCode::UNPROCESSABLE_ENTITY, &HeaderMap::new(), body, "m").expect("a fault");
        assert_eq!(fault.message, "too long");
        let said = Refusal { status: 422, code: Some("context_length_exceeded".to_owned()) };
        assert_eq!(fault.upstream.as_deref(), Some(&said));
    }

    #[test]
    fn retry_after_is_read_in_every_form_and_bounded() {
        let read = |name: &'static str, value: &str| {
            retry_after(&HeaderMap::from_iter([(
                hyper::header::HeaderName::from_static(name),
                value.parse().expect("a value"),
            )]))
        };
        assert_eq!(read("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(read("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "86400"), Some(MAX_WAIT));
        assert_eq!(read("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT"), Some(MAX_WAIT));
        assert_eq!(read("retry-after", "-1"), None);
        assert_eq!(read("retry-after", "soon"), None);
    }
}
