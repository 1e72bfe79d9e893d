//! `/v1/audio/transcriptions` and `/v1/audio/translations`: the words say which file was heard.

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::multipart::{self, Part};
use crate::call::Call;
use crate::fault::Fault;
use crate::generation::Task;
use crate::reply::{Framing, Reply, Script, Work};
use crate::text;

/// Bytes taken for one second of sound: 16 000 samples of 16 bits.
const BYTES_A_SECOND: f64 = 32_000.0;

/// What is to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// What was said.
    Transcribe,
    /// What was said, in English.
    Translate,
}

pub(super) fn answer(call: &Call<'_>, job: Job) -> Result<Reply, Fault> {
    let content_type =
        call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parts = multipart::parse(content_type, call.body)
        .ok_or_else(|| Fault::invalid("Could not parse multipart form"))?;
    let form = Form { parts };
    let model = call.model(form.field("model"))?;
    let file = form.parts.iter().find(|part| part.name == "file").ok_or_else(|| Fault::missing("file"))?;
    let hearing = Hearing {
        model: &model,
        job,
        text: heard(&form, file, &model),
        duration: seconds(file.body),
        form: &form,
    };
    if form.field("stream") == Some("true") {
        return Ok(hearing.stream());
    }
    match form.field("response_format") {
        None | Some("json") => Ok(hearing.plain()),
        Some("text") => Ok(hearing.text_file("", "")),
        Some("srt") => Ok(hearing.text_file("1\n00:00:00,000 --> 00:00:01,000\n", "\n")),
        Some("vtt") => Ok(hearing.text_file("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n", "\n")),
        Some("verbose_json") => Ok(hearing.verbose()),
        Some(other) => Err(Fault::invalid(format!("'{other}' is not a supported response_format."))),
    }
}

/// The transcript: an echoed prompt, or what is known of the file.
fn heard(form: &Form<'_>, file: &Part<'_>, model: &str) -> String {
    let name = file.filename.as_deref().unwrap_or("unnamed");
    let known = format!("echo: {model} heard {} bytes in {name}", file.body.len());
    let prompt = form.field("prompt").filter(|prompt| prompt.starts_with("echo:"));
    let question = Some(prompt.map_or(known, str::to_owned));
    Task { question, ..Task::default() }.answer(0, 0, 0).text()
}

fn seconds(file: &[u8]) -> f64 {
    f64::from(text::count(file.len())) / BYTES_A_SECOND
}

struct Form<'a> {
    parts: Vec<Part<'a>>,
}

impl Form<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        let part = self.parts.iter().find(|part| part.name == name)?;
        std::str::from_utf8(part.body).ok()
    }

    /// Whether a list field, written with or without brackets, has this value.
    fn lists(&self, name: &str, value: &str) -> bool {
        self.parts
            .iter()
            .any(|part| part.name.trim_end_matches("[]") == name && part.body == value.as_bytes())
    }
}

/// What was heard in one file.
struct Hearing<'a> {
    model: &'a str,
    job: Job,
    text: String,
    duration: f64,
    form: &'a Form<'a>,
}

impl Hearing<'_> {
    fn plain(&self) -> Reply {
        let usage = json!({"type": "duration", "seconds": self.duration.ceil()});
        Reply::json(&json!({"text": self.text, "usage": usage})).after(self.work())
    }

    fn text_file(&self, before: &str, after: &str) -> Reply {
        Reply::text(format!("{before}{}\n{after}", self.text)).after(self.work())
    }

    fn verbose(&self) -> Reply {
        let segment = json!({
            "id": 0, "seek": 0, "start": 0.0, "end": self.duration, "text": self.text, "tokens": [],
            "temperature": 0.0, "avg_logprob": -0.2, "compression_ratio": 1.0, "no_speech_prob": 0.01,
        });
        let (task, language) = match self.job {
            Job::Transcribe => ("transcribe", self.form.field("language").unwrap_or("english")),
            Job::Translate => ("translate", "english"),
        };
        let mut document = json!({
            "task": task, "language": language, "duration": self.duration, "text": self.text,
            "segments": [segment],
        });
        if self.form.lists("timestamp_granularities", "word") {
            document["words"] = self.words();
        }
        Reply::json(&document).after(self.work())
    }

    /// The words, spread evenly over the duration.
    fn words(&self) -> Value {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let each = self.duration / f64::from(text::count(words.len()).max(1));
        let timed = (0_u32..).zip(words).map(|(index, word)| {
            let start = each * f64::from(index);
            json!({"word": word, "start": start, "end": start + each})
        });
        timed.collect()
    }

    fn stream(&self) -> Reply {
        let mut script = Script::new(Framing::Sse);
        for token in text::tokenise(&self.text) {
            script.token(&json!({"type": "transcript.text.delta", "delta": token}));
        }
        script.mark(&json!({"type": "transcript.text.done", "text": self.text}));
        script.done();
        script.reply(self.work())
    }

    fn work(&self) -> Work {
        Work { longest: text::count_tokens(&self.text), ..Work::with(self.model) }
    }
}
