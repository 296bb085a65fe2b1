//! Datagrams that a socket has received.

use super::channel::{Control, Take};
use crate::uio::Sink;
use crate::wait::{READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use machine::sync::Mutex;

/// Bytes that a datagram counts for beside its own.
const OVERHEAD: usize = 768;

/// A datagram.
#[derive(Clone, Debug, Default)]
pub struct Datagram {
    /// Its bytes.
    pub data: Vec<u8>,
    /// The sender's address, encoded.
    pub from: Vec<u8>,
    /// What came beside.
    pub control: Control,
    /// The address it was sent to, where that is one.
    pub to: Option<IpAddr>,
}

/// What a receive found.
#[derive(Debug, Default)]
pub struct Found {
    /// Bytes copied.
    pub count: usize,
    /// Length of the datagram.
    pub full: usize,
    /// The sender's address, encoded.
    pub from: Vec<u8>,
    /// What came beside.
    pub control: Control,
    /// The address it was sent to.
    pub to: Option<IpAddr>,
}

#[derive(Debug)]
struct State {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    limit: usize,
    is_closed: bool,
    /// Senders that found it full.
    senders: Vec<Weak<WaitQueue>>,
}

/// Where a socket's datagrams lie.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    owner: Arc<WaitQueue>,
    /// How many datagrams at most: net.unix.max_dgram_qlen; none for UDP, which has bytes only.
    max_count: usize,
}

impl Inbox {
    /// An empty inbox of the owner of a queue.
    #[must_use]
    pub fn new(owner: &Arc<WaitQueue>, limit: usize, max_count: usize) -> Arc<Inbox> {
        let state = State { datagrams: VecDeque::new(), bytes: 0, limit, is_closed: false, senders: Vec::new() };
        Arc::new(Inbox { state: Mutex::new(state), owner: Arc::clone(owner), max_count })
    }

    /// Puts a datagram in. Where there is no room the sender's queue is woken when there is.
    ///
    /// # Errors
    /// ECONNREFUSED once it is closed; ENOBUFS; EAGAIN. The datagram comes back.
    pub fn put(&self, datagram: Datagram, sender: &Arc<WaitQueue>) -> Result<(), (Errno, Datagram)> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err((Errno::ECONNREFUSED, datagram));
        }
        if machine::heap::is_short() {
            return Err((Errno::ENOBUFS, datagram));
        }
        if self.is_full(&state) {
            note_sender(&mut state, sender);
            return Err((Errno::EAGAIN, datagram));
        }
        state.bytes += datagram.data.len() + OVERHEAD;
        state.datagrams.push_back(datagram);
        drop(state);
        self.owner.wake(READABLE);
        Ok(())
    }

    fn is_full(&self, state: &State) -> bool {
        state.bytes >= state.limit || state.datagrams.len() > self.max_count
    }

    /// Takes the first datagram.
    ///
    /// # Errors
    /// EAGAIN where there is none, EFAULT.
    pub fn take(&self, to: &mut Sink<'_>, take: Take) -> Result<Found> {
        let mut state = self.state.lock();
        let first = state.datagrams.front().ok_or(Errno::EAGAIN)?;
        let count = if first.data.is_empty() || to.remaining() == 0 { 0 } else { to.put(&first.data)? };
        if take == Take::Peek {
            let first = first.clone();
            return Ok(found(first, count));
        }
        let first = state.datagrams.pop_front().ok_or(Errno::EAGAIN)?;
        state.bytes -= first.data.len() + OVERHEAD;
        let senders = core::mem::take(&mut state.senders);
        drop(state);
        senders.iter().filter_map(Weak::upgrade).for_each(|queue| queue.wake(WRITABLE));
        Ok(found(first, count))
    }

    /// Whether a sender would not have to wait; if it would, its queue is woken when there is room.
    pub fn has_room_for(&self, sender: &Arc<WaitQueue>) -> bool {
        let mut state = self.state.lock();
        let has_room = state.is_closed || !self.is_full(&state);
        if !has_room {
            note_sender(&mut state, sender);
        }
        has_room
    }

    /// Length of the first datagram; None where there is none.
    #[must_use]
    pub fn first_len(&self) -> Option<usize> {
        self.state.lock().datagrams.front().map(|first| first.data.len())
    }

    /// Changes the limit in bytes.
    pub fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit;
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Its owner has gone.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let datagrams = core::mem::take(&mut state.datagrams);
        let senders = core::mem::take(&mut state.senders);
        drop(state);
        drop(datagrams);
        senders.iter().filter_map(Weak::upgrade).for_each(|queue| queue.wake(WRITABLE));
    }
}

fn found(datagram: Datagram, count: usize) -> Found {
    Found { count, full: datagram.data.len(), from: datagram.from, control: datagram.control, to: datagram.to }
}

fn note_sender(state: &mut State, sender: &Arc<WaitQueue>) {
    let sender = Arc::downgrade(sender);
    if !state.senders.iter().any(|known| known.ptr_eq(&sender)) {
        state.senders.push(sender);
    }
}
