//! TCP on loopback: tcp(7), without packets. A connection is made by the connecting thread, which puts the server's end into
//! the listener's backlog.

use super::address;
use super::channel::{Channel, Condition, Control, Framing, Take, Taken};
use super::connection::Connection;
use super::inet::{self, interface_ioctl};
use super::inet_options::{self, IP, Numbers, TCP};
use super::multicast;
use super::options::{Options, Value};
use super::ports::{Binding, Ports};
use super::socket::{Access, Directions, Identity, Incoming, Outgoing, Socket, Type, family, msg};
use crate::time::timer::{Timer, TimerTarget};
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue, end_of_wait, wait_at_most};
use crate::{Errno, Result, Task};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, Ordering};
use machine::epoch::SetOnce;
use machine::sync::Mutex;

/// net.core.somaxconn.
const MAX_BACKLOG: usize = 4096;
/// TCP_INFO and TCP_CONGESTION.
const INFO: u32 = 11;
const CONGESTION: u32 = 13;
/// States that TCP_INFO shows.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSED: u8 = 7;
const LISTEN: u8 = 10;

static PORTS: Ports<TcpSocket> = Ports::new();

/// What a socket is doing.
enum Role {
    Idle,
    Listening {
        backlog: usize,
        pending: VecDeque<Arc<TcpSocket>>,
        waiting: VecDeque<Weak<TcpSocket>>,
    },
    /// The listener's backlog is full.
    Connecting(SocketAddr),
    /// `is_told`: a connect(2) has answered success.
    Connected {
        connection: Arc<Connection>,
        peer: SocketAddr,
        is_told: bool,
    },
}

struct State {
    binding: Option<Binding>,
    local: Option<SocketAddr>,
    role: Role,
    /// When a connect that waits for a listener ends, in nanoseconds of CLOCK_MONOTONIC.
    gives_up_at: Option<u64>,
}

/// A connection in use: the socket's first lives as long as that does.
enum Link<'a> {
    First(&'a Connection),
    Later(Arc<Connection>),
}

impl Deref for Link<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Link::First(connection) => connection,
            Link::Later(connection) => connection,
        }
    }
}

/// A TCP socket.
pub struct TcpSocket {
    own: u16,
    queue: Arc<WaitQueue>,
    options: Options,
    numbers: Numbers,
    state: Mutex<State>,
    /// The first connection that it had, which most have for good: poll looks at that without the lock.
    first: SetOnce<Arc<Connection>>,
    /// It has that one now. Changes with the state locked.
    has_first: AtomicBool,
    has_shut_read: AtomicBool,
    /// A write after the peer had gone was answered as Linux does: the first one succeeds.
    wrote_after_close: AtomicBool,
    /// Ends a connect to a listener without room.
    patience: Mutex<Option<Timer>>,
    me: Weak<TcpSocket>,
}

impl TcpSocket {
    /// A new socket of a family.
    #[must_use]
    pub fn new(own: u16) -> Arc<TcpSocket> {
        TcpSocket::make(own, Numbers::default(), Role::Idle, None)
    }

    fn make(own: u16, numbers: Numbers, role: Role, local: Option<SocketAddr>) -> Arc<TcpSocket> {
        Arc::new_cyclic(|me| TcpSocket {
            own,
            queue: Arc::new(WaitQueue::new()),
            options: Options::default(),
            numbers,
            state: Mutex::new(State { binding: None, local, role, gives_up_at: None }),
            first: SetOnce::new(),
            has_first: AtomicBool::new(false),
            has_shut_read: AtomicBool::new(false),
            wrote_after_close: AtomicBool::new(false),
            patience: Mutex::new(None),
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

    /// Checks whether connect(2) may begin; Some where it is answered already.
    fn check_connect(&self) -> Result<Option<()>> {
        match &mut self.state.lock().role {
            Role::Idle => Ok(None),
            Role::Connecting(_) => Err(Errno::EALREADY),
            Role::Connected { is_told, .. } if !*is_told => {
                *is_told = true;
                Ok(Some(()))
            }
            Role::Connected { .. } | Role::Listening { .. } => Err(Errno::EISCONN),
        }
    }

    /// The own address of a connection to `to`: bound, or chosen now.
    fn settle_local(&self, to: SocketAddr) -> Result<SocketAddr> {
        let source = address::source_for(to.ip());
        let bound = self.state.lock().local;
        let Some(bound) = bound else {
            self.bind_to(SocketAddr::new(source, 0))?;
            return self.state.lock().local.ok_or(Errno::EADDRNOTAVAIL);
        };
        let local = if bound.ip().is_unspecified() { SocketAddr::new(source, bound.port()) } else { bound };
        // Those who share the port are told apart by their peers.
        if PORTS.find(local.ip(), local.port(), false).iter().any(|other| other.goes_between(local, to)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.state.lock().local = Some(local);
        Ok(local)
    }

    fn goes_between(&self, local: SocketAddr, to: SocketAddr) -> bool {
        let state = self.state.lock();
        let peer = match &state.role {
            Role::Connecting(peer) | Role::Connected { peer, .. } => *peer,
            Role::Idle | Role::Listening { .. } => return false,
        };
        state.local == Some(local) && peer == to
    }

    /// Takes a client in, or notes that it waits.
    fn admit(&self, client: &Arc<TcpSocket>, local: SocketAddr, to: SocketAddr) -> Result<()> {
        let server = TcpSocket::make(self.own, self.numbers.copy(), Role::Idle, Some(to));
        let capacity = self.options.receive_buffer.load(Ordering::Relaxed);
        let (mine, theirs) = Connection::pair(Framing::Bytes, capacity, &client.queue, &server.queue);
        server.take_connection(theirs, local, true);
        // Before it can be found in the row of those that wait.
        {
            let mut state = client.state.lock();
            if matches!(state.role, Role::Connected { .. } | Role::Listening { .. }) {
                // Another thread was first.
                return Err(Errno::EISCONN);
            }
            (state.role, state.gives_up_at) = (Role::Connecting(to), None);
        }
        {
            let mut state = self.state.lock();
            let Role::Listening { backlog, pending, waiting } = &mut state.role else {
                drop(state);
                client.state.lock().role = Role::Idle;
                return Err(Errno::ECONNREFUSED);
            };
            if pending.len() > *backlog {
                waiting.push_back(Arc::downgrade(client));
                drop(state);
                client.limit_patience();
                return Ok(());
            }
            pending.push_back(server);
        }
        client.take_connection(mine, to, false);
        client.queue.wake(WRITABLE);
        self.queue.wake(READABLE);
        Ok(())
    }

    fn take_connection(&self, connection: Connection, peer: SocketAddr, is_told: bool) {
        let connection = Arc::new(connection);
        let first = self.first.get_or_set(Arc::clone(&connection));
        let mut state = self.state.lock();
        self.has_first.store(Arc::ptr_eq(first, &connection), Ordering::Release);
        state.role = Role::Connected { connection, peer, is_told };
    }

    /// It has no connection any more; the one that it had.
    fn leave_connection(&self) -> Option<Arc<Connection>> {
        let mut state = self.state.lock();
        self.has_first.store(false, Ordering::Release);
        self.has_shut_read.store(false, Ordering::Release);
        self.wrote_after_close.store(false, Ordering::Relaxed);
        let old = core::mem::replace(&mut state.role, Role::Idle);
        drop(state);
        if let Role::Connected { connection, .. } = old { Some(connection) } else { None }
    }

    fn has_shut_read(&self) -> bool {
        self.has_shut_read.load(Ordering::Acquire)
    }

    fn poll_connected(&self, connection: &Connection) -> Events {
        let (incoming, outgoing) = (connection.incoming.condition(), connection.outgoing.condition());
        let has_shut_read = self.has_shut_read();
        let has_ended = incoming.contains(Condition::ENDED) || has_shut_read;
        let is_reset = incoming.contains(Condition::RESET);
        let mut events = Events::empty();
        events.set(READABLE, incoming.contains(Condition::READABLE) || has_shut_read);
        events.set(Events::PRI, incoming.contains(Condition::URGENT));
        events.set(WRITABLE, outgoing.contains(Condition::WRITABLE));
        events.set(Events::RDHUP, has_ended);
        events.set(Events::HUP, is_reset || (has_ended && outgoing.contains(Condition::ENDED)));
        events.set(Events::ERR, is_reset || self.options.has_error());
        events
    }

    /// The backlog has room: the first client that waits still comes in.
    fn admit_waiting(&self) {
        loop {
            let (own, next) = {
                let mut state = self.state.lock();
                let Role::Listening { waiting, .. } = &mut state.role else { return };
                let next = waiting.pop_front();
                (state.local, next)
            };
            let Some(client) = next else { return };
            let Some(client) = client.upgrade() else { continue };
            let wanted = {
                let state = client.state.lock();
                if let Role::Connecting(to) = state.role { state.local.map(|local| (local, to)) } else { None }
            };
            // It may have given up and wait for another by now.
            let is_ours = |to: SocketAddr| {
                own.is_some_and(|own| own.port() == to.port() && (own.ip().is_unspecified() || own.ip() == to.ip()))
            };
            if let Some((local, to)) = wanted.filter(|(_, to)| is_ours(*to)) {
                if let Err(errno) = self.admit(&client, local, to) {
                    client.fail_connect(errno);
                }
                return;
            }
        }
    }

    fn fail_connect(&self, errno: Errno) {
        {
            let mut state = self.state.lock();
            if matches!(state.role, Role::Connected { .. } | Role::Listening { .. }) {
                // It has given up, and is something else by now.
                return;
            }
            state.role = Role::Idle;
        }
        self.options.set_error(errno);
        self.queue.wake(Events::all());
    }

    /// Waits until a connect is decided.
    fn wait_connected(&self) -> Result<()> {
        let (limit, patience) = (self.options.timeout(false), self.patience_ns());
        let at_most = limit.unwrap_or(patience).min(patience);
        let decided = wait_at_most(&[&self.queue], Some(at_most), || match &mut self.state.lock().role {
            Role::Connecting(_) => None,
            Role::Connected { is_told, .. } => {
                *is_told = true;
                Some(Ok(()))
            }
            _ => Some(Err(self.options.take_error().unwrap_or(Errno::ECONNREFUSED))),
        });
        match decided {
            Ok(None) if limit.is_none_or(|limit| limit > patience) => self.give_up(),
            Ok(decided) => decided.unwrap_or(Err(Errno::EINPROGRESS)),
            undecided => end_of_wait(undecided, limit.is_some()),
        }
    }

    /// A connect that nobody sleeps for ends, too.
    fn limit_patience(&self) {
        let target = Weak::<TcpSocket>::clone(&self.me);
        let deadline = machine::clock::monotonic_ns().saturating_add(self.patience_ns());
        self.state.lock().gives_up_at = Some(deadline);
        self.patience.lock().get_or_insert_with(|| Timer::new(target as Weak<dyn TimerTarget>)).arm(Some(deadline));
    }

    /// How long a connect goes on unanswered: TCP_USER_TIMEOUT, or TCP_SYNCNT attempts, the first of a second and each twice as long.
    fn patience_ns(&self) -> u64 {
        const SYNCNT: u32 = 7;
        const USER_TIMEOUT: u32 = 18;
        const SECOND: u64 = 1_000_000_000;
        let number = |option| u32::try_from(self.numbers.number(TCP, option)).unwrap_or(0);
        match number(USER_TIMEOUT) {
            0 => 1_u64.checked_shl(number(SYNCNT) + 1).map_or(u64::MAX, |seconds| (seconds - 1).saturating_mul(SECOND)),
            ms => SECOND.max(u64::from(ms) * 1_000_000),
        }
    }

    fn give_up(&self) -> Result<()> {
        match &mut self.state.lock().role {
            Role::Connected { is_told, .. } => {
                *is_told = true;
                Ok(())
            }
            role => {
                *role = Role::Idle;
                // The timer may have been as fast.
                let _ = self.options.take_error();
                Err(Errno::ETIMEDOUT)
            }
        }
    }

    /// MSG_OOB.
    fn read_urgent(&self, incoming: &Channel, to: &mut Sink<'_>, take: Take) -> Result<Taken> {
        let byte = incoming.read_urgent(take)?;
        let count = to.put(&[byte])?;
        Ok(Taken { count, full: count, ..Taken::default() })
    }

    /// The first connection, while it has that one.
    fn first(&self) -> Option<&Connection> {
        self.first.get().filter(|_| self.has_first.load(Ordering::Acquire)).map(|first| &**first)
    }

    fn connection(&self) -> Option<Link<'_>> {
        if let Some(first) = self.first() {
            return Some(Link::First(first));
        }
        match &self.state.lock().role {
            Role::Connected { connection, .. } => Some(Link::Later(Arc::clone(connection))),
            _ => None,
        }
    }

    fn info(&self) -> Vec<u8> {
        let state = match &self.state.lock().role {
            Role::Idle => CLOSED,
            Role::Listening { .. } => LISTEN,
            Role::Connecting(_) => SYN_SENT,
            Role::Connected { connection, .. } => {
                match (connection.outgoing.has_ended(), connection.incoming.has_ended()) {
                    (false, false) => ESTABLISHED,
                    // FIN_WAIT2, CLOSE_WAIT.
                    (true, false) => 5,
                    (false, true) => 8,
                    (true, true) => CLOSED,
                }
            }
        };
        let mut out = vec![0_u8; 232];
        if let Some(first) = out.first_mut() {
            *first = state;
        }
        out
    }

    /// A write found the peer gone. A reset is told as such, once; after a plain close the first write is taken, since on a
    /// network the answer to it would come later.
    fn write_after_close(&self, connection: &Connection, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if let Some(errno) = connection.incoming.take_reset() {
            self.wrote_after_close.store(true, Ordering::Relaxed);
            return Err(errno);
        }
        if connection.outgoing.has_ended()
            || connection.incoming.was_reset()
            || self.wrote_after_close.swap(true, Ordering::Relaxed)
        {
            return Err(Errno::EPIPE);
        }
        let count = message.data.remaining();
        message.data.advance(count);
        Ok(count)
    }
}

impl TimerTarget for TcpSocket {
    fn expired(&self) {
        let now = machine::clock::monotonic_ns();
        let mut state = self.state.lock();
        // The expiry may be that of the connect before.
        let is_over = state.gives_up_at.is_some_and(|at| at <= now);
        if is_over && matches!(state.role, Role::Connecting(_)) {
            state.role = Role::Idle;
            drop(state);
            self.options.set_error(Errno::ETIMEDOUT);
            self.queue.wake(Events::all());
        }
    }
}

/// MSG_OOB: the last byte of the message goes out of band, those before it as others do.
fn send_urgent(outgoing: &Channel, data: &mut Source<'_>) -> Result<usize> {
    const PIECE: usize = 65_536;
    if data.remaining() > PIECE {
        return outgoing.write(data, &mut Control::default());
    }
    let mut bytes = vec![0; data.remaining()];
    data.peek(&mut bytes)?;
    let Some((last, before)) = bytes.split_last() else { return Ok(0) };
    let mut count = outgoing.write(&mut Source::kernel(before), &mut Control::default())?;
    if count == before.len() {
        outgoing.write_urgent(*last)?;
        count += 1;
    }
    data.advance(count);
    Ok(count)
}

/// MSG_TRUNC: the bytes count as received, but are not copied.
fn read_unseen(incoming: &Channel, to: &mut Sink<'_>, take: Take) -> Result<Taken> {
    let mut unseen = vec![0; to.remaining().min(incoming.len().max(1))];
    let taken = incoming.read(&mut Sink::kernel(&mut unseen), take)?;
    to.advance(taken.count);
    Ok(taken)
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let role = core::mem::replace(&mut state.role, Role::Idle);
        let binding = state.binding.take();
        drop(state);
        match role {
            Role::Connected { connection, .. } => {
                let linger = *self.options.linger.lock();
                if linger.is_on && linger.seconds == 0 { connection.abort() } else { connection.close() }
            }
            Role::Listening { pending, waiting, .. } => {
                pending.iter().filter_map(|server| server.connection()).for_each(|connection| connection.abort());
                let clients = waiting.iter().filter_map(Weak::upgrade);
                clients.for_each(|client| client.fail_connect(Errno::ECONNREFUSED));
            }
            Role::Idle | Role::Connecting(_) => {}
        }
        if let Some(binding) = binding {
            PORTS.release(binding);
        }
    }
}

impl Socket for TcpSocket {
    fn identity(&self) -> Identity {
        Identity { family: self.own, kind: Type::Stream, protocol: 6 }
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn queue(&self) -> &Arc<WaitQueue> {
        &self.queue
    }

    fn poll(&self) -> Events {
        if let Some(first) = self.first() {
            return self.poll_connected(first);
        }
        let state = self.state.lock();
        let mut events = Events::empty();
        events.set(Events::ERR, self.options.has_error());
        match &state.role {
            Role::Idle => events | WRITABLE | Events::HUP,
            Role::Connecting(_) => events,
            Role::Listening { pending, .. } => {
                events.set(READABLE, !pending.is_empty());
                events
            }
            Role::Connected { connection, .. } => self.poll_connected(connection),
        }
    }

    fn poll_at_hand(&self) -> Option<Events> {
        self.first().map(|first| self.poll_connected(first))
    }

    fn bind(&self, _task: &Task, bytes: &[u8]) -> Result<()> {
        let wanted = inet::decode_for_bind(bytes, self.own)?;
        let is_idle = matches!(self.state.lock().role, Role::Idle);
        if is_idle { self.bind_to(wanted) } else { Err(Errno::EINVAL) }
    }

    fn connect(&self, _task: &Task, bytes: &[u8], nonblocking: bool) -> Result<()> {
        if address::family_of(bytes)? == family::UNSPEC {
            if let Some(connection) = self.leave_connection() {
                connection.abort();
                self.options.set_error(Errno::ECONNRESET);
            }
            return Ok(());
        }
        let wanted = address::decode(bytes, self.own)?;
        match self.check_connect() {
            Ok(None) => {}
            Ok(Some(())) => return Ok(()),
            Err(Errno::EALREADY) if !nonblocking => return self.wait_connected(),
            Err(errno) => return Err(errno),
        }
        // What became of an earlier connection is over.
        let _ = self.options.take_error();
        let to = address::route(wanted)?;
        let local = self.settle_local(to)?;
        let me = self.me.upgrade().ok_or(Errno::EINVAL)?;
        let listener = PORTS.find(to.ip(), to.port(), true).into_iter().next();
        let admitted = listener.map_or(Err(Errno::ECONNREFUSED), |listener| listener.admit(&me, local, to));
        if !nonblocking {
            admitted?;
            return self.wait_connected();
        }
        // As on Linux, the outcome is told by the next call or by poll.
        if let Err(errno) = admitted {
            self.fail_connect(errno);
        }
        Err(Errno::EINPROGRESS)
    }

    fn listen(&self, _task: &Task, backlog: usize) -> Result<()> {
        if self.state.lock().binding.is_none() {
            self.bind_to(address::any(self.own))?;
        }
        let limit = backlog.min(MAX_BACKLOG);
        let mut state = self.state.lock();
        match &mut state.role {
            Role::Listening { backlog, .. } => *backlog = limit,
            Role::Idle => {
                PORTS.listen(state.binding.ok_or(Errno::EINVAL)?)?;
                state.role = Role::Listening { backlog: limit, pending: VecDeque::new(), waiting: VecDeque::new() };
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        let accepted = {
            let mut state = self.state.lock();
            let Role::Listening { pending, .. } = &mut state.role else { return Err(Errno::EINVAL) };
            pending.pop_front().ok_or(Errno::EAGAIN)?
        };
        self.admit_waiting();
        Ok(accepted)
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let local = self.state.lock().local.unwrap_or(address::any(self.own));
        Ok(address::encode(local, self.own))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        match &self.state.lock().role {
            Role::Connected { peer, .. } => Ok(address::encode(*peer, self.own)),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn shutdown(&self, directions: Directions) -> Result<()> {
        if self.is_listening() && directions.read {
            let old = core::mem::replace(&mut self.state.lock().role, Role::Idle);
            if let Role::Listening { pending, .. } = &old {
                pending.iter().filter_map(|server| server.connection()).for_each(|connection| connection.abort());
            }
            self.queue.wake(Events::all());
            return Ok(());
        }
        let connection = self.connection().ok_or(Errno::ENOTCONN)?;
        if directions.read {
            self.has_shut_read.store(true, Ordering::Release);
            self.queue.wake(READABLE | Events::RDHUP);
        }
        if directions.write {
            connection.outgoing.end();
        }
        Ok(())
    }

    fn send(&self, _task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if let Some(errno) = self.options.take_error() {
            return Err(errno);
        }
        // As where net.ipv4.tcp_fastopen is 0.
        if message.flags & msg::FASTOPEN != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let Some(connection) = self.connection() else {
            let is_connecting = matches!(self.state.lock().role, Role::Connecting(_) | Role::Connected { .. });
            // An address is ignored on a connected socket; without connection the write has nowhere to go.
            return Err(if is_connecting { Errno::EAGAIN } else { Errno::EPIPE });
        };
        let written = if message.flags & msg::OOB == 0 {
            connection.outgoing.write(message.data, &mut Control::default())
        } else {
            send_urgent(&connection.outgoing, message.data)
        };
        match written {
            Err(Errno::EPIPE) => self.write_after_close(&connection, message),
            other => other,
        }
    }

    fn receive(&self, to: &mut Sink<'_>, take: Take, flags: u32) -> Result<Incoming> {
        if let Some(errno) = self.options.take_error() {
            return Err(errno);
        }
        let Some(connection) = self.connection() else {
            return Err(match &self.state.lock().role {
                // By now it may be connected: that is for the next look.
                Role::Connecting(_) | Role::Connected { .. } => Errno::EAGAIN,
                Role::Idle if flags & msg::OOB != 0 => Errno::EINVAL,
                Role::Idle | Role::Listening { .. } => Errno::ENOTCONN,
            });
        };
        let read = match flags & (msg::TRUNC | msg::OOB) {
            0 => connection.incoming.read(to, take),
            msg::TRUNC => read_unseen(&connection.incoming, to, take),
            _ => self.read_urgent(&connection.incoming, to, take),
        };
        let taken = match read {
            Err(Errno::EAGAIN) if self.has_shut_read() => return Ok(Incoming::default()),
            other => other?,
        };
        Ok(Incoming { count: taken.count, full: taken.full, ..Incoming::default() })
    }

    fn check_level(&self, level: u32, option: u32, access: Access) -> Result<()> {
        inet_options::check_level(self.identity(), level, option, access)
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if level == TCP && option == CONGESTION {
            let is_known = value.starts_with(b"cubic") || value.starts_with(b"reno");
            return if is_known { Ok(()) } else { Err(Errno::ENOENT) };
        }
        if let Some(errno) = multicast::refusal_of_connections(option).filter(|_| level == IP) {
            return Err(errno);
        }
        self.numbers.set(level, option, value)
    }

    fn option(&self, level: u32, option: u32) -> Result<Value> {
        match (level, option) {
            (TCP, INFO) => Ok(Value::Bytes(self.info())),
            (TCP, CONGESTION) => Ok(Value::Bytes(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec())),
            _ => self.numbers.get(level, option),
        }
    }

    fn take_error(&self) -> Option<Errno> {
        let noted = self.options.take_error();
        noted.or_else(|| self.connection().and_then(|connection| connection.incoming.take_reset()))
    }

    fn is_listening(&self) -> bool {
        matches!(self.state.lock().role, Role::Listening { .. })
    }

    fn readable_bytes(&self) -> usize {
        self.connection().map_or(0, |connection| connection.incoming.len())
    }

    fn ioctl(&self, _task: &Task, command: u32, argument: u64) -> Result<u64> {
        const AT_MARK: u32 = 0x8905;
        if command == AT_MARK {
            let is_at_mark = self.connection().is_some_and(|connection| connection.incoming.is_at_mark());
            return machine::guest::write_value(argument, &i32::from(is_at_mark)).map(|()| 0);
        }
        interface_ioctl(command, argument)
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
