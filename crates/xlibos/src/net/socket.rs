//! What the calls need of a socket, and sockets as files.

use super::channel::{Control, Take};
use super::inet::interface_ioctl;
use super::options::{Options, Value, name};
use crate::fs::inode::{Change, Kind, Stat};
use crate::fs::own_attributes::OwnAttributes;
use crate::fs::{File, FileOps, OpenFlags};
use crate::uio::{Sink, Source};
use crate::wait::{Events, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::net::IpAddr;

/// Address families.
#[expect(missing_docs, reason = "names of address_families(7)")]
pub mod family {
    pub const UNSPEC: u16 = 0;
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
    pub const NETLINK: u16 = 16;
}

/// Flags of a message.
#[expect(missing_docs, reason = "names of recv(2) and send(2)")]
pub mod msg {
    pub const OOB: u32 = 1;
    pub const PEEK: u32 = 2;
    pub const CTRUNC: u32 = 8;
    pub const TRUNC: u32 = 0x20;
    pub const DONTWAIT: u32 = 0x40;
    pub const EOR: u32 = 0x80;
    pub const WAITALL: u32 = 0x100;
    pub const ERRQUEUE: u32 = 0x2000;
    pub const NOSIGNAL: u32 = 0x4000;
    pub const WAITFORONE: u32 = 0x1_0000;
    pub const FASTOPEN: u32 = 0x2000_0000;
    pub const CMSG_CLOEXEC: u32 = 0x4000_0000;
}

/// Type of a socket: socket(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_RAW.
    Raw,
    /// SOCK_SEQPACKET.
    SeqPacket,
}

impl Type {
    /// From the number.
    ///
    /// # Errors
    /// EINVAL for no type, ESOCKTNOSUPPORT for one that nothing has.
    pub fn from_number(number: u32) -> Result<Type> {
        Ok(match number {
            1 => Type::Stream,
            2 => Type::Datagram,
            3 => Type::Raw,
            5 => Type::SeqPacket,
            0 | 4 | 6..=10 => return Err(Errno::ESOCKTNOSUPPORT),
            _ => return Err(Errno::EINVAL),
        })
    }

    /// SOCK_STREAM and its like.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Type::Stream => 1,
            Type::Datagram => 2,
            Type::Raw => 3,
            Type::SeqPacket => 5,
        }
    }
}

/// Family, type and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// AF_*.
    pub family: u16,
    /// SOCK_*.
    pub kind: Type,
    /// SO_PROTOCOL.
    pub protocol: i32,
}

/// A message to be sent.
pub struct Outgoing<'a, 'b> {
    /// Its bytes.
    pub data: &'a mut Source<'b>,
    /// The address given, as the guest encoded it.
    pub to: Option<&'a [u8]>,
    /// What goes beside; taken by the first success.
    pub control: &'a mut Control,
    /// MSG_*.
    pub flags: u32,
}

/// A message received.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Bytes copied.
    pub count: usize,
    /// The message's own length.
    pub full: usize,
    /// Whether messages have bounds: what did not fit is lost.
    pub has_bounds: bool,
    /// The sender's address, encoded; empty for none.
    pub from: Vec<u8>,
    /// What came beside.
    pub control: Control,
    /// The address it was sent to, for IP_PKTINFO.
    pub to: Option<IpAddr>,
}

/// What is done with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// getsockopt(2).
    Get,
    /// setsockopt(2).
    Set,
}

/// Directions that shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions {
    /// SHUT_RD.
    pub read: bool,
    /// SHUT_WR.
    pub write: bool,
}

/// A socket. Transfers never sleep: they answer EAGAIN, and the caller waits on the queue.
///
/// The defaults are what Linux answers for a socket without the operation.
pub trait Socket: Send + Sync + Any {
    /// What it is.
    fn identity(&self) -> Identity;

    /// Options of all sockets.
    fn options(&self) -> &Options;

    /// Where changes are told.
    fn queue(&self) -> &Arc<WaitQueue>;

    /// What holds now.
    fn poll(&self) -> Events;

    /// See [`FileOps::poll_at_hand`].
    fn poll_at_hand(&self) -> Option<Events> {
        None
    }

    /// bind(2).
    ///
    /// # Errors
    /// EINVAL, EADDRINUSE, EADDRNOTAVAIL, EACCES.
    fn bind(&self, task: &Task, address: &[u8]) -> Result<()>;

    /// connect(2); may sleep unless `nonblocking`.
    ///
    /// # Errors
    /// ECONNREFUSED, EISCONN, EAFNOSUPPORT, INTERRUPTED.
    fn connect(&self, task: &Task, address: &[u8], nonblocking: bool) -> Result<()>;

    /// listen(2).
    ///
    /// # Errors
    /// EOPNOTSUPP.
    fn listen(&self, _task: &Task, _backlog: usize) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// accept(2).
    ///
    /// # Errors
    /// EAGAIN, EINVAL where it does not listen, EOPNOTSUPP.
    fn accept(&self) -> Result<Arc<dyn Socket>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// getsockname(2), encoded.
    ///
    /// # Errors
    /// None usual.
    fn local_address(&self) -> Result<Vec<u8>>;

    /// getpeername(2), encoded.
    ///
    /// # Errors
    /// ENOTCONN.
    fn peer_address(&self) -> Result<Vec<u8>>;

    /// shutdown(2).
    ///
    /// # Errors
    /// ENOTCONN.
    fn shutdown(&self, directions: Directions) -> Result<()>;

    /// Sends what fits.
    ///
    /// # Errors
    /// EAGAIN, EPIPE, ENOTCONN, EDESTADDRREQ, EMSGSIZE.
    fn send(&self, task: Option<&Task>, message: &mut Outgoing<'_, '_>) -> Result<usize>;

    /// Receives what is there.
    ///
    /// # Errors
    /// EAGAIN, ENOTCONN, the connection's error.
    fn receive(&self, to: &mut Sink<'_>, take: Take, flags: u32) -> Result<Incoming>;

    /// Whether it has options at another level than SOL_SOCKET: asked before anything is read.
    ///
    /// # Errors
    /// What it answers where it has none, as its family does.
    fn check_level(&self, _level: u32, _option: u32, _access: Access) -> Result<()> {
        Err(Errno::ENOPROTOOPT)
    }

    /// setsockopt(2) at other levels than SOL_SOCKET.
    ///
    /// # Errors
    /// ENOPROTOOPT, EINVAL.
    fn set_option(&self, _level: u32, _option: u32, _value: &[u8]) -> Result<()> {
        Err(Errno::ENOPROTOOPT)
    }

    /// getsockopt(2); SOL_SOCKET's own options come here first.
    ///
    /// # Errors
    /// ENOPROTOOPT.
    fn option(&self, _level: u32, _option: u32) -> Result<Value> {
        Err(Errno::ENOPROTOOPT)
    }

    /// What else is told beside a message: level, type, body.
    fn beside(&self, _incoming: &Incoming) -> Vec<(u32, u32, Vec<u8>)> {
        Vec::new()
    }

    /// An error that waits to be told: SO_ERROR. Taken.
    fn take_error(&self) -> Option<Errno> {
        self.options().take_error()
    }

    /// Whether it listens: SO_ACCEPTCONN.
    fn is_listening(&self) -> bool {
        false
    }

    /// Bytes that can be read: FIONREAD.
    fn readable_bytes(&self) -> usize {
        0
    }

    /// A message of the kernel's own, for who asked to be told so: mq_notify(2).
    ///
    /// # Errors
    /// EINVAL for sockets that the kernel writes to none of.
    fn put_notice(&self, _bytes: &[u8]) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// ioctl(2). Every family answers for the interfaces.
    ///
    /// # Errors
    /// ENODEV, EPERM, ENOTTY, EFAULT.
    fn ioctl(&self, _task: &Task, command: u32, argument: u64) -> Result<u64> {
        interface_ioctl(command, argument)
    }
}

/// SOL_SOCKET.
pub const SOL_SOCKET: u32 = 1;
/// FIONREAD.
const FIONREAD: u32 = 0x541b;

/// A socket as a file. Dropping it drops the socket.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
    attributes: OwnAttributes,
}

impl SocketFile {
    /// A file of a socket.
    #[must_use]
    pub fn open(socket: Arc<dyn Socket>, nonblocking: OpenFlags) -> Arc<File> {
        let ops = Arc::new(SocketFile { socket, attributes: OwnAttributes::new(Kind::Socket, 0o777) });
        File::new(ops, OpenFlags::RDWR | nonblocking & OpenFlags::NONBLOCK)
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }
}

/// The socket of a file.
///
/// # Errors
/// ENOTSOCK.
pub fn socket_of(file: &File) -> Result<&Arc<dyn Socket>> {
    file.downcast::<SocketFile>().map(SocketFile::socket).ok_or(Errno::ENOTSOCK)
}

/// An option at SOL_SOCKET.
///
/// # Errors
/// ENOPROTOOPT.
pub fn general_option(socket: &dyn Socket, option: u32) -> Result<Value> {
    let identity = socket.identity();
    match option {
        name::TYPE => Ok(Value::Int(identity.kind.number())),
        name::DOMAIN => Ok(Value::Int(i32::from(identity.family))),
        name::PROTOCOL => Ok(Value::Int(identity.protocol)),
        name::ACCEPTCONN => Ok(Value::Int(i32::from(socket.is_listening()))),
        name::ERROR => Ok(Value::Int(socket.take_error().map_or(0, |errno| i32::from(errno.number())))),
        _ => match socket.option(SOL_SOCKET, option) {
            Err(Errno::ENOPROTOOPT) => socket.options().get(option),
            other => other,
        },
    }
}

impl FileOps for SocketFile {
    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        self.socket.receive(to, Take::Remove, 0).map(|incoming| incoming.count)
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        let mut control = Control::default();
        let mut message = Outgoing { data: from, to: None, control: &mut control, flags: 0 };
        let result = self.socket.send(Task::current(), &mut message);
        if result == Err(Errno::EPIPE) && self.socket.identity().kind == Type::Stream {
            crate::fs::pipe::send_sigpipe();
        }
        result
    }

    fn time_limit(&self, events: Events) -> Option<u64> {
        self.socket.options().timeout(events.contains(Events::IN))
    }

    fn poll(&self, _file: &File) -> Events {
        self.socket.poll()
    }

    fn poll_at_hand(&self, _file: &File) -> Option<Events> {
        self.socket.poll_at_hand()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.socket.queue())
    }

    fn has_urgent_data(&self) -> bool {
        true
    }

    fn ioctl(&self, task: &Task, _file: &File, command: u32, argument: u64) -> Result<u64> {
        if command == FIONREAD {
            if self.socket.is_listening() {
                return Err(Errno::EINVAL);
            }
            let count = u32::try_from(self.socket.readable_bytes()).unwrap_or(u32::MAX);
            machine::guest::write_value(argument, &count)?;
            return Ok(0);
        }
        self.socket.ioctl(task, command, argument)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.attributes.stat())
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.attributes.change(change);
        Ok(())
    }

    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.attributes.ino()).into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sends bytes without anything beside, for unit tests.
///
/// # Errors
/// The socket's.
#[cfg(test)]
pub(super) fn send_bytes(socket: &dyn Socket, bytes: &[u8]) -> Result<usize> {
    let mut control = Control::default();
    let mut data = Source::kernel(bytes);
    socket.send(None, &mut Outgoing { data: &mut data, to: None, control: &mut control, flags: 0 })
}
