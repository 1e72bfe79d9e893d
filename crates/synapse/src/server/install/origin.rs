//! Where the one who asks has reached this gateway: the URL that the script will use.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Uri,
    header::{HOST, HeaderName},
};
use synapse_core::{
    config::{ExternalUrl, snapshot::Server},
    error::{Fault, FaultKind},
};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is known of a request's way here.
pub(in crate::server) struct Asked<'r> {
    /// Its target.
    pub(in crate::server) uri: &'r Uri,
    pub(in crate::server) headers: &'r HeaderMap,
    /// Who is at the other end of the connection.
    pub(in crate::server) peer: IpAddr,
    /// Whether the connection is encrypted.
    pub(in crate::server) tls: bool,
}

/// The gateway's URL: the configured one, or what the request says of it. A proxy is believed where it is
/// trusted.
///
/// # Errors
/// When the request says nothing that could be a host. No message has anything in it that a shell would
/// run, since all of it may end up in one.
pub(super) fn base_url(asked: &Asked<'_>, server: &Server) -> Result<ExternalUrl, Fault> {
    if let Some(url) = &server.external_url {
        return Ok(url.clone());
    }
    let Asked { uri, headers, peer, tls } = asked;
    let is_trusted = server.trusted_proxies.iter().any(|net| net.contains(*peer));
    let forwarded = |name: &HeaderName| headers.get_all(name).iter().filter(|_| is_trusted);
    let tls = match single(forwarded(&FORWARDED_PROTO)) {
        Ok(None) => *tls,
        Ok(Some(b"http")) => false,
        Ok(Some(b"https")) => true,
        _ => return Err(refusal("x-forwarded-proto", "must be http or https")),
    };
    let (name, host) = match single(forwarded(&FORWARDED_HOST)) {
        Ok(None) => match uri.authority() {
            Some(authority) => ("host", Ok(Some(authority.as_str().as_bytes()))),
            None => ("host", single(headers.get_all(HOST).iter())),
        },
        forwarded => ("x-forwarded-host", forwarded),
    };
    let host = host.ok().flatten().and_then(|host| std::str::from_utf8(host).ok());
    host.and_then(|host| ExternalUrl::of_authority(tls, host))
        .ok_or_else(|| refusal(name, "must be one host name or address, with or without a port"))
}

/// The one value of a header, if there is any.
fn single<'v>(
    mut values: impl Iterator<Item = &'v hyper::header::HeaderValue>,
) -> Result<Option<&'v [u8]>, ()> {
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first.map(hyper::header::HeaderValue::as_bytes)) }
}

fn refusal(header: &'static str, rule: &str) -> Fault {
    let message = format!(
        "The header {header} {rule}. Ask by the gateway's own name, or have server.external_url configured."
    );
    Fault::new(FaultKind::InvalidField, message).param(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        struct Nothing;
        impl synapse_core::config::Surroundings for Nothing {
            fn env(&self, _: &str) -> Option<String> {
                None
            }
            fn read_file(&self, _: &std::path::Path) -> std::io::Result<String> {
                Err(std::io::ErrorKind::NotFound.into())
            }
        }
        synapse_core::config::load(text, &Nothing).expect("a configuration").server
    }

    fn found(server: &Server, peer: &str, headers: &[(&'static str, &str)]) -> Result<String, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().expect("a value"));
        }
        let uri = Uri::from_static("/run");
        let asked = Asked { uri: &uri, headers: &map, peer: peer.parse().expect("an address"), tls: false };
        let url = base_url(&asked, server);
        url.map(|url| url.to_string()).map_err(|fault| fault.param.unwrap_or_default().into_owned())
    }

    const PROXY: &str = "10.0.0.1";
    const STRANGER: &str = "203.0.113.9";

    #[test]
    fn the_configured_url_goes_before_all_that_a_request_says() {
        let server = server("server: {external_url: 'https://ai.example.com/synapse'}");
        let found = found(&server, STRANGER, &[("host", "$(id)")]);
        assert_eq!(found.as_deref(), Ok("https://ai.example.com/synapse"));
    }

    #[test]
    fn without_one_it_is_the_host_that_was_asked() {
        let server = server("");
        let host = |host| found(&server, STRANGER, &[("host", host)]);
        assert_eq!(host("gw.lan:8080").as_deref(), Ok("http://gw.lan:8080"));
        assert_eq!(host("[::1]:8080").as_deref(), Ok("http://[::1]:8080"));
        for bad in ["", "a b", "a;id", "$(id)", "a'b", "a:99999", "me@gw", "gw/x", "gw, gw"] {
            assert_eq!(host(bad), Err("host".into()), "{bad}");
        }
        assert_eq!(found(&server, STRANGER, &[]), Err("host".into()));
    }

    #[test]
    fn only_a_trusted_proxy_may_say_otherwise() {
        let server = server("server: {trusted_proxies: [10.0.0.0/8]}");
        let through = [("host", "inner"), ("x-forwarded-host", "outer:8443"), ("x-forwarded-proto", "https")];
        assert_eq!(found(&server, PROXY, &through).as_deref(), Ok("https://outer:8443"));
        assert_eq!(found(&server, STRANGER, &through).as_deref(), Ok("http://inner"));
        let only_scheme = [("host", "inner"), ("x-forwarded-proto", "https")];
        assert_eq!(found(&server, PROXY, &only_scheme).as_deref(), Ok("https://inner"));
        for (name, value) in
            [("x-forwarded-host", "a, b"), ("x-forwarded-host", "`id`"), ("x-forwarded-proto", "gopher")]
        {
            assert_eq!(
                found(&server, PROXY, &[("host", "inner"), (name, value)]),
                Err(name.into()),
                "{value}"
            );
        }
        let twice = [("host", "inner"), ("x-forwarded-host", "a"), ("x-forwarded-host", "b")];
        assert_eq!(found(&server, PROXY, &twice), Err("x-forwarded-host".into()));
    }
}
