//! Faults: what went wrong, whose fault it is, and whether trying again can help. A fault knows
//! nothing of HTTP; `synapse-gateway`'s `respond` is the one place that turns it into a reply.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request is wrong.
    Caller,
    /// The request is well-formed, but not allowed.
    Policy,
    /// An engine failed.
    Upstream,
    /// Synapse itself, or its operator's configuration.
    Gateway,
}

/// Whether a further attempt can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No attempt can succeed.
    Never,
    /// The same request may succeed later, as it is.
    SameOk,
    /// Another backend may succeed now.
    ElsewhereOnly,
}

macro_rules! fault_kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $class:literal, $blame:ident, $retry:ident;)*) => {
        /// Every kind of fault of the data plane.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultKind { $($(#[$doc])* $kind,)* }

        impl FaultKind {
            /// Every kind, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The stable `code` that callers, records and metrics see.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code,)* }
            }

            /// The OpenAI `type` that the code belongs to.
            pub const fn class(self) -> &'static str {
                match self { $(Self::$kind => $class,)* }
            }

            /// Whose fault it is.
            pub const fn blame(self) -> Blame {
                match self { $(Self::$kind => Blame::$blame,)* }
            }

            /// Whether a further attempt can help.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$kind => Retry::$retry,)* }
            }
        }
    };
}

fault_kinds! {
    /// The body is not JSON.
    InvalidJson = "invalid_json", "invalid_request_error", Caller, Never;
    /// A required field is absent.
    MissingField = "missing_field", "invalid_request_error", Caller, Never;
    /// A field has the wrong type or value.
    InvalidField = "invalid_field", "invalid_request_error", Caller, Never;
    /// A field that this operation cannot honour.
    UnsupportedField = "unsupported_field", "invalid_request_error", Caller, Never;
    /// No credential.
    MissingApiKey = "missing_api_key", "authentication_error", Caller, Never;
    /// Two different credentials in one request.
    ConflictingCredentials = "conflicting_credentials", "authentication_error", Caller, Never;
    /// No such key, or a wrong secret.
    InvalidApiKey = "invalid_api_key", "permission_error", Policy, Never;
    /// No such key of a worker, or no such token of an administrator.
    Unauthenticated = "invalid_api_key", "authentication_error", Policy, Never;
    /// The key was revoked.
    KeyRevoked = "key_revoked", "permission_error", Policy, Never;
    /// The key's time is over.
    KeyExpired = "key_expired", "permission_error", Policy, Never;
    /// The key or its team is switched off.
    KeyDisabled = "key_disabled", "permission_error", Policy, Never;
    /// The model is outside the key's allowlist, whether it exists or not.
    ModelNotAllowed = "model_not_allowed", "permission_error", Policy, Never;
    /// The operation is outside the key's allowlist.
    OperationNotAllowed = "operation_not_allowed", "permission_error", Policy, Never;
    /// The request asks for a class of data below its key's, or for one that does not exist.
    DataClassNotAllowed = "data_class_not_allowed", "permission_error", Policy, Never;
    /// The key may not be used from the caller's network.
    NetworkNotAllowed = "network_not_allowed", "permission_error", Policy, Never;
    /// The prompt holds what a policy blocks.
    DlpBlocked = "dlp_blocked", "policy_violation", Policy, Never;
    /// The reply holds what a policy blocks.
    DlpResponseBlocked = "dlp_response_blocked", "policy_violation", Policy, Never;
    /// The request holds what a policy demands to be searched, and what cannot be.
    ContentUnscannable = "content_unscannable", "policy_violation", Policy, Never;
    /// The search for sensitive data failed where a policy demands it.
    DlpFailed = "dlp_failed", "unavailable_error", Gateway, SameOk;
    /// Over a limit of requests.
    RequestLimit = "rate_limit_exceeded", "rate_limit_error", Policy, SameOk;
    /// Over a limit of tokens.
    TokenLimit = "token_limit_exceeded", "rate_limit_error", Policy, SameOk;
    /// Over a limit of requests at once.
    ConcurrencyLimit = "concurrency_limit_exceeded", "rate_limit_error", Policy, SameOk;
    /// Over a limit of money.
    BudgetExceeded = "budget_exceeded", "rate_limit_error", Policy, SameOk;
    /// The shared counters cannot be reached, and the configuration says to refuse then.
    LimitsUnavailable = "limits_unavailable", "unavailable_error", Gateway, SameOk;
    /// Allowed, but no such model.
    ModelNotFound = "model_not_found", "invalid_request_error", Caller, Never;
    /// No such route.
    NotFound = "not_found", "invalid_request_error", Caller, Never;
    /// The route exists, with other methods.
    MethodNotAllowed = "method_not_allowed", "invalid_request_error", Caller, Never;
    /// The route speaks another protocol.
    UpgradeRequired = "upgrade_required", "invalid_request_error", Caller, Never;
    /// The body is above its limit.
    BodyTooLarge = "body_too_large", "invalid_request_error", Caller, Never;
    /// The content type or coding is not one this route reads.
    UnsupportedMediaType = "unsupported_media_type", "invalid_request_error", Caller, Never;
    /// The request is not framed or spelled as HTTP demands.
    MalformedRequest = "malformed_request", "invalid_request_error", Caller, Never;
    /// The path with its query is above its limit.
    UriTooLong = "uri_too_long", "invalid_request_error", Caller, Never;
    /// The header section is above its limit.
    HeadersTooLarge = "headers_too_large", "invalid_request_error", Caller, Never;
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", "invalid_request_error", Caller, SameOk;
    /// The caller hung up; never sent, only recorded.
    ClientClosedRequest = "client_closed_request", "invalid_request_error", Caller, Never;
    /// The engine refused the request itself (bad parameter, context too long).
    UpstreamRejected = "upstream_rejected", "invalid_request_error", Caller, Never;
    /// The request is longer than the model's context.
    ContextExceeded = "context_length_exceeded", "invalid_request_error", Caller, Never;
    /// Every backend says that it is busy.
    UpstreamRateLimited = "rate_limit_exceeded", "rate_limit_error", Upstream, ElsewhereOnly;
    /// The engine refuses our own credential.
    UpstreamAuth = "upstream_auth_error", "upstream_error", Gateway, ElsewhereOnly;
    /// The engine does not offer this operation.
    UpstreamUnsupported = "upstream_unsupported", "upstream_error", Upstream, ElsewhereOnly;
    /// The engine failed.
    Upstream = "upstream_error", "upstream_error", Upstream, ElsewhereOnly;
    /// The engine's reply is not what its API promises.
    UpstreamInvalidResponse = "upstream_invalid_response", "upstream_error", Upstream, ElsewhereOnly;
    /// The engine's reply ended before it was complete.
    UpstreamTruncated = "upstream_truncated", "upstream_error", Upstream, ElsewhereOnly;
    /// No backend that may serve the request can.
    NoBackendAvailable = "no_backend_available", "unavailable_error", Gateway, SameOk;
    /// Every backend's breaker is open.
    CircuitOpen = "circuit_open", "unavailable_error", Upstream, SameOk;
    /// Too much work already.
    Overloaded = "overloaded", "unavailable_error", Gateway, SameOk;
    /// The request cannot be recorded.
    AuditUnavailable = "audit_unavailable", "unavailable_error", Gateway, SameOk;
    /// The gateway has no binary to install workers from.
    NoClientBinary = "no_client_binary", "unavailable_error", Gateway, Never;
    /// The gateway is going down.
    ShuttingDown = "shutting_down", "unavailable_error", Gateway, SameOk;
    /// The engine did not finish in time.
    UpstreamTimeout = "upstream_timeout", "upstream_error", Upstream, ElsewhereOnly;
    /// The engine did not begin to answer in time.
    FirstTokenTimeout = "first_token_timeout", "upstream_error", Upstream, ElsewhereOnly;
    /// The request has passed this gateway before: a backend's address leads back to it.
    LoopDetected = "loop_detected", "invalid_request_error", Gateway, Never;
    /// A bug in Synapse.
    Internal = "internal_error", "server_error", Gateway, SameOk;
}

/// A refusal or failure on its way to the caller. The message is meant for the caller: it names the
/// field and the remedy, and never an upstream's address, a secret or a prompt.
#[derive(Debug)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// For the caller, in full sentences.
    pub message: Cow<'static, str>,
    /// The request's field at fault, as a path (`messages[0].role`).
    pub param: Option<Cow<'static, str>>,
    /// When to try again, where that is known.
    pub retry_after: Option<Duration>,
    /// The engine's own words for a request that it refused.
    pub upstream: Option<Box<Refusal>>,
    /// Further fields of the error object, for programs to read.
    pub details: Box<[(&'static str, serde_json::Value)]>,
    /// What lies beneath; for logs only.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// An engine's own words for a request that it refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Its status: 400, 413 or 422.
    pub status: u16,
    /// Its code, where the caller is to see that one.
    pub code: Option<String>,
}

impl Fault {
    /// A fault with a message for the caller.
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            upstream: None,
            details: Box::default(),
            source: None,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a field to the error object.
    #[must_use]
    pub fn detail(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        let mut details = self.details.into_vec();
        details.push((name, value.into()));
        self.details = details.into();
        self
    }

    /// Keeps the underlying error for the log.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_prints_its_code_and_message_but_not_its_source() {
        let fault = Fault::new(FaultKind::Upstream, "The engine failed.").source("http://10.0.0.1 secret");
        assert_eq!(fault.to_string(), "upstream_error: The engine failed.");
    }
}
