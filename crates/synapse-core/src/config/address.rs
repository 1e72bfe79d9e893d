//! Hosts, base URLs and networks, taken apart, and what an address says about where it is.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

use super::snapshot::{BaseUrl, Locality};

/// Why a URL cannot be a backend's. No message repeats the URL, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL.
    #[error("is not a URL; write `http://host:port/v1`")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("must begin with `http://` or `https://`")]
    Scheme,
    /// `user:password@`.
    #[error("must not hold a user or a password; use `api_key`")]
    UserInfo,
    /// `?…`
    #[error("must not have a query (`?…`)")]
    Query,
    /// `#…`
    #[error("must not have a fragment (`#…`)")]
    Fragment,
    /// `:0`
    #[error("must not have port 0")]
    Port,
}

impl BaseUrl {
    /// Reads a base URL. A trailing slash does not count, and no path means `/v1`, where every
    /// OpenAI-compatible engine has its routes.
    ///
    /// # Errors
    /// For anything that is not a plain `http(s)` URL of a host.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        // `localhost:8000` is a URL to the standard, with scheme `localhost`.
        if !text.contains("://") {
            return Err(UrlError::Scheme);
        }
        let url = Url::parse(text.trim()).map_err(|_| UrlError::Malformed)?;
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if url.query().is_some() {
            return Err(UrlError::Query);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(UrlError::Malformed),
        };
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(UrlError::Port)?;
        let path = match url.path().trim_end_matches('/') {
            "" => "/v1",
            path => path,
        };
        Ok(Self { https, host, port, path: path.to_owned() })
    }
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    /// Any address of the network.
    pub addr: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl IpNet {
    /// Whether `ip` lies in the network; an IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32_u32.saturating_sub(self.prefix.into());
                u32::from(net).checked_shr(shift) == u32::from(ip).checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128_u32.saturating_sub(self.prefix.into());
                u128::from(net).checked_shr(shift) == u128::from(ip).checked_shr(shift)
            }
            _ => false,
        }
    }

    /// Reads a network in CIDR notation; a bare address is a network of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().ok()?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= most)?,
            None => most,
        };
        Some(Self { addr, prefix })
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Serialize for IpNet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpNet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a network is written such as `10.0.0.0/8`"))
    }
}

impl Locality {
    /// What is assumed of `host` where nobody says: addresses and names that only exist in the house
    /// are on premises.
    pub fn of_host(host: &str) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Self::of_address(ip),
            Err(_) if is_local_name(host) => Self::OnPrem,
            Err(_) => Self::Cloud,
        }
    }

    /// Where an address is: private ones are on premises.
    pub fn of_address(ip: IpAddr) -> Self {
        if is_private(ip) { Self::OnPrem } else { Self::Cloud }
    }
}

fn is_private(ip: IpAddr) -> bool {
    // Whoever connects to the unspecified address reaches the own machine.
    match ip.to_canonical() {
        ip if ip.is_unspecified() => true,
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.') || [".local", ".internal", ".lan", ".localhost"].iter().any(|end| name.ends_with(end))
}

/// Whether a listener can be told to listen at `host`: an address, or a name without port or scheme.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart() {
        for (text, want) in [
            ("http://10.0.0.5:8001/v1", "http://10.0.0.5:8001/v1"),
            ("https://api.example.com/v1/", "https://api.example.com/v1"),
            ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1"),
            ("http://localhost:11434", "http://localhost:11434/v1"),
            ("http://[fd00::1]:8000/", "http://[fd00::1]:8000/v1"),
            ("HTTP://Host/API", "http://host/API"),
        ] {
            assert_eq!(BaseUrl::parse(text).map(|url| url.to_string()), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_url_that_is_no_base_url_is_refused_for_its_reason() {
        for (text, want) in [
            ("localhost:8000", UrlError::Scheme),
            ("ftp://host/", UrlError::Scheme),
            ("http://user:pass@host/v1", UrlError::UserInfo),
            ("http://host/v1?key=x", UrlError::Query),
            ("http://host/v1#x", UrlError::Fragment),
            ("http://host:0/v1", UrlError::Port),
            ("http://", UrlError::Malformed),
            ("http://host:99999/", UrlError::Malformed),
        ] {
            assert_eq!(BaseUrl::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn networks_are_read_in_cidr_notation() {
        let net = IpNet::parse("10.0.0.0/8").expect("a network");
        assert!(net.contains("10.200.0.1".parse().expect("an address")));
        assert_eq!(IpNet::parse("::1").map(|net| net.prefix), Some(128));
        for bad in ["10.0.0.0/33", "10.0.0/8", "lan", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(IpNet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn private_addresses_and_local_names_are_on_premises() {
        for host in [
            "10.1.2.3",
            "192.168.0.9",
            "172.16.0.1",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "localhost",
            "gpu-1",
            "gpu.lan",
            "vllm.llm.svc.cluster.local",
            "a.internal",
        ] {
            assert_eq!(Locality::of_host(host), Locality::OnPrem, "{host}");
        }
        for host in
            ["8.8.8.8", "100.64.0.1", "172.32.0.1", "2606:4700::1111", "api.openai.com", "lan.example.com"]
        {
            assert_eq!(Locality::of_host(host), Locality::Cloud, "{host}");
        }
    }

    #[test]
    fn a_listener_takes_addresses_and_bare_names() {
        for good in ["localhost", "0.0.0.0", "::", "gateway.lan"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["0.0.0.0:8080", "http://localhost", "", "a b", "[::1]"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
