//! Ports of one protocol: who has bound what.

use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;
use machine::sync::Mutex;

/// net.ipv4.ip_local_port_range.
const FIRST_EPHEMERAL: u16 = 32_768;
const EPHEMERAL_COUNT: u16 = 28_232;

/// What a socket wants to bind.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Address; an any-address takes all of its family (an IPv6 one those of IPv4 too, unless `v6_only`).
    pub ip: IpAddr,
    /// Port; 0 for any.
    pub port: u16,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
}

impl Claim {
    fn covers(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified() && !self.v6_only,
            (IpAddr::V4(own), IpAddr::V4(_)) => own.is_unspecified() || self.ip == ip,
            (IpAddr::V6(own), IpAddr::V6(_)) => own.is_unspecified() || self.ip == ip,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }

    /// Whether both take one address.
    fn overlaps(&self, other: &Claim) -> bool {
        self.covers(other.ip) || other.covers(self.ip)
    }

    /// How exactly it names an address that it covers.
    fn exactness(&self, ip: IpAddr) -> u8 {
        u8::from(self.ip == ip) * 2 + u8::from(self.ip.is_ipv4() == ip.is_ipv4())
    }
}

struct Entry<T> {
    id: u64,
    claim: Claim,
    is_listening: bool,
    owner: Weak<T>,
}

/// A binding: port, and the identity of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Port.
    pub port: u16,
    id: u64,
}

/// The ports of one protocol.
pub struct Ports<T> {
    table: Mutex<Option<HashMap<u16, Vec<Entry<T>>>>>,
    next: AtomicU64,
}

impl<T> Default for Ports<T> {
    fn default() -> Self {
        Ports::new()
    }
}

impl<T> Ports<T> {
    /// No port is bound.
    #[must_use]
    pub const fn new() -> Ports<T> {
        Ports { table: Mutex::new(None), next: AtomicU64::new(1) }
    }

    /// Binds; two sockets that both ask for it may share a port, but not with one that listens (but for SO_REUSEPORT).
    ///
    /// # Errors
    /// EADDRINUSE.
    pub fn bind(&self, claim: Claim, owner: &Weak<T>) -> Result<Binding> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        let table = table.get_or_insert_default();
        let port = if claim.port != 0 {
            let is_free = table.get(&claim.port).is_none_or(|entries| is_free(entries, &claim));
            if is_free { Some(claim.port) } else { None }
        } else {
            let start = u16::try_from(id.wrapping_mul(7919) % u64::from(EPHEMERAL_COUNT)).unwrap_or(0);
            let candidates = (0..EPHEMERAL_COUNT).map(|step| FIRST_EPHEMERAL + (start + step) % EPHEMERAL_COUNT);
            candidates.into_iter().find(|port| table.get(port).is_none_or(Vec::is_empty))
        };
        let port = port.ok_or(Errno::EADDRINUSE)?;
        let entry = Entry { id, claim, is_listening: false, owner: Weak::clone(owner) };
        table.entry(port).or_default().push(entry);
        Ok(Binding { port, id })
    }

    /// Marks a binding as listening.
    ///
    /// # Errors
    /// EADDRINUSE where another one listens there.
    pub fn listen(&self, binding: Binding) -> Result<()> {
        let mut table = self.table.lock();
        let entries = table.as_mut().and_then(|table| table.get_mut(&binding.port)).ok_or(Errno::EINVAL)?;
        let own = entries.iter().find(|entry| entry.id == binding.id).ok_or(Errno::EINVAL)?.claim;
        let others = entries.iter().filter(|entry| entry.id != binding.id && entry.is_listening);
        for other in others {
            if other.claim.overlaps(&own) && !(other.claim.reuse_port && own.reuse_port) {
                return Err(Errno::EADDRINUSE);
            }
        }
        entries.iter_mut().filter(|entry| entry.id == binding.id).for_each(|entry| entry.is_listening = true);
        Ok(())
    }

    /// Gives a binding up.
    pub fn release(&self, binding: Binding) {
        let mut table = self.table.lock();
        let Some(table) = table.as_mut() else { return };
        if let Some(entries) = table.get_mut(&binding.port) {
            entries.retain(|entry| entry.id != binding.id);
            if entries.is_empty() {
                table.remove(&binding.port);
            }
        }
    }

    /// The sockets that take what is sent to an address, those first that name it most exactly.
    #[must_use]
    pub fn find(&self, ip: IpAddr, port: u16, only_listening: bool) -> Vec<Arc<T>> {
        let table = self.table.lock();
        let entries = table.as_ref().and_then(|table| table.get(&port));
        let mut fitting: Vec<&Entry<T>> = entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.claim.covers(ip) && (entry.is_listening || !only_listening))
            .collect();
        fitting.sort_by_key(|entry| core::cmp::Reverse(entry.claim.exactness(ip)));
        fitting.into_iter().filter_map(|entry| entry.owner.upgrade()).collect()
    }
}

fn is_free<T>(entries: &[Entry<T>], claim: &Claim) -> bool {
    entries.iter().all(|entry| {
        let share_port = entry.claim.reuse_port && claim.reuse_port;
        let share_address = entry.claim.reuse_address && claim.reuse_address && !entry.is_listening;
        !entry.claim.overlaps(claim) || share_port || share_address
    })
}

#[cfg(test)]
mod tests {
    use super::{Claim, Ports};
    use crate::Errno;
    use core::net::IpAddr;
    use std::sync::Arc;

    fn claim(ip: &str, port: u16) -> Claim {
        let Ok(ip) = ip.parse::<IpAddr>() else { panic!("{ip}") };
        Claim { ip, port, v6_only: false, reuse_address: false, reuse_port: false }
    }

    #[test]
    fn a_port_is_bound_once_an_address() {
        let ports = Ports::<()>::new();
        let owner = Arc::new(());
        let owner = Arc::downgrade(&owner);
        let Ok(first) = ports.bind(claim("127.0.0.1", 80), &owner) else { panic!("not bound") };
        assert_eq!(ports.bind(claim("127.0.0.1", 80), &owner), Err(Errno::EADDRINUSE));
        assert_eq!(ports.bind(claim("0.0.0.0", 80), &owner), Err(Errno::EADDRINUSE));
        assert_eq!(ports.bind(claim("::", 80), &owner), Err(Errno::EADDRINUSE));
        assert!(ports.bind(Claim { v6_only: true, ..claim("::", 80) }, &owner).is_ok());
        assert!(ports.bind(claim("127.0.0.2", 80), &owner).is_ok());
        ports.release(first);
        assert!(ports.bind(claim("127.0.0.1", 80), &owner).is_ok());
    }

    #[test]
    fn the_most_exact_binding_is_found_first() {
        let ports = Ports::<u8>::new();
        let (any, exact) = (Arc::new(1_u8), Arc::new(2_u8));
        let shared = |ip| Claim { reuse_address: true, ..claim(ip, 80) };
        assert!(ports.bind(shared("::"), &Arc::downgrade(&any)).is_ok());
        assert!(ports.bind(shared("127.0.0.1"), &Arc::downgrade(&exact)).is_ok());
        let found = ports.find(claim("127.0.0.1", 80).ip, 80, false);
        assert_eq!(found.iter().map(|owner| **owner).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn ephemeral_ports_are_in_their_range() {
        let ports = Ports::<()>::new();
        let owner = Arc::new(());
        let bound = ports.bind(claim("127.0.0.1", 0), &Arc::downgrade(&owner));
        assert!(bound.is_ok_and(|binding| (32_768..61_000).contains(&binding.port)));
    }
}
