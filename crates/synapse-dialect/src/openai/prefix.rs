//! The beginning of a conversation, by which its later turns are recognised: its system messages and
//! its first message after them. A whole prompt would differ with every turn; the system message
//! alone is the same for all conversations of an application.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{bounded::First, json::Object};

/// The first message counts in blocks of this size, so that questions on the same long text meet.
const BLOCK: usize = 1024;
/// More of them tell no more.
const MAX_BLOCKS: usize = 8;

/// Nobody begins with more system messages than this.
type Beginning<'a> = First<Message<'a>, 32>;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// A number that all turns of a conversation share; `None` where a request has no such beginning.
/// `salt` keeps apart what must not be mixed up, such as different callers.
pub fn fingerprint(body: &[u8], salt: &str) -> Option<u64> {
    let object = Object::of_checked(body).ok()?;
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    object.get("model").hash(&mut hasher);
    if let Some(messages) = object.read::<Beginning<'_>>("messages").ok().flatten() {
        hash_messages(&messages.0, &mut hasher)?;
    } else {
        object.get("instructions").hash(&mut hasher);
        let text = object.get("prompt").or_else(|| object.get("input"))?;
        match serde_json::from_str::<Beginning<'_>>(text) {
            Ok(items) => hash_messages(&items.0, &mut hasher)?,
            Err(_) => whole_blocks(text).hash(&mut hasher),
        }
    }
    Some(hasher.finish())
}

fn hash_messages(messages: &[Message<'_>], hasher: &mut DefaultHasher) -> Option<()> {
    for message in messages {
        let text = message.content.map(RawValue::get)?;
        let is_system = matches!(message.role, Some("system" | "developer"));
        if !is_system {
            whole_blocks(text).hash(hasher);
            return Some(());
        }
        text.hash(hasher);
    }
    None
}

/// As many whole blocks as there are; a text shorter than one counts as it is.
fn whole_blocks(text: &str) -> &[u8] {
    let blocks = (text.len() / BLOCK).min(MAX_BLOCKS);
    let end = if blocks == 0 { text.len() } else { blocks * BLOCK };
    &text.as_bytes()[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(messages: serde_json::Value) -> Option<u64> {
        fingerprint(json!({ "model": "m", "messages": messages }).to_string().as_bytes(), "")
    }

    #[test]
    fn all_turns_of_a_conversation_share_it_and_other_conversations_do_not() {
        let (system, first) =
            (json!({"role": "system", "content": "be brief"}), json!({"role": "user", "content": "a"}));
        let one = of(json!([system, first]));
        let later = of(
            json!([system, first, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
        );
        assert!(one.is_some());
        assert_eq!(one, later);
        assert_ne!(
            one,
            of(json!([system, {"role": "user", "content": "z"}])),
            "not by the system message alone"
        );
        assert_ne!(one, of(json!([first])));
    }

    #[test]
    fn questions_on_the_same_long_text_meet() {
        let about = |question: &str| {
            of(json!([{"role": "user", "content": format!("{}{question}", "text ".repeat(1000))}]))
        };
        assert_eq!(about("Who?"), about("Why?"));
    }

    #[test]
    fn callers_are_kept_apart() {
        let body = br#"{"model":"m","prompt":"once upon"}"#;
        assert_ne!(fingerprint(body, "one"), fingerprint(body, "two"));
        assert_eq!(fingerprint(br#"{"model":"m"}"#, ""), None);
    }
}
