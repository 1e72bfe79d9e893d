//! The listeners, what they trust, and the database.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Check, binding::networks, raw, seconds};
use crate::config::{
    ExternalUrl,
    address::is_host,
    snapshot::{Server, TlsFiles},
};

pub(super) fn check(raw: raw::Server, check: &mut Check<'_>) -> Server {
    host("/server/host", &raw.host, check);
    let metrics = raw.metrics.enabled.then(|| {
        host("/server/metrics/host", &raw.metrics.host, check);
        ports_clash(&raw, check);
        (raw.metrics.host.clone(), raw.metrics.port)
    });
    let mib = |count: u32| u64::from(count) << 20;
    Server {
        tls: raw.tls.and_then(|files| tls(files, check)),
        metrics,
        max_body_bytes: usize::try_from(mib(raw.max_body_mb)).unwrap_or(usize::MAX),
        max_upload_bytes: mib(raw.max_upload_mb),
        body_timeout: seconds(raw.body_timeout_s),
        max_connections: raw.max_connections.map(|count| count as usize),
        max_connections_per_ip: raw.max_connections_per_ip.map(|count| count as usize),
        max_streams: raw.max_streams,
        trusted_proxies: networks(&raw.trusted_proxies, "/server/trusted_proxies", check),
        external_url: raw.external_url.and_then(|text| external_url(&text, check)),
        client_binaries: raw.client_binaries.map(Into::into),
        drain_grace: seconds(raw.drain_grace_s),
        reveal_backend: raw.response_headers,
        cors_origins: cors_origins(raw.cors_origins, check),
        host: raw.host,
        port: raw.port,
    }
}

/// The database's URL, if one is given.
pub(super) fn database(raw: raw::Database, check: &mut Check<'_>) -> Option<SecretString> {
    let url = raw.url?.0;
    if !has_scheme(&url, &["sqlite", "postgres", "postgresql"]) {
        check.report("/database/url", "must begin with `sqlite://` or `postgres://`");
    }
    Some(url)
}

/// Redis's URL, if one is given.
pub(super) fn redis(raw: Option<raw::Redis>, check: &mut Check<'_>) -> Option<SecretString> {
    let url = raw?.url?.0;
    if !has_scheme(&url, &["redis", "rediss"]) {
        check.report("/redis/url", "must begin with `redis://` or `rediss://`");
    }
    Some(url)
}

fn has_scheme(url: &SecretString, schemes: &[&str]) -> bool {
    url.expose_secret().split_once(':').is_some_and(|(scheme, _)| schemes.contains(&scheme))
}

fn host(pointer: &str, host: &str, check: &mut Check<'_>) {
    if !is_host(host) {
        let problem = check.problem(pointer, "is neither a host name nor an address");
        let hint = "write the bare name or address, and the port under `port`";
        check.problems.push(problem.hint(hint));
    }
}

fn ports_clash(raw: &raw::Server, check: &mut Check<'_>) {
    let related =
        ["/server/host", "/server/port", "/server/metrics", "/server/metrics/host", "/server/metrics/port"];
    // Defaults in place of broken values would clash with what was never meant.
    if related.iter().any(|pointer| check.places.is_broken(pointer)) {
        return;
    }
    let metrics = &raw.metrics;
    if raw.port != 0 && raw.port == metrics.port && hosts_overlap(&raw.host, &metrics.host) {
        let problem = check.problem("/server/metrics/port", "is the port of the public listener, too");
        check.problems.push(problem.hint("choose another, or set `enabled: false`"));
    }
}

fn hosts_overlap(a: &str, b: &str) -> bool {
    let everywhere = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let loopback =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    a == b
        || everywhere(a)
        || everywhere(b)
        // `localhost` binds both families; 127.0.0.1 and ::1 do not get in each other's way.
        || (loopback(a) && loopback(b) && (a == "localhost" || b == "localhost"))
}

fn tls(raw: raw::Tls, check: &mut Check<'_>) -> Option<TlsFiles> {
    for (pointer, path) in [("/server/tls/cert", &raw.cert), ("/server/tls/key", &raw.key)] {
        if let Some(path) = path {
            let _reported = check.pem_file(pointer, path);
        }
    }
    Some(TlsFiles { cert: raw.cert?.into(), key: raw.key?.into() })
}

fn external_url(text: &str, check: &mut Check<'_>) -> Option<ExternalUrl> {
    let url = ExternalUrl::parse(text);
    if url.is_none() {
        let problem = check.problem("/server/external_url", "is not a plain URL of `http` or `https`");
        let hint = "write `https://gateway.example.com`, with a port and a path where there are any";
        check.problems.push(problem.hint(hint));
    }
    url
}

fn cors_origins(raw: Vec<String>, check: &mut Check<'_>) -> Vec<String> {
    for (index, origin) in raw.iter().enumerate() {
        // Browsers compare origins letter by letter, so only the normal form can ever match.
        let is_origin = Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
        if origin != "*" && !is_origin {
            let problem = check.problem(&format!("/server/cors_origins/{index}"), "is not an origin");
            check
                .problems
                .push(problem.hint("write `https://host` or `https://host:port` without a path, or `*`"));
        }
    }
    raw
}
