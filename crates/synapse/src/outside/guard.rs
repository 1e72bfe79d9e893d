//! Which addresses a name may lead to. Whoever can write a URL must not reach what only this machine reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A name leads to an address that nothing is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name leads to {0}, which is no public address; `allow_private: true` would permit it")]
pub(super) struct Forbidden(pub(super) IpAddr);

/// The addresses as they are, if every one of them may be connected to: a name that leads both inside and outside
/// is not to be trusted.
pub(super) fn check(addresses: &[SocketAddr], allow_private: bool) -> Result<(), Forbidden> {
    match addresses.iter().map(SocketAddr::ip).find(|ip| !is_public(*ip)) {
        Some(ip) if !allow_private => Err(Forbidden(ip)),
        _ => Ok(()),
    }
}

/// Whether an address is one of the public Internet's.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Blocks of IPv4 that are not of the public Internet (IANA's registry of special-purpose addresses), and one
/// public address that clouds use for their own machines' metadata.
const NOT_PUBLIC: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let is_in = |(net, prefix): &(Ipv4Addr, u32)| (ip.to_bits() ^ net.to_bits()).leading_zeros() >= *prefix;
    !NOT_PUBLIC.iter().any(is_in)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, ..] = ip.segments();
    // Ways of writing an IPv4 address: it counts, and not its clothes.
    let low = Ipv4Addr::from_bits((ip.to_bits() & u128::from(u32::MAX)) as u32);
    if ip.to_ipv4_mapped().is_some() || ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(low);
    }
    if a == 0x2002 {
        return is_public_v4(Ipv4Addr::from_bits(u32::from(b) << 16 | u32::from(c)));
    }
    // Global unicast, without Teredo and its neighbours, and without what is for documentation.
    let is_special = a == 0x2001 && b < 0x200;
    let is_for_documentation = (a == 0x2001 && b == 0xdb8) || (a == 0x3fff && b < 0x1000);
    (0x2000..0x4000).contains(&a) && !is_special && !is_for_documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ip: &str, allow_private: bool) -> bool {
        let ip: IpAddr = ip.parse().expect("an address");
        check(&[SocketAddr::from((ip, 443))], allow_private).is_ok()
    }

    #[test]
    fn no_address_of_the_house_or_the_cloud_around_it_is_public() {
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!verdict(ip, false), "{ip}");
            assert!(verdict(ip, true), "{ip}");
        }
    }

    #[test]
    fn public_addresses_are() {
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:4860:4860::8888",
        ] {
            assert!(verdict(ip, false), "{ip}");
        }
    }

    #[test]
    fn a_name_that_leads_inside_and_outside_leads_nowhere() {
        let both: Vec<SocketAddr> =
            ["1.1.1.1:443", "10.0.0.1:443"].map(|text| text.parse().expect("an address")).into();
        assert_eq!(check(&both, false), Err(Forbidden("10.0.0.1".parse().expect("an address"))));
        assert_eq!(check(&both, true), Ok(()));
    }
}
