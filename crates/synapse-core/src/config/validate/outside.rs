//! Places outside that the gateway sends something to: their URLs, and the keys of signatures.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::{Check, raw};
use crate::config::snapshot::{OutsideUrl, SigningSecret};

/// What a signing secret begins with.
const SECRET_PREFIX: &str = "whsec_";

impl Check<'_> {
    /// A URL taken apart; reports what is wrong with it without repeating it: it may be a secret.
    pub(super) fn outside_url(
        &mut self,
        pointer: &str,
        text: &str,
        allow_private: bool,
    ) -> Option<OutsideUrl> {
        parse(text, allow_private).map_err(|message| self.report(pointer, message)).ok()
    }

    /// The key of signatures; reports one that is none.
    pub(super) fn signing_secret(&mut self, pointer: &str, secret: raw::Secret) -> SigningSecret {
        if !is_signing_secret(secret.0.expose_secret()) {
            let message = "is not `whsec_` and Base64 of 24 to 64 bytes; `echo whsec_$(openssl rand -base64 32)` makes one";
            self.report(pointer, message);
        }
        SigningSecret(secret.0)
    }
}

fn is_signing_secret(text: &str) -> bool {
    let key = text.strip_prefix(SECRET_PREFIX).and_then(|rest| BASE64_STANDARD.decode(rest).ok());
    key.is_some_and(|key| (24..=64).contains(&key.len()))
}

fn parse(text: &str, allow_private: bool) -> Result<OutsideUrl, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "is not a URL; write `https://host/path`")?;
    let https = match url.scheme() {
        "https" => true,
        "http" if allow_private => false,
        "http" => {
            return Err("must begin with `https://`; only beside `allow_private: true` may it be `http://`");
        }
        _ => return Err("must begin with `https://`"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password");
    }
    let host = host(&url).ok_or("has no host")?;
    let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("must not have port 0")?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Ok(OutsideUrl { https, host, port, target })
}

/// The name or the address in a URL, of IPv6 without brackets.
pub(super) fn host(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.to_owned()),
        Host::Ipv4(ip) => Some(ip.to_string()),
        Host::Ipv6(ip) => Some(ip.to_string()),
    }
}
