//! The catalogue of bad input, row by row: what a caller sends, and what it is told.

use serde_json::{Value, json};
use synapse_testkit::{Config, Engine, Gateway, KEY};

use crate::start::{gateway, saying, with};

const CHAT: &str = "/v1/chat/completions";
const INVALID: &str = "invalid_request_error";

/// A row: its name, the raw request, and the status, type and code of the refusal.
type Row = (String, Vec<u8>, (u16, &'static str, &'static str));

/// A request with these lines in its head besides.
fn request(line: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n{lines}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request with the right key.
fn known(line: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    request(line, &format!("authorization: Bearer {KEY}\r\n{lines}"), body)
}

fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    known(&format!("POST {CHAT}"), "", body.as_ref())
}

fn credentials() -> Vec<Row> {
    let chat = saying("m", "hi").to_string();
    let bearing = |lines: &str| request(&format!("POST {CHAT}"), lines, chat.as_bytes());
    let missing = (401, "authentication_error", "missing_api_key");
    let wrong = (403, "permission_error", "invalid_api_key");
    let row = |name: &str, lines: &str, refusal| (name.to_owned(), bearing(lines), refusal);
    vec![
        row("no credential", "", missing),
        row("Basic", "authorization: Basic dXNlcjpwdw==\r\n", missing),
        row("an empty key", "authorization: Bearer \r\n", missing),
        row("an unknown key", "authorization: Bearer syn_aaaaaaaa_nothing\r\n", wrong),
        row("SQL", "authorization: Bearer ' OR 1=1--\r\n", wrong),
        row("a key of 16 KiB", &format!("authorization: Bearer {}\r\n", "k".repeat(16 << 10)), wrong),
        row(
            "a key of 1 MiB",
            &format!("authorization: Bearer {}\r\n", "k".repeat(1 << 20)),
            (431, INVALID, "headers_too_large"),
        ),
        row("an emoji for a key", "authorization: Bearer \u{1f511}\r\n", missing),
        row("NUL in the key", "authorization: Bearer a\0b\r\n", (400, INVALID, "malformed_request")),
        row(
            "two keys",
            &format!("authorization: Bearer {KEY}\r\nx-api-key: other\r\n"),
            (401, "authentication_error", "conflicting_credentials"),
        ),
        (
            "a key in the query".to_owned(),
            request(&format!("POST {CHAT}?key={KEY}"), "", chat.as_bytes()),
            missing,
        ),
    ]
}

fn places() -> Vec<Row> {
    let not_found = (404, INVALID, "not_found");
    let row = |line: &str, refusal| (line.chars().take(60).collect(), known(line, "", b""), refusal);
    let mut rows: Vec<Row> = [
        "GET /nowhere",
        "GET /v1/../v1/models",
        "GET /v1/%2e%2e/v1/models",
        "GET //v1/models",
        "GET /v1//models",
        "GET /v1%2fmodels",
        "GET /v1/models%2f",
        "GET /v1/chat/completions/",
        "GET /v1/chat%00/completions",
        "GET /V1/models",
        "GET /metrics",
        "GET /.git/config",
        "GET *",
    ]
    .map(|line| row(line, not_found))
    .into();
    rows.extend([
        row("GET /v1/models/..%2f..%2fhealth", (404, INVALID, "model_not_found")),
        row("GET /v1/models/a%00b", not_found),
        row(&format!("GET /{}", "a".repeat(8 << 10)), (414, INVALID, "uri_too_long")),
        row(&format!("GET /livez?{}", "a".repeat(40 << 10)), (414, INVALID, "uri_too_long")),
        row("GET /v1/chat/completions", (405, INVALID, "method_not_allowed")),
        row("TRACE /v1/models", (405, INVALID, "method_not_allowed")),
        row("OPTIONS /v1/models", (405, INVALID, "method_not_allowed")),
        row("DELETE /health", (405, INVALID, "method_not_allowed")),
        row("BREW /v1/chat/completions", (405, INVALID, "method_not_allowed")),
        row("CONNECT a:443", (400, INVALID, "malformed_request")),
    ]);
    let many = "x: y\r\n".repeat(101);
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n";
    rows.push(("101 headers".into(), known("GET /livez", &many, b""), (431, INVALID, "headers_too_large")));
    for line in ["GET /v1/chat/completions", "POST /v1/chat/completions", "GET /v1/models"] {
        let refusal = (400, INVALID, "unsupported_field");
        rows.push((format!("WebSocket: {line}"), known(line, upgrade, b""), refusal));
    }
    rows
}

fn bodies() -> Vec<Row> {
    let json = (400, INVALID, "invalid_json");
    let field = (400, INVALID, "invalid_field");
    let missing = (400, INVALID, "missing_field");
    let message = json!([{"role": "user", "content": "hi"}]);
    let chat = |more: &str| format!(r#"{{"model":"m","messages":{message}{more}}}"#);
    let messages = |messages: &str| format!(r#"{{"model":"m","messages":{messages}}}"#);
    let deep = |depth: usize| chat(&format!(r#","x":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    let row = |name: &str, body: String, refusal| (name.to_owned(), post(body), refusal);
    let mut rows = vec![
        row("an empty body", String::new(), json),
        row("no JSON", "hello".into(), json),
        row("a truncated body", chat("").trim_end_matches('}').into(), json),
        row("something behind", chat("") + "{}", json),
        row("64 levels and one", deep(64), json),
        row("10,000 levels", deep(10_000), json),
        row("the model twice", chat(r#","model":"m""#), json),
        row("the model twice, once escaped", chat(r#","mod\u0065l":"other""#), json),
        row("the messages twice", chat(r#","messages":[]"#), json),
        row("a role twice", messages(r#"[{"role":"user","role":"system","content":"hi"}]"#), json),
        row("a content twice", messages(r#"[{"role":"user","content":"a","content":"b"}]"#), json),
        row(
            "a part's text twice",
            messages(r#"[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]"#),
            json,
        ),
        row("a number beyond all", chat(r#","temperature":1e400"#), json),
        row("NaN", chat(r#","temperature":NaN"#), json),
        row("Infinity", chat(r#","temperature":-Infinity"#), json),
        row("a lone surrogate", messages(r#"[{"role":"user","content":"\ud800"}]"#), json),
        row(
            "surrogates the wrong way round",
            messages(r#"[{"role":"user","content":"\udc00\ud800"}]"#),
            json,
        ),
        row("a line end in a string", messages("[{\"role\":\"user\",\"content\":\"a\nb\"}]"), json),
        row("no messages", r#"{"model":"m"}"#.into(), missing),
        row("messages that are null", messages("null"), missing),
        row("no model", format!(r#"{{"messages":{message}}}"#), missing),
        row("empty messages", messages("[]"), field),
        row("messages that are no list", messages(r#"{"role":"user"}"#), field),
        row("a message that is text", messages(r#"["hi"]"#), field),
        row("a message without a role", messages(r#"[{"content":"hi"}]"#), field),
        row("a role that is a number", messages(r#"[{"role":1,"content":"hi"}]"#), field),
        row("an empty role", messages(r#"[{"role":"","content":"hi"}]"#), field),
        row("a content that is a number", messages(r#"[{"role":"user","content":5}]"#), field),
        row("2,049 messages", messages(&json!(vec![&message[0]; 2049]).to_string()), field),
        row("stream that is text", chat(r#","stream":"true""#), field),
        row("stream_options without stream", chat(r#","stream_options":{"include_usage":true}"#), field),
        row("a million choices", chat(r#","n":1000000"#), field),
        row("no choice", chat(r#","n":0"#), field),
        row("half a choice", chat(r#","n":1.5"#), field),
        row("max_tokens below zero", chat(r#","max_tokens":-2"#), field),
        row("max_tokens beyond all", chat(r#","max_tokens":1000000000000"#), field),
        row("max_completion_tokens that is text", chat(r#","max_completion_tokens":"9""#), field),
        row("a temperature that is text", chat(r#","temperature":"hot""#), field),
        row("a model of 1 KiB", chat("").replacen("\"m\"", &format!("\"{}\"", "m".repeat(1024)), 1), field),
    ];
    for (name, bytes) in [
        ("invalid UTF-8", &b"\xff"[..]),
        ("UTF-8 that is too long", b"\xc0\xaf"),
        ("a surrogate in UTF-8", b"\xed\xa0\x80"),
    ] {
        let text = messages("[{\"role\":\"user\",\"content\":\"HERE\"}]");
        let (before, after) = text.split_once("HERE").expect("a place");
        rows.push((name.to_owned(), post([before.as_bytes(), bytes, after.as_bytes()].concat()), json));
    }
    let utf16: Vec<u8> = chat("").encode_utf16().flat_map(u16::to_le_bytes).collect();
    rows.push(("UTF-16".to_owned(), post(utf16), json));
    rows
}

fn media() -> Vec<Row> {
    let chat = saying("m", "hi").to_string();
    let typed = |lines: &str| known(&format!("POST {CHAT}"), lines, chat.as_bytes());
    let wrong = (415, INVALID, "unsupported_media_type");
    let row = |name: &str, lines: &str| (name.to_owned(), typed(lines), wrong);
    vec![
        row("text", "content-type: text/plain\r\n"),
        row("UTF-16 by name", "content-type: application/json; charset=utf-16\r\n"),
        row("gzip", "content-encoding: gzip\r\n"),
        row("an unknown coding", "content-encoding: snappy\r\n"),
        row("two codings", "content-encoding: identity, gzip\r\n"),
        (
            "more than the limit, announced".to_owned(),
            format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: 99999999\r\n\r\n")
                .into_bytes(),
            (413, INVALID, "body_too_large"),
        ),
        (
            "more than the limit, in chunks".to_owned(),
            format!(
                "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n{}\r\n0\r\n\r\n",
                " ".repeat(0x20_0000)
            )
            .into_bytes(),
            (413, INVALID, "body_too_large"),
        ),
    ]
}

async fn one() -> (Engine, Gateway) {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine]).set("/server/max_body_mb", 1)).await;
    (engine, gateway)
}

async fn refuses(rows: Vec<Row>) {
    let (engine, gateway) = one().await;
    let mut wrong = Vec::new();
    let count = rows.len();
    for (name, request, (status, kind, code)) in rows {
        let reply = gateway.anonymous().raw(&request).await;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let error = serde_json::from_str::<Value>(body).unwrap_or_default()["error"].take();
        let told = (head.get(9..12).unwrap_or_default(), error["type"].as_str(), error["code"].as_str());
        let allows = status != 405 || head.contains("\r\nallow: ");
        if told != (status.to_string().as_str(), Some(kind), Some(code))
            || !head.contains("x-request-id: ")
            || reply.contains(KEY)
            || !allows
        {
            wrong.push(format!("{name}: {status} {code}, but got {reply}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(engine.counters().received, 0);
    assert_eq!(gateway.logs().accesses_reach(count).await.len(), count, "one record for each");
    assert_eq!(gateway.client().chat("m").await.status, 200, "and the gateway is well");
}

#[tokio::test]
async fn bad_credentials() {
    refuses(credentials()).await;
}

#[tokio::test]
async fn bad_paths_methods_and_heads() {
    refuses(places()).await;
}

#[tokio::test]
async fn bad_bodies() {
    refuses(bodies()).await;
}

#[tokio::test]
async fn bad_types_and_sizes() {
    refuses(media()).await;
}

#[tokio::test]
async fn what_only_looks_odd_is_served() {
    let (engine, gateway) = one().await;
    let plain = saying("m", "hi");
    let deep = |depth: usize| -> Value {
        serde_json::from_str(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))).expect("JSON")
    };
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]);
    let silent = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1,\"a\":2}"}}
        ]},
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
        {"role": "developer", "content": "hi"}
    ]);
    let names: serde_json::Map<String, Value> = (0..5000).map(|at| (format!("p{at}"), json!({}))).collect();
    for (name, body) in [
        (
            "unknown fields",
            with(plain.clone(), json!({"x": {"y": [1, null]}, "api_base": "http://10.0.0.1"})),
        ),
        ("62 levels", with(plain.clone(), json!({"x": deep(62)}))),
        ("a pair of surrogates", saying("m", "\u{1f600}")),
        ("every control character, escaped", saying("m", "\u{0}\u{1f}\u{7f}")),
        ("parts", with(plain.clone(), json!({"messages": parts}))),
        ("tools", with(plain.clone(), json!({"messages": silent}))),
        (
            "a schema of 5,000 properties",
            with(plain.clone(), json!({"tools": [{"function": {"parameters": names}}]})),
        ),
        ("2,048 messages", json!({"model": "m", "messages": vec![&plain["messages"][0]; 2048]})),
        (
            "nulls",
            with(plain.clone(), json!({"n": null, "max_tokens": null, "stream": null, "temperature": null})),
        ),
        (
            "a big seed",
            with(plain.clone(), json!({"seed": i64::MAX, "temperature": 0, "n": 2, "max_tokens": 5})),
        ),
    ] {
        // Escapes of the other kind, too.
        for text in [body.to_string(), body.to_string().replace("\u{1f600}", "\\ud83d\\ude00")] {
            let answer = gateway.client().post_text(CHAT, &text).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert_eq!(engine.last_body(), text, "{name}");
        }
    }
    // A byte order mark is taken off: not every engine bears one.
    let marked = gateway.client().post_text(CHAT, &format!("\u{feff}{plain}")).await;
    assert_eq!((marked.status, engine.last_body()), (200, plain.to_string()));
}

#[tokio::test]
async fn nothing_in_a_request_chooses_where_it_goes() {
    let (engine, gateway) = one().await;
    let canary = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = format!("http://{}", canary.local_addr().expect("an address"));
    let body = with(
        saying("m", "hi"),
        json!({"api_base": there, "base_url": there, "backend": there, "endpoint": there, "host": there}),
    );
    let client = gateway.client();
    let mut request =
        client.request(hyper::Method::POST, &format!("{CHAT}?base_url={there}"), body.to_string());
    for name in [
        "x-forwarded-host",
        "forwarded",
        "x-api-base",
        "x-base-url",
        "x-upstream",
        "x-original-url",
        "x-rewrite-url",
        "location",
        "proxy",
    ] {
        request.headers_mut().insert(name, there.parse().expect("a value"));
    }
    assert_eq!(client.send(request).await.status, 200);
    let seen = engine.requests().pop().expect("a request");
    assert_eq!((seen.target.as_str(), engine.counters().received), (CHAT, 1));
    assert!(seen.headers.values().all(|value| value.as_bytes() != there.as_bytes()), "{:?}", seen.headers);
    let nobody = futures_now(canary.accept());
    assert!(nobody.is_none(), "somebody called");
}

/// What a future has to say at once.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
