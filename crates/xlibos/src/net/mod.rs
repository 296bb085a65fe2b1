//! Sockets: UNIX sockets, TCP and UDP on loopback within the container, netlink as far as name resolution needs it. All in
//! shared memory, no packets.
//!
//! [`socket::Socket`] is what the calls need of a socket; [`socket::SocketFile`] makes a file of it. Streams are pairs of
//! [`channel::Channel`]s, datagrams lie in [`inbox::Inbox`]es.
//!
//! Locks: name and port tables > a socket's state > channels and inboxes > wait queues. None is held while sleeping, and no
//! socket's state is locked under another's.

pub mod address;
pub mod channel;
mod connection;
pub mod inbox;
pub mod inet;
pub mod inet_options;
pub mod multicast;
pub mod netlink;
pub mod options;
pub mod ports;
pub mod socket;
pub mod tcp;
pub mod udp;
pub mod unix;
mod unix_name;
