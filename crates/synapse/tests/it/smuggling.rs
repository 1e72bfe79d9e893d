//! Request smuggling: framing that two readers could read in two ways ends the connection, and
//! nothing of it reaches an engine. Its well-formed neighbours are served.

use serde_json::{Value, json};
use synapse_testkit::{Engine, Gateway, KEY};

use crate::start::{saying, single};

const CHAT: &str = "/v1/chat/completions";
/// An empty chunked body.
const END: &str = "0\r\n\r\n";

/// A chat with these lines in its head, a line end after each.
fn chat(lines: &str, body: &str) -> String {
    format!("POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n{lines}\r\n{body}")
}

/// The body of a chat that an engine would serve.
fn body() -> String {
    saying("m", "smuggled").to_string()
}

/// The same in one chunk.
fn chunked() -> String {
    let body = body();
    format!("{:x}\r\n{body}\r\n{END}", body.len())
}

/// A whole request that hides in another one's body.
fn hidden() -> String {
    let body = body();
    chat(&format!("content-length: {}\r\n", body.len()), &body)
}

/// Two framings at once, and codings that only some readers know.
fn contradictions() -> Vec<(&'static str, String)> {
    let length = body().len();
    let hidden = hidden();
    let te = |line: &str| chat(&format!("{line}\r\n"), &format!("{}{hidden}", chunked()));
    let both = |line: &str| chat(&format!("content-length: 5\r\n{line}\r\n"), &format!("{END}{hidden}"));
    vec![
        ("CL.TE", chat("content-length: 5\r\ntransfer-encoding: chunked\r\n", &format!("{END}{hidden}"))),
        ("TE.CL", chat("transfer-encoding: chunked\r\ncontent-length: 4\r\n", &format!("5c\r\n{hidden}"))),
        ("CL.TE, whole", both("transfer-encoding: chunked")),
        ("CL.TE, in capitals", both("TRANSFER-ENCODING: CHUNKED")),
        ("CL 0 and TE", chat("content-length: 0\r\ntransfer-encoding: chunked\r\n", END)),
        ("TE.TE", te("transfer-encoding: chunked\r\ntransfer-encoding: identity")),
        ("TE.TE, the other way", te("transfer-encoding: identity\r\ntransfer-encoding: chunked")),
        ("chunked twice", te("transfer-encoding: chunked\r\ntransfer-encoding: chunked")),
        ("chunked twice in one line", te("transfer-encoding: chunked, chunked")),
        ("identity after chunked", te("transfer-encoding: chunked, identity")),
        ("gzip before chunked", te("transfer-encoding: gzip, chunked")),
        ("xchunked", te("transfer-encoding: xchunked")),
        ("chunked;q=1", te("transfer-encoding: chunked;q=1")),
        ("quoted chunked", te("transfer-encoding: \"chunked\"")),
        ("chunked after a comma", te("transfer-encoding: ,chunked")),
        ("an empty coding", te("transfer-encoding:")),
        ("a vertical tab before chunked", te("transfer-encoding: \x0bchunked")),
        ("a form feed after chunked", te("transfer-encoding: chunked\x0c")),
        ("a lone CR before chunked", te("transfer-encoding: \rchunked")),
        ("a space before the colon", te("transfer-encoding : chunked")),
        ("a tab before the colon", te("transfer-encoding\t: chunked")),
        ("a space before the name", te(" transfer-encoding: chunked")),
        ("a folded value", te("transfer-encoding:\r\n chunked")),
        ("a fold after another line", te("x: y\r\n transfer-encoding: chunked")),
        ("a fold with a tab", te("x: y\r\n\ttransfer-encoding: chunked")),
        ("a bare LF that hides a line", te("x: y\ntransfer-encoding: chunked")),
        ("a bare CR that hides a line", te("x: y\rtransfer-encoding: chunked")),
        ("NUL in the value", te("transfer-encoding: chunked\0")),
        ("NUL in the name", te("transfer-encoding\0: chunked")),
        (
            "underscores and a length",
            chat(&format!("content-length: {length}\r\ncontent_length : 0\r\n"), &hidden),
        ),
    ]
}

/// Lengths that only some readers would read.
fn lengths() -> Vec<(&'static str, String)> {
    let body = body();
    let length = body.len();
    let with = |lines: String| chat(&lines, &format!("{body}{}", hidden()));
    vec![
        ("a plus", with(format!("content-length: +{length}\r\n"))),
        ("a minus", with("content-length: -1\r\n".to_owned())),
        ("hexadecimal", with(format!("content-length: {length:#x}\r\n"))),
        ("a fraction", with(format!("content-length: {length}.0\r\n"))),
        ("an exponent", with("content-length: 1e2\r\n".to_owned())),
        ("an underscore", with("content-length: 1_0\r\n".to_owned())),
        ("nothing", with("content-length:\r\n".to_owned())),
        ("a space within", with("content-length: 1 0\r\n".to_owned())),
        ("quoted", with(format!("content-length: \"{length}\"\r\n"))),
        ("beyond 64 bits", with("content-length: 18446744073709551617\r\n".to_owned())),
        ("of sixty digits", with(format!("content-length: {length:060}\r\n"))),
        ("two of them", with(format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1))),
        ("twice the same", with(format!("content-length: {length}\r\ncontent-length: {length}\r\n"))),
        ("a list", with(format!("content-length: {length}, {}\r\n", length + 1))),
        ("a list of equals", with(format!("content-length: {length}, {length}\r\n"))),
        ("other digits", with("content-length: \u{0661}\u{0662}\r\n".to_owned())),
        ("a space before the colon", with(format!("content-length : {length}\r\n"))),
        ("a folded length", with(format!("content-length:\r\n {length}\r\n"))),
    ]
}

/// Line ends, request lines and hosts that readers disagree about.
fn heads() -> Vec<(&'static str, String)> {
    let body = body();
    let length = format!("content-length: {}\r\n", body.len());
    let own = chat(&length, &body);
    let line = |line: &str| own.replacen(&format!("POST {CHAT} HTTP/1.1"), line, 1);
    let host = |lines: &str| own.replacen("host: gateway\r\n", lines, 1);
    vec![
        ("bare LF everywhere", own.replace("\r\n", "\n")),
        ("a bare LF after the request line", own.replacen("\r\n", "\n", 1)),
        ("a bare LF at the head's end", own.replacen("\r\n\r\n", "\r\n\n", 1)),
        ("bare CR everywhere", own.replace("\r\n", "\r")),
        ("CR CR LF", own.replacen("\r\n", "\r\r\n", 1)),
        ("two spaces", line(&format!("POST  {CHAT} HTTP/1.1"))),
        ("a tab in the request line", line(&format!("POST\t{CHAT} HTTP/1.1"))),
        ("a space behind the version", line(&format!("POST {CHAT} HTTP/1.1 "))),
        ("a space before the method", line(&format!(" POST {CHAT} HTTP/1.1"))),
        ("no version", line(&format!("POST {CHAT}"))),
        ("HTTP/0.9", line(&format!("POST {CHAT} HTTP/0.9"))),
        ("HTTP/1.2", line(&format!("POST {CHAT} HTTP/1.2"))),
        ("HTTP/2.0 in a line", line(&format!("POST {CHAT} HTTP/2.0"))),
        ("http in small letters", line(&format!("POST {CHAT} http/1.1"))),
        ("a method with a colon", line(&format!("PO:ST {CHAT} HTTP/1.1"))),
        ("NUL in the path", line(&format!("POST {CHAT}\0 HTTP/1.1"))),
        ("a path in bare UTF-8", line("POST /v1/ch\u{e4}t HTTP/1.1")),
        ("a fragment", line(&format!("POST {CHAT}#x HTTP/1.1"))),
        ("a backslash", line("POST /v1\\chat/completions HTTP/1.1")),
        ("no leading slash", line("POST v1/chat/completions HTTP/1.1")),
        ("CONNECT", line("CONNECT gateway:443 HTTP/1.1")),
        ("another host in an absolute target", line(&format!("POST http://other{CHAT} HTTP/1.1"))),
        ("a user in an absolute target", line(&format!("POST http://gateway@other{CHAT} HTTP/1.1"))),
        ("another scheme", line(&format!("POST ftp://gateway{CHAT} HTTP/1.1"))),
        ("no host", host("")),
        ("two hosts", host("host: gateway\r\nhost: other\r\n")),
        ("twice the same host", host("host: gateway\r\nhost: gateway\r\n")),
        ("a list of hosts", host("host: gateway, other\r\n")),
        ("a host with a path", host("host: gateway/v1\r\n")),
        ("a host with a user", host("host: a@gateway\r\n")),
        ("an empty host", host("host:\r\n")),
        (
            "HTTP/1.0 with a coding",
            chat("transfer-encoding: chunked\r\n", &chunked()).replacen("1.1", "1.0", 1),
        ),
        ("no colon", host("host: gateway\r\nnonsense\r\n")),
        ("no name", host("host: gateway\r\n: value\r\n")),
        ("a name with a bracket", host("host: gateway\r\nx[0]: 1\r\n")),
        ("a control character in a value", host("host: gateway\r\nx: a\x01b\r\n")),
        ("DEL in a value", host("host: gateway\r\nx: a\x7fb\r\n")),
        ("a TLS greeting", "\x16\x03\x01\x02\r\n\r\n".to_owned()),
        ("half of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned()),
    ]
}

/// Chunks that only some readers would read.
fn chunks() -> Vec<(&'static str, String)> {
    let body = body();
    let size = format!("{:x}", body.len());
    let with = |text: String| chat("transfer-encoding: chunked\r\n", &format!("{text}{}", hidden()));
    let sized = |line: &str| with(format!("{line}\r\n{body}\r\n{END}"));
    vec![
        ("a size with 0x", sized(&format!("0x{size}"))),
        ("a size with a plus", sized(&format!("+{size}"))),
        ("a negative size", sized("-1")),
        ("a size with a space before", sized(&format!(" {size}"))),
        ("a size with a space behind", sized(&format!("{size} "))),
        ("no size", sized("")),
        ("a size that is no number", sized("zz")),
        ("a size with an underscore", sized("5_0")),
        ("a size beyond 64 bits", sized(&format!("1{}{size}", "0".repeat(16)))),
        ("a size of very many zeros", sized(&format!("{}{size}", "0".repeat(40)))),
        ("a bare LF after the size", with(format!("{size}\n{body}\r\n{END}"))),
        ("a bare CR after the size", with(format!("{size}\r{body}\r\n{END}"))),
        ("a bare LF after the data", with(format!("{size}\r\n{body}\n{END}"))),
        ("no line end after the data", with(format!("{size}\r\n{body}{END}"))),
        ("data longer than the size", with(format!("{size}\r\n{body}xx\r\n{END}"))),
        ("a bare LF in an extension", sized(&format!("{size};a\nb"))),
        ("a bare CR in an extension", sized(&format!("{size};a\rb"))),
        ("NUL in an extension", sized(&format!("{size};a\0"))),
        ("an endless extension", sized(&format!("{size};{}", "a".repeat(20_000)))),
        ("a bare LF at the end", with(format!("{size}\r\n{body}\r\n0\n\n"))),
        ("a bare LF after the trailers", with(format!("{size}\r\n{body}\r\n0\r\nx: y\n\r\n"))),
        ("a trailer without a colon", with(format!("{size}\r\n{body}\r\n0\r\nnonsense\r\n\r\n"))),
        ("a length in a trailer", with(format!("{size}\r\n{body}\r\n0\r\ncontent-length: 5\r\n\r\n"))),
        ("a folded trailer", with(format!("{size}\r\n{body}\r\n0\r\nx: y\r\n z\r\n\r\n"))),
        ("endless trailers", with(format!("{size}\r\n{body}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(8_000)))),
    ]
}

/// The one reply on a connection: a refusal in the usual envelope, and then the end.
fn assert_refused(name: &str, reply: &str) {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{name}: {reply:?}"));
    assert!(head.starts_with("HTTP/1.1 400 "), "{name}: {reply}");
    assert!(head.contains("connection: close"), "{name}: {head}");
    assert!(head.contains("x-request-id: "), "{name}: {head}");
    let error =
        serde_json::from_str::<Value>(body).unwrap_or_else(|error| panic!("{name}: {error}: {reply}"));
    assert_eq!(error["error"]["type"], "invalid_request_error", "{name}: {reply}");
    assert_eq!(error["error"]["code"], "malformed_request", "{name}: {reply}");
    assert!(!reply.contains(KEY) && !reply.contains("smuggled"), "{name}: {reply}");
}

async fn refuses(engine: &Engine, gateway: &Gateway, corpus: Vec<(&'static str, String)>) {
    let count = corpus.len();
    for (name, bytes) in corpus {
        assert_refused(name, &gateway.anonymous().raw(bytes.as_bytes()).await);
    }
    assert_eq!(engine.counters().received, 0);
    let lines = gateway.logs().accesses_reach(count).await;
    assert_eq!(lines.len(), count, "one record for each");
    assert!(lines.iter().all(|line| line["code"] == "malformed_request"), "{lines:#?}");
    assert_eq!(gateway.client().chat("m").await.status, 200, "and the gateway is well");
}

#[tokio::test]
async fn contradicting_framings_are_refused() {
    let (engine, gateway) = single().await;
    refuses(&engine, &gateway, contradictions()).await;
}

#[tokio::test]
async fn lengths_that_are_no_plain_number_are_refused() {
    let (engine, gateway) = single().await;
    refuses(&engine, &gateway, lengths()).await;
}

#[tokio::test]
async fn heads_that_readers_disagree_about_are_refused() {
    let (engine, gateway) = single().await;
    refuses(&engine, &gateway, heads()).await;
}

#[tokio::test]
async fn chunks_that_readers_disagree_about_are_refused() {
    let (engine, gateway) = single().await;
    refuses(&engine, &gateway, chunks()).await;
}

/// Requests in the letter of the standard, however unusual.
fn neighbours() -> Vec<(&'static str, String)> {
    let body = body();
    let (size, half) = (format!("{:x}", body.len()), body.len() / 2);
    let close = "connection: close\r\n";
    let length = format!("{close}content-length: {}\r\n", body.len());
    let te = |text: String| chat(&format!("{close}transfer-encoding: chunked\r\n"), &text);
    let own = chat(&length, &body);
    let two =
        format!("{half:x}\r\n{}\r\n{:X}\r\n{}\r\n{END}", &body[..half], body.len() - half, &body[half..]);
    vec![
        ("a length", own.clone()),
        ("a length with spaces around", own.replacen("content-length: ", "content-length: \t ", 1)),
        ("a length with zeros before", own.replacen("content-length: ", "content-length: 00", 1)),
        ("one chunk", te(chunked())),
        ("two chunks", te(two)),
        ("a size with zeros before", te(format!("000{size}\r\n{body}\r\n000\r\n\r\n"))),
        ("an extension", te(format!("{size};name=value;other=\"quoted\"\r\n{body}\r\n{END}"))),
        ("a trailer", te(format!("{size}\r\n{body}\r\n0\r\nx-checksum: 1\r\n\r\n"))),
        ("chunked in capitals", te(chunked()).replacen("chunked", "CHUNKED", 1)),
        ("names in capitals", own.replacen("content-length", "CONTENT-LENGTH", 1)),
        ("an expectation", own.replacen(close, &format!("{close}expect: 100-continue\r\n"), 1)),
        ("HTTP/1.0", own.replacen("HTTP/1.1", "HTTP/1.0", 1)),
        ("HTTP/1.0 without a host", own.replacen("HTTP/1.1\r\nhost: gateway", "HTTP/1.0", 1)),
        ("an absolute target", own.replacen(CHAT, &format!("http://gateway{CHAT}"), 1)),
        ("an absolute target in capitals", own.replacen(CHAT, &format!("HTTP://GATEWAY{CHAT}"), 1)),
        ("a query", own.replacen(CHAT, &format!("{CHAT}?api-version=2024-10-21&x=%7B%7D"), 1)),
        ("an empty line before", format!("\r\n{own}")),
        ("a host with a port", own.replacen("host: gateway", "host: gateway:8080", 1)),
        ("a host in IPv6", own.replacen("host: gateway", "host: [::1]:8080", 1)),
        ("an empty value", own.replacen(close, &format!("{close}x-empty:\r\n"), 1)),
        ("a value in Latin-1", own.replacen(close, &format!("{close}x-name: \u{e4}\r\n"), 1)),
        (
            "an offer of h2c",
            own.replacen(close, &format!("{close}upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"), 1),
        ),
    ]
}

#[tokio::test]
async fn what_is_well_formed_is_served() {
    let (engine, gateway) = single().await;
    for (name, bytes) in neighbours() {
        let reply = gateway.anonymous().raw(bytes.as_bytes()).await;
        let reply = reply.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&reply);
        assert!(reply.contains(" 200 OK\r\n") && reply.contains("chat.completion"), "{name}: {reply}");
        assert_eq!(engine.requests().last().map(|r| r.body.to_vec()), Some(body().into_bytes()), "{name}");
    }
    assert_eq!(engine.counters().received, neighbours().len() as u64);
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order() {
    let (engine, gateway) = single().await;
    let request = |text: &str, lines: &str| {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("echo: {text}")}]});
        let body = body.to_string();
        if lines.contains("chunked") {
            chat(lines, &format!("{:x}\r\n{body}\r\n{END}", body.len()))
        } else {
            chat(&format!("{lines}content-length: {}\r\n", body.len()), &body)
        }
    };
    let row = [
        request("one", ""),
        request("two", "transfer-encoding: chunked\r\n"),
        "GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n".to_owned(),
        request("three", "connection: close\r\n"),
    ];
    let replies = gateway.anonymous().raw(row.concat().as_bytes()).await;
    let places: Vec<_> = ["one", "two", "alive", "three"].map(|text| replies.find(text)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {replies}");
    assert_eq!((engine.counters().received, replies.matches(" 200 OK").count()), (3, 4));
}

#[tokio::test]
async fn a_malformed_request_behind_a_good_one_is_refused_after_it_was_answered() {
    let (engine, gateway) = single().await;
    let body = body();
    let good = chat(&format!("content-length: {}\r\n", body.len()), &body);
    let bad = chat("content-length: 5\r\ntransfer-encoding: chunked\r\n", END);
    let replies = gateway.anonymous().raw(format!("{good}{bad}{good}").as_bytes()).await;
    let (first, second) = replies.split_at(replies.rfind("HTTP/1.1 ").expect("two replies"));
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert_refused("behind a good one", second);
    assert_eq!(engine.counters().received, 1);
}
