//! A worker's binary as gateways offer it and workers take it: the platform it is for, and its sum.

use std::{
    env::{self, consts},
    fmt,
    io::{self, Read},
    path::PathBuf,
    str::FromStr,
};

use sha2::{Digest, Sha256};
use synapse_core::hex;

/// On a binary's download: its SHA-256 in hexadecimal.
pub(crate) const SUM_HEADER: &str = "x-synapse-sha256";
/// The longest name of a system or of a processor.
const MAX_NAME: usize = 32;
/// How much is read at once.
const PIECE: usize = 256 * 1024;

/// A system and a processor, such as `linux-x86_64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Platform(String);

impl Platform {
    /// The one of this process.
    pub(crate) fn own() -> Self {
        Self(format!("{}-{}", system(consts::OS), processor(consts::ARCH)))
    }

    /// The one that goes by these names; `None` where these could be no names.
    pub(crate) fn of(os: &str, arch: &str) -> Option<Self> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let is_name = |text: &str| (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fine);
        (is_name(os) && is_name(arch)).then(|| Self(format!("{}-{}", system(os), processor(arch))))
    }

    /// The one with this system, or this processor, or both, and this process's own for the rest.
    pub(crate) fn like_own(os: Option<&str>, arch: Option<&str>) -> Option<Self> {
        Self::of(os.unwrap_or(consts::OS), arch.unwrap_or(consts::ARCH))
    }

    /// `linux-x86_64`
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the parts are called, in this order: system, processor.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.0.split_once('-').unwrap_or((&self.0, ""))
    }
}

impl FromStr for Platform {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.split_once('-').and_then(|(os, arch)| Self::of(os, arch)).ok_or(())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn system(name: &str) -> &str {
    if name == "macos" { "darwin" } else { name }
}

fn processor(name: &str) -> &str {
    match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        name => name,
    }
}

/// What this process runs, even where its file was replaced since.
pub(crate) fn running() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    /// Of all that can be read, with how much that is.
    pub(crate) fn of(mut source: impl Read) -> io::Result<(Self, u64)> {
        let mut summing = Summing::default();
        let mut piece = vec![0; PIECE];
        loop {
            match source.read(&mut piece) {
                Ok(0) => return Ok((summing.sum(), summing.length)),
                Ok(read) => summing.add(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Sum {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        if text.len() != 64 {
            return Err(());
        }
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let value = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high * 16 + low);
            *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or(())?;
        }
        Ok(Self(sum))
    }
}

/// A sum in the making.
#[derive(Clone, Default)]
pub(crate) struct Summing {
    hash: Sha256,
    /// What was added so far, in bytes.
    pub(crate) length: u64,
}

impl Summing {
    /// Adds what comes next.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The sum of all that was added.
    pub(crate) fn sum(&self) -> Sum {
        Sum(self.hash.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_goes_by_several_names() {
        let named = |os, arch| Platform::of(os, arch).map(|platform| platform.to_string());
        assert_eq!(named("linux", "x86_64").as_deref(), Some("linux-x86_64"));
        assert_eq!(named("linux", "amd64").as_deref(), Some("linux-x86_64"));
        assert_eq!(named("macos", "arm64").as_deref(), Some("darwin-aarch64"));
        assert_eq!("linux-x86_64".parse(), Ok(Platform::of("linux", "x86_64").expect("a platform")));
        assert_eq!(Platform::like_own(None, None), Some(Platform::own()));
    }

    #[test]
    fn what_could_be_no_name_is_none() {
        for (os, arch) in [("", "x86_64"), ("linux", ""), ("../etc", "x"), ("Linux", "x86_64"), ("a b", "c")]
        {
            assert_eq!(Platform::of(os, arch), None, "{os}-{arch}");
        }
        assert_eq!(Platform::of("linux", &"x".repeat(MAX_NAME + 1)), None);
        assert_eq!("linux".parse::<Platform>(), Err(()));
    }

    #[test]
    fn a_sum_is_written_and_read_as_everybody_does() {
        let (sum, length) = Sum::of(&b"abc"[..]).expect("memory");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((sum.to_string().as_str(), length), (text, 3));
        assert_eq!(text.parse(), Ok(sum));
        for bad in ["", "ba78", &text.replace('b', "g"), &format!("{text}00")] {
            assert_eq!(bad.parse::<Sum>(), Err(()), "{bad}");
        }
    }
}
