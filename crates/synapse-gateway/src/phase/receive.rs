//! The request's body: read within its limits, parsed once. JSON stays in memory as it came; a form
//! is spooled, and only its small fields are looked at.

use std::{fs::File, io::Write, ops::Range, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::{Body, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};
use synapse_audit::digest::Digester;
use synapse_core::{
    audit::entry::Digest,
    error::{Fault, FaultKind},
    operation::Operation,
};
use synapse_dialect::{
    json::Edits,
    multipart::{Field, Form, FormError, Scanner},
    openai::{
        binding::Changes,
        request::{self, Places, Shape},
    },
};
use tokio::{task::spawn_blocking, time::Instant};

use super::authenticate::Authenticated;
use crate::{
    audit::Record,
    backend::{Segment, UpstreamBody},
    gateway::Live,
};

/// How long a body may pause.
const IDLE: Duration = Duration::from_secs(30);
/// Uploads up to this size stay in memory.
const SPOOL_ABOVE: u64 = 1024 * 1024;
/// The form fields that decide a request's way.
const FIELDS: &[&str] = &["model", "stream", "prompt"];

/// A request that has arrived whole.
pub struct Call {
    pub(super) caller: Authenticated,
    pub(super) operation: Operation,
    pub(super) shape: Shape,
    pub(super) headers: HeaderMap,
    pub(super) body: CallBody,
}

/// A request's body.
pub(super) enum CallBody {
    /// As it came.
    Json(Bytes),
    /// Its pieces, and where the model's name stands in them.
    Form { pieces: Vec<Segment>, model: Range<u64>, prompt: Option<Field> },
}

impl Call {
    /// Takes another JSON body, and reads where everything stands in it.
    pub(super) fn replace(&mut self, body: Bytes) -> Result<(), Fault> {
        self.shape = request::read(self.operation, &body)?;
        self.body = CallBody::Json(body);
        Ok(())
    }

    /// Makes the changes that its key demands, in a JSON body.
    pub(super) fn bind(&mut self, changes: Changes) -> Result<(), Fault> {
        let CallBody::Json(body) = &self.body else { return Ok(()) };
        let Changes { edits, max_output } = changes;
        let length = edits.length_after(body.len());
        let Some(shape) = self.shape.after(&edits, length, max_output) else { return self.edit(edits) };
        self.body = CallBody::Json(edits.apply(body));
        self.shape = shape;
        Ok(())
    }

    /// Makes these changes in a JSON body, and reads anew where everything stands in it.
    pub(super) fn edit(&mut self, edits: Edits) -> Result<(), Fault> {
        let CallBody::Json(body) = &self.body else { return Ok(()) };
        if edits.is_empty() {
            return Ok(());
        }
        let edited = edits.apply(body);
        self.replace(edited)
    }
}

/// Reads the body of `operation`.
///
/// # Errors
/// `body_too_large`, `unsupported_media_type`, `request_timeout`, and what is wrong with the
/// content.
pub async fn receive(
    live: &Live,
    operation: Operation,
    caller: Authenticated,
    headers: HeaderMap,
    body: Incoming,
    record: &mut Record,
) -> Result<Call, Fault> {
    let coded = |coding: &&HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if let Some(coding) = headers.get_all(CONTENT_ENCODING).iter().find(coded) {
        let coding = String::from_utf8_lossy(coding.as_bytes()).into_owned();
        return Err(media_type(format!(
            "Bodies with the content coding `{coding}` are not read. Send it plain."
        )));
    }
    let body = Arriving::new(body, live.snapshot.server.body_timeout);
    let form = matches!(operation, Operation::Transcription | Operation::Translation);
    let (shape, body) = if form {
        let (shape, body, upload) = receive_form(live, operation, &headers, body, record).await?;
        record.received(upload.size, upload.digest);
        (shape, body)
    } else {
        check_json_type(&headers)?;
        let mut bytes = collect(body, live.snapshot.server.max_body_bytes).await?;
        // Not every engine bears a byte order mark.
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.advance(3);
        }
        let shape = request::read(operation, &bytes)?;
        record.received(bytes.len() as u64, record.digester().map(|digester| digester.whole(&bytes)));
        (shape, CallBody::Json(bytes))
    };
    record.target(|target| {
        target.model = Some(shape.model.as_str().into());
        target.stream = shape.stream;
    });
    Ok(Call { caller, operation, shape, headers, body })
}

fn media_type(message: String) -> Fault {
    Fault::new(FaultKind::UnsupportedMediaType, message)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

fn check_json_type(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(full) = content_type(headers) else { return Ok(()) };
    let mut parts = full.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let utf8 = parts.all(|p| match p.split_once('=') {
        Some((key, value)) if key.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    let json = kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json");
    if json && utf8 {
        return Ok(());
    }
    Err(media_type("The content type must be `application/json` in UTF-8.".to_owned()))
}

fn too_large(limit: u64) -> Fault {
    Fault::new(FaultKind::BodyTooLarge, format!("The body is larger than the limit of {limit} bytes."))
}

/// A body that breaks off, or whose framing is wrong.
fn broken(error: hyper::Error) -> Fault {
    let left = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    let lost = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<std::io::Error>());
    let malformed = lost.is_some_and(|io| {
        matches!(io.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
    });
    let (kind, message) = if malformed || (!left && lost.is_none()) {
        (FaultKind::MalformedRequest, "The body is not framed as HTTP demands.")
    } else {
        (FaultKind::ClientClosedRequest, "The body ended before it was complete.")
    };
    Fault::new(kind, message).source(error)
}

/// A body on its way.
struct Arriving {
    body: Incoming,
    limit: Duration,
    deadline: Instant,
}

impl Arriving {
    fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, deadline: Instant::now() + limit }
    }

    /// The least that is still to come.
    fn left(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// The next piece; it may be neither long in coming nor one too many.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let idle = Instant::now() + IDLE;
            let frame = tokio::time::timeout_at(idle.min(self.deadline), self.body.frame()).await;
            let frame = frame.map_err(|_| self.too_slow(idle))?;
            match frame.transpose().map_err(broken)? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn too_slow(&self, idle: Instant) -> Fault {
        let message = if self.deadline < idle {
            format!("The body did not arrive within {} s.", self.limit.as_secs_f64())
        } else {
            format!("No more of the body came within {} s.", IDLE.as_secs())
        };
        Fault::new(FaultKind::RequestTimeout, message)
    }
}

/// A body in memory; one that comes in one piece is not copied.
async fn collect(mut body: Arriving, limit: usize) -> Result<Bytes, Fault> {
    if body.left() > limit as u64 {
        return Err(too_large(limit as u64));
    }
    let Some(first) = body.next_piece().await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(too_large(limit as u64));
    }
    let Some(second) = (if body.body.is_end_stream() { None } else { body.next_piece().await? }) else {
        return Ok(first);
    };
    let expected = first.len() + second.len() + body.left() as usize;
    let mut whole = BytesMut::with_capacity(expected.min(limit));
    whole.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(data) = piece {
        if whole.len() + data.len() > limit {
            return Err(too_large(limit as u64));
        }
        whole.extend_from_slice(&data);
        piece = body.next_piece().await?;
    }
    Ok(whole.freeze())
}

async fn receive_form(
    live: &Live,
    operation: Operation,
    headers: &HeaderMap,
    mut body: Arriving,
    record: &Record,
) -> Result<(Shape, CallBody, Upload), Fault> {
    let kind = content_type(headers).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        return Err(media_type(format!("{} takes `multipart/form-data`.", operation.openai_path())));
    }
    let limit = live.snapshot.server.max_upload_bytes;
    if body.left() > limit {
        return Err(too_large(limit));
    }
    let mut scanner = Scanner::new(kind, FIELDS).map_err(malformed)?;
    let mut spool = Spool::default();
    let (mut whole, mut file) = (record.digester(), record.digester());
    while let Some(piece) = body.next_piece().await? {
        if spool.size + piece.len() as u64 > limit {
            return Err(too_large(limit));
        }
        scanner.push(&piece, |of_file| feed(&mut file, of_file)).map_err(malformed)?;
        feed(&mut whole, &piece);
        spool.push(piece).await?;
    }
    let Form { fields, files } = scanner.finish().map_err(malformed)?;
    // Of two fields of one name, an engine may take the other one.
    if let Some(twice) = FIELDS.iter().find(|name| fields.iter().filter(|f| f.name == **name).count() > 1) {
        let message = format!("The form field `{twice}` stands twice.");
        return Err(Fault::new(FaultKind::InvalidField, message).param(*twice));
    }
    let find = |name: &str| fields.iter().find(|f: &&Field| f.name == name);
    let model = find("model").ok_or_else(|| {
        Fault::new(FaultKind::MissingField, "The form field `model` is required.").param("model")
    })?;
    request::check_model_name(&model.value)?;
    let shape = Shape {
        model: model.value.clone(),
        stream: find("stream").is_some_and(|f| f.value == "true"),
        wants_usage: true,
        has_side_effects: false,
        choices: 1,
        preferences: None,
        tokens: 0,
        max_output: None,
        places: Places::default(),
    };
    // Nobody else can repeat the boundaries; what somebody has in hand is the file.
    let digest = if files == 1 { file } else { whole }.map(Digester::finish);
    let upload = Upload { size: spool.size, digest };
    let (model, prompt) = (model.range.clone(), find("prompt").cloned());
    Ok((shape, CallBody::Form { pieces: spool.finish().await?, model, prompt }, upload))
}

/// What is known of a form that has arrived.
struct Upload {
    size: u64,
    digest: Option<Digest>,
}

fn feed(digester: &mut Option<Digester>, piece: &[u8]) {
    if let Some(digester) = digester {
        digester.update(piece);
    }
}

fn malformed(error: FormError) -> Fault {
    Fault::new(FaultKind::InvalidField, format!("The form cannot be read: {error}.")).param("body")
}

/// An upload: in memory while small, then in an unnamed temporary file that vanishes with it.
#[derive(Default)]
struct Spool {
    memory: BytesMut,
    file: Option<File>,
    size: u64,
}

impl Spool {
    async fn push(&mut self, piece: Bytes) -> Result<(), Fault> {
        self.size += piece.len() as u64;
        self.memory.extend_from_slice(&piece);
        if self.memory.len() as u64 > SPOOL_ABOVE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        let full = self.memory.split().freeze();
        let file = self.file.take();
        let written = spawn_blocking(move || {
            let mut file = file.map_or_else(tempfile::tempfile, Ok)?;
            file.write_all(&full)?;
            Ok::<_, std::io::Error>(file)
        });
        let file = written.await.map_err(spool_failed)?.map_err(spool_failed)?;
        self.file = Some(file);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<Segment>, Fault> {
        if self.file.is_some() {
            self.flush().await?;
        }
        Ok(match self.file {
            Some(file) => vec![Segment::File(Arc::new(file), 0..self.size)],
            None => vec![Segment::Memory(self.memory.freeze())],
        })
    }
}

fn spool_failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::new(FaultKind::Overloaded, "The upload could not be stored for the time being.").source(error)
}

impl CallBody {
    /// The body, if it is JSON.
    pub(super) fn json(&self) -> Option<&Bytes> {
        match self {
            Self::Json(bytes) => Some(bytes),
            Self::Form { .. } => None,
        }
    }

    /// The text that a form has for the model.
    pub(super) fn form_text(&self) -> Option<&str> {
        match self {
            Self::Form { prompt, .. } => prompt.as_ref().map(|field| field.value.as_str()),
            Self::Json(_) => None,
        }
    }

    /// Puts another text in its place.
    pub(super) fn replace_form_text(&mut self, text: &str) {
        let Self::Form { pieces, model, prompt: Some(field) } = self else { return };
        *pieces = splice(pieces, &field.range, text);
        let moved = |at: u64| at - (field.range.end - field.range.start) + text.len() as u64;
        if model.start >= field.range.end {
            *model = moved(model.start)..moved(model.end);
        }
        field.range.end = field.range.start + text.len() as u64;
        text.clone_into(&mut field.value);
    }

    /// What it takes in memory, in bytes.
    pub(super) fn memory(&self) -> u64 {
        match self {
            Self::Json(bytes) => bytes.len() as u64,
            Self::Form { pieces, .. } => pieces.iter().map(Segment::memory).sum(),
        }
    }

    /// The body for an engine that calls the model `upstream_model`.
    pub(super) fn for_upstream(
        &self,
        operation: Operation,
        shape: &Shape,
        upstream_model: &str,
    ) -> UpstreamBody {
        match self {
            Self::Json(bytes) => {
                UpstreamBody::bytes(request::rewrite(operation, shape, bytes, upstream_model))
            }
            Self::Form { pieces, .. } if shape.model == upstream_model => {
                UpstreamBody::segments(pieces.clone())
            }
            Self::Form { pieces, model, .. } => UpstreamBody::segments(splice(pieces, model, upstream_model)),
        }
    }
}

/// The pieces with `text` in place of `range`.
fn splice(pieces: &[Segment], range: &Range<u64>, text: &str) -> Vec<Segment> {
    let mut out = Vec::with_capacity(pieces.len() + 2);
    let mut text = Some(Segment::Memory(Bytes::copy_from_slice(text.as_bytes())));
    let mut at = 0;
    for piece in pieces {
        let (start, end) = (at, at + piece.len());
        at = end;
        out.extend((start < range.start).then(|| piece.slice(0..range.start.min(end) - start)));
        if end >= range.start {
            out.extend(text.take());
        }
        out.extend((end > range.end).then(|| piece.slice(range.end.max(start) - start..end - start)));
    }
    out
}
