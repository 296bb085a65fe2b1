//! UDP on loopback, to one or to a group: udp(7).

use super::address;
use super::channel::{Control, Take};
use super::inbox::{Datagram, Inbox};
use super::inet::{self, LO_INDEX};
use super::inet_options::{self, IP, IPV6, MULTICAST_ALL, Numbers, PKTINFO, V6_RECVPKTINFO};
use super::multicast::{self, Groups};
use super::options::{DEFAULT_BUFFER, Options, Value};
use super::ports::{Binding, Ports};
use super::socket::{Access, Directions, Identity, Incoming, Outgoing, Socket, Type, family, msg};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::Ordering;
use machine::sync::Mutex;

/// Largest datagram: what fits into an IPv4 packet.
const MAX_DATAGRAM: usize = 65_507;
/// IPV6_PKTINFO, as it is told beside a message.
const V6_PKTINFO: u32 = 50;

static PORTS: Ports<UdpSocket> = Ports::new();

struct State {
    binding: Option<Binding>,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    shut: Directions,
}

/// A UDP socket.
pub struct UdpSocket {
    own: u16,
    queue: Arc<WaitQueue>,
    options: Options,
    numbers: Numbers,
    groups: Groups,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    me: Weak<UdpSocket>,
}

impl UdpSocket {
    /// A new socket of a family.
    #[must_use]
    pub fn new(own: u16) -> Arc<UdpSocket> {
        let queue = Arc::new(WaitQueue::new());
        let inbox = Inbox::new(&queue, DEFAULT_BUFFER, usize::MAX);
        let shut = Directions { read: false, write: false };
        Arc::new_cyclic(|me| UdpSocket {
            own,
            queue,
            options: Options::default(),
            numbers: Numbers::default(),
            groups: Groups::default(),
            inbox,
            state: Mutex::new(State { binding: None, local: None, peer: None, shut }),
            me: Weak::clone(me),
        })
    }

    fn bind_to(&self, wanted: SocketAddr) -> Result<()> {
        if self.state.lock().binding.is_some() {
            return Err(Errno::EINVAL);
        }
        let (binding, local) = inet::bind(&PORTS, wanted, (&self.options, &self.numbers), &self.me)?;
        let mut state = self.state.lock();
        state.binding = Some(binding);
        state.local = Some(local);
        Ok(())
    }

    /// The address that what goes to `to` comes from; binds where nothing is bound.
    fn source(&self, to: SocketAddr) -> Result<SocketAddr> {
        if self.state.lock().binding.is_none() {
            self.bind_to(address::any(self.own))?;
        }
        let local = self.state.lock().local.ok_or(Errno::EADDRNOTAVAIL)?;
        let source = address::source_for(to.ip());
        let has_none = local.ip().is_unspecified() || local.ip().is_multicast();
        Ok(if has_none { SocketAddr::new(source, local.port()) } else { local })
    }

    /// Where a packet to an address goes. To a group it takes the interface that was named, or that of its own address.
    fn route(&self, to: SocketAddr) -> Result<SocketAddr> {
        let has_interface = || {
            let local = self.state.lock().local;
            self.groups.has_interface() || local.is_some_and(|local| local.ip().is_loopback())
        };
        if to.is_ipv4() && to.ip().is_multicast() && has_interface() { Ok(to) } else { address::route(to) }
    }

    /// Whether it takes what comes for a group: as a member, or since others are (IP_MULTICAST_ALL).
    fn takes_group(&self, group: IpAddr) -> bool {
        self.groups.has(group) || self.numbers.number(IP, MULTICAST_ALL) != 0 && multicast::is_joined(group)
    }

    /// A copy for each that takes it; a full inbox drops it, as UDP may.
    fn send_to_group(&self, to: SocketAddr, from: SocketAddr, data: &[u8]) -> Result<()> {
        for taker in PORTS.find(to.ip(), to.port(), false) {
            if !taker.takes_group(to.ip()) || !taker.takes_from(from) {
                continue;
            }
            let mut copy = crate::ipc::ring::storage(data.len())?;
            copy.copy_from_slice(data);
            let from = address::encode(from, taker.own);
            let datagram = Datagram { data: copy, from, control: Control::default(), to: Some(to.ip()) };
            let _ = taker.inbox.put(datagram, &self.queue);
        }
        Ok(())
    }

    fn destination(&self, message: &Outgoing<'_, '_>) -> Result<SocketAddr> {
        let to = match message.to {
            Some(bytes) => address::decode(bytes, self.own)?,
            None => self.state.lock().peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        if to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        let is_broadcast = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        if is_broadcast && !self.options.broadcast.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
        self.route(to)
    }

    /// Whether it takes what comes from an address.
    fn takes_from(&self, from: SocketAddr) -> bool {
        self.state.lock().peer.is_none_or(|peer| peer == from)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.inbox.close();
        let binding = self.state.lock().binding.take();
        if let Some(binding) = binding {
            PORTS.release(binding);
        }
    }
}

impl Socket for UdpSocket {
    fn identity(&self) -> Identity {
        Identity { family: self.own, kind: Type::Datagram, protocol: 17 }
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn queue(&self) -> &Arc<WaitQueue> {
        &self.queue
    }

    fn poll(&self) -> Events {
        let shut = self.state.lock().shut;
        let mut events = WRITABLE;
        events.set(READABLE, self.inbox.first_len().is_some() || shut.read);
        events.set(Events::RDHUP, shut.read);
        events.set(Events::HUP, shut.read && shut.write);
        events.set(Events::ERR, self.options.has_error());
        events
    }

    fn bind(&self, _task: &Task, bytes: &[u8]) -> Result<()> {
        self.bind_to(inet::decode_for_bind(bytes, self.own)?)
    }

    fn connect(&self, _task: &Task, bytes: &[u8], _nonblocking: bool) -> Result<()> {
        if address::family_of(bytes)? == family::UNSPEC {
            self.state.lock().peer = None;
            return Ok(());
        }
        let to = self.route(address::decode(bytes, self.own)?)?;
        let local = self.source(to)?;
        let mut state = self.state.lock();
        state.peer = Some(to);
        state.local = Some(local);
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let local = self.state.lock().local.unwrap_or(address::any(self.own));
        Ok(address::encode(local, self.own))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let peer = self.state.lock().peer.ok_or(Errno::ENOTCONN)?;
        Ok(address::encode(peer, self.own))
    }

    fn shutdown(&self, directions: Directions) -> Result<()> {
        let mut state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        state.shut.read |= directions.read;
        state.shut.write |= directions.write;
        drop(state);
        self.queue.wake(Events::all());
        Ok(())
    }

    fn send(&self, _task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let total = message.data.remaining();
        if total > MAX_DATAGRAM {
            return Err(Errno::EMSGSIZE);
        }
        let to = self.destination(message)?;
        if let Some(errno) = self.options.take_error() {
            return Err(errno);
        }
        if self.state.lock().shut.write {
            return Err(Errno::EPIPE);
        }
        let from = self.source(to)?;
        let mut data = crate::ipc::ring::storage(total)?;
        message.data.peek(&mut data)?;
        message.data.advance(total);
        if to.ip().is_multicast() {
            return self.send_to_group(to, from, &data).map(|()| total);
        }
        let taker = PORTS.find(to.ip(), to.port(), false).into_iter().find(|socket| socket.takes_from(from));
        match taker {
            Some(taker) => {
                let from = address::encode(from, taker.own);
                // A full inbox drops it, as UDP may.
                let datagram = Datagram { data, from, control: Control::default(), to: Some(to.ip()) };
                let _ = taker.inbox.put(datagram, &self.queue);
            }
            // Only a connected socket learns that nobody was there.
            None if self.state.lock().peer.is_some() => {
                self.options.set_error(Errno::ECONNREFUSED);
                self.queue.wake(Events::ERR | READABLE);
            }
            None => {}
        }
        Ok(total)
    }

    fn receive(&self, to: &mut Sink<'_>, take: Take, flags: u32) -> Result<Incoming> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(errno) = self.options.take_error() {
            return Err(errno);
        }
        match self.inbox.take(to, take) {
            Ok(found) => Ok(Incoming {
                count: found.count,
                full: found.full,
                has_bounds: true,
                from: found.from,
                control: found.control,
                to: found.to,
            }),
            Err(Errno::EAGAIN) if self.state.lock().shut.read => Ok(Incoming::default()),
            Err(errno) => Err(errno),
        }
    }

    fn beside(&self, incoming: &Incoming) -> Vec<(u32, u32, Vec<u8>)> {
        let mut out = Vec::new();
        match incoming.to {
            Some(IpAddr::V4(ip)) if self.numbers.number(IP, PKTINFO) != 0 => {
                let mut body = LO_INDEX.to_ne_bytes().to_vec();
                body.extend(ip.octets());
                body.extend(ip.octets());
                out.push((IP, PKTINFO, body));
            }
            Some(ip) if self.numbers.number(IPV6, V6_RECVPKTINFO) != 0 => {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let mut body = ip.octets().to_vec();
                body.extend(LO_INDEX.to_ne_bytes());
                out.push((IPV6, V6_PKTINFO, body));
            }
            _ => {}
        }
        out
    }

    fn check_level(&self, level: u32, option: u32, access: Access) -> Result<()> {
        inet_options::check_level(self.identity(), level, option, access)
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        self.groups.set(level, option, value).unwrap_or_else(|| self.numbers.set(level, option, value))
    }

    fn option(&self, level: u32, option: u32) -> Result<Value> {
        self.groups.get(level, option).map_or_else(|| self.numbers.get(level, option), Ok)
    }

    fn readable_bytes(&self) -> usize {
        self.inbox.first_len().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{UdpSocket, address};
    use crate::net::channel::{Control, Take};
    use crate::net::socket::{Outgoing, Socket, family};
    use crate::uio::{Sink, Source};
    use crate::{Errno, Result};
    use core::net::SocketAddr;
    use std::sync::Arc;

    fn send(socket: &UdpSocket, to: Option<SocketAddr>, bytes: &[u8]) -> Result<usize> {
        let to = to.map(|to| address::encode(to, family::INET));
        let (mut data, mut control) = (Source::kernel(bytes), Control::default());
        socket.send(None, &mut Outgoing { data: &mut data, to: to.as_deref(), control: &mut control, flags: 0 })
    }

    fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut buffer = vec![0; 100];
        let incoming = socket.receive(&mut Sink::kernel(&mut buffer), Take::Remove, 0)?;
        buffer.truncate(incoming.count);
        Ok((buffer, incoming.from))
    }

    fn bound() -> (Arc<UdpSocket>, SocketAddr) {
        let socket = UdpSocket::new(family::INET);
        assert_eq!(socket.bind_to(SocketAddr::from(([127, 0, 0, 1], 0))), Ok(()));
        let Some(local) = socket.state.lock().local else { panic!("not bound") };
        (socket, local)
    }

    #[test]
    fn datagrams_arrive_with_their_sender() {
        let ((one, from), (two, to)) = (bound(), bound());
        assert_eq!(send(&one, Some(to), b"hi"), Ok(2));
        assert_eq!(receive(&two), Ok((b"hi".to_vec(), address::encode(from, family::INET))));
        assert_eq!(receive(&two), Err(Errno::EAGAIN));
        assert_eq!(send(&one, None, b"hi"), Err(Errno::EDESTADDRREQ));
        assert_eq!(send(&one, Some(SocketAddr::from(([10, 0, 0, 1], 9))), b"hi"), Err(Errno::ENETUNREACH));
    }

    #[test]
    fn a_connected_socket_learns_that_nobody_is_there() {
        let ((one, _), (two, to)) = (bound(), bound());
        one.state.lock().peer = Some(to);
        drop(two);
        assert_eq!(send(&one, None, b"hi"), Ok(2));
        assert_eq!(receive(&one), Err(Errno::ECONNREFUSED));
        assert_eq!(receive(&one), Err(Errno::EAGAIN));
    }
}
