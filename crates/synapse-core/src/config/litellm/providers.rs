//! LiteLLM's `provider/model` names: which provider is meant, and how Synapse reaches it.

/// A provider as Synapse sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Provider<'n> {
    /// For the names of backends.
    pub(super) label: &'n str,
    /// `type` of its backends.
    pub(super) engine: &'static str,
    /// Where it is, unless the file says otherwise.
    pub(super) base: Option<&'static str>,
    /// The variable with its key, unless the file says otherwise.
    pub(super) key_variable: Option<&'static str>,
}

/// What a `model` of LiteLLM stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved<'n> {
    /// A model at a provider that speaks OpenAI's protocol.
    Model(Provider<'n>, &'n str),
    /// A provider whose protocol would have to be translated.
    Foreign(&'n str),
    /// Any provider, chosen by each request's model name.
    Anything,
}

/// Takes `model` apart; `custom` is `custom_llm_provider`, which goes before a prefix.
pub(super) fn resolve<'n>(model: &'n str, custom: Option<&'n str>) -> Resolved<'n> {
    let (name, rest) = match (custom, model.split_once('/')) {
        (Some(custom), Some((prefix, rest))) if prefix == custom => (custom, rest),
        (Some(custom), _) => (custom, model),
        (None, Some((prefix, rest))) => (prefix, rest),
        (None, None) if model == "*" => return Resolved::Anything,
        (None, None) => (provider_of_bare(model), model),
    };
    if FOREIGN.contains(&name) {
        return Resolved::Foreign(name);
    }
    let unknown = Provider { label: name, engine: "openai", base: None, key_variable: None };
    let known = PROVIDERS.iter().find(|(names, _)| names.contains(&name)).map(|(_, provider)| *provider);
    Resolved::Model(known.unwrap_or(unknown), rest)
}

/// Whether `url` is where a provider is by default.
pub(super) fn is_default_base(url: &str) -> bool {
    PROVIDERS.iter().any(|(_, provider)| provider.base == Some(url))
}

/// The provider of a model that is named without one.
fn provider_of_bare(model: &str) -> &'static str {
    [("claude", "anthropic"), ("gemini", "gemini"), ("command", "cohere")]
        .into_iter()
        .find(|(family, _)| model.starts_with(family))
        .map_or("openai", |(_, provider)| provider)
}

const fn hosted(label: &'static str, base: &'static str, key_variable: &'static str) -> Provider<'static> {
    Provider { label, engine: "openai", base: Some(base), key_variable: Some(key_variable) }
}

const fn engine(label: &'static str, base: Option<&'static str>) -> Provider<'static> {
    Provider { label, engine: label, base, key_variable: None }
}

const PROVIDERS: &[(&[&str], Provider<'static>)] = &[
    (
        &["openai", "text-completion-openai", "custom_openai"],
        hosted("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    ),
    (&["hosted_vllm", "vllm"], engine("vllm", None)),
    (&["ollama", "ollama_chat"], engine("ollama", Some("http://localhost:11434"))),
    (&["cerebras"], hosted("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY")),
    (&["deepinfra"], hosted("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY")),
    (&["deepseek"], hosted("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY")),
    (&["fireworks_ai"], hosted("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY")),
    (&["groq"], hosted("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY")),
    (&["mistral"], hosted("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY")),
    (&["moonshot"], hosted("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY")),
    (&["nvidia_nim"], hosted("nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY")),
    (&["openrouter"], hosted("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY")),
    (&["sambanova"], hosted("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY")),
    (&["together_ai"], hosted("together", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY")),
    (&["xai"], hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY")),
];

const FOREIGN: &[&str] = &[
    "ai21",
    "aleph_alpha",
    "anthropic",
    "anthropic_text",
    "azure",
    "azure_ai",
    "azure_text",
    "bedrock",
    "bedrock_converse",
    "clarifai",
    "cloudflare",
    "cohere",
    "cohere_chat",
    "databricks",
    "gemini",
    "huggingface",
    "nlp_cloud",
    "oci",
    "petals",
    "predibase",
    "replicate",
    "sagemaker",
    "sagemaker_chat",
    "snowflake",
    "triton",
    "vertex_ai",
    "vertex_ai_beta",
    "watsonx",
    "watsonx_text",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn label_and_model(model: &str, custom: Option<&str>) -> (String, String) {
        match resolve(model, custom) {
            Resolved::Model(provider, model) => (provider.label.to_owned(), model.to_owned()),
            other => panic!("{model}: {other:?}"),
        }
    }

    #[test]
    fn the_prefix_names_the_provider() {
        for (model, custom, label, rest) in [
            ("openai/gpt-4o", None, "openai", "gpt-4o"),
            ("hosted_vllm/meta-llama/Llama-3", None, "vllm", "meta-llama/Llama-3"),
            ("ollama_chat/llama3.1:8b", None, "ollama", "llama3.1:8b"),
            ("gpt-4o", None, "openai", "gpt-4o"),
            ("lm_studio/qwen", None, "lm_studio", "qwen"),
            ("meta-llama/Llama-3", Some("openai"), "openai", "meta-llama/Llama-3"),
            ("openai/gpt-4o", Some("openai"), "openai", "gpt-4o"),
            ("openai/*", None, "openai", "*"),
        ] {
            assert_eq!(label_and_model(model, custom), (label.to_owned(), rest.to_owned()), "{model}");
        }
    }

    #[test]
    fn providers_with_protocols_of_their_own_are_told_apart() {
        for (model, provider) in
            [("anthropic/claude-x", "anthropic"), ("claude-x", "anthropic"), ("azure/my-deployment", "azure")]
        {
            assert_eq!(resolve(model, None), Resolved::Foreign(provider));
        }
        assert_eq!(resolve("*", None), Resolved::Anything);
    }
}
