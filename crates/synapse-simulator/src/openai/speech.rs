//! `/v1/audio/speech`: a tone whose length follows the text, as WAV, raw samples or events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::call::Call;
use crate::fault::Fault;
use crate::reply::{Framing, Reply, Script, Work};
use crate::text;

/// Samples a second; one channel of 16 bits.
const RATE: u32 = 24_000;
/// The characters one request may have spoken.
const LONGEST: usize = 4_096;
/// The samples spoken for one token: 60 ms.
const SAMPLES: u32 = 1_440;

#[derive(Deserialize)]
struct SpeechRequest {
    model: Option<String>,
    input: Option<String>,
    voice: Option<serde_json::Value>,
    response_format: Option<String>,
    stream_format: Option<String>,
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: SpeechRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let input = request.input.ok_or_else(|| Fault::missing("input"))?;
    if input.chars().count() > LONGEST {
        return Err(Fault::invalid(format!("'input' must have at most {LONGEST} characters.")));
    }
    let tokens = text::count_tokens(&input).max(1);
    let pitch = pitch(&request.voice.map(|voice| voice.to_string()).unwrap_or_default());
    let raw = request.response_format.as_deref() == Some("pcm");
    // Compressed formats would need an encoder: whoever asks for one gets WAV, and is told so.
    let head = if raw { Bytes::new() } else { Bytes::from(wav_header(tokens * SAMPLES)) };
    let pieces = (0..tokens).map(|index| tone(pitch, index * SAMPLES));
    let first = std::iter::once(head).filter(|head| !head.is_empty());
    if request.stream_format.as_deref() == Some("sse") {
        return Ok(events(Work::with(model), first.chain(pieces), tokens));
    }
    let mut script = Script::new(Framing::Raw(if raw { "audio/pcm" } else { "audio/wav" }));
    first.for_each(|head| script.push(head, false));
    pieces.for_each(|piece| script.push(piece, true));
    Ok(script.reply(Work::with(model)))
}

fn events(work: Work, pieces: impl Iterator<Item = Bytes>, tokens: u32) -> Reply {
    let mut script = Script::new(Framing::Sse);
    for piece in pieces {
        script.token(&json!({"type": "speech.audio.delta", "audio": STANDARD.encode(piece)}));
    }
    let usage = json!({"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens});
    script.mark(&json!({"type": "speech.audio.done", "usage": usage}));
    script.reply(work)
}

/// Each voice has its own pitch, in hertz.
fn pitch(voice: &str) -> u32 {
    110 + (text::hash(voice.as_bytes()) % 220) as u32
}

/// One token's samples, the first of which is number `start` of the whole.
fn tone(pitch: u32, start: u32) -> Bytes {
    let sample = |index: u32| {
        // Whole turns do not change a sine; leaving them out keeps it exact however long the text.
        let turns =
            f64::from(u32::try_from(u64::from(index) * u64::from(pitch) % u64::from(RATE)).unwrap_or(0));
        ((turns / f64::from(RATE) * std::f64::consts::TAU).sin() * 8_000.0) as i16
    };
    (start..start + SAMPLES).flat_map(|index| sample(index).to_le_bytes()).collect::<Vec<u8>>().into()
}

fn wav_header(samples: u32) -> Vec<u8> {
    let data = samples * 2;
    let mut header = Vec::with_capacity(44);
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&(36 + data).to_le_bytes());
    header.extend_from_slice(b"WAVEfmt ");
    header.extend_from_slice(&16_u32.to_le_bytes());
    // PCM, one channel.
    header.extend_from_slice(&[1, 0, 1, 0]);
    header.extend_from_slice(&RATE.to_le_bytes());
    header.extend_from_slice(&(RATE * 2).to_le_bytes());
    // Two bytes a frame, sixteen bits a sample.
    header.extend_from_slice(&[2, 0, 16, 0]);
    header.extend_from_slice(b"data");
    header.extend_from_slice(&data.to_le_bytes());
    header
}
