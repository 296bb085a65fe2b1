//! Tests of UNIX sockets.

use super::UnixSocket;
use crate::net::channel::{Take, Ucred};
use crate::net::socket::{Directions, Socket, Type, send_bytes};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WRITABLE};
use crate::{Errno, Result};
use std::sync::Arc;

fn pair(kind: Type) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
    let Ok(pair) = UnixSocket::pair(kind, 0, Ucred { pid: 7, uid: 1, gid: 2 }) else { panic!("no pair") };
    pair
}

fn receive(socket: &UnixSocket, count: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    let incoming = socket.receive(&mut Sink::kernel(&mut buffer), Take::Remove, 0)?;
    buffer.truncate(incoming.count);
    Ok(buffer)
}

#[test]
fn a_stream_pair_carries_bytes_both_ways() {
    let (one, two) = pair(Type::Stream);
    assert_eq!(send_bytes(&*one, b"ping"), Ok(4));
    assert_eq!(receive(&two, 9), Ok(b"ping".to_vec()));
    assert_eq!(send_bytes(&*two, b"pong"), Ok(4));
    assert_eq!(receive(&one, 2), Ok(b"po".to_vec()));
    assert_eq!(one.poll(), READABLE | WRITABLE);
    assert_eq!(two.poll(), WRITABLE);
}

#[test]
fn closing_with_unread_bytes_resets_the_peer() {
    let (one, two) = pair(Type::Stream);
    assert_eq!(send_bytes(&*one, b"lost"), Ok(4));
    drop(two);
    assert_eq!(receive(&one, 9), Err(Errno::ECONNRESET));
    assert_eq!(receive(&one, 9), Ok(vec![]));
    assert_eq!(send_bytes(&*one, b"x"), Err(Errno::EPIPE));
}

#[test]
fn shutdown_ends_one_direction() {
    let (one, two) = pair(Type::Stream);
    assert_eq!(one.shutdown(Directions { read: false, write: true }), Ok(()));
    assert_eq!(receive(&two, 9), Ok(vec![]));
    assert_eq!(two.poll(), READABLE | WRITABLE | Events::RDHUP);
    assert_eq!(send_bytes(&*one, b"x"), Err(Errno::EPIPE));
    assert_eq!(send_bytes(&*two, b"y"), Ok(1));
    assert_eq!(receive(&one, 9), Ok(b"y".to_vec()));
}

#[test]
fn datagrams_keep_their_bounds_and_fill_the_inbox() {
    let (one, two) = pair(Type::Datagram);
    for _ in 0..11 {
        assert_eq!(send_bytes(&*one, b"abc"), Ok(3));
    }
    assert_eq!(send_bytes(&*one, b"abc"), Err(Errno::EAGAIN));
    assert_eq!(one.poll(), Events::empty());
    assert_eq!(receive(&two, 2), Ok(b"ab".to_vec()));
    assert_eq!(one.poll(), WRITABLE);
    drop(two);
    assert_eq!(send_bytes(&*one, b"abc"), Err(Errno::ECONNREFUSED));
}

#[test]
fn what_is_not_connected_says_so() {
    let Ok(socket) = UnixSocket::new(Type::Stream, 0) else { panic!("no socket") };
    assert_eq!(socket.poll(), WRITABLE | Events::HUP);
    assert_eq!(send_bytes(&*socket, b"x"), Err(Errno::ENOTCONN));
    assert_eq!(receive(&socket, 1), Err(Errno::EINVAL));
    assert_eq!(socket.peer_address(), Err(Errno::ENOTCONN));
    assert!(matches!(socket.accept(), Err(Errno::EINVAL)));
    assert!(matches!(UnixSocket::new(Type::Stream, 9), Err(Errno::EPROTONOSUPPORT)));
}
