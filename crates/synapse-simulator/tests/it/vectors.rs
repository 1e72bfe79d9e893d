//! Embeddings, and what is judged by them or beside them: rerank, moderation, images.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use synapse_simulator::Engine;

use crate::client;

const EMBEDDINGS: &str = "/v1/embeddings";

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|component| component.as_f64().unwrap()).collect()
}

#[tokio::test]
async fn a_batch_gives_unit_vectors_in_order() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = json!({"model": "m", "input": ["one two", "three", "one two"], "dimensions": 16});
    let reply = sim.post(EMBEDDINGS, &request).await.json();
    let data = reply["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    let vector = floats(&data[0]["embedding"]);
    assert_eq!(vector.len(), 16);
    assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    assert_eq!(reply["usage"], json!({"prompt_tokens": 5, "total_tokens": 5}));
}

#[tokio::test]
async fn base64_carries_the_same_numbers() {
    let sim = client::engine(Engine::Vllm).await;
    let ask = async |format| {
        let request = json!({"model": "m", "input": "hello", "encoding_format": format});
        sim.post(EMBEDDINGS, &request).await.json()["data"][0]["embedding"].clone()
    };
    let bytes = STANDARD.decode(ask("base64").await.as_str().unwrap()).unwrap();
    let decoded: Vec<f64> =
        bytes.chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect();
    assert_eq!(decoded, floats(&ask("float").await));
}

#[tokio::test]
async fn token_numbers_are_embedded_too() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = json!({"model": "m", "input": [[1, 2, 3], [4]]});
    let reply = sim.post(EMBEDDINGS, &request).await.json();
    assert_eq!(reply["data"].as_array().unwrap().len(), 2);
    assert_eq!(reply["usage"]["prompt_tokens"], 4);
}

#[tokio::test]
async fn more_dimensions_than_the_model_has_are_refused() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = json!({"model": "m", "input": "x", "dimensions": 100_000});
    assert_eq!(sim.post(EMBEDDINGS, &request).await.status, 400);
}

#[tokio::test]
async fn the_document_most_like_the_query_comes_first() {
    let sim = client::engine(Engine::Vllm).await;
    let request = json!({
        "model": "m", "query": "small red fox", "top_n": 2,
        "documents": ["quarterly revenue rose", {"text": "a small red fox"}, "a red car"],
    });
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let reply = sim.post(path, &request).await.json();
        let results = reply["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        assert_eq!(results[0]["index"], 1);
        assert_eq!(results[0]["document"]["text"], "a small red fox");
        assert!(results[0]["relevance_score"].as_f64() > results[1]["relevance_score"].as_f64());
    }
}

#[tokio::test]
async fn a_text_is_flagged_for_the_category_it_names() {
    let sim = client::engine(Engine::OpenAi).await;
    let reply = sim.post("/v1/moderations", &json!({"input": ["plain", "much violence here"]})).await.json();
    assert_eq!(reply["results"][0]["flagged"], false);
    assert_eq!(reply["results"][1]["flagged"], true);
    assert_eq!(reply["results"][1]["categories"]["violence"], true);
    assert_eq!(reply["results"][1]["categories"]["hate"], false);
}

#[tokio::test]
async fn pictures_are_valid_png() {
    let sim = client::engine(Engine::OpenAi).await;
    let reply =
        sim.post("/v1/images/generations", &json!({"model": "m", "prompt": "a dot", "n": 2})).await.json();
    assert_eq!(reply["data"].as_array().unwrap().len(), 2);
    let picture = STANDARD.decode(reply["data"][0]["b64_json"].as_str().unwrap()).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n") && picture.ends_with(b"IEND\xaeB`\x82"));
}

#[tokio::test]
async fn an_engine_lacks_what_it_never_had() {
    let sim = client::engine(Engine::Tgi).await;
    assert_eq!(sim.post(EMBEDDINGS, &json!({"model": "m", "input": "x"})).await.status, 404);
}
