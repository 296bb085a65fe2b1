//! UNIX sockets: unix(7).

use super::channel::{Control, Framing, Take, Ucred};
use super::connection::Connection;
use super::inbox::{Datagram, Inbox};
use super::options::{DEFAULT_BUFFER, Options, Value, name};
use super::socket::{Access, Directions, Identity, Incoming, Outgoing, Socket, Type, family};
use super::unix_name::{self, Bound, Name};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue, end_of_wait, wait_at_most};
use crate::{Errno, Result, Task};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::sync::Mutex;

/// net.core.somaxconn.
const MAX_BACKLOG: usize = 4096;
/// net.unix.max_dgram_qlen.
const MAX_DATAGRAMS: usize = 10;

/// What a socket is doing.
enum Role {
    Idle,
    Listening {
        backlog: usize,
        pending: VecDeque<Arc<UnixSocket>>,
    },
    Connected(Connection),
    /// A datagram socket's peer, by its inbox and name.
    Peer(Arc<Inbox>, Option<Name>),
}

struct State {
    bound: Option<Bound>,
    role: Role,
    peer_name: Option<Name>,
    peer_creds: Option<Ucred>,
    /// shutdown(2) of a datagram socket.
    shut: Directions,
}

/// A UNIX socket.
pub struct UnixSocket {
    kind: Type,
    queue: Arc<WaitQueue>,
    /// Connects that wait for room in the backlog.
    connectors: WaitQueue,
    options: Options,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    me: Weak<UnixSocket>,
}

/// Credentials of a task, as they travel.
#[must_use]
pub fn creds_of(task: &Task) -> Ucred {
    let creds = task.creds();
    Ucred { pid: task.process.pid, uid: creds.euid, gid: creds.egid }
}

impl UnixSocket {
    /// A new socket.
    ///
    /// # Errors
    /// EPROTONOSUPPORT for a protocol, ESOCKTNOSUPPORT for a type that UNIX sockets lack.
    pub fn new(kind: Type, protocol: i32) -> Result<Arc<UnixSocket>> {
        if protocol != 0 && protocol != i32::from(family::UNIX) {
            return Err(Errno::EPROTONOSUPPORT);
        }
        // Linux makes a datagram socket of SOCK_RAW.
        let kind = if kind == Type::Raw { Type::Datagram } else { kind };
        Ok(UnixSocket::make(kind))
    }

    fn make(kind: Type) -> Arc<UnixSocket> {
        let queue = Arc::new(WaitQueue::new());
        let inbox = Inbox::new(&queue, DEFAULT_BUFFER, MAX_DATAGRAMS);
        let shut = Directions { read: false, write: false };
        let state = State { bound: None, role: Role::Idle, peer_name: None, peer_creds: None, shut };
        Arc::new_cyclic(|me| UnixSocket {
            kind,
            queue,
            connectors: WaitQueue::new(),
            options: Options::default(),
            inbox,
            state: Mutex::new(state),
            me: Weak::clone(me),
        })
    }

    /// Two sockets connected to each other: socketpair(2).
    ///
    /// # Errors
    /// As [`UnixSocket::new`].
    pub fn pair(kind: Type, protocol: i32, creds: Ucred) -> Result<(Arc<UnixSocket>, Arc<UnixSocket>)> {
        let (one, two) = (UnixSocket::new(kind, protocol)?, UnixSocket::new(kind, protocol)?);
        let (first, second) = match one.framing() {
            Some(framing) => {
                let (first, second) = Connection::pair(framing, DEFAULT_BUFFER, &one.queue, &two.queue);
                (Role::Connected(first), Role::Connected(second))
            }
            None => (Role::Peer(Arc::clone(&two.inbox), None), Role::Peer(Arc::clone(&one.inbox), None)),
        };
        for (socket, role) in [(&one, first), (&two, second)] {
            let mut state = socket.state.lock();
            state.role = role;
            state.peer_creds = Some(creds);
        }
        Ok((one, two))
    }

    fn framing(&self) -> Option<Framing> {
        match self.kind {
            Type::Stream => Some(Framing::Bytes),
            Type::SeqPacket => Some(Framing::Packets),
            _ => None,
        }
    }

    fn name(&self) -> Option<Name> {
        self.state.lock().bound.as_ref().map(|bound| bound.name.clone())
    }

    fn connect_datagram(&self, task: &Task, name: Option<&Name>) -> Result<()> {
        let target = unix_name::find(task, name.ok_or(Errno::EINVAL)?)?;
        if target.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let role = Role::Peer(Arc::clone(&target.inbox), name.cloned());
        let old = core::mem::replace(&mut self.state.lock().role, role);
        drop(old);
        self.queue.wake(WRITABLE);
        Ok(())
    }

    fn connect_stream(&self, task: &Task, framing: Framing, name: Option<&Name>, nonblocking: bool) -> Result<()> {
        let name = name.ok_or(Errno::EINVAL)?;
        match self.state.lock().role {
            Role::Connected(_) => return Err(Errno::EISCONN),
            Role::Listening { .. } => return Err(Errno::EINVAL),
            _ => {}
        }
        let target = unix_name::find(task, name)?;
        if target.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let limit = self.options.timeout(false);
        let attempt = || match self.enter_backlog(task, &target, framing, name) {
            Err(Errno::EAGAIN) => None,
            other => Some(other),
        };
        if nonblocking {
            return self.enter_backlog(task, &target, framing, name);
        }
        end_of_wait(wait_at_most(&[&target.connectors], limit, attempt), limit.is_some())
    }

    /// Makes the server's end and puts it into the listener's backlog.
    fn enter_backlog(&self, task: &Task, target: &UnixSocket, framing: Framing, name: &Name) -> Result<()> {
        let server = UnixSocket::make(self.kind);
        let (mine, theirs) = Connection::pair(framing, DEFAULT_BUFFER, &self.queue, &server.queue);
        let own_name = self.name();
        let listener_creds = {
            let mut listener = target.state.lock();
            {
                let mut state = server.state.lock();
                state.role = Role::Connected(theirs);
                state.bound.clone_from(&listener.bound);
                state.peer_name = own_name;
                state.peer_creds = Some(creds_of(task));
            }
            if target.options.pass_creds.load(Ordering::Relaxed) {
                server.options.pass_creds.store(true, Ordering::Relaxed);
            }
            let creds = listener.peer_creds;
            let Role::Listening { backlog, pending } = &mut listener.role else { return Err(Errno::ECONNREFUSED) };
            if pending.len() > *backlog {
                return Err(Errno::EAGAIN);
            }
            pending.push_back(server);
            creds
        };
        {
            let mut state = self.state.lock();
            state.role = Role::Connected(mine);
            state.peer_name = Some(name.clone());
            state.peer_creds = listener_creds;
        }
        target.queue.wake(READABLE);
        self.queue.wake(WRITABLE);
        Ok(())
    }

    /// Credentials that go with a message: those given, or the sender's own where the receiver may want them.
    fn add_creds(&self, task: Option<&Task>, control: &mut Control, always: bool) {
        let wanted = always || self.options.pass_creds.load(Ordering::Relaxed);
        if let (None, true, Some(task)) = (control.creds, wanted, task) {
            control.creds = Some(creds_of(task));
        }
    }

    fn send_datagram(&self, task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        let inbox = match message.to {
            None => match &self.state.lock().role {
                Role::Peer(inbox, _) => Arc::clone(inbox),
                _ => return Err(Errno::ENOTCONN),
            },
            Some(address) => {
                let name = unix_name::parse(address)?.ok_or(Errno::EINVAL)?;
                let target = unix_name::find(task.ok_or(Errno::EINVAL)?, &name)?;
                if target.kind != self.kind {
                    return Err(Errno::EPROTOTYPE);
                }
                Arc::clone(&target.inbox)
            }
        };
        if self.state.lock().shut.write {
            return Err(Errno::EPIPE);
        }
        let total = message.data.remaining();
        if total > self.options.send_buffer.load(Ordering::Relaxed).saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if !inbox.has_room_for(&self.queue) {
            return Err(Errno::EAGAIN);
        }
        let mut data = crate::ipc::ring::storage(total)?;
        message.data.peek(&mut data)?;
        self.add_creds(task, message.control, true);
        let from = unix_name::encode(self.name().as_ref());
        let control = core::mem::take(message.control);
        match inbox.put(Datagram { data, from, control, to: None }, &self.queue) {
            Ok(()) => {
                message.data.advance(total);
                Ok(total)
            }
            Err((errno, datagram)) => {
                *message.control = datagram.control;
                if errno == Errno::ECONNREFUSED && message.to.is_none() {
                    self.state.lock().role = Role::Idle;
                }
                Err(errno)
            }
        }
    }

    fn send_stream(&self, task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        let outgoing = match &self.state.lock().role {
            Role::Connected(connection) => Arc::clone(&connection.outgoing),
            _ => return Err(if message.to.is_some() { Errno::EOPNOTSUPP } else { Errno::ENOTCONN }),
        };
        if message.to.is_some() && self.kind == Type::Stream {
            return Err(Errno::EISCONN);
        }
        self.add_creds(task, message.control, false);
        outgoing.write(message.data, message.control)
    }

    fn receive_stream(&self, to: &mut Sink<'_>, take: Take) -> Result<Incoming> {
        let (incoming, peer_creds) = {
            let state = self.state.lock();
            match &state.role {
                Role::Connected(connection) => (Arc::clone(&connection.incoming), state.peer_creds),
                Role::Listening { .. } => return Err(Errno::EINVAL),
                _ if self.kind == Type::SeqPacket => return Err(Errno::ENOTCONN),
                _ => return Err(Errno::EINVAL),
            }
        };
        let mut taken = incoming.read(to, take)?;
        if taken.control.creds.is_none() {
            taken.control.creds = peer_creds;
        }
        Ok(Incoming {
            count: taken.count,
            full: taken.full,
            has_bounds: self.kind == Type::SeqPacket,
            control: taken.control,
            ..Incoming::default()
        })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.inbox.close();
        let mut state = self.state.lock();
        let role = core::mem::replace(&mut state.role, Role::Idle);
        let bound = state.bound.take();
        drop(state);
        match role {
            Role::Connected(connection) => {
                connection.close();
                return;
            }
            Role::Listening { pending, .. } => pending.iter().for_each(|server| {
                if let Role::Connected(connection) = &server.state.lock().role {
                    connection.abort();
                }
            }),
            Role::Idle | Role::Peer(..) => {}
        }
        if let Some(bound) = bound {
            unix_name::release(&bound);
        }
    }
}

impl Socket for UnixSocket {
    fn identity(&self) -> Identity {
        Identity { family: family::UNIX, kind: self.kind, protocol: 0 }
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn queue(&self) -> &Arc<WaitQueue> {
        &self.queue
    }

    fn poll(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::empty();
        match &state.role {
            Role::Listening { pending, .. } => {
                events.set(READABLE, !pending.is_empty());
                return events;
            }
            Role::Connected(connection) => return connection.poll(),
            _ if self.kind != Type::Datagram => return WRITABLE | Events::HUP,
            Role::Peer(peer, _) => events.set(WRITABLE, peer.has_room_for(&self.queue)),
            Role::Idle => events |= WRITABLE,
        }
        events.set(READABLE, self.inbox.first_len().is_some() || state.shut.read);
        events.set(Events::RDHUP, state.shut.read);
        events.set(Events::HUP, state.shut.read && state.shut.write);
        events
    }

    fn bind(&self, task: &Task, address: &[u8]) -> Result<()> {
        let name = unix_name::parse(address)?;
        if self.state.lock().bound.is_some() {
            return if name.is_none() { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let bound = unix_name::bind(task, name, &self.me)?;
        self.state.lock().bound = Some(bound);
        Ok(())
    }

    fn connect(&self, task: &Task, address: &[u8], nonblocking: bool) -> Result<()> {
        let number = address.first_chunk::<2>().ok_or(Errno::EINVAL)?;
        if self.kind == Type::Datagram && u16::from_ne_bytes(*number) == family::UNSPEC {
            self.state.lock().role = Role::Idle;
            return Ok(());
        }
        let name = unix_name::parse(address)?;
        match self.framing() {
            None => self.connect_datagram(task, name.as_ref()),
            Some(framing) => self.connect_stream(task, framing, name.as_ref(), nonblocking),
        }
    }

    fn listen(&self, task: &Task, backlog: usize) -> Result<()> {
        if self.kind == Type::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.bound.is_none() {
            return Err(Errno::EINVAL);
        }
        let limit = backlog.min(MAX_BACKLOG);
        match &mut state.role {
            Role::Listening { backlog, .. } => *backlog = limit,
            Role::Idle => state.role = Role::Listening { backlog: limit, pending: VecDeque::new() },
            _ => return Err(Errno::EINVAL),
        }
        state.peer_creds = Some(creds_of(task));
        drop(state);
        self.connectors.wake(Events::all());
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        if self.kind == Type::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let Role::Listening { pending, .. } = &mut self.state.lock().role else { return Err(Errno::EINVAL) };
        let accepted = pending.pop_front().ok_or(Errno::EAGAIN)?;
        self.connectors.wake(Events::all());
        Ok(accepted)
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(unix_name::encode(self.name().as_ref()))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        match &state.role {
            Role::Connected(_) => Ok(unix_name::encode(state.peer_name.as_ref())),
            Role::Peer(_, name) => Ok(unix_name::encode(name.as_ref())),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn shutdown(&self, directions: Directions) -> Result<()> {
        let mut state = self.state.lock();
        match &state.role {
            Role::Connected(connection) => {
                let (incoming, outgoing) = (Arc::clone(&connection.incoming), Arc::clone(&connection.outgoing));
                drop(state);
                if directions.write {
                    outgoing.end();
                }
                if directions.read {
                    incoming.refuse();
                }
                return Ok(());
            }
            _ if self.kind != Type::Datagram => return Err(Errno::ENOTCONN),
            _ => {}
        }
        state.shut.read |= directions.read;
        state.shut.write |= directions.write;
        drop(state);
        self.queue.wake(Events::all());
        Ok(())
    }

    fn send(&self, task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.flags & super::socket::msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.kind == Type::Datagram { self.send_datagram(task, message) } else { self.send_stream(task, message) }
    }

    fn receive(&self, to: &mut Sink<'_>, take: Take, flags: u32) -> Result<Incoming> {
        if flags & super::socket::msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.kind != Type::Datagram {
            return self.receive_stream(to, take);
        }
        match self.inbox.take(to, take) {
            Ok(found) => Ok(Incoming {
                count: found.count,
                full: found.full,
                has_bounds: true,
                // An unnamed sender has no address at all.
                from: if found.from.len() > 2 { found.from } else { Vec::new() },
                control: found.control,
                to: None,
            }),
            Err(Errno::EAGAIN) if self.state.lock().shut.read => Ok(Incoming::default()),
            Err(errno) => Err(errno),
        }
    }

    fn check_level(&self, _level: u32, _option: u32, _access: Access) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn option(&self, _level: u32, option: u32) -> Result<Value> {
        if option != name::PEERCRED {
            return Err(Errno::ENOPROTOOPT);
        }
        let none = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let creds = self.state.lock().peer_creds.unwrap_or(none);
        let mut bytes = creds.pid.to_ne_bytes().to_vec();
        bytes.extend(creds.uid.to_ne_bytes());
        bytes.extend(creds.gid.to_ne_bytes());
        Ok(Value::Bytes(bytes))
    }

    fn take_error(&self) -> Option<Errno> {
        let reset = match &self.state.lock().role {
            Role::Connected(connection) => connection.incoming.take_reset(),
            _ => None,
        };
        reset.or_else(|| self.options.take_error())
    }

    fn is_listening(&self) -> bool {
        matches!(self.state.lock().role, Role::Listening { .. })
    }

    fn readable_bytes(&self) -> usize {
        match &self.state.lock().role {
            Role::Connected(connection) => connection.incoming.len(),
            _ => self.inbox.first_len().unwrap_or(0),
        }
    }
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
