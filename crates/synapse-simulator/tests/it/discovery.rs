//! Models, health, load and metrics of every engine.

use http::{Request, StatusCode};
use serde_json::{Value, json};
use synapse_simulator::{Behaviour, Engine, Health, InterruptionKind, Options};

use crate::client::{self, json_request, options, start};

#[tokio::test]
async fn every_engine_but_tgi_lists_its_models() {
    for engine in Engine::ALL {
        let sim = client::engine(engine).await;
        let list = sim.get("/v1/models").await;
        if engine == Engine::Tgi {
            assert_eq!(list.status, StatusCode::NOT_FOUND);
            assert_eq!(sim.get("/info").await.json()["model_id"], "m");
        } else {
            assert_eq!(list.json()["data"][0]["id"], "m", "{engine}");
        }
    }
}

#[tokio::test]
async fn cards_carry_what_their_engine_is_known_by() {
    let card = async |engine| client::engine(engine).await.get("/v1/models").await.json();
    let vllm = card(Engine::Vllm).await;
    assert_eq!(vllm["data"][0]["max_model_len"], 32_768);
    assert_eq!(vllm["data"][0]["root"], "m");
    let llama_cpp = card(Engine::LlamaCpp).await;
    assert_eq!(llama_cpp["models"][0]["name"], "m");
    assert_eq!(llama_cpp["data"][0]["meta"]["n_ctx_train"], 32_768);
    assert_eq!(card(Engine::Sglang).await["data"][0]["owned_by"], "sglang");
}

#[tokio::test]
async fn a_model_is_found_by_an_id_with_slashes() {
    let sim = start(Options { models: vec!["org/m".to_owned()], ..options() }).await;
    assert_eq!(sim.get("/v1/models/org/m").await.json()["id"], "org/m");
    assert_eq!(sim.get("/v1/models/org%2Fm").await.json()["id"], "org/m");
    assert_eq!(sim.get("/v1/models/org/n").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn models_can_be_exchanged_while_it_runs() {
    let sim = client::engine(Engine::OpenAi).await;
    sim.control.update(|behaviour| behaviour.models = vec!["n".to_owned()]);
    assert_eq!(sim.get("/v1/models").await.json()["data"][0]["id"], "n");
}

#[tokio::test]
async fn health_follows_the_behaviour() {
    let sim = client::engine(Engine::LlamaCpp).await;
    assert_eq!(sim.get("/health").await.json(), json!({"status": "ok"}));
    sim.control.set(Behaviour { health: Health::Loading, ..sim.control.behaviour() });
    let loading = sim.get("/health").await;
    assert_eq!(loading.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(loading.json()["error"]["message"], "Loading model");
    assert_eq!(loading.json()["error"]["type"], "unavailable_error");
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(sim.post("/v1/chat/completions", &chat).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_silent_engine_answers_its_probes_once_it_recovers() {
    let sim = client::engine(Engine::Vllm).await;
    sim.control.update(|behaviour| behaviour.health = Health::Silent);
    let recover = async {
        sim.control.until(|counters| counters.probes == 1).await;
        sim.control.update(|behaviour| behaviour.health = Health::Ready);
    };
    let (probe, ()) = tokio::join!(sim.get("/health"), recover);
    assert_eq!(probe.status, StatusCode::OK);
}

/// The value of a metric on a Prometheus page.
fn metric(page: &str, name: &str) -> String {
    let line =
        page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {page}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn prometheus_pages_count_running_requests_and_tokens() {
    for (engine, running, generated) in [
        (Engine::Vllm, "vllm:num_requests_running{model_name=\"m\"}", "vllm:generation_tokens_total"),
        (Engine::Sglang, "sglang:num_running_reqs{", "sglang:generation_tokens_total"),
        (Engine::LlamaCpp, "llamacpp:requests_processing", "llamacpp:tokens_predicted_total"),
    ] {
        let sim = client::engine(engine).await;
        let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        sim.post("/v1/chat/completions", &chat).await;
        sim.control.update(|behaviour| behaviour.hang_before_head = true);
        let mut caller = sim.connect().await;
        let look = async {
            sim.control.until(|counters| counters.in_flight == 1).await;
            let page = sim.get("/metrics").await;
            sim.control.update(|behaviour| behaviour.hang_before_head = false);
            page
        };
        let (_, page) = tokio::join!(caller.send(json_request("/v1/chat/completions", &chat)), look);
        assert_eq!(metric(page.text(), running), "1");
        assert_eq!(metric(page.text(), generated), "6");
    }
}

#[tokio::test]
async fn calls_beyond_the_slots_wait_their_turn() {
    let sim = start(Options { engine: Engine::Vllm, slots: Some(1), ..options() }).await;
    sim.control.update(|behaviour| *behaviour = behaviour.clone().interrupted(1, InterruptionKind::Stall));
    let chat = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let (mut first, mut second) = (sim.connect().await, sim.connect().await);
    let stalled = first.send(json_request("/v1/chat/completions", &chat)).await.unwrap();
    let look = async {
        sim.control.until(|counters| counters.in_flight == 2).await;
        let page = sim.get("/metrics").await;
        assert_eq!(metric(page.text(), "vllm:num_requests_running"), "1");
        assert_eq!(metric(page.text(), "vllm:num_requests_waiting"), "1");
        drop((stalled, first));
        sim.control.until(|counters| counters.aborted == 1).await;
    };
    let (turn, ()) = tokio::join!(second.send(json_request("/v1/chat/completions", &chat)), look);
    assert_eq!(turn.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn each_engine_has_its_own_discovery() {
    let get = async |engine, path| client::engine(engine).await.get(path).await.json();
    assert!(get(Engine::Vllm, "/version").await["version"].is_string());
    assert_eq!(get(Engine::Vllm, "/load").await["server_load"], 0);
    assert_eq!(get(Engine::Sglang, "/get_model_info").await["model_path"], "m");
    assert_eq!(get(Engine::Sglang, "/server_info").await["served_model_name"], "m");
    assert_eq!(get(Engine::Sglang, "/v1/loads").await["loads"][0]["num_running_reqs"], 0);
    assert_eq!(get(Engine::LlamaCpp, "/props").await["total_slots"], 4);
    assert_eq!(get(Engine::LlamaCpp, "/slots").await[3]["is_processing"], false);
    assert_eq!(get(Engine::TensorRtLlm, "/metrics").await[0]["numActiveRequests"], 0);
    let tgi = client::engine(Engine::Tgi).await.get("/metrics").await;
    assert_eq!(metric(tgi.text(), "tgi_queue_size"), "0");
}

#[tokio::test]
async fn llama_cpp_loads_and_unloads_models() {
    let sim = client::engine(Engine::LlamaCpp).await;
    let status = async || sim.get("/models").await.json()["data"][0]["status"]["value"].clone();
    assert_eq!(status().await, "unloaded");
    let loaded = sim.post("/models/load", &json!({"model": "m"})).await;
    assert_eq!(loaded.json(), json!({"success": true}));
    assert_eq!(status().await, "loaded");
    sim.post("/models/unload", &json!({"model": "m"})).await;
    assert_eq!(status().await, "unloaded");
    assert_eq!(sim.post("/models/load", &json!({"model": "x"})).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_key_is_asked_for_where_the_engine_asks_for_one() {
    let key = Some("right".to_owned());
    let sim = start(Options { api_key: key, engine: Engine::Vllm, ..options() }).await;
    assert_eq!(sim.get("/health").await.status, StatusCode::OK);
    let refused = sim.get("/v1/models").await;
    assert_eq!(
        (refused.status, refused.json()),
        (StatusCode::UNAUTHORIZED, json!({"error": "Unauthorized"}))
    );
    let request = |key: &str| {
        let request = Request::get("/v1/models").header("authorization", format!("Bearer {key}"));
        request.body(http_body_util::Full::default()).unwrap()
    };
    let mut caller = sim.connect().await;
    assert_eq!(caller.send(request("wrong")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let mut caller = sim.connect().await;
    assert_eq!(caller.send(request("right")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_path_nobody_knows_is_not_found_in_the_engine_s_words() {
    let get = async |engine| client::engine(engine).await.get("/nowhere").await;
    assert_eq!(get(Engine::Vllm).await.json(), json!({"detail": "Not Found"}));
    assert_eq!(get(Engine::OpenAi).await.json()["error"]["type"], "invalid_request_error");
    assert_eq!(get(Engine::Ollama).await.text(), "404 page not found");
    assert_eq!(get(Engine::LlamaCpp).await.json()["error"]["code"], Value::from(404));
}

#[tokio::test]
async fn the_hosted_api_tells_its_limits_and_names_each_request() {
    let sim = client::engine(Engine::OpenAi).await;
    let (first, second) = (sim.get("/v1/models").await, sim.get("/v1/models").await);
    assert_eq!(first.headers["x-ratelimit-reset-tokens"], "1m0s");
    assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
}
