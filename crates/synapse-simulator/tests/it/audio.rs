//! Speech and transcription.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use synapse_simulator::Engine;

use crate::client::{self, Answer};

const SPEECH: &str = "/v1/audio/speech";

#[tokio::test]
async fn speech_is_a_wav_as_long_as_its_header_says() {
    let sim = client::engine(Engine::OpenAi).await;
    let wav = sim.post(SPEECH, &json!({"model": "m", "voice": "alloy", "input": "three little words"})).await;
    assert_eq!(wav.headers["content-type"], "audio/wav");
    assert_eq!((&wav.body[..4], &wav.body[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    let length = u32::from_le_bytes(wav.body[40..44].try_into().unwrap()) as usize;
    assert_eq!(wav.body.len(), 44 + length);
    let pcm =
        json!({"model": "m", "voice": "alloy", "input": "three little words", "response_format": "pcm"});
    assert_eq!(sim.post(SPEECH, &pcm).await.body, wav.body[44..]);
}

#[tokio::test]
async fn another_voice_sounds_different() {
    let sim = client::engine(Engine::OpenAi).await;
    let speak =
        async |voice| sim.post(SPEECH, &json!({"model": "m", "voice": voice, "input": "hi"})).await.body;
    assert_eq!(speak("alloy").await, speak("alloy").await);
    assert_ne!(speak("alloy").await, speak("echo").await);
}

#[tokio::test]
async fn speech_comes_as_events_when_asked() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = json!({"model": "m", "voice": "alloy", "input": "one two", "stream_format": "sse"});
    let events = sim.post(SPEECH, &request).await.chunks();
    assert_eq!(events[0]["type"], "speech.audio.delta");
    assert_eq!(events.last().unwrap()["type"], "speech.audio.done");
}

/// Uploads a file of ten bytes with these fields.
async fn upload(path: &str, fields: &[(&str, &str)]) -> Answer {
    let sim = client::engine(Engine::OpenAi).await;
    let mut body = String::new();
    for (name, value) in fields {
        body.push_str(&format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    body.push_str("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"talk.wav\"\r\n");
    body.push_str("Content-Type: audio/wav\r\n\r\n0123456789\r\n--b--\r\n");
    let request = Request::post(path)
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Full::from(Bytes::from(body)))
        .unwrap();
    Answer::read(sim.connect().await.send(request).await.unwrap()).await
}

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";

#[tokio::test]
async fn a_transcript_names_the_model_the_file_and_its_size() {
    let text = upload(TRANSCRIPTIONS, &[("model", "m")]).await.json()["text"].clone();
    assert_eq!(text, "m heard 10 bytes in talk.wav");
    let text = upload(TRANSCRIPTIONS, &[("model", "m"), ("response_format", "text")]).await;
    assert_eq!(text.text(), "m heard 10 bytes in talk.wav\n");
}

#[tokio::test]
async fn a_prompt_can_dictate_the_transcript() {
    let reply = upload(TRANSCRIPTIONS, &[("model", "m"), ("prompt", "echo: said this")]).await;
    assert_eq!(reply.json()["text"], "said this");
}

#[tokio::test]
async fn the_verbose_form_has_segments_and_words() {
    let fields = [("model", "m"), ("response_format", "verbose_json"), ("timestamp_granularities[]", "word")];
    let reply = upload("/v1/audio/translations", &fields).await.json();
    assert_eq!((&reply["task"], &reply["language"]), (&json!("translate"), &json!("english")));
    assert_eq!(reply["segments"][0]["text"], reply["text"]);
    assert_eq!(reply["words"][1]["word"], "heard");
}

#[tokio::test]
async fn a_transcript_streams_in_deltas() {
    let events = upload(TRANSCRIPTIONS, &[("model", "m"), ("stream", "true")]).await.chunks();
    let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(events.last().unwrap()["text"], text);
}

#[tokio::test]
async fn an_upload_without_a_model_or_a_file_is_refused() {
    let refused = upload(TRANSCRIPTIONS, &[]).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["param"]), (400, &Value::from("model")));
    let sim = client::engine(Engine::OpenAi).await;
    assert_eq!(sim.post(TRANSCRIPTIONS, &json!({"model": "m"})).await.status, 400);
}
