//! The table of routes: what a path stands for, and with which methods.

use synapse_core::operation::Operation;

use super::admin::Resource;

/// What a path stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    /// Work for an engine.
    Operation(Operation, &'static str),
    /// All models.
    Models,
    /// One model; the id as it stands in the path.
    Model(&'p str),
    /// Where workers come in.
    Workers,
    /// Something for administrators.
    Admin(Resource),
    /// The state of all backends.
    Health,
    /// Is the process alive?
    Live,
    /// Does it take work?
    Ready,
    /// The version.
    Version,
    /// The script that installs a worker.
    Install,
    /// A worker's binary.
    Client,
    /// A friendly word.
    Root,
}

impl Route<'_> {
    /// The methods that the route takes, as the `Allow` header spells them.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::Operation(..) => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// Finds a path in the table. Paths are compared as they are: no second spelling leads to a route.
pub(super) fn find(path: &str) -> Option<Route<'_>> {
    use Operation as O;
    let operation = |operation, route| Some(Route::Operation(operation, route));
    match path {
        "/v1/chat/completions" => operation(O::Chat, "POST /v1/chat/completions"),
        "/v1/completions" => operation(O::Completion, "POST /v1/completions"),
        "/v1/responses" => operation(O::Responses, "POST /v1/responses"),
        "/v1/embeddings" => operation(O::Embeddings, "POST /v1/embeddings"),
        "/v1/rerank" => operation(O::Rerank, "POST /v1/rerank"),
        "/v1/moderations" => operation(O::Moderation, "POST /v1/moderations"),
        "/v1/images/generations" => operation(O::Image, "POST /v1/images/generations"),
        "/v1/audio/speech" => operation(O::Speech, "POST /v1/audio/speech"),
        "/v1/audio/transcriptions" => operation(O::Transcription, "POST /v1/audio/transcriptions"),
        "/v1/audio/translations" => operation(O::Translation, "POST /v1/audio/translations"),
        "/v1/models" => Some(Route::Models),
        "/ws" => Some(Route::Workers),
        "/health" => Some(Route::Health),
        "/livez" => Some(Route::Live),
        "/readyz" => Some(Route::Ready),
        "/version" => Some(Route::Version),
        "/run" => Some(Route::Install),
        "/getclient" => Some(Route::Client),
        "/" => Some(Route::Root),
        _ => match path.strip_prefix("/admin/v1") {
            Some(below) => Resource::find(below).map(Route::Admin),
            None => path.strip_prefix("/v1/models/").filter(|id| !id.is_empty()).map(Route::Model),
        },
    }
}

/// A path segment with its percent escapes resolved; `None` where that is no UTF-8 text, or has a
/// control character.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, next) = match (first, tail) {
            (b'%', [high, low, next @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                (u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, next)
            }
            (b'%', _) => return None,
            (byte, next) => (*byte, next),
        };
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_route() {
        for operation in Operation::ALL {
            let path = format!("/v1{}", operation.openai_path());
            assert!(matches!(find(&path), Some(Route::Operation(found, _)) if found == operation), "{path}");
        }
    }

    #[test]
    fn a_models_id_may_have_slashes() {
        assert_eq!(find("/v1/models/org/name:8b"), Some(Route::Model("org/name:8b")));
        assert_eq!(percent_decode("org%2Fname").as_deref(), Some("org/name"));
        assert_eq!(percent_decode("a%0"), None);
        assert_eq!(percent_decode("a%00"), None);
        assert_eq!(percent_decode("%ff"), None);
    }

    #[test]
    fn no_second_spelling_leads_to_a_route() {
        for path in
            ["//v1/models", "/v1/models/", "/V1/models", "/v1/../v1/models", "/v1/chat/completions/", ""]
        {
            assert_eq!(find(path), None, "{path}");
        }
    }
}
