//! Which of two versions is the newer one, and what the older is told.

use std::sync::Arc;

use synapse_tunnel::message::{NEWER_VERSION, Notice};

use super::binaries::Offer;

/// The word to a worker of version `theirs`, if `ours` is newer.
pub(super) fn notice(theirs: &str, ours: &str, offer: impl Fn() -> Option<Arc<Offer>>) -> Option<Notice> {
    if !is_older(theirs, ours) {
        return None;
    }
    let sums = offer().map(|offer| offer.iter().map(|(p, b)| (p.to_string(), b.sum.to_string())).collect());
    Some(Notice {
        code: NEWER_VERSION.to_owned(),
        text: format!(
            "the gateway has version {ours}, this worker {theirs}: install it again, or start it with --self-update"
        ),
        sha256: sums.unwrap_or_default(),
    })
}

/// Whether `theirs` comes before `ours`; no, where that cannot be told.
fn is_older(theirs: &str, ours: &str) -> bool {
    parse(theirs).zip(parse(ours)).is_some_and(|(theirs, ours)| theirs < ours)
}

/// `1.2.3`, with false after it for `1.2.3-rc.1`, which comes before the release.
fn parse(version: &str) -> Option<([u64; 3], bool)> {
    let version = version.split('+').next()?;
    let (numbers, is_release) = match version.split_once('-') {
        Some((numbers, _)) => (numbers, false),
        None => (version, true),
    };
    let mut parts = numbers.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    let numbers = [next()?, next()?, next()?];
    parts.next().is_none().then_some((numbers, is_release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_worker_is_told() {
        for (theirs, ours, told) in [
            ("0.1.0", "0.1.0", false),
            ("0.1.0", "0.1.1", true),
            ("0.9.0", "0.10.0", true),
            ("1.0.0", "0.10.0", false),
            ("1.0.0-rc.1", "1.0.0", true),
            ("1.0.0", "1.0.0-rc.1", false),
            ("1.0.0+a", "1.0.0+b", false),
            ("nightly", "1.0.0", false),
            ("1.0", "2.0.0", false),
            ("1.0.0.0", "2.0.0", false),
        ] {
            assert_eq!(notice(theirs, ours, || None).is_some(), told, "{theirs} {ours}");
        }
    }
}
