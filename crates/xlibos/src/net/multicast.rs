//! Multicast groups on `lo`, the one interface: ip(7), ipv6(7). Without a default route it has to be named. No group of IPv6 is
//! reachable, as on a Linux that has nothing else.

use super::inet::LO_INDEX;
use super::inet_options::{IP, IPV6};
use super::options::Value;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use machine::sync::Mutex;

const MULTICAST_IF: u32 = 32;
const ADD_MEMBERSHIP: u32 = 35;
const DROP_MEMBERSHIP: u32 = 36;
const V6_MULTICAST_IF: u32 = 17;
const V6_JOIN_GROUP: u32 = 20;
const V6_LEAVE_GROUP: u32 = 21;
const JOIN_GROUP: u32 = 42;
const LEAVE_GROUP: u32 = 45;
/// net.ipv4.igmp_max_memberships.
const MOST: usize = 20;
/// Every host is a member of this one.
const ALL_HOSTS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));

/// Groups that any socket is in, and how many are.
static JOINED: Mutex<BTreeMap<IpAddr, usize>> = Mutex::new(BTreeMap::new());

/// Whether any socket is in a group: nothing comes in for others.
pub fn is_joined(group: IpAddr) -> bool {
    group == ALL_HOSTS || JOINED.lock().contains_key(&group)
}

/// Whether IP has the option, which only a socket's [`Groups`] know.
#[must_use]
pub fn is_option_of_ip(option: u32) -> bool {
    matches!(option, MULTICAST_IF | ADD_MEMBERSHIP | DROP_MEMBERSHIP | JOIN_GROUP | LEAVE_GROUP)
}

/// What a connection answers to such an option: it has one end elsewhere.
#[must_use]
pub fn refusal_of_connections(option: u32) -> Option<Errno> {
    match option {
        MULTICAST_IF => Some(Errno::EINVAL),
        _ => is_option_of_ip(option).then_some(Errno::EPROTO),
    }
}

#[derive(Debug, Default)]
struct State {
    groups: Vec<IpAddr>,
    /// What it sends goes to `lo`, and by which address that was said.
    sends_by: Option<Ipv4Addr>,
    sends_by_index: bool,
}

/// The groups of one socket.
#[derive(Debug, Default)]
pub struct Groups {
    state: Mutex<State>,
}

impl Drop for Groups {
    fn drop(&mut self) {
        core::mem::take(&mut self.state.get_mut().groups).into_iter().for_each(forget);
    }
}

fn forget(group: IpAddr) {
    let mut joined = JOINED.lock();
    if let Some(count) = joined.get_mut(&group) {
        *count -= 1;
        if *count == 0 {
            joined.remove(&group);
        }
    }
}

/// An interface, as options name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Index(u32),
    Address(Ipv4Addr),
}

impl Named {
    fn is_none(self) -> bool {
        self == Named::Address(Ipv4Addr::UNSPECIFIED)
    }

    fn is_lo(self) -> bool {
        match self {
            Named::Index(index) => index == LO_INDEX,
            Named::Address(ip) => ip.is_loopback(),
        }
    }
}

fn word<const N: usize>(value: &[u8], at: usize) -> Option<[u8; N]> {
    value.get(at..)?.first_chunk::<N>().copied()
}

/// The interface out of an address, and an index behind it: `struct ip_mreqn`.
fn named(value: &[u8], at: usize) -> Option<Named> {
    let index = word::<4>(value, at + 4).map_or(0, u32::from_ne_bytes);
    let address = word::<4>(value, at).map(Ipv4Addr::from)?;
    Some(if index == 0 { Named::Address(address) } else { Named::Index(index) })
}

/// Group and interface of `struct ip_mreq`, `struct ipv6_mreq` or `struct group_req`.
fn request(level: u32, option: u32, value: &[u8]) -> Option<(IpAddr, Named)> {
    const GROUP_REQ: usize = 136;
    match (level, option) {
        (IP, ADD_MEMBERSHIP | DROP_MEMBERSHIP) => {
            let group = word::<4>(value, 0).map(Ipv4Addr::from)?;
            Some((group.into(), named(value, 4)?))
        }
        (IPV6, V6_JOIN_GROUP | V6_LEAVE_GROUP) => {
            let group = word::<16>(value, 0).map(Ipv6Addr::from)?;
            Some((group.into(), Named::Index(u32::from_ne_bytes(word(value, 16)?))))
        }
        _ if value.len() < GROUP_REQ => None,
        (IP, _) => {
            let group = word::<4>(value, 12).map(Ipv4Addr::from)?;
            Some((group.into(), Named::Index(u32::from_ne_bytes(word(value, 0)?))))
        }
        _ => {
            let group = word::<16>(value, 16).map(Ipv6Addr::from)?;
            Some((group.into(), Named::Index(u32::from_ne_bytes(word(value, 0)?))))
        }
    }
}

impl Groups {
    /// Whether the socket is in a group.
    #[must_use]
    pub fn has(&self, group: IpAddr) -> bool {
        self.state.lock().groups.contains(&group)
    }

    /// Whether the interface to send to was named.
    #[must_use]
    pub fn has_interface(&self) -> bool {
        let state = self.state.lock();
        state.sends_by.is_some() || state.sends_by_index
    }

    /// Sets an option; None for one that is not of groups.
    pub fn set(&self, level: u32, option: u32, value: &[u8]) -> Option<Result<()>> {
        Some(match (level, option) {
            (IP, MULTICAST_IF) => self.send_by(value),
            (IPV6, V6_MULTICAST_IF) => {
                word(value, 0).ok_or(Errno::EINVAL).and_then(|index| match u32::from_ne_bytes(index) {
                    0 | LO_INDEX => Ok(()),
                    _ => Err(Errno::ENODEV),
                })
            }
            (IP, ADD_MEMBERSHIP) | (IPV6, V6_JOIN_GROUP) | (IP | IPV6, JOIN_GROUP) => {
                request(level, option, value).ok_or(Errno::EINVAL).and_then(|(group, named)| self.join(group, named))
            }
            (IP, DROP_MEMBERSHIP) | (IPV6, V6_LEAVE_GROUP) | (IP | IPV6, LEAVE_GROUP) => {
                request(level, option, value).ok_or(Errno::EINVAL).and_then(|(group, named)| self.leave(group, named))
            }
            _ => return None,
        })
    }

    /// An option's value; None for one that is not of groups.
    #[must_use]
    pub fn get(&self, level: u32, option: u32) -> Option<Value> {
        let state = self.state.lock();
        match (level, option) {
            (IP, MULTICAST_IF) => Some(Value::Bytes(state.sends_by.unwrap_or(Ipv4Addr::UNSPECIFIED).octets().to_vec())),
            (IPV6, V6_MULTICAST_IF) => Some(Value::Int(0)),
            _ => None,
        }
    }

    fn send_by(&self, value: &[u8]) -> Result<()> {
        // `struct ip_mreq` and `struct ip_mreqn` begin with a group.
        let at = if value.len() < 8 { 0 } else { 4 };
        let named = named(value, at).ok_or(Errno::EINVAL)?;
        if !named.is_none() && !named.is_lo() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let mut state = self.state.lock();
        state.sends_by = if let Named::Address(ip) = named { Some(ip).filter(|_| !named.is_none()) } else { None };
        state.sends_by_index = matches!(named, Named::Index(_));
        Ok(())
    }

    fn join(&self, group: IpAddr, named: Named) -> Result<()> {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        if !named.is_lo() {
            return Err(Errno::ENODEV);
        }
        let mut state = self.state.lock();
        if state.groups.contains(&group) {
            return Err(Errno::EADDRINUSE);
        }
        if state.groups.len() >= MOST {
            return Err(Errno::ENOBUFS);
        }
        state.groups.push(group);
        drop(state);
        *JOINED.lock().entry(group).or_default() += 1;
        Ok(())
    }

    fn leave(&self, group: IpAddr, named: Named) -> Result<()> {
        if named.is_none() {
            return Err(Errno::ENODEV);
        }
        let mut state = self.state.lock();
        let at = state.groups.iter().position(|own| *own == group).filter(|_| named.is_lo());
        state.groups.swap_remove(at.ok_or(Errno::EADDRNOTAVAIL)?);
        drop(state);
        forget(group);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ADD_MEMBERSHIP, DROP_MEMBERSHIP, Groups, IP, MULTICAST_IF, is_joined};
    use crate::Errno;

    #[test]
    fn a_group_is_left_with_its_last_socket() {
        let group = core::net::IpAddr::from([239, 9, 8, 7]);
        let request = [239, 9, 8, 7, 127, 0, 0, 1];
        let (one, other) = (Groups::default(), Groups::default());
        assert_eq!(one.set(IP, ADD_MEMBERSHIP, &request), Some(Ok(())));
        assert_eq!(one.set(IP, ADD_MEMBERSHIP, &request), Some(Err(Errno::EADDRINUSE)));
        assert_eq!(other.set(IP, ADD_MEMBERSHIP, &request), Some(Ok(())));
        drop(other);
        assert!(one.has(group) && is_joined(group));
        assert_eq!(one.set(IP, DROP_MEMBERSHIP, &request), Some(Ok(())));
        assert_eq!(one.set(IP, DROP_MEMBERSHIP, &request), Some(Err(Errno::EADDRNOTAVAIL)));
        assert!(!one.has(group) && !is_joined(group));
    }

    #[test]
    fn lo_is_named_by_address_or_number() {
        let groups = Groups::default();
        assert!(!groups.has_interface());
        assert_eq!(groups.set(IP, MULTICAST_IF, &[127, 0, 0, 1]), Some(Ok(())));
        assert!(groups.has_interface());
        assert_eq!(groups.set(IP, MULTICAST_IF, &[0; 4]), Some(Ok(())));
        assert!(!groups.has_interface());
        assert_eq!(groups.set(IP, MULTICAST_IF, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]), Some(Ok(())));
        assert!(groups.has_interface());
        assert_eq!(groups.set(IP, MULTICAST_IF, &[9; 8]), Some(Err(Errno::EADDRNOTAVAIL)));
        assert_eq!(groups.set(IP, MULTICAST_IF, &[9; 3]), Some(Err(Errno::EINVAL)));
    }
}
