//! What is sent to a webhook: an alert in the shape that its receiver reads, or any other body, and a signature over it.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::Sha256;
use synapse_core::{
    alert::{Alert, Severity},
    config::snapshot::{SigningSecret, Webhook, WebhookFormat},
};

/// A message, signed where there is a secret, as in the Standard Webhooks specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Of what it tells: it stays the same when a message is sent again.
    pub(crate) id: String,
    /// When it is sent, in seconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) body: String,
    pub(crate) signature: Option<String>,
}

impl Message {
    /// An alert for a webhook, to be sent at `now`.
    pub(crate) fn new(alert: &Alert, webhook: &Webhook, now: Timestamp) -> Self {
        let body = match webhook.format {
            WebhookFormat::Generic => generic(alert),
            WebhookFormat::Slack => slack(alert),
            WebhookFormat::Teams => teams(alert),
        }
        .to_string();
        Self::signed(alert.id.clone(), body, webhook.secret.as_ref(), now)
    }

    /// A body of any kind, to be sent at `now`.
    pub(crate) fn signed(id: String, body: String, secret: Option<&SigningSecret>, now: Timestamp) -> Self {
        let timestamp = now.as_second();
        let signature = secret.and_then(|secret| sign(secret, &id, timestamp, &body));
        Self { id, timestamp, body, signature }
    }
}

/// `v1,` and Base64 of the HMAC over `id.timestamp.body`. Nothing for a secret that the configuration would not
/// have taken.
fn sign(secret: &SigningSecret, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let key = BASE64_STANDARD.decode(secret.0.expose_secret().strip_prefix("whsec_")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

fn generic(alert: &Alert) -> Value {
    json!({
        "type": "alert.raised",
        "timestamp": alert.at,
        "data": {
            "id": alert.id,
            "rule": alert.rule,
            "severity": alert.severity,
            "key": alert.key,
            "team": alert.team,
            "source": alert.source,
            "title": alert.title,
            "explanation": alert.explanation,
        },
    })
}

/// Label and value of what an alert is about.
fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut facts =
        vec![("Rule", alert.rule.name().to_owned()), ("Severity", alert.severity.name().to_owned())];
    facts.extend(alert.key.as_ref().map(|key| ("Key", key.to_string())));
    facts.extend(alert.team.as_ref().map(|team| ("Team", team.to_string())));
    facts.extend(alert.source.as_ref().map(|source| ("Network", source.clone())));
    facts.push(("Alert", alert.id.clone()));
    facts
}

fn slack(alert: &Alert) -> Value {
    // What Slack would read as a link, a mention or markup is written out.
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let fields: Vec<_> = facts(alert)
        .iter()
        .map(|(label, value)| json!({"type": "plain_text", "text": format!("{label}: {value}")}))
        .collect();
    json!({
        "text": plain(&format!("[{}] {}", alert.severity.name(), alert.title)),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": short(&alert.title, 150)}},
            {"type": "section", "text": {"type": "plain_text", "text": short(&alert.explanation, 3000)}},
            {"type": "section", "fields": fields},
        ],
    })
}

fn teams(alert: &Alert) -> Value {
    let colour = match alert.severity {
        Severity::Low => "Default",
        Severity::Medium => "Warning",
        Severity::High | Severity::Critical => "Attention",
    };
    let facts: Vec<_> =
        facts(alert).into_iter().map(|(label, value)| json!({"title": label, "value": value})).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "text": alert.title, "weight": "Bolder", "color": colour, "wrap": true},
                    {"type": "TextBlock", "text": alert.explanation, "wrap": true},
                    {"type": "FactSet", "facts": facts},
                ],
            },
        }],
    })
}

/// The beginning of a text, in as many characters as a service takes.
fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use synapse_core::{
        alert::{Rule, State},
        config::snapshot::OutsideUrl,
    };

    use super::*;

    /// The example of the specification's reference implementations.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    pub(crate) fn webhook(format: WebhookFormat) -> Webhook {
        Webhook {
            name: "w".into(),
            url: OutsideUrl {
                https: true,
                host: "alerts.example.com".into(),
                port: 443,
                target: "/hook".into(),
            },
            secret: Some(SigningSecret(KEY.into())),
            format,
            rules: Vec::new(),
            min_severity: Severity::Low,
            allow_private: false,
        }
    }

    pub(crate) fn alert(number: usize, at: Timestamp) -> Alert {
        Alert {
            id: format!("alr_{number:05}"),
            at,
            rule: Rule::DlpBlocks,
            severity: Severity::High,
            key: Some("AbCd1234".into()),
            team: Some("R&D <x>".into()),
            source: None,
            title: "Key AbCd1234 <!channel> is stopped".into(),
            explanation: "5 requests.".into(),
            state: State::Open,
        }
    }

    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = SigningSecret(KEY.into());
        let signature =
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn a_message_that_is_sent_again_differs_in_its_time_alone() {
        let alert = alert(1, Timestamp::UNIX_EPOCH);
        let at = |second| Timestamp::from_second(second).expect("a time");
        let hook = webhook(WebhookFormat::Generic);
        let (first, second) = (Message::new(&alert, &hook, at(1)), Message::new(&alert, &hook, at(2)));
        assert_eq!((&first.id, &first.body), (&second.id, &second.body));
        assert_ne!(first.signature, second.signature);
        let body: Value = serde_json::from_str(&first.body).expect("JSON");
        assert_eq!((&body["type"], &body["data"]["rule"]), (&json!("alert.raised"), &json!("dlp_blocks")));
        assert_eq!(body["timestamp"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn chat_services_get_their_own_shapes_and_no_markup_of_ours() {
        let alert = alert(1, Timestamp::UNIX_EPOCH);
        let body = |format| -> Value {
            serde_json::from_str(&Message::new(&alert, &webhook(format), Timestamp::UNIX_EPOCH).body)
                .expect("JSON")
        };
        let slack = body(WebhookFormat::Slack);
        assert_eq!(slack["text"], "[high] Key AbCd1234 &lt;!channel&gt; is stopped");
        assert_eq!(slack["blocks"][2]["fields"][3]["text"], "Team: R&D <x>");
        let card = body(WebhookFormat::Teams)["attachments"][0]["content"].clone();
        assert_eq!(
            (&card["type"], &card["body"][1]["text"]),
            (&json!("AdaptiveCard"), &json!("5 requests."))
        );
    }
}
