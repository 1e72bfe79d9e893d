//! Where checkpoints of the audit log go besides files: names, addresses, buckets.

use std::net::IpAddr;

use secrecy::ExposeSecret;
use url::Url;

use super::{Check, Unique, outside, raw};
use crate::config::snapshot::{
    CheckpointSink, S3Bucket, SigningSecret, SinkKind, SinkWebhook, SyslogAddress,
};

/// The name of the file among the sinks.
const FILE: &str = "file";
const SECTION: &str = "/audit/checkpoints";

pub(super) fn check(raw: raw::CheckpointSinks, check: &mut Check<'_>) -> Vec<CheckpointSink> {
    let mut names = Unique::default();
    let mut sinks = Vec::new();
    let mut add = |check: &mut Check<'_>, pointer: &str, name: Option<String>, kind: Option<SinkKind>| {
        // What is missing was reported where it was read.
        let Some(name) = name else { return };
        let pointer = format!("{pointer}/name");
        if !is_name(&name) {
            check.report(&pointer, "must be of letters, digits, `-` and `_`, and not `file`");
        }
        names.claim(&name, &pointer, check);
        sinks.extend(kind.map(|kind| CheckpointSink { name, kind }));
    };
    for (at, sink) in raw.syslog.into_iter().enumerate() {
        let pointer = format!("{SECTION}/syslog/{at}");
        let kind = sink.url.and_then(|url| syslog(&url, &format!("{pointer}/url"), check));
        add(check, &pointer, sink.name, kind.map(SinkKind::Syslog));
    }
    for (at, mut sink) in raw.webhooks.into_iter().enumerate() {
        let pointer = format!("{SECTION}/webhooks/{at}");
        let name = sink.name.take();
        let kind = webhook(sink, &pointer, check);
        add(check, &pointer, name, kind.map(SinkKind::Webhook));
    }
    for (at, mut sink) in raw.s3.into_iter().enumerate() {
        let pointer = format!("{SECTION}/s3/{at}");
        let name = sink.name.take();
        let kind = s3(sink, &pointer, check);
        add(check, &pointer, name, kind.map(SinkKind::S3));
    }
    sinks
}

/// Whether it can be the name of a file, on any system.
fn is_name(name: &str) -> bool {
    name != FILE && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn syslog(text: &str, pointer: &str, check: &mut Check<'_>) -> Option<SyslogAddress> {
    let address = syslog_address(text);
    if address.is_none() {
        let message = "is no syslog server; write `udp://host:514`, `tcp://host:601`, `tls://host:6514` or `unix:///dev/log`";
        check.report(pointer, message);
    }
    address
}

fn syslog_address(text: &str) -> Option<SyslogAddress> {
    let url = Url::parse(text.trim()).ok()?;
    let has_more = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if has_more || url.fragment().is_some() {
        return None;
    }
    if url.scheme() == "unix" {
        let is_path = url.host().is_none() && url.path().len() > 1 && !url.path().ends_with('/');
        return is_path.then(|| SyslogAddress::Unix(url.path().into()));
    }
    let host = outside::host(&url).filter(|host| !host.is_empty() && matches!(url.path(), "" | "/"))?;
    let port = |usual| url.port().unwrap_or(usual);
    let address = match url.scheme() {
        "udp" => SyslogAddress::Udp(host, port(514)),
        "tcp" => SyslogAddress::Tcp(host, port(601)),
        "tls" => SyslogAddress::Tls(host, port(6514)),
        _ => return None,
    };
    (url.port() != Some(0)).then_some(address)
}

fn webhook(raw: raw::WebhookSink, pointer: &str, check: &mut Check<'_>) -> Option<SinkWebhook> {
    let secret = raw.secret.map(|secret| check.signing_secret(&format!("{pointer}/secret"), secret));
    let url = raw.url?;
    let url = check.outside_url(&format!("{pointer}/url"), url.0.expose_secret(), raw.allow_private);
    Some(SinkWebhook { url: url?, secret: secret?, allow_private: raw.allow_private })
}

fn s3(raw: raw::S3Sink, pointer: &str, check: &mut Check<'_>) -> Option<S3Bucket> {
    let is_plain =
        |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    if !is_plain(&raw.region, b"-_") {
        check.report(&format!("{pointer}/region"), "must be of letters, digits, `-` and `_`");
    }
    let prefix = raw.prefix.trim_matches('/');
    let is_prefix = prefix.is_empty() || prefix.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_plain(prefix, b"-_./") || !is_prefix {
        let message = "must be of letters, digits, `-`, `_` and `.`, with single slashes between";
        check.report(&format!("{pointer}/prefix"), message);
    }
    let bucket = raw.bucket.as_ref()?;
    if !is_plain(bucket, b"-.") || bucket.contains("..") || bucket.bytes().any(|b| b.is_ascii_uppercase()) {
        check.report(&format!("{pointer}/bucket"), "must be of small letters, digits, `-` and `.`");
    }
    let at = format!("{pointer}/endpoint");
    let endpoint = check.outside_url(&at, raw.endpoint.as_ref()?, raw.allow_private)?;
    if endpoint.target != "/" {
        check.report(&at, "must have no path; `bucket` and `prefix` are written apart");
    }
    if !raw.path_style && endpoint.host.parse::<IpAddr>().is_ok() {
        let message = "no bucket's name can stand before an address; write a name, or `path_style: true`";
        check.report(&format!("{pointer}/path_style"), message);
    }
    Some(S3Bucket {
        endpoint,
        region: raw.region.clone(),
        bucket: bucket.clone(),
        prefix: prefix.to_owned(),
        path_style: raw.path_style,
        access_key: SigningSecret(raw.access_key?.0),
        secret_key: SigningSecret(raw.secret_key?.0),
        allow_private: raw.allow_private,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{
        load,
        snapshot::{SinkKind, Snapshot, SyslogAddress},
        testing::World,
    };

    fn mistakes(sinks: &str) -> Vec<String> {
        let problems = load(&format!("audit: {{checkpoints: {{{sinks}}}}}"), &World::default()).err();
        let told = |problem: crate::config::Problem| format!("{}: {}", problem.place.path, problem.message);
        problems.into_iter().flatten().map(told).collect()
    }

    fn loaded(sinks: &str) -> Snapshot {
        load(&format!("audit: {{checkpoints: {{{sinks}}}}}"), &World::default())
            .unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    const SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const S3: &str =
        "name: n, endpoint: 'https://s3.example', bucket: box, access_key: hidden, secret_key: hidden";

    #[test]
    fn a_syslog_server_is_named_by_a_url() {
        let host = "log.example".to_owned();
        for (url, want) in [
            ("udp://log.example", SyslogAddress::Udp(host.clone(), 514)),
            ("tcp://log.example:6000/", SyslogAddress::Tcp(host.clone(), 6000)),
            ("tls://log.example", SyslogAddress::Tls(host, 6514)),
            ("udp://[fd00::5]:515", SyslogAddress::Udp("fd00::5".to_owned(), 515)),
            ("unix:///dev/log", SyslogAddress::Unix("/dev/log".into())),
        ] {
            let snapshot = loaded(&format!("syslog: [{{name: n, url: '{url}'}}]"));
            assert_eq!(snapshot.audit.sinks[0].kind, SinkKind::Syslog(want), "{url}");
        }
        for url in [
            "log.example:514",
            "udp://",
            "https://log.example",
            "unix://",
            "tcp://u:p@h",
            "tcp://h/path",
            "udp://h:0",
        ] {
            let found = mistakes(&format!("syslog: [{{name: n, url: '{url}'}}]"));
            assert!(found.len() == 1 && found[0].contains("syslog[0].url: is no syslog"), "{url}: {found:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_sink_is_told_by_field() {
        for (sinks, want) in [
            ("syslog: [{name: file, url: 'udp://h'}]".to_owned(), "syslog[0].name: must be of letters"),
            ("syslog: [{name: a/b, url: 'udp://h'}]".to_owned(), "syslog[0].name: must be of letters"),
            ("syslog: [{url: 'udp://h'}]".to_owned(), "syslog[0].name: is required"),
            (
                format!("syslog: [{{name: n, url: 'udp://h'}}], s3: [{{{S3}}}]"),
                "s3[0].name: the name is taken",
            ),
            (
                format!("webhooks: [{{name: n, url: 'http://h/', secret: {SECRET}}}]"),
                "webhooks[0].url: must begin",
            ),
            (
                "webhooks: [{name: n, url: 'https://h/', secret: short}]".to_owned(),
                "webhooks[0].secret: is not",
            ),
            ("webhooks: [{name: n, url: 'https://h/'}]".to_owned(), "webhooks[0].secret: is required"),
            (format!("s3: [{{{S3}, prefix: 'a//b'}}]"), "s3[0].prefix: must be of letters"),
            (format!("s3: [{{{S3}, prefix: 'a/../b'}}]"), "s3[0].prefix: must be of letters"),
            (format!("s3: [{{{S3}, region: 'a b'}}]"), "s3[0].region: must be of letters"),
            (format!("s3: [{{{}}}]", S3.replace("box", "Box")), "s3[0].bucket: must be of small letters"),
            (
                format!("s3: [{{{}}}]", S3.replace("s3.example", "s3.example/box")),
                "s3[0].endpoint: must have no path",
            ),
            (
                format!("s3: [{{{}, path_style: false}}]", S3.replace("s3.example", "10.0.0.5")),
                "s3[0].path_style: no bucket's name",
            ),
            (format!("s3: [{{{}}}]", S3.replace("https", "http")), "s3[0].endpoint: must begin with"),
        ] {
            let found = mistakes(&sinks);
            let want = format!("audit.checkpoints.{want}");
            assert!(found.len() == 1 && found[0].starts_with(&want), "{sinks}: {found:?}");
        }
    }

    #[test]
    fn a_bucket_is_taken_as_it_is_usually_written_and_its_keys_are_never_shown() {
        let snapshot = loaded(&format!("s3: [{{{S3}, prefix: '/audit/synapse/'}}]"));
        let SinkKind::S3(bucket) = &snapshot.audit.sinks[0].kind else { panic!("no bucket") };
        assert_eq!((bucket.prefix.as_str(), bucket.region.as_str()), ("audit/synapse", "us-east-1"));
        assert!(bucket.path_style && !bucket.allow_private);
        assert!(!format!("{snapshot:?}").contains("hidden"));
    }
}
