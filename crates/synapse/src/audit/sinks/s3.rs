//! Checkpoints as objects of a bucket, `PREFIX/CHAIN/ENTRY.note`, none of which is ever written over; and the way back,
//! for verification.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::Full;
use hyper::{Request, header};
use rusty_s3::{
    Bucket, Credentials, Method, S3Action, UrlStyle,
    actions::{GetObject, ListObjectsV2, PutObject},
};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use synapse_core::config::snapshot::{OutsideUrl, S3Bucket};
use url::Url;

use super::{Failure, Given, Sink};
use crate::outside::{Answer, Outside};

/// How long a signature holds.
const VALID: Duration = Duration::from_secs(300);
/// The longest answer about one object; notes have about 500 bytes.
const MOST_NOTE: usize = 64 << 10;
/// The longest page of names.
const MOST_LIST: usize = 4 << 20;
/// How many objects are fetched at the same time.
const AT_ONCE: usize = 8;

/// A bucket.
pub(crate) struct Objects {
    bucket: Bucket,
    credentials: Credentials,
    prefix: String,
    allow_private: bool,
    outside: Arc<Outside>,
}

impl Objects {
    /// # Errors
    /// When the name of the bucket cannot stand in the host of a URL.
    pub(crate) fn new(to: &S3Bucket, outside: Arc<Outside>) -> anyhow::Result<Self> {
        let style = if to.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = Url::parse(&to.endpoint.origin())?;
        let Ok(bucket) = Bucket::new(endpoint, style, to.bucket.clone(), to.region.clone()) else {
            bail!("`path_style: false` needs a name before which a bucket's name can stand, and no address");
        };
        let text =
            |secret: &synapse_core::config::snapshot::SigningSecret| secret.0.expose_secret().to_owned();
        Ok(Self {
            bucket,
            credentials: Credentials::new(text(&to.access_key), text(&to.secret_key)),
            prefix: to.prefix.clone(),
            allow_private: to.allow_private,
            outside,
        })
    }

    /// The name of a checkpoint's object; in the order of names, checkpoints of a chain are in their own order.
    fn key(&self, given: &Given) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{}/{:020}.note", self.prefix, given.checkpoint.chain, given.checkpoint.last)
    }

    /// Signs an action and has it done.
    async fn act<'a, A: S3Action<'a>>(
        &self,
        mut action: A,
        headers: &[(&'static str, String)],
        body: Bytes,
        most: usize,
    ) -> Result<Answer, String> {
        for (name, value) in headers {
            action.headers_mut().insert(*name, value.clone());
        }
        let url = parts(&action.sign(VALID)).ok_or("the URL of the bucket has no host")?;
        let method = match A::METHOD {
            Method::Put => hyper::Method::PUT,
            _ => hyper::Method::GET,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(&url.target)
            .header(header::HOST, url.authority())
            .header(header::USER_AGENT, concat!("synapse/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        self.outside.send(&url, self.allow_private, request, most).await
    }

    async fn put(&self, key: &str, note: &str) -> Result<Answer, String> {
        let headers = [
            ("if-none-match", "*".to_owned()),
            // Buckets whose objects are locked ask for a checksum, some by its name and some by itself.
            ("x-amz-sdk-checksum-algorithm", "SHA256".to_owned()),
            ("x-amz-checksum-sha256", BASE64_STANDARD.encode(Sha256::digest(note))),
        ];
        let action = PutObject::new(&self.bucket, Some(&self.credentials), key);
        self.act(action, &headers, Bytes::from(note.to_owned()), MOST_NOTE).await
    }

    async fn get(&self, key: &str) -> Result<Answer, String> {
        let action = GetObject::new(&self.bucket, Some(&self.credentials), key);
        self.act(action, &[], Bytes::new(), MOST_NOTE).await
    }

    /// The names of all objects below `prefix` from page to page: what one page has, and the token of the next.
    async fn list(&self, prefix: &str, token: Option<&str>) -> anyhow::Result<(Vec<String>, Option<String>)> {
        let mut action = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
        action.with_prefix(prefix.to_owned());
        if let Some(token) = token {
            action.with_continuation_token(token.to_owned());
        }
        let answer = self.act(action, &[], Bytes::new(), MOST_LIST).await.map_err(anyhow::Error::msg)?;
        if answer.status != 200 {
            bail!("the objects cannot be listed: {}", refusal(&answer));
        }
        let text = std::str::from_utf8(&answer.body).context("the list of objects is no text")?;
        let page = ListObjectsV2::parse_response(text)
            .map_err(|error| anyhow::anyhow!("the list of objects cannot be read: {error}"))?;
        let is_last = page.contents.is_empty();
        let token = page.next_continuation_token.filter(|next| !is_last && Some(next.as_str()) != token);
        Ok((page.contents.into_iter().map(|object| object.key).collect(), token))
    }

    /// Gives `take` every checkpoint below `prefix`, chain by chain and in order.
    ///
    /// # Errors
    /// When the bucket does not answer, or `take` fails.
    pub(crate) async fn read(
        &self,
        prefix: &str,
        mut take: impl FnMut(&str) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut token: Option<String> = None;
        loop {
            let (keys, next) = self.list(prefix, token.as_deref()).await?;
            let notes = keys.into_iter().filter(|key| key.ends_with(".note")).map(|key| async move {
                let answer = self.get(&key).await.map_err(anyhow::Error::msg)?;
                if answer.status != 200 {
                    bail!("the object {key} cannot be read: {}", refusal(&answer));
                }
                Ok(answer.body)
            });
            let mut notes = stream::iter(notes).buffered(AT_ONCE);
            while let Some(note) = notes.try_next().await? {
                take(&String::from_utf8_lossy(&note))?;
            }
            match next {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }
}

#[async_trait]
impl Sink for Objects {
    async fn give(&mut self, given: &Given) -> Result<(), Failure> {
        let key = self.key(given);
        let answer = self.put(&key, &given.note).await.map_err(Failure::Away)?;
        match answer.status {
            200..300 => Ok(()),
            // There is one of that name: the same one, if its answer was lost.
            412 => match self.get(&key).await.map_err(Failure::Away)? {
                there if there.status == 200 && there.body == given.note => Ok(()),
                there if there.status == 200 => Err(Failure::Refused(format!("{key} has another content"))),
                // Who may only put cannot look, and what stands there shows when the log is verified.
                there if there.status == 403 => Ok(()),
                there => Err(Failure::Away(refusal(&there))),
            },
            _ => Err(Failure::Away(refusal(&answer))),
        }
    }
}

/// What a service says when it does not do what it was asked, with its own name for that.
fn refusal(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    match code.filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())) {
        Some(code) => format!("it answered {} ({code})", answer.status),
        None => format!("it answered {}", answer.status),
    }
}

/// A signed URL as connections take it.
fn parts(url: &Url) -> Option<OutsideUrl> {
    let host = match url.host()? {
        url::Host::Domain(name) => name.to_owned(),
        url::Host::Ipv4(ip) => ip.to_string(),
        url::Host::Ipv6(ip) => ip.to_string(),
    };
    Some(OutsideUrl {
        https: url.scheme() == "https",
        host,
        port: url.port_or_known_default()?,
        target: url[url::Position::BeforePath..].to_owned(),
    })
}
