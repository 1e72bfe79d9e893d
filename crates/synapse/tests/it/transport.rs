//! What lies below requests: protocols, TLS, methods, cross-origin calls, malformed bytes.

use hyper::Method;
use serde_json::json;
use synapse_testkit::{Answer, Authority, Client, Config, Connection, Engine, Gateway, Protocol};

use crate::start::{code, gateway, saying, setup, single};

const CHAT: &str = "/v1/chat/completions";

fn chat(client: &Client) -> hyper::Request<http_body_util::Full<bytes::Bytes>> {
    client.request(Method::POST, CHAT, saying("m", "echo: hello").to_string())
}

#[tokio::test]
async fn one_port_speaks_both_versions_of_http_in_the_clear() {
    let (_engine, gateway) = single().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = gateway.connect(protocol).await;
        for _ in 0..3 {
            let answer = connection.ask(chat(&gateway.client())).await.expect("an answer");
            assert_eq!(answer.content(), "hello", "{protocol:?}");
        }
    }
}

async fn encrypted(authority: &Authority) -> (Engine, Gateway) {
    let engine = Engine::serving("one", "m").await;
    let setup = setup().without_discovery();
    authority.write_to(setup.folder());
    let config =
        Config::in_order("m", &[&engine]).set("/server/tls", json!({"cert": "tls.crt", "key": "tls.key"}));
    (engine, setup.start(&config).await)
}

async fn ask_encrypted(gateway: &Gateway, protocol: Protocol, authority: &Authority) -> Option<Answer> {
    let mut connection = Connection::open_tls(gateway.address(), protocol, authority).await.ok()?;
    connection.ask(chat(&gateway.client())).await.ok()
}

#[tokio::test]
async fn tls_serves_both_versions_of_http() {
    let authority = Authority::new();
    let (_engine, gateway) = encrypted(&authority).await;
    assert!(gateway.banner().contains("https://"), "{}", gateway.banner());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let answer = ask_encrypted(&gateway, protocol, &authority).await.expect("an answer");
        assert_eq!(answer.content(), "hello", "{protocol:?}");
    }
}

#[tokio::test]
async fn an_encrypted_engine_is_trusted_by_the_operators_authority_and_not_otherwise() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let setup_engine = setup().without_discovery();
    authority.write_to(setup_engine.folder());
    let simulator = Engine::serving("one", "m").await;
    let config = Config::in_order("m", &[&simulator])
        .set("/server/tls", json!({"cert": "tls.crt", "key": "tls.key"}))
        .set("/auth/mode", "open");
    // Another gateway is as good an encrypted engine as any.
    let engine = setup_engine.start(&config).await;
    let url = format!("https://localhost:{}/v1", engine.address().port());
    for (trusted, status) in [(&authority, 200), (&stranger, 503)] {
        let setup = setup().without_discovery();
        trusted.write_to(setup.folder());
        let config = Config::with(&[])
            .backend_at("far", "openai", &url)
            .set("/backends/0/ca_file", "tls.crt")
            .model("m", &[json!({"backend": "far", "model": "m"})]);
        let gateway = setup.start(&config).await;
        assert_eq!(gateway.client().chat("m").await.status, status);
        // The file says whom to trust, also later.
        authority.write_to(gateway.folder());
        let trusts = async || (gateway.client().chat("m").await.status == 200).then_some(());
        gateway.until("the authority to be trusted", trusts).await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let (_engine, gateway) = encrypted(&old).await;
    let mut open =
        Connection::open_tls(gateway.address(), Protocol::Http1, &old).await.expect("a connection");
    new.write_to(gateway.folder());
    let renewed =
        gateway.until("the new certificate", async || ask_encrypted(&gateway, Protocol::Http1, &new).await);
    assert_eq!(Box::pin(renewed).await.status, 200);
    assert!(ask_encrypted(&gateway, Protocol::Http1, &old).await.is_none(), "the old one is gone");
    assert!(open.ask(chat(&gateway.client())).await.is_ok(), "connections that stand go on");
}

#[tokio::test]
async fn a_broken_certificate_does_not_replace_a_good_one() {
    let authority = Authority::new();
    let (_engine, gateway) = encrypted(&authority).await;
    std::fs::write(gateway.folder().join("tls.crt"), "nonsense").expect("a file");
    gateway.logs().line("the new certificate is refused").await;
    assert!(ask_encrypted(&gateway, Protocol::Http2, &authority).await.is_some());
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let (_engine, gateway) = single().await;
    let client = gateway.client();
    for path in ["/health", "/livez", "/readyz", "/version", "/", "/v1/models", "/v1/models/m"] {
        let get = client.get(path).await;
        let head = client.send(client.request(Method::HEAD, path, "")).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let (_engine, gateway) = single().await;
    let client = gateway.client();
    for path in ["/health", "/livez", "/readyz", "/version", "/v1/models", "/nowhere"] {
        assert_ne!(client.get(path).await.header("x-request-id"), "", "{path}");
    }
    let mut request = client.request(Method::GET, "/v1/models", "");
    request.headers_mut().insert("x-request-id", "not well formed!".parse().expect("a value"));
    assert_ne!(client.send(request).await.header("x-request-id"), "not well formed!");
}

fn preflight(client: &Client, origin: &'static str) -> hyper::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = client.request(Method::OPTIONS, CHAT, "");
    let wanted = "authorization,content-type,x-stainless-os";
    for (name, value) in [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", wanted),
    ] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn browsers_may_call_from_configured_origins_only() {
    let engine = Engine::serving("one", "m").await;
    let origins = json!(["https://app.example.com"]);
    let gateway = gateway(&Config::with(&[&engine]).set("/server/cors_origins", origins)).await;
    let client = gateway.anonymous();
    let allowed = client.send(preflight(&client, "https://app.example.com")).await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (204, "https://app.example.com")
    );
    assert!(allowed.header("access-control-allow-headers").contains("x-stainless-os"));
    let other = client.send(preflight(&client, "https://evil.example.com")).await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (405, ""));

    let client = gateway.client();
    let mut request = chat(&client);
    request.headers_mut().insert("origin", "https://app.example.com".parse().expect("a value"));
    let answer = client.send(request).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, "https://app.example.com")
    );
}

#[tokio::test]
async fn cross_origin_calls_are_off_by_default() {
    let (_engine, gateway) = single().await;
    let client = gateway.client();
    let answer = client.send(preflight(&client, "https://app.example.com")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, ""));
}

#[tokio::test]
async fn ambiguous_framing_never_reaches_an_engine() {
    let (engine, gateway) = single().await;
    let body = saying("m", "smuggled").to_string();
    let key = format!(
        "host: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json",
        synapse_testkit::KEY
    );
    let length = body.len();
    let heads = [
        format!("content-length: {length}\r\ncontent-length: {}", length + 1),
        format!("content-length: +{length}"),
        "content-length: -1".to_owned(),
        "transfer-encoding: chunked, identity".to_owned(),
        "transfer-encoding: xchunked".to_owned(),
        "no colon".to_owned(),
        "bad name : 1".to_owned(),
    ];
    for head in heads {
        let request = format!("POST {CHAT} HTTP/1.1\r\n{key}\r\n{head}\r\n\r\n{body}");
        let answer = gateway.anonymous().raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head}: {answer}");
    }
    let garbage = gateway.anonymous().raw(b"\x16\x03\x01 what is this\r\n\r\n").await;
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    assert_eq!(engine.counters().received, 0);
    assert_eq!(gateway.client().chat("m").await.status, 200, "and the gateway is well");
}

#[tokio::test]
async fn a_gateway_pointed_at_itself_says_so_instead_of_going_round() {
    // Only once it is up is its address known.
    let gateway = setup().without_discovery().start(&Config::new()).await;
    let own = format!("http://{}", gateway.address());
    let places = [json!({"backend": "self", "model": "m"})];
    let looped = Config::new()
        .backend_at("self", "openai", &own)
        .set("/backends/0/api_key", synapse_testkit::KEY)
        .model("m", &places);
    gateway.reconfigure(&looped);
    let refused = gateway.until("the loop to be closed", async || {
        Some(gateway.client().chat("m").await).filter(|answer| answer.status != 404)
    });
    assert_eq!(code(&refused.await), (508, "loop_detected".to_owned()));
}

#[tokio::test]
async fn a_request_that_has_passed_this_gateway_before_is_refused_with_508() {
    let (engine, gateway) = single().await;
    let client = gateway.client();
    client.chat("m").await;
    let hop = engine.requests()[0].headers["x-synapse-hop"].clone();
    let mut request = chat(&client);
    request.headers_mut().insert("x-synapse-hop", hop);
    assert_eq!(code(&client.send(request).await), (508, "loop_detected".to_owned()));
}
