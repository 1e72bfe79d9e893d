//! What the commands for issued keys share: how one names a key, and the only showing of its secret.

use std::convert::Infallible;

use anyhow::anyhow;
use serde::Serialize;
use synapse_core::{
    id::KeyId,
    key::{IssuedKey, Purpose},
};

use super::output::{Output, fields};

/// Reads a key's id, or the whole key, as it turns up where it should not be.
pub(super) fn parse_id<P: Purpose>(text: &str) -> Result<KeyId, Infallible> {
    Ok(IssuedKey::<P>::parse(text).map_or_else(|| text.into(), |key| key.id().clone()))
}

/// A key's record together with the key, in the only moment in which both are known.
#[derive(Serialize)]
struct Revealed<'k, I> {
    key: &'k str,
    #[serde(flatten)]
    info: &'k I,
}

/// Shows a new secret; `remedy` says what to do should that fail.
pub(super) fn reveal<P: Purpose, I: Serialize>(
    key: &IssuedKey<P>,
    info: &I,
    describe: impl Fn(&I) -> Vec<(&'static str, String)>,
    remedy: &str,
    output: Output,
) -> anyhow::Result<()> {
    output
        .result(&Revealed { key: key.reveal(), info }, |revealed| {
            let mut lines = describe(revealed.info);
            lines.insert(0, ("key", revealed.key.into()));
            fields(&lines)
        })
        // Not an `io::Error` any more: a reader who left must not pass for success here.
        .map_err(|error| anyhow!("the secret of key {} could not be shown ({error}); {remedy}", key.id()))?;
    Ok(output.note("Keep the key now: only a hash of it is stored, so it cannot be shown again.")?)
}
