//! The copies of checkpoints that verification compares: files, whoever has written them, and what buckets have, brought
//! into files first, so that a log of any size takes no memory.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use synapse_core::config::snapshot::{CheckpointSink, S3Bucket, SinkKind};
use tempfile::NamedTempFile;

use crate::{audit::sinks::s3::Objects, outside::Outside};

/// What the name of a bucket begins with.
const BUCKET: &str = "s3://";

/// A copy, as a file of notes or of messages with notes.
pub(super) struct Copy {
    /// As it was asked for.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// What a bucket has: gone when nobody needs it any more.
    _fetched: Option<NamedTempFile>,
}

impl Copy {
    /// A file.
    pub(super) fn file(path: PathBuf) -> Self {
        Self { name: path.display().to_string(), path, _fetched: None }
    }

    /// What was asked for by a path, or by `s3://BUCKET/PREFIX` where that is one of these sinks.
    pub(super) async fn open(named: &Path, sinks: &[CheckpointSink]) -> anyhow::Result<Self> {
        let Some(place) = named.to_str().and_then(|text| text.strip_prefix(BUCKET)) else {
            return Ok(Self::file(named.to_owned()));
        };
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_matches('/');
        let Some(bucket) = sink_of(sinks, name, prefix) else {
            bail!(
                "{}: no such bucket is in `audit.checkpoints.s3`; name the configuration with --config",
                named.display()
            );
        };
        let fetched = fetch(bucket, if prefix.is_empty() { &bucket.prefix } else { prefix })
            .await
            .with_context(|| named.display().to_string())?;
        let path = fetched.path().to_owned();
        Ok(Self { name: named.display().to_string(), path, _fetched: Some(fetched) })
    }
}

/// The sink that has its objects below this prefix, or above it.
fn sink_of<'s>(sinks: &'s [CheckpointSink], name: &str, prefix: &str) -> Option<&'s S3Bucket> {
    let buckets = sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::S3(bucket) if bucket.bucket == name => Some(bucket),
        _ => None,
    });
    buckets.max_by_key(|bucket| Path::new(prefix).starts_with(&bucket.prefix))
}

async fn fetch(bucket: &S3Bucket, prefix: &str) -> anyhow::Result<NamedTempFile> {
    let file = NamedTempFile::new().context("there is no room for a copy of the bucket's checkpoints")?;
    let mut writer = BufWriter::new(file.as_file());
    let objects = Objects::new(bucket, Arc::new(Outside::default()))?;
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    // What an object that is none leaves open is closed before the next one.
    objects.read(&below, |note| write!(writer, "\n\n{note}\n")).await?;
    writer.flush()?;
    drop(writer);
    Ok(file)
}
