//! Prompts: whatever place a text has in a request, it is searched before any engine sees it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use synapse_testkit::Config;

use super::{card, named, single_under, token, under};
use crate::{
    reload::reloads,
    start::{code, gateway, saying, single, with},
};

/// Where in a request a text may stand.
fn places(text: &str) -> Vec<(&'static str, Value)> {
    let chat = |more: Value| with(saying("m", "hi"), more);
    let messages = |messages: Value| json!({"model": "m", "messages": messages});
    let uri = format!("data:text/csv;base64,{}", STANDARD.encode(text));
    vec![
        ("user", saying("m", text)),
        ("system", messages(json!([{"role": "system", "content": text}]))),
        ("developer", messages(json!([{"role": "developer", "content": text}]))),
        (
            "an earlier turn",
            messages(
                json!([{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "go on"}]),
            ),
        ),
        ("assistant", messages(json!([{"role": "assistant", "content": text}]))),
        ("reasoning", messages(json!([{"role": "assistant", "content": "x", "reasoning_content": text}]))),
        ("refusal", messages(json!([{"role": "assistant", "content": null, "refusal": text}]))),
        ("tool", messages(json!([{"role": "tool", "tool_call_id": "c", "content": text}]))),
        ("name", messages(json!([{"role": "user", "name": text, "content": "x"}]))),
        ("a part", messages(json!([{"role": "user", "content": [{"type": "text", "text": text}]}]))),
        (
            "a file",
            messages(json!([{"role": "user", "content": [{"type": "file", "file": {"file_data": uri}}]}])),
        ),
        (
            "arguments",
            messages(
                json!([{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": json!({"a": text}).to_string()}}]}]),
            ),
        ),
        (
            "a tool",
            chat(
                json!({"tools": [{"type": "function", "function": {"name": "f", "description": text, "parameters": {}}}]}),
            ),
        ),
        (
            "a schema's key",
            chat(
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {text: {"type": "string"}}}}}]}),
            ),
        ),
        (
            "a schema's choice",
            chat(
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": ["a", text]}}}]}),
            ),
        ),
        (
            "a format",
            chat(
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"default": text}}}}),
            ),
        ),
        ("metadata", chat(json!({"metadata": {"note": text}}))),
        ("the user's name", chat(json!({"user": text}))),
        ("stop", chat(json!({"stop": [text]}))),
        ("prediction", chat(json!({"prediction": {"type": "content", "content": text}}))),
        ("an unknown field", chat(json!({"x-anything": {"deep": [[{"y": text}]]}}))),
        ("escapes", chat(json!({"metadata": {"note": text}}))),
    ]
}

#[tokio::test]
async fn what_stands_where_a_model_is_named_is_in_no_record() {
    let (_engine, gateway) = single_under(json!({"base": "on_prem"})).await;
    let answer = gateway.client().chat(&format!("m {}", token())).await;
    assert_eq!(code(&answer), (404, "model_not_found".to_owned()));
    let line = gateway.logs().accesses_reach(1).await.remove(0);
    assert!(line["model"].as_str().is_some_and(|model| model.starts_with("m [REDACTED:")), "{line}");
    assert!(!gateway.logs().lines().join("\n").contains(&token()));
}

#[tokio::test]
async fn a_text_is_found_wherever_it_stands_in_a_chat() {
    let (engine, gateway) = single().await;
    for (place, body) in places(&format!("my card is {}", card())) {
        let answer = gateway.client().post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{place}: {}", answer.text());
        let sent = engine.last_body();
        let encoded = STANDARD.encode("my card is [REDACTED:credit_card_visa]");
        let disguised = sent.contains("[REDACTED:credit_card_visa]") || sent.contains(&encoded);
        assert!(disguised && !sent.contains(&card()), "{place}: {sent}");
    }
}

#[tokio::test]
async fn a_text_is_found_in_every_operation() {
    let (engine, gateway) = single().await;
    let text = format!("my card is {}", card());
    for (path, body) in [
        ("/v1/completions", json!({"model": "m", "prompt": text})),
        ("/v1/completions", json!({"model": "m", "prompt": ["a", text], "suffix": "b"})),
        ("/v1/completions", json!({"model": "m", "prompt": "a", "suffix": text})),
        ("/v1/embeddings", json!({"model": "m", "input": [text]})),
        ("/v1/responses", json!({"model": "m", "input": text})),
        ("/v1/responses", json!({"model": "m", "input": "a", "instructions": text})),
        (
            "/v1/responses",
            json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]}),
        ),
        ("/v1/rerank", json!({"model": "m", "query": "q", "documents": ["a", text]})),
        ("/v1/moderations", json!({"model": "m", "input": text})),
        ("/v1/audio/speech", json!({"model": "m", "input": text, "voice": "v"})),
        ("/v1/images/generations", json!({"model": "m", "prompt": text})),
    ] {
        let answer = gateway.client().post(path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        let sent = engine.last_body();
        assert!(sent.contains("[REDACTED:") && !sent.contains(&card()), "{path}: {sent}");
    }
}

#[tokio::test]
async fn a_value_split_over_parts_and_messages_is_one_value() {
    let (engine, gateway) = single().await;
    let (head, tail) = (&card()[..7], &card()[7..]);
    let part = |text: &str| json!({"type": "text", "text": text});
    for messages in [
        json!([{"role": "user", "content": [part(&format!("card {head}")), part(&format!("{tail} ok"))]}]),
        json!([{"content": [part(&format!("card {head}")), part(tail)], "role": "user"}]),
        json!([{"role": "user", "content": format!("card {head}")}, {"role": "user", "content": tail}]),
        json!([{"content": format!("card {head}"), "role": "user"}, {"content": tail, "role": "user"}]),
    ] {
        let answer =
            gateway.client().post("/v1/chat/completions", &json!({"model": "m", "messages": messages})).await;
        assert_eq!(answer.status, 200);
        let sent = engine.last_body();
        assert!(sent.contains("[REDACTED:") && !sent.contains(head) && !sent.contains(tail), "{sent}");
    }
}

#[tokio::test]
async fn numbers_in_arguments_stay_json_when_they_are_disguised() {
    let (engine, gateway) = single().await;
    let arguments = format!(r#"{{"card": {}, "amount": 3}}"#, card());
    let call = json!({"id": "c", "type": "function", "function": {"name": "pay", "arguments": arguments}});
    let body = json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]});
    assert_eq!(gateway.client().post("/v1/chat/completions", &body).await.status, 200);
    let sent: Value = serde_json::from_str(&engine.last_body()).expect("JSON");
    let arguments = sent["messages"][0]["tool_calls"][0]["function"]["arguments"].as_str().expect("a text");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON within");
    assert_eq!(arguments, json!({"card": "[REDACTED:credit_card_visa]", "amount": 3}));
}

#[tokio::test]
async fn what_is_blocked_reaches_no_engine_and_the_refusal_says_why() {
    let (engine, gateway) = single_under(json!({"base": "cloud"})).await;
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "hello"},
        {"role": "user", "content": format!("why does {} not work?", token())},
    ]});
    let answer = gateway.client().post("/v1/chat/completions", &body).await;
    assert_eq!(code(&answer), (400, "dlp_blocked".to_owned()), "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "policy_violation");
    assert_eq!(error["param"], "messages[1].content");
    assert!(error["incident_id"].as_str().is_some_and(|id| id.starts_with("inc_")), "{error}");
    assert_eq!(error["findings"][0]["action"], "block");
    assert_eq!(error["findings"][0]["category"], "gitlab-pat");
    assert!(!answer.text().contains(&token()));
    assert_eq!(engine.counters().received, 0);
}

#[tokio::test]
async fn a_request_in_which_nothing_is_found_keeps_its_bytes() {
    let (engine, gateway) = single().await;
    let body = "{ \"model\":\"m\",\n \"messages\" : [{\"role\":\"user\",\"content\":\"caf\\u00e9 at 12:30\"}], \"temperature\": 1.0 }";
    assert_eq!(gateway.client().post_text("/v1/chat/completions", body).await.status, 200);
    assert_eq!(engine.last_body(), body);
}

#[tokio::test]
async fn a_long_prompt_is_searched_to_its_end() {
    let (engine, gateway) = single().await;
    let long = "All work and no play makes a dull day. ".repeat(20_000);
    let answer = gateway
        .client()
        .post(
            "/v1/chat/completions",
            &with(saying("m", "hi"), json!({"metadata": {"long": format!("{long} my card is {}", card())}})),
        )
        .await;
    assert_eq!(answer.status, 200);
    let sent = engine.last_body();
    assert!(sent.contains("[REDACTED:") && !sent.contains(&card()));
}

#[tokio::test]
async fn a_switched_off_search_finds_nothing() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine]).set("/dlp/enabled", false)).await;
    assert_eq!(gateway.client().post("/v1/chat/completions", &saying("m", &card())).await.status, 200);
    assert!(engine.last_body().contains(&card()));
}

#[tokio::test]
async fn a_changed_policy_is_in_force_for_the_next_request() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let config = Config::with(&[&engine]);
    let lax = under(json!({"base": "none"}), Config::with(&[&engine]));
    let gateway = gateway(&config).await;
    let ask = async || gateway.client().post("/v1/chat/completions", &saying("m", &card())).await.status;
    assert_eq!(ask().await, 200);
    assert!(!engine.last_body().contains(&card()));
    gateway.reconfigure(&lax);
    reloads(&gateway, "success", 1.0).await;
    assert_eq!(ask().await, 200);
    assert!(engine.last_body().contains(&card()));
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_is_refused_whole() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    let wrong = Config::with(&[&engine])
        .set("/dlp/policies", json!([named("p", json!({"prompt": {"us_snn": "block"}}))]));
    gateway.reconfigure(&wrong);
    let line = gateway.logs().line("the changed configuration is refused").await;
    assert!(line.contains("us_snn"), "{line}");
    assert_eq!(gateway.client().post("/v1/chat/completions", &saying("m", &card())).await.status, 200);
    assert!(!engine.last_body().contains(&card()), "the old policies stay");
}

#[tokio::test]
async fn the_text_beside_an_upload_is_searched() {
    let (engine, gateway) = single().await;
    for prompt_first in [true, false] {
        let prompt = format!(
            "--b\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\nmy card is {}\r\n",
            card()
        );
        let model = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
        let file = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n";
        let parts = if prompt_first { [&prompt, model, file] } else { [file, model, &prompt] };
        let body = format!("{}--b--\r\n", parts.concat());
        let client = gateway.client().with("content-type", "multipart/form-data; boundary=b");
        let answer = client.send(client.request(hyper::Method::POST, "/v1/audio/transcriptions", body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = engine.last_body();
        assert!(sent.contains("[REDACTED:credit_card_visa]") && !sent.contains(&card()), "{sent}");
    }
}

#[tokio::test]
async fn the_operators_own_words_are_not_searched_and_places_are_the_callers() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let config =
        Config::with(&[&engine]).set("/dlp/policies", json!([named("on_prem", json!({"base": "cloud"}))]));
    let gateway = gateway(&config).await;
    let prompt = format!("Write to help@operator-house.org, never to {}.", card());
    let made = ["key", "create", "--team", "default", "--model", "*", "--system-prompt", &prompt];
    gateway.cli(&["team", "create", "default"]).await;
    let key = gateway.cli_json(&made).await["key"].as_str().expect("a key").to_owned();
    let client = gateway.client_with(&key);
    gateway.until("the key is known", async || (client.chat("m").await.status == 200).then_some(())).await;
    let answer = client.post("/v1/chat/completions", &saying("m", &format!("my card is {}", card()))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent: Value = serde_json::from_str(&engine.last_body()).expect("JSON");
    assert_eq!(sent["messages"][0]["content"], prompt, "the bound prompt is as the operator wrote it");
    assert_eq!(sent["messages"][1]["content"], "my card is [REDACTED:credit_card_visa]");
    let answer = client.post("/v1/chat/completions", &saying("m", &token())).await;
    assert_eq!(answer.json()["error"]["param"], "messages[0].content", "the caller's own count");
}

#[tokio::test]
async fn rules_of_ones_own_hold_where_nothing_else_does() {
    let rules = json!([{"name": "word", "words": ["osprey plan"]}]);
    let (engine, gateway) = single_under(json!({"base": "none", "rules": rules})).await;
    gateway
        .client()
        .post("/v1/chat/completions", &saying("m", &format!("the osprey plan, {}", card())))
        .await;
    let sent = engine.last_body();
    assert!(sent.contains("the [REDACTED:custom:word], ") && sent.contains(&card()), "{sent}");
}

#[tokio::test]
async fn a_text_is_no_file_because_it_begins_like_one() {
    let (engine, gateway) = single().await;
    let binary = STANDARD.encode([&b"my card is "[..], card().as_bytes(), b" \xff"].concat());
    for text in [
        format!("data:image/png;base64,my card is {}", card()),
        format!(
            "data:text/plain;base64,{}",
            STANDARD.encode(format!("my card is {}", card())).trim_end_matches('=')
        ),
        format!("data:image/png;base64,{binary}"),
    ] {
        let answer = gateway.client().post("/v1/chat/completions", &saying("m", &text)).await;
        assert_eq!(answer.status, 200);
        let sent = engine.last_body();
        let redacted = STANDARD.encode("my card is [REDACTED:credit_card_visa]");
        assert!(sent.contains("[REDACTED:") || sent.contains(&redacted), "{text}: {sent}");
        assert!(!sent.contains(&card()) && !sent.contains(&binary), "{text}: {sent}");
    }
}

#[tokio::test]
async fn what_was_found_in_a_key_is_in_no_place() {
    let (_engine, gateway) = single_under(json!({"base": "cloud"})).await;
    let body = with(saying("m", "hi"), json!({"metadata": {token(): "x"}}));
    let answer = gateway.client().post("/v1/chat/completions", &body).await;
    assert_eq!(code(&answer), (400, "dlp_blocked".to_owned()));
    assert_eq!(answer.json()["error"]["param"], "metadata.*");
    assert!(!answer.text().contains(&token()), "{}", answer.text());
}

#[tokio::test]
async fn a_value_in_many_parts_and_a_long_one_in_two_are_found() {
    let (engine, gateway) = single().await;
    let part = |text: &str| json!({"type": "text", "text": text});
    let quarters: Vec<Value> = (0..4).map(|at| part(&card()[at * 4..at * 4 + 4])).collect();
    let long = ["github", "_pat_", &"11ABCDEFG0aBcDeFgHiJkL_".repeat(4)[..82]].concat();
    let halves = json!([part(&format!("token {}", &long[..88])), part(&format!("{} ok", &long[88..]))]);
    for (content, part) in [(json!(quarters), card()[4..8].to_owned()), (halves, long[20..60].to_owned())] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
        assert_eq!(gateway.client().post("/v1/chat/completions", &body).await.status, 200);
        let sent = engine.last_body();
        assert!(sent.contains("[REDACTED:") && !sent.contains(&part), "{sent}");
    }
}

#[tokio::test]
async fn a_number_in_metadata_is_found_and_a_parameter_is_none() {
    let (engine, gateway) = single().await;
    let number: u64 = card().parse().expect("a number");
    let body = with(saying("m", "hi"), json!({"metadata": {"card": number}, "seed": number}));
    assert_eq!(gateway.client().post("/v1/chat/completions", &body).await.status, 200);
    let sent: Value = serde_json::from_str(&engine.last_body()).expect("JSON");
    assert_eq!(
        (&sent["metadata"]["card"], &sent["seed"]),
        (&json!("[REDACTED:credit_card_visa]"), &json!(number))
    );
}
