//! What TCP and UDP share: making sockets, bindings, and the one network interface, `lo`.

use super::address;
use super::inet_options::{IPV6, Numbers, V6ONLY};
use super::options::Options;
use super::ports::{Binding, Claim, Ports};
use super::socket::{Socket, Type, family};
use super::tcp::TcpSocket;
use super::udp::UdpSocket;
use crate::process::creds::CAP_NET_BIND_SERVICE;
use crate::{Errno, Result, Task};
use alloc::sync::{Arc, Weak};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use machine::guest;

/// The first port that anybody may bind: /proc/sys/net/ipv4/ip_unprivileged_port_start.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Makes a TCP or UDP socket.
///
/// # Errors
/// EPROTONOSUPPORT, EPERM for raw sockets, ESOCKTNOSUPPORT.
pub fn new_socket(own: u16, kind: Type, protocol: i32) -> Result<Arc<dyn Socket>> {
    Ok(match (kind, protocol) {
        (Type::Stream, 0 | 6) => TcpSocket::new(own),
        (Type::Datagram, 0 | 17) => UdpSocket::new(own),
        // No network whose packets could be had.
        (Type::Raw, 1..) => return Err(Errno::EPERM),
        (Type::Stream | Type::Datagram | Type::Raw, _) => return Err(Errno::EPROTONOSUPPORT),
        (Type::SeqPacket, _) => return Err(Errno::ESOCKTNOSUPPORT),
    })
}

/// Binds a socket of a family to an address. Returns the binding and the address with its port.
///
/// # Errors
/// EADDRNOTAVAIL for an address that is not the container's, EACCES for a port of the privileged, EADDRINUSE.
pub(super) fn bind<T>(
    ports: &Ports<T>,
    wanted: SocketAddr,
    (options, numbers): (&Options, &Numbers),
    owner: &Weak<T>,
) -> Result<(Binding, SocketAddr)> {
    let ip = wanted.ip();
    if !ip.is_unspecified() && !address::is_local(ip) && !is_group(ip) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let may = |task: &Task| task.creds().has(CAP_NET_BIND_SERVICE);
    if (1..FIRST_UNPRIVILEGED).contains(&wanted.port()) && !Task::current().is_some_and(may) {
        return Err(Errno::EACCES);
    }
    let claim = Claim {
        ip,
        port: wanted.port(),
        v6_only: numbers.number(IPV6, V6ONLY) != 0,
        reuse_address: options.reuse_address.load(Ordering::Relaxed),
        reuse_port: options.reuse_port.load(Ordering::Relaxed),
    };
    let binding = ports.bind(claim, owner)?;
    Ok((binding, SocketAddr::new(ip, binding.port)))
}

/// Groups of IPv4 can be bound.
fn is_group(ip: IpAddr) -> bool {
    ip.is_ipv4() && ip.is_multicast()
}

/// The address that bind(2) gives. AF_UNSPEC with the any-address is taken for IPv4, as Linux does.
///
/// # Errors
/// EINVAL, EAFNOSUPPORT.
pub(super) fn decode_for_bind(bytes: &[u8], own: u16) -> Result<SocketAddr> {
    let is_unspecified = own == family::INET && bytes.len() >= 16 && address::family_of(bytes)? == family::UNSPEC;
    if !is_unspecified {
        return address::decode(bytes, own);
    }
    let mut fixed = bytes.to_vec();
    fixed.iter_mut().zip(family::INET.to_ne_bytes()).for_each(|(to, from)| *to = from);
    let decoded = address::decode(&fixed, own)?;
    if decoded.ip().is_unspecified() { Ok(decoded) } else { Err(Errno::EAFNOSUPPORT) }
}

/// IFF_UP, IFF_LOOPBACK, IFF_RUNNING.
pub(super) const LO_FLAGS: u32 = 0x1 | 0x8 | 0x40;
/// Largest packet of `lo`.
pub(super) const LO_MTU: u32 = 65_536;
/// Its number.
pub(super) const LO_INDEX: u32 = 1;
/// Bytes of `struct ifreq`.
const IFREQ: u64 = 40;

/// ioctl(2) on interfaces: netdevice(7).
///
/// # Errors
/// ENODEV for an interface other than `lo`, EPERM for changes, ENOTTY, EFAULT.
pub(super) fn interface_ioctl(command: u32, argument: u64) -> Result<u64> {
    match command {
        0x8912 => return list_interfaces(argument),
        0x8910 => return name_of_index(argument),
        0x8914 | 0x8916 | 0x8918 | 0x891a | 0x891c | 0x8922 => return Err(Errno::EPERM),
        0x8913 | 0x8915 | 0x8917 | 0x8919 | 0x891b | 0x891d | 0x8921 | 0x8927 | 0x8933 | 0x8942 => {}
        _ => return Err(Errno::ENOTTY),
    }
    let name: [u8; 16] = guest::read_value(argument)?;
    if !name.starts_with(b"lo\0") {
        return Err(Errno::ENODEV);
    }
    let mut value = [0_u8; 16];
    let mut put = |bytes: &[u8]| value.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let sockaddr = |ip: [u8; 4]| [2, 0, 0, 0, ip[0], ip[1], ip[2], ip[3]];
    match command {
        0x8913 => put(&LO_FLAGS.to_ne_bytes()),
        0x8915 | 0x8917 => put(&sockaddr([127, 0, 0, 1])),
        0x8919 => put(&sockaddr([0; 4])),
        0x891b => put(&sockaddr([255, 0, 0, 0])),
        0x891d => put(&0_u32.to_ne_bytes()),
        0x8921 => put(&LO_MTU.to_ne_bytes()),
        // ARPHRD_LOOPBACK.
        0x8927 => put(&772_u16.to_ne_bytes()),
        0x8933 => put(&LO_INDEX.to_ne_bytes()),
        _ => put(&1000_u32.to_ne_bytes()),
    }
    guest::write(argument.wrapping_add(16), &value)?;
    Ok(0)
}

/// SIOCGIFCONF: interfaces with an IPv4 address.
fn list_interfaces(argument: u64) -> Result<u64> {
    let [len, buffer]: [u64; 2] = guest::read_value(argument)?;
    let room = len & 0xffff_ffff;
    let mut entry = [0_u8; 40];
    entry.iter_mut().zip(b"lo").for_each(|(to, from)| *to = *from);
    entry.iter_mut().skip(16).zip([2, 0, 0, 0, 127, 0, 0, 1]).for_each(|(to, from)| *to = from);
    let written = if buffer == 0 {
        IFREQ
    } else if room >= IFREQ {
        guest::write(buffer, &entry)?;
        IFREQ
    } else {
        0
    };
    guest::write_value(argument, &u32::try_from(written).unwrap_or(0))?;
    Ok(0)
}

/// SIOCGIFNAME.
fn name_of_index(argument: u64) -> Result<u64> {
    let index: u32 = guest::read_value(argument.wrapping_add(16))?;
    if index != LO_INDEX {
        return Err(Errno::ENODEV);
    }
    guest::write(argument, b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0")?;
    Ok(0)
}
