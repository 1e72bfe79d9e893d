//! Refusals and their shape on the wire, which every engine cuts differently.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::comeback::RetryForm;
use crate::options::Engine;
use crate::reply::{DONE, Framing, Reply};

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    status: StatusCode,
    message: String,
    kind: Kind,
    param: Option<&'static str>,
    retry_after: Option<(Duration, RetryForm)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Key,
    Model,
    Route,
    Context,
}

impl Fault {
    fn new(status: StatusCode, kind: Kind, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, retry_after: None }
    }

    /// A request the engine cannot read or will not take.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Kind::Plain, message)
    }

    /// A field without which there is nothing to do.
    pub(crate) fn missing(field: &'static str) -> Self {
        Self { param: Some(field), ..Self::invalid(format!("Missing required parameter: '{field}'.")) }
    }

    /// A missing or wrong key.
    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Kind::Key, "Incorrect API key provided.")
    }

    /// A model the engine does not serve.
    pub(crate) fn unknown_model(engine: Engine, model: &str) -> Self {
        let message = match engine {
            Engine::OpenAi => format!("The model `{model}` does not exist or you do not have access to it."),
            Engine::LlamaCpp | Engine::Ollama => format!("model '{model}' not found"),
            _ => format!("The model `{model}` does not exist."),
        };
        // llama-server's router counts a wrong name among the malformed requests.
        let status = if engine == Engine::LlamaCpp { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
        Self { param: Some("model"), ..Self::new(status, Kind::Model, message) }
    }

    /// A path the engine does not have.
    pub(crate) fn unknown_route(method: &http::Method, path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Kind::Route, format!("Invalid URL ({method} {path})"))
    }

    /// A prompt longer than the model's context.
    pub(crate) fn context_length(limit: u32, prompt: u32) -> Self {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your messages resulted in {prompt} tokens."
        );
        Self { param: Some("messages"), ..Self::new(StatusCode::BAD_REQUEST, Kind::Context, message) }
    }

    /// The model is still being loaded.
    pub(crate) fn loading() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Plain, "Loading model")
    }

    /// The engine takes nothing new.
    pub(crate) fn draining() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Plain, "The server is shutting down.")
    }

    /// No slot is free.
    pub(crate) fn no_slot() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Plain, "no slot available")
    }

    /// The engine is up but not well.
    pub(crate) fn failing() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Plain, "The engine is not healthy.")
    }

    /// A failure that was asked for.
    pub(crate) fn forced(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::TOO_MANY_REQUESTS => {
                Self::new(status, Kind::Plain, "Rate limit reached, try again later.")
            }
            _ => Self::new(
                status,
                Kind::Plain,
                format!("The simulated engine failed with status {}.", status.as_u16()),
            ),
        }
    }

    /// The same refusal, saying in this form when to come back.
    pub(crate) fn again_in(self, wait: Option<Duration>, form: RetryForm) -> Self {
        Self { retry_after: wait.map(|wait| (wait, form)), ..self }
    }

    /// The answer as `engine` gives it; `native` on the routes that are its own rather than OpenAI's.
    pub(crate) fn reply(&self, engine: Engine, native: bool) -> Reply {
        let reply = match (self.kind, engine) {
            (Kind::Route, Engine::Ollama) => Reply::text("404 page not found"),
            (Kind::Route, Engine::Tgi) => Reply::text(""),
            _ => Reply::json(&self.body(engine, native)),
        };
        Reply { retry_after: self.retry_after, ..reply.with_status(self.status_on(engine)) }
    }

    fn status_on(&self, engine: Engine) -> StatusCode {
        let invalid = self.status == StatusCode::BAD_REQUEST;
        if engine == Engine::Tgi && invalid { StatusCode::UNPROCESSABLE_ENTITY } else { self.status }
    }

    /// The event with which a stream fails after it began.
    pub(crate) fn event(&self, engine: Engine, native: bool, framing: Framing) -> Bytes {
        let body = self.body(engine, native);
        match engine {
            // Both announce a proper end after their error.
            Engine::Vllm => [&framing.frame(&body)[..], DONE].concat().into(),
            Engine::Sglang => [&framing.frame(&json!({"error": body}))[..], DONE].concat().into(),
            _ => framing.frame(&body),
        }
    }

    /// The error document.
    fn body(&self, engine: Engine, native: bool) -> Value {
        let message = match (self.kind, engine) {
            (Kind::Route, Engine::LlamaCpp) => "File Not Found",
            _ => self.message.as_str(),
        };
        match engine {
            Engine::Vllm | Engine::Sglang if self.kind == Kind::Key => json!({"error": "Unauthorized"}),
            Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm if self.kind == Kind::Route => {
                json!({"detail": "Not Found"})
            }
            Engine::OpenAi => json!({"error": {
                "message": message, "type": self.openai_type(), "param": self.param, "code": self.openai_code(),
            }}),
            Engine::Vllm => json!({"error": {
                "message": message, "type": self.python_type(), "param": self.param, "code": self.status.as_u16(),
            }}),
            Engine::Sglang | Engine::TensorRtLlm => json!({
                "object": "error", "message": message, "type": self.python_type(), "param": self.param,
                "code": self.status.as_u16(),
            }),
            Engine::LlamaCpp => json!({"error": {
                "code": self.status.as_u16(), "message": message, "type": self.llama_cpp_type(),
            }}),
            Engine::Ollama if native => json!({"error": message}),
            Engine::Ollama => json!({"error": {
                "message": message, "type": self.ollama_type(), "param": null, "code": null,
            }}),
            Engine::Tgi => json!({"error": message, "error_type": self.tgi_type()}),
        }
    }

    fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn openai_code(&self) -> Option<&'static str> {
        match (self.kind, self.status.as_u16()) {
            (Kind::Key, _) => Some("invalid_api_key"),
            (Kind::Model, _) => Some("model_not_found"),
            (Kind::Context, _) => Some("context_length_exceeded"),
            (Kind::Route, _) => Some("unknown_url"),
            (Kind::Plain, 429) => Some("rate_limit_exceeded"),
            (Kind::Plain, _) => None,
        }
    }

    fn python_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "AuthenticationError",
            404 => "NotFoundError",
            429 => "TooManyRequestsError",
            503 => "ServiceUnavailableError",
            500.. => "InternalServerError",
            _ => "BadRequestError",
        }
    }

    fn llama_cpp_type(&self) -> &'static str {
        match (self.kind, self.status.as_u16()) {
            (Kind::Context, _) => "exceed_context_size_error",
            (_, 401) => "authentication_error",
            (_, 404) => "not_found_error",
            (_, 501) => "not_supported_error",
            (_, 503) => "unavailable_error",
            (_, 500..) => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn ollama_type(&self) -> &'static str {
        match self.status.as_u16() {
            400 => "invalid_request_error",
            404 => "not_found_error",
            _ => "api_error",
        }
    }

    fn tgi_type(&self) -> &'static str {
        match self.status.as_u16() {
            429 => "overloaded",
            500.. => "generation",
            _ => "validation",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(engine: Engine) -> Value {
        Fault::unknown_model(engine, "x").body(engine, engine == Engine::Ollama)
    }

    #[test]
    fn every_engine_says_in_its_own_words_that_it_lacks_a_model() {
        assert_eq!(unknown(Engine::OpenAi)["error"]["code"], "model_not_found");
        assert_eq!(unknown(Engine::Vllm)["error"]["code"], 404);
        assert_eq!(unknown(Engine::Sglang)["object"], "error");
        assert_eq!(
            unknown(Engine::LlamaCpp),
            json!({"error": {
                "code": 400, "message": "model 'x' not found", "type": "invalid_request_error"
            }})
        );
        assert_eq!(unknown(Engine::Ollama), json!({"error": "model 'x' not found"}));
    }

    #[test]
    fn a_wrong_key_is_an_integer_code_for_llama_cpp_and_a_bare_word_for_vllm() {
        let fault = Fault::unauthorized();
        assert_eq!(fault.body(Engine::LlamaCpp, false)["error"]["code"], 401);
        assert_eq!(fault.body(Engine::Vllm, false), json!({"error": "Unauthorized"}));
    }
}
