//! Attributes of pipes and sockets without a name: they are changed through descriptors.

use super::inode::{Change, Kind, PERMISSIONS, Stat, Time, maker, new_anonymous_ino, now, time_of};
use machine::sync::Mutex;

/// Mode, owner and times of an object, which is its maker's at first.
#[derive(Debug)]
pub struct OwnAttributes {
    kind: Kind,
    ino: u64,
    made_ns: u64,
    state: Mutex<State>,
}

/// The clock that stamps files: a tick's time.
const REALTIME_COARSE: u32 = 5;

#[derive(Debug)]
struct State {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Access, modification, change; None while they are those of its making.
    times: Option<[Time; 3]>,
}

impl OwnAttributes {
    /// Those of a new object.
    #[must_use]
    pub fn new(kind: Kind, mode: u32) -> OwnAttributes {
        let (uid, gid) = maker();
        let made_ns = machine::clock::read_ns(REALTIME_COARSE);
        let state = Mutex::new(State { mode, uid, gid, times: None });
        OwnAttributes { kind, ino: new_anonymous_ino(), made_ns, state }
    }

    fn made(&self) -> [Time; 3] {
        [time_of(self.made_ns); 3]
    }

    /// The object's number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// As stat(2) tells them.
    #[must_use]
    pub fn stat(&self) -> Stat {
        let State { mode, uid, gid, times } = *self.state.lock();
        let [atime, mtime, ctime] = times.unwrap_or_else(|| self.made());
        let mode = self.kind.mode_bits() | mode;
        Stat { mode, uid, gid, atime, mtime, ctime, ..Stat::anonymous(self.kind, self.ino) }
    }

    /// Changes them.
    pub fn change(&self, change: &Change) {
        let mut state = self.state.lock();
        state.mode = change.mode.map_or(state.mode, |mode| mode & PERMISSIONS);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        let [atime, mtime, _] = state.times.unwrap_or_else(|| self.made());
        state.times = Some([change.atime.unwrap_or(atime), change.mtime.unwrap_or(mtime), now()]);
    }
}

#[cfg(test)]
mod tests {
    use super::OwnAttributes;
    use crate::fs::inode::{Change, Kind, Time};

    #[test]
    fn what_is_not_changed_stays() {
        let own = OwnAttributes::new(Kind::Fifo, 0o600);
        let before = own.stat();
        assert_eq!((before.mode, before.ino), (0o10600, own.ino()));
        let atime = Some(Time { sec: 1, nsec: 2 });
        own.change(&Change { mode: Some(0o640), atime, ..Change::default() });
        let after = own.stat();
        assert_eq!((after.mode, Some(after.atime), after.mtime), (0o10640, atime, before.mtime));
    }
}
