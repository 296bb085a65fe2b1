//! Connected sockets: two channels.

use super::channel::{Channel, Condition, Framing};
use crate::Errno;
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use alloc::sync::Arc;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) incoming: Arc<Channel>,
    pub(super) outgoing: Arc<Channel>,
}

impl Connection {
    /// Both ends of a connection between the owners of two queues.
    pub(super) fn pair(
        framing: Framing,
        capacity: usize,
        one: &Arc<WaitQueue>,
        two: &Arc<WaitQueue>,
    ) -> (Connection, Connection) {
        let to_two = Channel::new(framing, capacity, two, one);
        let to_one = Channel::new(framing, capacity, one, two);
        let first = Connection { incoming: Arc::clone(&to_one), outgoing: Arc::clone(&to_two) };
        (first, Connection { incoming: to_two, outgoing: to_one })
    }

    /// What holds now.
    pub(super) fn poll(&self) -> Events {
        let over = Condition::ENDED | Condition::REFUSED;
        let (incoming, outgoing) = (self.incoming.condition(), self.outgoing.condition());
        let mut events = Events::empty();
        events.set(READABLE, incoming.contains(Condition::READABLE));
        events.set(WRITABLE, outgoing.contains(Condition::WRITABLE));
        events.set(Events::RDHUP, incoming.intersects(over));
        events.set(Events::HUP, incoming.intersects(over) && outgoing.intersects(over));
        events.set(Events::ERR, incoming.contains(Condition::RESET));
        events
    }

    /// The end goes. A peer whose bytes were not read learns that they are lost.
    pub(super) fn close(&self) {
        let had_unread = self.incoming.drain();
        self.incoming.refuse();
        if had_unread { self.outgoing.reset(Errno::ECONNRESET) } else { self.outgoing.end() }
    }

    /// The end goes before anybody accepted it.
    pub(super) fn abort(&self) {
        self.incoming.drain();
        self.incoming.refuse();
        self.outgoing.reset(Errno::ECONNRESET);
    }
}
