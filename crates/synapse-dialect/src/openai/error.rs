//! Errors in OpenAI's envelope: writing ours, and reading the many shapes that engines send.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use serde_json::{Value, json};
use synapse_core::error::Fault;

/// The longest message taken over from an engine, in bytes.
const MAX_MESSAGE: usize = 1024;

/// An engine's error, whatever its shape was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineError {
    /// For the caller: without control characters, addresses and excess length.
    pub message: String,
    /// The field at fault, where the engine names one.
    pub param: Option<String>,
    /// The engine's code, always a string.
    pub code: Option<String>,
}

/// Reads an engine's error body: OpenAI's nested shape, vLLM's flat one, Ollama's bare string,
/// TGI's pair, FastAPI's `detail`, llama.cpp's integer codes.
pub fn read(body: &[u8]) -> EngineError {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let inner = match &json["error"] {
        Value::Object(_) => &json["error"],
        _ => &json,
    };
    let text = |value: &Value| match value {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    let message = text(&inner["message"])
        .or_else(|| text(&json["error"]))
        .or_else(|| text(&json["detail"]))
        .or_else(|| text(&json["detail"][0]["msg"]))
        .unwrap_or_else(|| "The engine gave no reason.".to_owned());
    let plain = |code: &String| {
        code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    EngineError {
        message: sanitise(&message),
        param: text(&inner["param"]).map(|param| sanitise(&param)).filter(|param| param.len() <= 128),
        code: text(&inner["code"]).filter(plain),
    }
}

/// Whether an engine refuses a request because it does not fit the model's context.
pub fn is_context_overflow(error: &EngineError) -> bool {
    const CODES: [&str; 2] = ["context_length_exceeded", "string_above_max_length"];
    // vLLM, SGLang and OpenAI; llama.cpp; Anthropic and others; TGI.
    const WORDS: [&str; 6] = [
        "context length",
        "context size",
        "context window",
        "prompt is too long",
        "input is too long",
        "`inputs` must have less than",
    ];
    if error.code.as_deref().is_some_and(|code| CODES.contains(&code)) {
        return true;
    }
    let message = error.message.to_ascii_lowercase();
    WORDS.iter().any(|words| message.contains(words))
}

/// Whether a whole reply is an error: its top level has one that is not `null`. A failed object of the
/// Responses API has one as well, but is what was asked for.
pub fn is_error(body: &[u8]) -> bool {
    crate::json::Object::parse(body).is_ok_and(|object| {
        let kind = object.get("object");
        let error = object.get("error").is_some_and(|error| error != "null");
        kind == Some("\"error\"") || (error && kind != Some("\"response\""))
    })
}

/// Removes what a caller must not see: addresses, credentials and paths of engines, control characters,
/// excess length.
pub fn sanitise(message: &str) -> String {
    let words = message.split_whitespace().map(|word| match word {
        word if is_address(word) => "[address]",
        word if is_secret(word) => "[secret]",
        word if is_path(word) => "[path]",
        word => word,
    });
    let mut clean = String::new();
    for word in words {
        if clean.len() + word.len() > MAX_MESSAGE {
            clean.push('…');
            break;
        }
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.extend(word.chars().filter(|c| !c.is_control()));
    }
    clean
}

/// Whether a word names a place on the network: a URL, an IP address, or a host with a port.
fn is_address(word: &str) -> bool {
    if word.contains("://") {
        return true;
    }
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '[' && c != ']');
    if inner.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let bare = inner.trim_matches(['[', ']']);
    if bare.contains(['.', ':']) && bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    // `key=host:port` as well.
    let place = inner.rsplit(['=', '@', '"', '\'']).next().unwrap_or(inner);
    let Some((host, port)) = place.rsplit_once(':') else { return false };
    let is_port = port.len() >= 2 && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = host.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || (host.contains(|c: char| c.is_ascii_alphabetic()) && host.contains('.'))
        || (port.len() >= 4 && host.contains(|c: char| c.is_ascii_alphabetic()));
    is_port && is_host
}

/// Whether a word looks like a credential.
fn is_secret(word: &str) -> bool {
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let value = inner.rsplit(['=', ':', '"', '\'']).next().unwrap_or(inner);
    ["sk-", "syn_", "gsk_", "hf_", "xai-", "eyJ"]
        .iter()
        .any(|prefix| value.starts_with(prefix) && value.len() > 8)
}

/// Whether a word names a file of the engine's machine.
fn is_path(word: &str) -> bool {
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    inner.starts_with('/') && inner[1..].contains('/') && !inner.starts_with("/v1/")
}

/// The envelope of an error reply.
pub fn envelope(fault: &Fault) -> Value {
    let code = fault.upstream.as_ref().and_then(|said| said.code.as_deref()).unwrap_or(fault.kind.code());
    let error = json!({
        "message": fault.message, "type": fault.kind.class(), "param": fault.param, "code": code
    });
    json!({ "error": with_details(error, fault) })
}

fn with_details(mut error: Value, fault: &Fault) -> Value {
    for (name, value) in &fault.details {
        error[name] = value.clone();
    }
    error
}

/// The event that ends a broken stream.
pub fn event(fault: &Fault) -> Bytes {
    format!("data: {}\n\n", envelope(fault)).into()
}

/// The same in the Responses API's shape.
pub fn responses_event(fault: &Fault) -> Bytes {
    let data =
        json!({ "type": "error", "code": fault.kind.code(), "message": fault.message, "param": fault.param });
    format!("event: error\ndata: {}\n\n", with_details(data, fault)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engines_shape_is_read() {
        for (body, message, code) in [
            (r#"{"error":{"message":"too long","param":"messages","code":400}}"#, "too long", Some("400")),
            (r#"{"object":"error","message":"no such model","code":404}"#, "no such model", Some("404")),
            (r#"{"error":"model 'x' not found"}"#, "model 'x' not found", None),
            (r#"{"error":"busy","error_type":"overloaded"}"#, "busy", None),
            (r#"{"detail":[{"msg":"field required"}]}"#, "field required", None),
            ("<html>", "The engine gave no reason.", None),
        ] {
            let read = read(body.as_bytes());
            assert_eq!((read.message.as_str(), read.code.as_deref()), (message, code), "{body}");
        }
    }

    #[test]
    fn a_failed_response_is_a_reply_and_other_errors_are_none() {
        assert!(is_error(br#"{"error":{"message":"x"}}"#));
        assert!(is_error(br#"{"object":"error","message":"x"}"#));
        assert!(!is_error(br#"{"object":"response","status":"failed","error":{"message":"x"}}"#));
        assert!(!is_error(br#"{"object":"chat.completion","error":null}"#));
    }

    #[test]
    fn addresses_and_control_characters_are_removed() {
        assert_eq!(
            sanitise("dial http://10.0.0.5:8000/v1\u{1b}[31m failed (10.0.0.5), 10.1.2.3:80 too"),
            "dial [address] failed [address] [address] too"
        );
        assert_eq!(
            sanitise(
                "dial tcp 10.0.0.5:8000: connect: gpu-1.internal:8000, addr=gpu-1:8000 [::1]:80 refused"
            ),
            "dial tcp [address] connect: [address] [address] [address] refused"
        );
        assert_eq!(sanitise("model llama3.1:8b needs 3:1"), "model llama3.1:8b needs 3:1");
        assert_eq!(sanitise("at 12:30, 3.5 of 4096 tokens"), "at 12:30, 3.5 of 4096 tokens");
        assert_eq!(
            sanitise("key sk-abcdef123456 in /root/models/x.gguf at /v1/chat"),
            "key [secret] in [path] at /v1/chat"
        );
        assert!(sanitise(&"word ".repeat(5000)).len() < 1100);
    }
}
