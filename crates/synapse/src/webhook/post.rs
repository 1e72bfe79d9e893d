//! Posting a message: what its answer means. Of the answer, nothing but its head is read.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use synapse_core::config::snapshot::{OutsideUrl, Webhook};

use super::message::Message;
use crate::outside::{Error, Outside, describe};

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody took it: others would fare no better now.
    #[error("{0}")]
    Unreachable(String),
    /// The receiver says that it is busy or broken.
    #[error("it answered {0}")]
    Unwell(u16),
    /// The receiver does not want this message, or not here.
    #[error("it answered {0}")]
    Refused(u16),
    /// The receiver says that it is gone for good.
    #[error("it answered 410: nobody wants messages there any more")]
    Gone,
}

/// Brings messages to where they belong.
#[async_trait]
pub(crate) trait Post: Send + Sync {
    /// Sends one; the status of the answer.
    async fn post(&self, webhook: &Webhook, message: &Message) -> Result<u16, Failure>;
}

/// Posts over HTTP/1.1.
#[derive(Default)]
pub(crate) struct Http {
    outside: Outside,
}

#[async_trait]
impl Post for Http {
    async fn post(&self, webhook: &Webhook, message: &Message) -> Result<u16, Failure> {
        post(&self.outside, &webhook.url, webhook.allow_private, message).await
    }
}

/// Posts a message to a URL; the status of the answer.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn post(
    outside: &Outside,
    url: &OutsideUrl,
    allow_private: bool,
    message: &Message,
) -> Result<u16, Failure> {
    let request = request(url, message).map_err(|error| Failure::Unreachable(describe(&*error)))?;
    let status = outside.send(url, allow_private, request, 0).await.map_err(Failure::Unreachable)?.status;
    match status {
        200..300 => Ok(status),
        410 => Err(Failure::Gone),
        408 | 425 | 429 | 500.. => Err(Failure::Unwell(status)),
        _ => Err(Failure::Refused(status)),
    }
}

fn request(url: &OutsideUrl, message: &Message) -> Result<Request<Full<Bytes>>, Error> {
    let mut request = Request::post(&url.target)
        .header(header::HOST, url.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("synapse/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", message.timestamp);
    if let Some(signature) = &message.signature {
        request = request.header("webhook-signature", signature);
    }
    Ok(request.body(Full::from(message.body.clone()))?)
}

#[cfg(test)]
mod tests {
    use std::io;

    use jiff::Timestamp;
    use synapse_core::config::{self, Surroundings, snapshot::WebhookFormat};
    use synapse_testkit::Script;
    use tokio::net::TcpListener;

    use super::*;
    use crate::webhook::message::tests::{alert, webhook};

    struct NoWorld;

    impl Surroundings for NoWorld {
        fn env(&self, _: &str) -> Option<String> {
            None
        }

        fn read_file(&self, _: &std::path::Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// A webhook at any URL, as the configuration has it.
    fn at(url: &str, allow_private: bool) -> Webhook {
        let text = format!(
            "alerts: {{webhooks: [{{name: w, url: '{url}', format: slack, allow_private: {allow_private}}}]}}"
        );
        let snapshot = config::load(&text, &NoWorld).expect("a configuration");
        snapshot.webhooks.into_iter().next().expect("a webhook")
    }

    async fn post(webhook: &Webhook) -> Result<u16, Failure> {
        Http::default()
            .post(webhook, &Message::new(&alert(1, Timestamp::UNIX_EPOCH), webhook, Timestamp::UNIX_EPOCH))
            .await
    }

    #[tokio::test]
    async fn however_it_is_spelled_a_private_address_is_not_even_connected_to() {
        let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = canary.local_addr().expect("an address").port();
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "localhost",
            "LOCALHOST",
            "0",
            "0.0.0.0",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "①②⑦.⓪.⓪.①",
        ] {
            let failure = post(&at(&format!("https://{host}:{port}/"), false)).await.expect_err(host);
            let Failure::Unreachable(why) = &failure else { panic!("{host}: {failure:?}") };
            assert!(why.contains("no public address"), "{host}: {why}");
        }
        let canary = canary.into_std().expect("a socket that does not block");
        let nobody = canary.accept().expect_err("nobody has connected");
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_headers_and_its_answer_is_told() {
        let receiver = Script::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(post(&at(&receiver.url(), true)).await, Ok(204));
        assert_eq!(receiver.calls(), 1);
    }

    #[tokio::test]
    async fn a_redirect_is_a_refusal_and_leads_nowhere() {
        let inside = Script::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let redirect = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            inside.url()
        );
        let outside = Script::saying(redirect).await;
        assert_eq!(post(&at(&outside.url(), true)).await, Err(Failure::Refused(307)));
        assert_eq!(inside.calls(), 0);
    }

    #[tokio::test]
    async fn an_answer_says_whether_to_try_again_and_what() {
        for (status, want) in [
            (503, Failure::Unwell(503)),
            (429, Failure::Unwell(429)),
            (400, Failure::Refused(400)),
            (410, Failure::Gone),
        ] {
            let receiver = Script::saying(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
            assert_eq!(post(&at(&receiver.url(), true)).await, Err(want));
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned();
        let receiver = Script::saying(head + &"x".repeat(100_000)).await;
        assert_eq!(post(&at(&receiver.url(), true)).await, Ok(200));
        let receiver = Script::saying(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(100_000))).await;
        assert!(matches!(post(&at(&receiver.url(), true)).await, Err(Failure::Unreachable(_))));
    }

    #[test]
    fn a_chat_service_needs_no_signature() {
        let message = Message::new(
            &alert(1, Timestamp::UNIX_EPOCH),
            &at("https://h.example/", false),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(message.signature, None);
        let request = request(&webhook(WebhookFormat::Generic).url, &message).expect("a request");
        assert_eq!(request.headers()["webhook-id"], "alr_00001");
    }
}
