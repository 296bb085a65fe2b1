//! Tests of TCP on loopback. They stand below the calls, so they use the parts that need no task.

use super::{PORTS, TcpSocket, address};
use crate::net::channel::Take;
use crate::net::options::Linger;
use crate::net::socket::{Directions, Socket, family, send_bytes};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WRITABLE};
use crate::{Errno, Result};
use core::net::SocketAddr;
use std::sync::Arc;

fn listener(backlog: usize) -> (Arc<TcpSocket>, SocketAddr) {
    let socket = TcpSocket::new(family::INET);
    let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
    assert_eq!(socket.bind_to(any), Ok(()));
    {
        let mut state = socket.state.lock();
        let Some(binding) = state.binding else { panic!("not bound") };
        assert_eq!(PORTS.listen(binding), Ok(()));
        state.role = super::Role::Listening { backlog, pending: Default::default(), waiting: Default::default() };
    }
    let Some(local) = socket.state.lock().local else { panic!("not bound") };
    (socket, local)
}

fn connect(to: SocketAddr) -> Result<Arc<TcpSocket>> {
    let client = TcpSocket::new(family::INET);
    let local = client.settle_local(to)?;
    let listener = PORTS.find(to.ip(), to.port(), true).into_iter().next().ok_or(Errno::ECONNREFUSED)?;
    listener.admit(&client, local, to)?;
    Ok(client)
}

fn receive(socket: &dyn Socket, count: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    let incoming = socket.receive(&mut Sink::kernel(&mut buffer), Take::Remove, 0)?;
    buffer.truncate(incoming.count);
    Ok(buffer)
}

fn connected() -> (Arc<TcpSocket>, Arc<dyn Socket>) {
    let (server, to) = listener(8);
    let (Ok(client), Ok(accepted)) = (connect(to), server.accept()) else { panic!("not connected") };
    (client, accepted)
}

#[test]
fn a_connection_carries_bytes_and_names() {
    let (client, server) = connected();
    assert_eq!(client.local_address(), server.peer_address());
    assert_eq!(client.peer_address(), server.local_address());
    assert_eq!(send_bytes(&*client, b"hello"), Ok(5));
    assert_eq!(receive(&*server, 9), Ok(b"hello".to_vec()));
    assert_eq!(server.poll(), WRITABLE);
}

#[test]
fn half_close_lets_the_other_direction_live() {
    let (client, server) = connected();
    assert_eq!(client.shutdown(Directions { read: false, write: true }), Ok(()));
    assert_eq!(receive(&*server, 9), Ok(vec![]));
    assert_eq!(server.poll(), READABLE | WRITABLE | Events::RDHUP);
    assert_eq!(send_bytes(&*server, b"late"), Ok(4));
    assert_eq!(receive(&*client, 9), Ok(b"late".to_vec()));
    assert_eq!(send_bytes(&*client, b"x"), Err(Errno::EPIPE));
}

#[test]
fn unread_bytes_and_linger_zero_reset_the_peer() {
    let (client, server) = connected();
    assert_eq!(send_bytes(&*client, b"lost"), Ok(4));
    drop(server);
    assert_eq!(receive(&*client, 9), Err(Errno::ECONNRESET));
    assert_eq!(receive(&*client, 9), Ok(vec![]));
    let (client, server) = connected();
    *server.options().linger.lock() = Linger { is_on: true, seconds: 0 };
    drop(server);
    assert_eq!(send_bytes(&*client, b"x"), Err(Errno::ECONNRESET));
    assert_eq!(send_bytes(&*client, b"x"), Err(Errno::EPIPE));
}

#[test]
fn the_first_write_after_a_close_is_taken() {
    let (client, server) = connected();
    drop(server);
    assert_eq!(send_bytes(&*client, b"x"), Ok(1));
    assert_eq!(send_bytes(&*client, b"x"), Err(Errno::EPIPE));
}

#[test]
fn nobody_listening_refuses() {
    let (server, to) = listener(8);
    drop(server);
    assert!(matches!(connect(to), Err(Errno::ECONNREFUSED)));
}

#[test]
fn a_full_backlog_makes_clients_wait() {
    let (server, to) = listener(0);
    let (Ok(first), Ok(second)) = (connect(to), connect(to)) else { panic!("refused") };
    assert!(first.connection().is_some());
    assert!(second.connection().is_none());
    assert_eq!(second.poll(), Events::empty());
    assert!(server.accept().is_ok());
    assert!(second.connection().is_some());
    drop(server);
    assert_eq!(second.poll() & Events::ERR, Events::ERR);
}

#[test]
fn an_unbound_socket_shows_the_any_address() {
    let socket = TcpSocket::new(family::INET6);
    assert_eq!(socket.local_address(), Ok(address::encode(address::any(family::INET6), family::INET6)));
    assert_eq!(socket.peer_address(), Err(Errno::ENOTCONN));
    assert_eq!(socket.poll(), WRITABLE | Events::HUP);
}

#[test]
fn a_late_expiry_does_not_end_the_next_connect() {
    use crate::time::timer::TimerTarget as _;
    let (_server, to) = listener(0);
    let (Ok(_first), Ok(client)) = (connect(to), connect(to)) else { panic!("refused") };
    let is_connecting = |client: &TcpSocket| matches!(client.state.lock().role, super::Role::Connecting(_));
    assert!(is_connecting(&client));
    // The timer of the connect before was due, and is only now heard of.
    client.expired();
    assert!(is_connecting(&client));
    client.state.lock().gives_up_at = Some(1);
    client.expired();
    assert!(!is_connecting(&client));
    assert_eq!(client.options.take_error(), Some(Errno::ETIMEDOUT));
}
