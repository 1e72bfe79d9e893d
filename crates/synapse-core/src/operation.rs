//! What a caller asks for, whatever dialect the request came in.

use serde::{Deserialize, Serialize};

/// One operation of the data plane. Policies, metrics and records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/rerank`
    Rerank,
    /// `/v1/moderations`
    Moderation,
    /// `/v1/images/generations`
    Image,
    /// `/v1/audio/speech`
    Speech,
    /// `/v1/audio/transcriptions`
    Transcription,
    /// `/v1/audio/translations`
    Translation,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 10] = [
        Self::Chat,
        Self::Completion,
        Self::Responses,
        Self::Embeddings,
        Self::Rerank,
        Self::Moderation,
        Self::Image,
        Self::Speech,
        Self::Transcription,
        Self::Translation,
    ];

    /// The name in metrics, records and policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
            Self::Image => "image",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Translation => "translation",
        }
    }

    /// The operation that is called so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// The path below an OpenAI-compatible base URL (`…/v1`).
    pub const fn openai_path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completion => "/completions",
            Self::Responses => "/responses",
            Self::Embeddings => "/embeddings",
            Self::Rerank => "/rerank",
            Self::Moderation => "/moderations",
            Self::Image => "/images/generations",
            Self::Speech => "/audio/speech",
            Self::Transcription => "/audio/transcriptions",
            Self::Translation => "/audio/translations",
        }
    }
}
