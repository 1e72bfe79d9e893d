//! A bucket of a service that speaks S3, in memory: it takes only what is signed as AWS wants it (Signature Version 4, in
//! the query), puts only where nothing is, and lists in small pages. Its objects are
//! locked, which asks for their checksums.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request, Response, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinSet};

/// How many names a page has.
const PAGE: usize = 3;
const REGION: &str = "test-1";

type Objects = BTreeMap<String, Vec<u8>>;

/// A bucket.
pub struct Bucket {
    address: SocketAddr,
    inner: Arc<Inner>,
    _serving: JoinSet<()>,
}

struct Inner {
    name: String,
    access_key: String,
    secret_key: String,
    objects: Mutex<Objects>,
    /// What each of the coming requests is answered with, whatever it asks.
    failing: Mutex<Option<u16>>,
    calls: AtomicUsize,
}

impl Bucket {
    /// An empty one of this name, with keys of its own.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn named(name: &str) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), name).await
    }

    /// The same at this address.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn at(address: SocketAddr, name: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            access_key: format!("access-{name}"),
            secret_key: format!("secret-{name}"),
            objects: Mutex::default(),
            failing: Mutex::default(),
            calls: AtomicUsize::new(0),
        });
        let mut serving = JoinSet::new();
        let serves = Arc::clone(&inner);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&serves);
                let service = service_fn(move |request| answer(Arc::clone(&inner), request));
                connections.spawn(async move {
                    // Whoever asked may have gone; that is theirs to know.
                    let _gone = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, inner, _serving: serving }
    }

    /// A sink of this name, as the configuration has it.
    pub fn sink(&self, name: &str, prefix: &str) -> Value {
        json!({
            "name": name, "endpoint": format!("http://{}", self.address), "region": REGION,
            "bucket": self.inner.name, "prefix": prefix, "allow_private": true,
            "access_key": self.inner.access_key, "secret_key": self.inner.secret_key,
        })
    }

    /// All that is in it.
    pub fn objects(&self) -> Objects {
        self.inner.objects().clone()
    }

    /// Puts an object in, whatever was there.
    pub fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.inner.objects().insert(key.to_owned(), content.into());
    }

    /// Takes an object away.
    pub fn remove(&self, key: &str) {
        self.inner.objects().remove(key);
    }

    /// Answers everything with this status from now on; `None` is well again.
    pub fn fail(&self, status: Option<u16>) {
        *self.inner.failing.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// How many requests came.
    pub fn calls(&self) -> usize {
        self.inner.calls.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request gets: a status and a body.
    fn judge(&self, head: &Parts, body: &[u8]) -> (u16, String) {
        let failing = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = failing {
            return refusal(status, "ServiceUnavailable");
        }
        if !self.is_signed(head) {
            return refusal(403, "SignatureDoesNotMatch");
        }
        let root = format!("/{}/", self.name);
        let Some(key) = head.uri.path().strip_prefix(&root) else { return refusal(404, "NoSuchBucket") };
        match (&head.method, key) {
            (&Method::GET, "") => self.list(head.uri.query().unwrap_or_default()),
            (&Method::GET, key) => match self.objects().get(key) {
                Some(content) => (200, String::from_utf8_lossy(content).into_owned()),
                None => refusal(404, "NoSuchKey"),
            },
            (&Method::PUT, key) => self.take(key, head, body),
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    fn take(&self, key: &str, head: &Parts, body: &[u8]) -> (u16, String) {
        // As where objects are locked by default.
        if header(head, "x-amz-sdk-checksum-algorithm") != "SHA256" {
            return refusal(400, "InvalidRequest");
        }
        if header(head, "x-amz-checksum-sha256") != BASE64_STANDARD.encode(Sha256::digest(body)) {
            return refusal(400, "BadDigest");
        }
        let mut objects = self.objects();
        if header(head, "if-none-match") == "*" && objects.contains_key(key) {
            return refusal(412, "PreconditionFailed");
        }
        objects.insert(key.to_owned(), body.to_vec());
        (200, String::new())
    }

    fn list(&self, query: &str) -> (u16, String) {
        let value = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        if value("list-type") != "2" {
            return refusal(400, "InvalidArgument");
        }
        let (prefix, after) = (value("prefix"), value("continuation-token"));
        let objects = self.objects();
        let mut names: Vec<&String> =
            objects.keys().filter(|name| name.starts_with(&prefix) && **name > after).collect();
        let is_truncated = names.len() > PAGE;
        names.truncate(PAGE);
        let mut page = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><EncodingType>url</EncodingType>\
             <MaxKeys>{PAGE}</MaxKeys><IsTruncated>{is_truncated}</IsTruncated>",
            self.name
        );
        if let Some(last) = names.last().filter(|_| is_truncated) {
            let _ = write!(page, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        for name in names {
            let _ = write!(page, "<Contents><Key>{name}</Key><Size>1</Size></Contents>");
        }
        (200, page + "</ListBucketResult>")
    }

    /// Whether a request was signed with the secret key, as it came: method, path, query and the headers it names.
    fn is_signed(&self, head: &Parts) -> bool {
        self.signature(head).is_some_and(|(given, right)| given == right)
    }

    /// The signature that a request has, and the one that it should have.
    fn signature(&self, head: &Parts) -> Option<(String, String)> {
        let mut pairs: Vec<&str> = head.uri.query()?.split('&').collect();
        pairs.sort_unstable();
        let value = |wanted: &str| {
            let pair = pairs.iter().find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='));
            Some(pair?.replace("%2F", "/").replace("%3B", ";"))
        };
        let signed_headers = value("X-Amz-SignedHeaders")?;
        // Nothing of S3's own may come unsigned.
        let is_covered = |name: &str| signed_headers.split(';').any(|signed| signed == name);
        let has_strays =
            head.headers.keys().any(|name| name.as_str().starts_with("x-amz-") && !is_covered(name.as_str()));
        if has_strays || !is_covered("host") || value("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
            return None;
        }
        let scope = value("X-Amz-Credential")?;
        let (access_key, scope) = scope.split_once('/')?;
        let (date, time) = (scope.split('/').next()?, value("X-Amz-Date")?);
        if access_key != self.access_key || scope != format!("{date}/{REGION}/s3/aws4_request") {
            return None;
        }
        let unsigned: Vec<&str> =
            pairs.iter().copied().filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
        let mut canonical = format!("{}\n{}\n{}\n", head.method, head.uri.path(), unsigned.join("&"));
        for name in signed_headers.split(';') {
            let _ = writeln!(canonical, "{name}:{}", header(head, name).trim());
        }
        let _ = write!(canonical, "\n{signed_headers}\nUNSIGNED-PAYLOAD");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [date, REGION, "s3", "aws4_request"] {
            key = mac(&key, part);
        }
        Some((value("X-Amz-Signature")?, hex(&mac(&key, &text))))
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header<'h>(head: &'h Parts, name: &str) -> &'h str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"))
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    inner.calls.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (status, text) = inner.judge(&head, &body);
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    Ok(answer)
}
