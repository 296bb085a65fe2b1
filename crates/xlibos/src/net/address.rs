//! Internet addresses: ip(7), ipv6(7). Within the LibOS a mapped IPv4 address is an IPv4 address; only what a guest sees of an
//! IPv6 socket is mapped.

use super::socket::family;
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The family of an encoded address.
///
/// # Errors
/// EINVAL where it has none.
pub fn family_of(address: &[u8]) -> Result<u16> {
    address.first_chunk::<2>().map(|raw| u16::from_ne_bytes(*raw)).ok_or(Errno::EINVAL)
}

/// Decodes an address for a socket of a family.
///
/// # Errors
/// EINVAL where it is too short, EAFNOSUPPORT for another family.
pub fn decode(address: &[u8], own: u16) -> Result<SocketAddr> {
    let given = family_of(address)?;
    let least = if own == family::INET { 16 } else { 24 };
    if address.len() < least && given == own {
        return Err(Errno::EINVAL);
    }
    if given != own {
        return Err(if address.len() < least { Errno::EINVAL } else { Errno::EAFNOSUPPORT });
    }
    let port = address.get(2..).and_then(<[u8]>::first_chunk::<2>).ok_or(Errno::EINVAL)?;
    let port = u16::from_be_bytes(*port);
    let ip = if own == family::INET {
        let raw = address.get(4..).and_then(<[u8]>::first_chunk::<4>).ok_or(Errno::EINVAL)?;
        IpAddr::V4(Ipv4Addr::from(*raw))
    } else {
        let raw = address.get(8..).and_then(<[u8]>::first_chunk::<16>).ok_or(Errno::EINVAL)?;
        IpAddr::V6(Ipv6Addr::from(*raw)).to_canonical()
    };
    Ok(SocketAddr::new(ip, port))
}

/// Encodes an address for a socket of a family.
#[must_use]
pub fn encode(address: SocketAddr, own: u16) -> Vec<u8> {
    let mut out = own.to_ne_bytes().to_vec();
    out.extend(address.port().to_be_bytes());
    if own == family::INET {
        let ip = if let IpAddr::V4(ip) = address.ip() { ip } else { Ipv4Addr::UNSPECIFIED };
        out.extend(ip.octets());
        out.extend([0; 8]);
        return out;
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend([0; 4]);
    out.extend(ip.octets());
    out.extend([0; 4]);
    out
}

/// The any-address of a family.
#[must_use]
pub fn any(own: u16) -> SocketAddr {
    let ip = if own == family::INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(ip, 0)
}

/// Where a packet to an address goes: the any-address means this host.
///
/// # Errors
/// ENETUNREACH for anything outside of the container.
pub fn route(address: SocketAddr) -> Result<SocketAddr> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    if is_local(ip) { Ok(SocketAddr::new(ip, address.port())) } else { Err(Errno::ENETUNREACH) }
}

/// Whether an address is this container's.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// The address that a socket gets which sends to `to` without one of its own.
#[must_use]
pub fn source_for(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, route};
    use crate::Errno;
    use crate::net::socket::family::{INET, INET6};
    use core::net::SocketAddr;

    fn address(text: &str) -> SocketAddr {
        let Ok(address) = text.parse() else { panic!("{text}") };
        address
    }

    #[test]
    fn addresses_survive_encoding() {
        for (text, family) in [("127.0.0.1:80", INET), ("[::1]:80", INET6), ("127.0.0.1:80", INET6)] {
            assert_eq!(decode(&encode(address(text), family), family), Ok(address(text)));
        }
        assert_eq!(encode(address("127.0.0.1:80"), INET6).len(), 28);
        assert_eq!(decode(&[2, 0, 0], INET), Err(Errno::EINVAL));
        assert_eq!(decode(&[10; 28], INET), Err(Errno::EAFNOSUPPORT));
    }

    #[test]
    fn only_this_host_is_reachable() {
        assert_eq!(route(address("0.0.0.0:1")), Ok(address("127.0.0.1:1")));
        assert_eq!(route(address("127.9.9.9:1")), Ok(address("127.9.9.9:1")));
        assert_eq!(route(address("10.0.0.1:1")), Err(Errno::ENETUNREACH));
    }
}
