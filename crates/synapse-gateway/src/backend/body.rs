//! Bodies on their way to a backend: bytes in memory, pieces of a spooled upload, or what only passes
//! through.

use std::{
    collections::VecDeque,
    fs::File,
    future::Future,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much of a file is read at once.
const CHUNK: u64 = 64 * 1024;

/// A piece of a body.
#[derive(Clone)]
pub enum Segment {
    /// Bytes in memory.
    Memory(Bytes),
    /// A range of a spooled file.
    File(Arc<File>, Range<u64>),
}

impl Segment {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }

    /// A part of it.
    pub(crate) fn slice(&self, part: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.slice(part.start as usize..part.end as usize)),
            Self::File(file, whole) => {
                Self::File(Arc::clone(file), whole.start + part.start..whole.start + part.end)
            }
        }
    }

    /// What it takes in memory.
    pub(crate) fn memory(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(..) => 0,
        }
    }
}

/// A body that comes from elsewhere.
type Passing = Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

/// A request's body as hyper sends it.
pub struct UpstreamBody(Source);

enum Source {
    Pieces(Pieces),
    Passing(Passing),
}

/// A body that is at hand.
struct Pieces {
    /// The next piece; most bodies have one.
    next: Option<Segment>,
    rest: VecDeque<Segment>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Bytes not yet handed over, those being read included.
    left: u64,
}

impl UpstreamBody {
    /// No body.
    pub fn empty() -> Self {
        Self::segments([])
    }

    /// A body from memory.
    pub fn bytes(bytes: Bytes) -> Self {
        Self::segments([Segment::Memory(bytes)])
    }

    /// A body from pieces.
    pub fn segments(segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut segments = segments.into_iter().filter(|s| s.len() > 0);
        let next = segments.next();
        let rest: VecDeque<_> = segments.collect();
        let left = next.iter().chain(&rest).map(Segment::len).sum();
        Self(Source::Pieces(Pieces { next, rest, reading: None, left }))
    }

    /// A body that passes through as it comes.
    pub fn passing(body: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self(Source::Passing(Box::pin(body)))
    }
}

impl Pieces {
    fn handed(&mut self, bytes: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.left -= bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                return match read.map_err(io::Error::other).and_then(|bytes| bytes) {
                    Ok(bytes) => self.handed(bytes),
                    Err(error) => Poll::Ready(Some(Err(error))),
                };
            }
            match self.next.take().or_else(|| self.rest.pop_front()) {
                None => return Poll::Ready(None),
                Some(Segment::Memory(bytes)) => return self.handed(bytes),
                Some(Segment::File(file, range)) => {
                    let end = range.end.min(range.start + CHUNK);
                    if end < range.end {
                        self.next = Some(Segment::File(Arc::clone(&file), end..range.end));
                    }
                    self.reading = Some(spawn_blocking(move || read_range(&file, range.start..end)));
                }
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Source::Pieces(pieces) => pieces.poll_frame(cx),
            Source::Passing(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Pieces(pieces) => pieces.left == 0,
            Source::Passing(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Pieces(pieces) => SizeHint::with_exact(pieces.left),
            Source::Passing(body) => body.size_hint(),
        }
    }
}

fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact_at(&mut buffer, range.start)?;
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_of_memory_and_file_come_out_in_order() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let content: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        std::fs::write(path.path(), &content).expect("written");
        let file = Arc::new(File::open(path.path()).expect("open"));
        let body = UpstreamBody::segments([
            Segment::File(Arc::clone(&file), 0..100_000),
            Segment::Memory(Bytes::from_static(b"new")),
            Segment::File(file, 100_003..200_000),
        ]);
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let sent = body.collect().await.expect("a body").to_bytes();
        assert_eq!(&sent[..100_000], &content[..100_000]);
        assert_eq!(&sent[100_000..100_003], b"new");
        assert_eq!(&sent[100_003..], &content[100_003..]);
    }
}
