//! Netlink, as far as getifaddrs(3) and getaddrinfo(3) need it: dumps of links, addresses and routes, of which there is `lo` alone.
//! See netlink(7), rtnetlink(7).

use super::channel::{Control, Take};
use super::inbox::{Datagram, Inbox};
use super::inet::{LO_FLAGS, LO_INDEX, LO_MTU};
use super::options::{DEFAULT_BUFFER, Options};
use super::socket::{Access, Directions, Identity, Incoming, Outgoing, Socket, Type, family};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

/// Kinds of message: NLMSG_ERROR, NLMSG_DONE, RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_GETROUTE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
/// Level of its options.
const SOL_NETLINK: u32 = 270;
/// NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP.
const MULTI: u16 = 2;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// Largest request.
const MAX_REQUEST: usize = 32 * 1024;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// NETLINK_SOCK_DIAG: no family tells of its sockets so, as on a Linux without its modules; /proc/net does.
const SOCK_DIAG: i32 = 4;

/// A NETLINK_ROUTE or NETLINK_SOCK_DIAG socket.
#[derive(Debug)]
pub struct NetlinkSocket {
    kind: Type,
    queue: Arc<WaitQueue>,
    options: Options,
    inbox: Arc<Inbox>,
    /// Port number; 0 until it is bound.
    port: AtomicU32,
    protocol: i32,
}

/// One request, parsed.
struct Request<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    bytes: &'a [u8],
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |raw| u16::from_ne_bytes(*raw))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |raw| u32::from_ne_bytes(*raw))
}

impl NetlinkSocket {
    /// A new socket.
    ///
    /// # Errors
    /// ESOCKTNOSUPPORT for a stream, EPROTONOSUPPORT for anything but NETLINK_ROUTE and NETLINK_SOCK_DIAG.
    pub fn new(kind: Type, protocol: i32) -> Result<Arc<NetlinkSocket>> {
        if !matches!(kind, Type::Datagram | Type::Raw) {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        if protocol != 0 && protocol != SOCK_DIAG {
            return Err(Errno::EPROTONOSUPPORT);
        }
        let queue = Arc::new(WaitQueue::new());
        let inbox = Inbox::new(&queue, DEFAULT_BUFFER, usize::MAX);
        Ok(Arc::new(NetlinkSocket {
            kind,
            queue,
            options: Options::default(),
            inbox,
            port: AtomicU32::new(0),
            protocol,
        }))
    }

    /// Its port number; taken now where it has none.
    fn settle_port(&self, wanted: u32) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let port = if wanted == 0 { NEXT.fetch_add(1, Ordering::Relaxed) } else { wanted };
        match self.port.compare_exchange(0, port, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => port,
            Err(held) => held,
        }
    }

    fn message(&self, request: &Request<'_>, kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + body.len()).unwrap_or(0);
        let mut out = len.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend(request.sequence.to_ne_bytes());
        out.extend(self.settle_port(0).to_ne_bytes());
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn error(&self, request: &Request<'_>, errno: u16) -> Vec<u8> {
        let mut body = (-i32::from(errno)).to_ne_bytes().to_vec();
        body.extend(request.bytes.iter().take(HEADER));
        self.message(request, ERROR, 0, &body)
    }

    fn answer(&self, request: &Request<'_>) {
        if self.protocol == SOCK_DIAG {
            return self.deliver(self.error(request, Errno::ENOENT.number()));
        }
        let (kind, bodies) = match request.kind {
            GET_LINK => (NEW_LINK, alloc::vec![link()]),
            GET_ADDRESS => (NEW_ADDRESS, addresses(request.bytes.get(HEADER).copied().unwrap_or(0))),
            GET_ROUTE => (0, Vec::new()),
            _ => return self.deliver(self.error(request, Errno::EOPNOTSUPP.number())),
        };
        let is_dump = request.flags & DUMP != 0;
        let flags = if is_dump { MULTI } else { 0 };
        let bodies = bodies.iter().map(|body| self.message(request, kind, flags, body));
        let all: Vec<u8> = bodies.collect::<Vec<_>>().concat();
        if !all.is_empty() {
            self.deliver(all);
        }
        if is_dump {
            self.deliver(self.message(request, DONE, MULTI, &0_i32.to_ne_bytes()));
        } else if request.flags & ACK != 0 {
            self.deliver(self.error(request, 0));
        }
    }

    fn deliver(&self, data: Vec<u8>) {
        let from = address(0);
        let _ = self.inbox.put(Datagram { data, from, control: Control::default(), to: None }, &self.queue);
    }
}

/// `struct sockaddr_nl` of a port.
fn address(port: u32) -> Vec<u8> {
    let mut out = u32::from(family::NETLINK).to_ne_bytes().to_vec();
    out.extend(port.to_ne_bytes());
    out.extend([0; 4]);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(u16::try_from(4 + value.len()).unwrap_or(0).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg` of `lo`, with address, broadcast, name, MTU, queue length and operational state.
fn link() -> Vec<u8> {
    // Family, padding, ARPHRD_LOOPBACK.
    let mut out = alloc::vec![0, 0];
    out.extend(772_u16.to_ne_bytes());
    out.extend(LO_INDEX.to_ne_bytes());
    // IFF_LOWER_UP as well.
    out.extend((LO_FLAGS | 0x1_0000).to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    attribute(&mut out, 1, &[0; 6]);
    attribute(&mut out, 2, &[0; 6]);
    attribute(&mut out, 3, b"lo\0");
    attribute(&mut out, 4, &LO_MTU.to_ne_bytes());
    attribute(&mut out, 13, &1000_u32.to_ne_bytes());
    attribute(&mut out, 16, &[0]);
    out
}

/// `struct ifaddrmsg` of each address of a family; 0 for all.
fn addresses(wanted: u8) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut v6 = [0; 16];
    v6[15] = 1;
    let rows: [(u8, u8, &[u8]); 2] = [(2, 8, &[127, 0, 0, 1]), (10, 128, &v6)];
    for (own, prefix, ip) in rows {
        if wanted != 0 && wanted != own {
            continue;
        }
        // Family, prefix, IFA_F_PERMANENT, RT_SCOPE_HOST.
        let mut out = alloc::vec![own, prefix, 0x80, 254];
        out.extend(LO_INDEX.to_ne_bytes());
        attribute(&mut out, 1, ip);
        if own == 2 {
            attribute(&mut out, 2, ip);
            attribute(&mut out, 3, b"lo\0");
        }
        all.push(out);
    }
    all
}

impl Socket for NetlinkSocket {
    fn identity(&self) -> Identity {
        Identity { family: family::NETLINK, kind: self.kind, protocol: self.protocol }
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn queue(&self) -> &Arc<WaitQueue> {
        &self.queue
    }

    fn poll(&self) -> Events {
        if self.inbox.first_len().is_some() { READABLE | WRITABLE } else { WRITABLE }
    }

    fn bind(&self, _task: &Task, bytes: &[u8]) -> Result<()> {
        if bytes.len() < 12 || half(bytes, 0) != family::NETLINK {
            return Err(Errno::EINVAL);
        }
        self.settle_port(word(bytes, 4));
        Ok(())
    }

    fn connect(&self, _task: &Task, bytes: &[u8], _nonblocking: bool) -> Result<()> {
        if bytes.len() < 12 || half(bytes, 0) != family::NETLINK {
            return Err(Errno::EINVAL);
        }
        // Only the kernel is there.
        if word(bytes, 4) == 0 { Ok(()) } else { Err(Errno::ECONNREFUSED) }
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(address(self.port.load(Ordering::Relaxed)))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(address(0))
    }

    fn shutdown(&self, _directions: Directions) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn send(&self, _task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.to.is_some_and(|to| word(to, 4) != 0) {
            return Err(Errno::ECONNREFUSED);
        }
        let total = message.data.remaining();
        if total > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = crate::ipc::ring::storage(total)?;
        message.data.peek(&mut data)?;
        message.data.advance(total);
        let mut rest = data.as_slice();
        while rest.len() >= HEADER {
            let len = usize::try_from(word(rest, 0)).unwrap_or(0);
            let Some(bytes) = rest.get(..len).filter(|bytes| bytes.len() >= HEADER) else { break };
            self.answer(&Request { kind: half(bytes, 4), flags: half(bytes, 6), sequence: word(bytes, 8), bytes });
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Ok(total)
    }

    fn receive(&self, to: &mut Sink<'_>, take: Take, _flags: u32) -> Result<Incoming> {
        let found = self.inbox.take(to, take)?;
        Ok(Incoming { count: found.count, full: found.full, has_bounds: true, from: found.from, ..Incoming::default() })
    }

    fn put_notice(&self, bytes: &[u8]) -> Result<()> {
        self.deliver(bytes.to_vec());
        Ok(())
    }

    fn check_level(&self, level: u32, _option: u32, _access: Access) -> Result<()> {
        if level == SOL_NETLINK { Ok(()) } else { Err(Errno::ENOPROTOOPT) }
    }

    fn set_option(&self, _level: u32, option: u32, _value: &[u8]) -> Result<()> {
        // ADD_MEMBERSHIP, DROP_MEMBERSHIP, PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, LISTEN_ALL_NSID, CAP_ACK, EXT_ACK,
        // GET_STRICT_CHK: broadcasts never come, so membership and the like hold trivially.
        if matches!(option, 1..=5 | 8 | 10..=12) { Ok(()) } else { Err(Errno::ENOPROTOOPT) }
    }
}

#[cfg(test)]
mod tests {
    use super::{NetlinkSocket, half, word};
    use crate::net::channel::Take;
    use crate::net::socket::{Socket, Type, send_bytes};
    use crate::uio::Sink;

    #[test]
    fn a_socket_for_diagnoses_has_none() {
        let Ok(socket) = NetlinkSocket::new(Type::Raw, 4) else { panic!("no socket") };
        let mut request = 20_u32.to_ne_bytes().to_vec();
        request.extend(20_u16.to_ne_bytes());
        request.extend(0x301_u16.to_ne_bytes());
        request.extend([0; 12]);
        assert_eq!(send_bytes(&*socket, &request), Ok(20));
        let mut buffer = [0; 100];
        assert!(socket.receive(&mut Sink::kernel(&mut buffer), Take::Remove, 0).is_ok());
        assert_eq!((half(&buffer, 4), word(&buffer, 16).cast_signed()), (2, -2));
    }

    #[test]
    fn a_dump_of_addresses_ends_with_done() {
        let Ok(socket) = NetlinkSocket::new(Type::Raw, 0) else { panic!("no socket") };
        let mut request = 17_u32.to_ne_bytes().to_vec();
        request.extend(22_u16.to_ne_bytes());
        request.extend(0x301_u16.to_ne_bytes());
        request.extend([7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(send_bytes(&*socket, &request), Ok(17));
        let mut kinds = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(incoming) = socket.receive(&mut Sink::kernel(&mut buffer), Take::Remove, 0) {
            let mut rest = &buffer[..incoming.count];
            while !rest.is_empty() {
                kinds.push(half(rest, 4));
                let len = usize::try_from(word(rest, 0)).unwrap_or(0).next_multiple_of(4);
                rest = &rest[len..];
            }
        }
        assert_eq!(kinds, [20, 20, 3]);
    }
}
