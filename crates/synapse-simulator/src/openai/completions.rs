//! `/v1/completions`: the format before chat, for one prompt or several.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::request::Sampling;
use super::vectors::EmbeddingInput;
use super::{dress, logprobs};
use crate::call::Call;
use crate::fault::Fault;
use crate::generation::Answer;
use crate::reply::{Framing, Reply, Script, Work};
use crate::text;
use crate::tokens::Usage;

#[derive(Debug, Deserialize)]
struct CompletionRequest {
    model: Option<String>,
    prompt: Option<EmbeddingInput>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    logprobs: Option<u32>,
    #[serde(flatten)]
    sampling: Sampling,
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: CompletionRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let prompts = request.prompt.as_ref().ok_or_else(|| Fault::missing("prompt"))?.texts();
    let mut usage = Usage::default();
    let mut answers = Vec::new();
    for prompt in prompts {
        call.check_context(text::count_tokens(&prompt))?;
        let mut task = request.sampling.task();
        task.question = Some(prompt.clone());
        task.prompt = prompt;
        let mut completion = 0;
        for index in 0..request.sampling.n.unwrap_or(1).clamp(1, 128) {
            let mut answer = task.answer(call.behaviour.tokens, call.shared.options.seed, index);
            completion += answer.token_count();
            if request.echo.unwrap_or(false) {
                answer.tokens.splice(0..0, text::tokenise(&task.prompt));
            }
            answers.push(answer);
        }
        let used = call.usage(&model, &task.prompt, completion);
        usage.prompt += used.prompt;
        usage.cached += used.cached;
        usage.completion += used.completion;
    }
    let document = document(call, &model);
    let completion = Completion { call, document, model, usage, answers, logprobs: request.logprobs };
    if request.sampling.streams() {
        Ok(completion.stream(request.sampling.includes_usage()))
    } else {
        Ok(completion.whole())
    }
}

fn document(call: &Call<'_>, model: &str) -> Map<String, Value> {
    dress::document(call, &call.id("cmpl-"), "text_completion", model)
}

struct Completion<'a> {
    call: &'a Call<'a>,
    document: Map<String, Value>,
    model: String,
    usage: Usage,
    answers: Vec<Answer>,
    logprobs: Option<u32>,
}

impl Completion<'_> {
    fn whole(mut self) -> Reply {
        let choices: Vec<Value> = (0..)
            .zip(&self.answers)
            .map(|(index, answer)| self.choice(index, &answer.tokens, 0, Some(answer.finish.as_str())))
            .collect();
        self.document.insert("choices".to_owned(), Value::Array(choices));
        self.document.insert("usage".to_owned(), dress::usage(self.call.engine(), self.usage));
        dress::finish_document(self.call, &mut self.document, self.usage);
        let work = self.work();
        Reply::json(&Value::Object(self.document)).after(work)
    }

    fn work(&self) -> Work {
        let longest = self.answers.iter().map(Answer::token_count).max().unwrap_or(0);
        Work::on(self.model.as_str(), self.usage, longest)
    }

    fn choice(&self, index: u32, tokens: &[String], offset: usize, finish: Option<&str>) -> Value {
        let logprobs = self.logprobs.map(|top| logprobs::legacy(tokens, top, offset));
        let mut choice = Map::new();
        choice.insert("index".to_owned(), json!(index));
        choice.insert("text".to_owned(), json!(tokens.concat()));
        choice.insert("logprobs".to_owned(), json!(logprobs));
        choice.insert("finish_reason".to_owned(), json!(finish));
        dress::finish_choice(self.call.engine(), &mut choice);
        Value::Object(choice)
    }

    fn stream(&self, includes_usage: bool) -> Reply {
        let mut script = Script::new(Framing::Sse);
        let chunk = |choices: Value| {
            let mut chunk = self.document.clone();
            chunk.insert("choices".to_owned(), choices);
            chunk
        };
        for (index, answer) in (0..).zip(&self.answers) {
            let mut offset = 0;
            for token in &answer.tokens {
                let choice = self.choice(index, std::slice::from_ref(token), offset, None);
                script.token(&Value::Object(chunk(json!([choice]))));
                offset += token.chars().count();
            }
            let last = self.choice(index, &[], offset, Some(answer.finish.as_str()));
            script.mark(&Value::Object(chunk(json!([last]))));
        }
        if includes_usage {
            let mut last = chunk(json!([]));
            last.insert("usage".to_owned(), dress::usage(self.call.engine(), self.usage));
            script.mark(&Value::Object(last));
        }
        script.done();
        script.reply(self.work())
    }
}
