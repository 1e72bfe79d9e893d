//! What is known of a key: models and networks, the latest of them.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many are known of one key.
const MOST: usize = 32;

/// The network that a caller is in: of IPv4 a /24, of IPv6 a /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into(),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 48 })
    }
}

/// Things that are not new, and when they were last seen.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound(deserialize = "T: Ord + Deserialize<'de>"))]
pub(super) struct Known<T: Ord>(BTreeMap<T, Timestamp>);

impl<T: Ord> Default for Known<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Known<T> {
    /// Whether it is known; then it has been seen again.
    pub(super) fn sees<Q: Ord + ?Sized>(&mut self, thing: &Q, at: Timestamp) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.0.get_mut(thing).is_some_and(|seen| {
            *seen = at;
            true
        })
    }

    /// It is known from now on; what was not seen for longest gives way.
    pub(super) fn add(&mut self, thing: T, at: Timestamp) {
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, seen)| **seen).map(|(thing, _)| thing.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(thing, at);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_the_neighbourhood_of_an_address() {
        for (address, want) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(Network::from(address).to_string(), want);
        }
    }

    #[test]
    fn the_least_recent_gives_way() {
        let mut known = Known::default();
        let at = |second| Timestamp::from_second(second).expect("a time");
        for number in 0..MOST {
            known.add(number, at(number as i64));
        }
        assert!(known.sees(&0, at(1000)));
        known.add(MOST, at(1001));
        assert!(known.sees(&0, at(1002)) && !known.sees(&1, at(1002)));
        assert_eq!(known.len(), MOST);
    }
}
