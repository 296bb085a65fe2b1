//! Options of TCP, UDP and IP that are numbers: tcp(7), ip(7), ipv6(7). Most tune packets, of which there are none: they are kept
//! and given back.

use super::multicast;
use super::options::Value;
use super::socket::{Access, Identity, Type, family};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use machine::sync::Mutex;

/// IPPROTO_IP.
pub const IP: u32 = 0;
/// IPPROTO_TCP.
pub const TCP: u32 = 6;
/// IPPROTO_UDP.
pub const UDP: u32 = 17;
/// IPPROTO_IPV6.
pub const IPV6: u32 = 41;
/// IP_PKTINFO.
pub const PKTINFO: u32 = 8;
/// IP_MULTICAST_ALL.
pub const MULTICAST_ALL: u32 = 49;
/// IPV6_V6ONLY.
pub const V6ONLY: u32 = 26;
/// IPV6_RECVPKTINFO.
pub const V6_RECVPKTINFO: u32 = 49;

/// Option, default, least and greatest value.
type Known = (u32, i32, i32, i32);

const INT: i32 = i32::MAX;
/// NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP, QUICKACK,
/// USER_TIMEOUT, FASTOPEN, NOTSENT_LOWAT, FASTOPEN_CONNECT.
const TCP_KNOWN: &[Known] = &[
    (1, 0, 0, INT),
    (2, 65_483, 88, 65_535),
    (3, 0, 0, INT),
    (4, 7200, 1, 32_767),
    (5, 75, 1, 32_767),
    (6, 9, 1, 127),
    (7, 6, 1, 127),
    (8, 60, -1, INT),
    (9, 0, 0, INT),
    (10, 0, 0, INT),
    (12, 1, 0, INT),
    (18, 0, 0, INT),
    (23, 0, 0, INT),
    (25, 0, 0, INT),
    (30, 0, 0, 1),
];
/// TOS, TTL, HDRINCL, PKTINFO, MTU_DISCOVER, RECVERR, RECVTTL, RECVTOS, FREEBIND, BIND_ADDRESS_NO_PORT, MULTICAST_TTL,
/// MULTICAST_LOOP, MULTICAST_ALL.
const IP_KNOWN: &[Known] = &[
    (1, 0, 0, 255),
    (2, 64, -1, 255),
    (PKTINFO, 0, 0, INT),
    (10, 1, 0, 5),
    (11, 0, 0, INT),
    (12, 0, 0, INT),
    (13, 0, 0, INT),
    (15, 0, 0, INT),
    (24, 0, 0, INT),
    (33, 1, -1, 255),
    (34, 1, 0, INT),
    (MULTICAST_ALL, 1, 0, 1),
];
/// UNICAST_HOPS, MULTICAST_HOPS, MULTICAST_LOOP, MTU_DISCOVER, RECVERR, V6ONLY, RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS, TCLASS.
const IPV6_KNOWN: &[Known] = &[
    (16, 64, -1, 255),
    (18, 1, -1, 255),
    (19, 1, 0, 1),
    (23, 1, 0, 5),
    (25, 0, 0, INT),
    (V6ONLY, 0, 0, INT),
    (V6_RECVPKTINFO, 0, 0, INT),
    (51, 0, 0, INT),
    (66, 0, 0, INT),
    (67, 0, -1, 255),
];
/// CORK.
const UDP_KNOWN: &[Known] = &[(1, 0, 0, INT)];

/// Number options of one socket.
#[derive(Debug, Default)]
pub struct Numbers {
    changed: Mutex<BTreeMap<(u32, u32), i32>>,
}

fn known(level: u32, option: u32) -> Result<Known> {
    let table = match level {
        TCP => TCP_KNOWN,
        IP => IP_KNOWN,
        IPV6 => IPV6_KNOWN,
        UDP => UDP_KNOWN,
        _ => return Err(Errno::ENOPROTOOPT),
    };
    table.iter().find(|row| row.0 == option).copied().ok_or(Errno::ENOPROTOOPT)
}

/// IPPROTO_UDPLITE, which UDP's options are at as well.
const UDP_LITE: u32 = 136;

/// Whether a socket of this family and protocol has options at a level.
///
/// # Errors
/// ENOPROTOOPT; EOPNOTSUPP where IPv4 is asked for what it does not have.
pub fn check_level(own: Identity, level: u32, option: u32, access: Access) -> Result<()> {
    let is_own = match own.kind {
        Type::Stream => level == TCP,
        _ => level == UDP || level == UDP_LITE,
    };
    let is_v4 = own.family == family::INET;
    match level {
        IP if access == Access::Set => known_at_ip(option),
        IP => Ok(()),
        IPV6 if !is_v4 => Ok(()),
        _ if is_own => Ok(()),
        _ if is_v4 && access == Access::Get => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// IP looks for the option before it reads the value.
fn known_at_ip(option: u32) -> Result<()> {
    if multicast::is_option_of_ip(option) { Ok(()) } else { known(IP, option).map(|_| ()) }
}

impl Numbers {
    /// Sets an option.
    ///
    /// # Errors
    /// ENOPROTOOPT, EINVAL.
    pub fn set(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if value.len() < 4 && matches!(level, TCP | UDP | UDP_LITE) {
            return Err(Errno::EINVAL);
        }
        let (_, _, least, greatest) = known(level, option)?;
        // The IP level takes single bytes as well.
        let number = match (value.first_chunk::<4>(), value.first()) {
            (Some(bytes), _) => i32::from_ne_bytes(*bytes),
            (None, Some(byte)) if level == IP => i32::from(*byte),
            _ => return Err(Errno::EINVAL),
        };
        if number < least || number > greatest {
            return Err(Errno::EINVAL);
        }
        self.changed.lock().insert((level, option), number);
        Ok(())
    }

    /// An option's value.
    ///
    /// # Errors
    /// ENOPROTOOPT.
    pub fn get(&self, level: u32, option: u32) -> Result<Value> {
        known(level, option).map(|_| Value::Int(self.number(level, option)))
    }

    /// An option's value, 0 for one that is not known.
    #[must_use]
    pub fn number(&self, level: u32, option: u32) -> i32 {
        let changed = self.changed.lock().get(&(level, option)).copied();
        changed.unwrap_or_else(|| known(level, option).map_or(0, |row| row.1))
    }

    /// A copy, for an accepted connection.
    #[must_use]
    pub fn copy(&self) -> Numbers {
        Numbers { changed: Mutex::new(self.changed.lock().clone()) }
    }
}
