//! Secrets that flags carry.

use anyhow::{Context, ensure};
use secrecy::{ExposeSecret, SecretString};
use synapse_core::config::Surroundings;

/// A secret as given, or out of the file that it names (`file:/path`). It must be able to stand in a header,
/// and is not empty: an empty one would let everybody in.
pub(super) fn read(
    flag: &str,
    given: Option<SecretString>,
    world: &dyn Surroundings,
) -> anyhow::Result<Option<SecretString>> {
    let Some(given) = given else { return Ok(None) };
    let secret = match given.expose_secret().strip_prefix("file:") {
        None => given,
        Some(path) => {
            let text = world.read_file(path.as_ref());
            let text = text.with_context(|| format!("{flag}: the file {path} cannot be read"))?;
            text.trim_end_matches(['\n', '\r']).to_owned().into()
        }
    };
    let text = secret.expose_secret();
    let fits = |b: u8| b.is_ascii_graphic() || b == b' ';
    ensure!(!text.is_empty(), "{flag} must not be empty; leave it out to have no such key");
    ensure!(
        text.bytes().all(fits) && text.trim() == text,
        "{flag} must be of plain ASCII characters, without spaces at its ends"
    );
    Ok(Some(secret))
}
