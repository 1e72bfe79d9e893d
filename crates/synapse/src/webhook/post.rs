//! Posting a message: one connection for each, to an address that was looked at first. Redirects are not followed,
//! and of the answer, nothing but its head is read.

use std::{io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use synapse_core::config::snapshot::{OutsideUrl, Webhook};
use synapse_gateway::backend::http::TlsSetup;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use super::{guard, message::Message};

/// How long a message may take, from the look-up of the name to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an address may take while there are others to try.
const NEXT_ADDRESS: Duration = Duration::from_secs(2);
/// What an answer's head may take.
const MOST_HEAD: usize = 16 * 1024;

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
    tls: TlsSetup,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A byte stream, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[async_trait]
impl Post for Http {
    async fn post(&self, webhook: &Webhook, message: &Message) -> Result<u16, Failure> {
        let status = match tokio::time::timeout(PATIENCE, self.exchange(webhook, message)).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(Failure::Unreachable(describe(&*error))),
            Err(_) => return Err(Failure::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        match status {
            200..300 => Ok(status),
            410 => Err(Failure::Gone),
            408 | 425 | 429 | 500.. => Err(Failure::Unwell(status)),
            _ => Err(Failure::Refused(status)),
        }
    }
}

/// An error and what is behind it, on one line.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Http {
    async fn exchange(&self, webhook: &Webhook, message: &Message) -> Result<u16, Error> {
        let stream = self.connect(&webhook.url, webhook.allow_private).await?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream)).await?;
        let (mut connection, mut answer) =
            (Box::pin(connection), Box::pin(sender.send_request(request(webhook, message)?)));
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // It may end as soon as it has brought the answer.
            _ended = &mut connection => answer.await?,
        };
        Ok(answer.status().as_u16())
    }

    /// Looks the name up once, and connects to what was found then and to nothing else.
    async fn connect(&self, url: &OutsideUrl, allow_private: bool) -> Result<Box<dyn Stream>, Error> {
        let addresses: Vec<SocketAddr> = lookup_host((url.host.as_str(), url.port)).await?.collect();
        guard::check(&addresses, allow_private)?;
        let tcp = dial(&addresses).await?;
        tcp.set_nodelay(true)?;
        if !url.https {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(url.host.clone())?;
        let tls = TlsConnector::from(self.tls.config(None)?);
        Ok(Box::new(tls.connect(name, tcp).await?))
    }
}

async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let patience = if at + 1 < addresses.len() { NEXT_ADDRESS } else { PATIENCE };
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(last)
}

fn request(webhook: &Webhook, message: &Message) -> Result<Request<Full<Bytes>>, Error> {
    let mut request = Request::post(&webhook.url.target)
        .header(header::HOST, webhook.url.authority())
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
        let request = request(&webhook(WebhookFormat::Generic), &message).expect("a request");
        assert_eq!(request.headers()["webhook-id"], "alr_00001");
    }
}
