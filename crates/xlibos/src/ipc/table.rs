//! System V objects by id and key, and who may use them: svipc(7).
//!
//! A table's lock and an object's are leaves; objects are made with neither held.

use crate::process::creds::{CAP_SYS_ADMIN, Creds};
use crate::{Errno, Result, Task};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use machine::sync::Mutex;

/// IPC_PRIVATE.
pub const PRIVATE: i32 = 0;
const CREAT: u32 = 0o1000;
const EXCL: u32 = 0o2000;
/// IPC_NOWAIT.
pub const NOWAIT: u32 = 0o4000;
/// Permission to read.
pub const READ: u32 = 0o444;
/// Permission to change.
pub const WRITE: u32 = 0o222;
const CAP_IPC_OWNER: u32 = 15;

/// Who owns an object, and what others may do with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Its key; PRIVATE for none.
    pub key: i32,
    uid: u32,
    gid: u32,
    creator: (u32, u32),
    /// Permission bits, and flags of segments.
    pub mode: u32,
}

impl Permissions {
    fn new(creds: &Creds, key: i32, mode: u32) -> Permissions {
        let (uid, gid) = (creds.euid, creds.egid);
        Permissions { key, uid, gid, creator: (uid, gid), mode: mode & 0o777 }
    }

    /// # Errors
    /// EACCES.
    fn check(&self, creds: &Creds, wanted: u32) -> Result<()> {
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if creds.euid == self.uid || creds.euid == self.creator.0 {
            self.mode >> 6
        } else if creds.is_in_group(self.gid) || creds.is_in_group(self.creator.1) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 7 == 0 || creds.has(CAP_IPC_OWNER) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// # Errors
    /// EPERM for who is neither owner nor creator.
    fn check_owner(&self, creds: &Creds) -> Result<()> {
        let is_owner = creds.euid == self.uid || creds.euid == self.creator.0;
        if is_owner || creds.has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// As `struct ipc64_perm`.
    #[must_use]
    pub fn to_words(self) -> [u64; 6] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (cuid, cgid) = self.creator;
        [pair(self.key.cast_unsigned(), self.uid), pair(self.gid, cuid), pair(cgid, self.mode), 0, 0, 0]
    }
}

/// An object with its id.
#[derive(Debug)]
pub struct Object<T> {
    permissions: Mutex<Permissions>,
    is_removed: AtomicBool,
    /// The object itself.
    pub body: T,
}

impl<T> Object<T> {
    /// Owner, key and mode as they are now.
    pub fn permissions(&self) -> Permissions {
        *self.permissions.lock()
    }

    /// Whether it was removed.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::SeqCst)
    }

    /// Whether the task may use it so.
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, task: &Task, wanted: u32) -> Result<()> {
        self.permissions().check(&task.creds(), wanted)
    }

    /// Whether the task may remove or change it.
    ///
    /// # Errors
    /// EPERM.
    pub fn check_owner(&self, task: &Task) -> Result<()> {
        self.permissions().check_owner(&task.creds())
    }

    /// IPC_SET: another owner, other permission bits.
    pub fn set_owner(&self, uid: u32, gid: u32, mode: u32) {
        let mut permissions = self.permissions.lock();
        permissions.uid = uid;
        permissions.gid = gid;
        permissions.mode = permissions.mode & !0o777 | mode & 0o777;
    }

    /// Changes its flags.
    pub fn change_mode(&self, change: impl FnOnce(u32) -> u32) {
        let mut permissions = self.permissions.lock();
        permissions.mode = change(permissions.mode);
    }

    /// Takes the key away and marks it: a segment that lives on while it is attached.
    pub fn mark_removed(&self, flag: u32) {
        let mut permissions = self.permissions.lock();
        permissions.key = PRIVATE;
        permissions.mode |= flag;
        self.is_removed.store(true, Ordering::SeqCst);
    }
}

/// Bits of an id that are its place in the table; those above tell who had the place one after the other.
const PLACE: i32 = 0x7fff;
/// Places that are taken in turn before the first is taken again.
const LEAST_TURN: usize = 64;

/// All objects of a kind.
#[derive(Debug)]
pub struct Table<T> {
    /// Ids and objects by their places.
    objects: BTreeMap<i32, (i32, Arc<Object<T>>)>,
    /// The place behind the one taken last, and how often places began again.
    next: i32,
    turn: i32,
    most: usize,
}

impl<T> Table<T> {
    /// An empty table with room for `most`.
    #[must_use]
    pub const fn new(most: usize) -> Table<T> {
        Table { objects: BTreeMap::new(), next: 0, turn: 0, most }
    }

    /// The object of an id.
    ///
    /// # Errors
    /// EINVAL.
    pub fn find(&self, id: i32) -> Result<Arc<Object<T>>> {
        let found = self.objects.get(&(id & PLACE)).filter(|(own, _)| *own == id);
        found.map(|(_, object)| Arc::clone(object)).ok_or(Errno::EINVAL)
    }

    /// The id of who is at a place.
    ///
    /// # Errors
    /// EINVAL.
    pub fn id_at(&self, place: i32) -> Result<i32> {
        self.objects.get(&place).map(|(id, _)| *id).ok_or(Errno::EINVAL)
    }

    /// The highest place that is taken; 0 where none is.
    pub fn highest(&self) -> i32 {
        self.objects.last_key_value().map_or(0, |(place, _)| *place)
    }

    /// All of them.
    pub fn collect(&self) -> Vec<Arc<Object<T>>> {
        self.objects.values().map(|(_, object)| Arc::clone(object)).collect()
    }

    /// All of them with their ids.
    pub fn numbered(&self) -> Vec<(i32, Arc<Object<T>>)> {
        self.objects.values().cloned().collect()
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: i32) -> Option<Arc<Object<T>>> {
        self.find(id).ok()?;
        let (_, object) = self.objects.remove(&(id & PLACE))?;
        object.is_removed.store(true, Ordering::SeqCst);
        Some(object)
    }

    /// Takes out those of which nothing is left; they are to be dropped without the table's lock.
    pub fn take_where(&mut self, is_over: impl Fn(&Object<T>) -> bool) -> Vec<Arc<Object<T>>> {
        let over = self.objects.iter().filter(|(_, (_, object))| is_over(object));
        let over: Vec<i32> = over.map(|(place, _)| *place).collect();
        over.iter().filter_map(|place| self.objects.remove(place).map(|(_, object)| object)).collect()
    }

    fn id_of_key(&self, key: i32) -> Option<i32> {
        self.objects.values().find(|(_, object)| object.permissions().key == key).map(|(id, _)| *id)
    }

    fn existing(&self, task: &Task, want: &Wanted, fits: &impl Fn(&T) -> bool) -> Result<Option<i32>> {
        if want.key == PRIVATE {
            return Ok(None);
        }
        let Some(id) = self.id_of_key(want.key) else {
            return if want.flags & CREAT == 0 { Err(Errno::ENOENT) } else { Ok(None) };
        };
        if want.flags & (CREAT | EXCL) == CREAT | EXCL {
            return Err(Errno::EEXIST);
        }
        let object = self.find(id)?;
        if !fits(&object.body) {
            return Err(Errno::EINVAL);
        }
        object.check(task, want.flags & 0o777)?;
        Ok(Some(id))
    }

    /// Places are taken in turn, so that an id is not soon another's.
    fn add(&mut self, object: Object<T>) -> Result<i32> {
        if self.objects.len() >= self.most {
            return Err(Errno::ENOSPC);
        }
        let end = i32::try_from((self.objects.len() * 3 / 2).max(LEAST_TURN)).unwrap_or(PLACE).min(PLACE);
        let is_free = |place: &i32| !self.objects.contains_key(place);
        let place = (self.next..end).find(is_free);
        let place = place.or_else(|| {
            self.turn = self.turn.wrapping_add(1) & (i32::MAX >> 15);
            (0..=PLACE).find(is_free)
        });
        let place = place.ok_or(Errno::ENOSPC)?;
        self.next = place + 1;
        let id = self.turn << 15 | place;
        self.objects.insert(place, (id, Arc::new(object)));
        Ok(id)
    }
}

/// Key and flags of a get call.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Key.
    pub key: i32,
    /// IPC_CREAT, IPC_EXCL and the mode.
    pub flags: u32,
}

/// The id for a key, of an object that is there and fits, or of a new one.
///
/// # Errors
/// ENOENT, EEXIST, EINVAL for one that does not fit, EACCES, ENOSPC; those of making one.
pub fn get<T>(
    table: &Mutex<Table<T>>,
    task: &Task,
    want: Wanted,
    fits: impl Fn(&T) -> bool,
    make: impl FnOnce() -> Result<T>,
) -> Result<i32> {
    {
        let table = table.lock();
        if let Some(id) = table.existing(task, &want, &fits)? {
            return Ok(id);
        }
        if table.objects.len() >= table.most {
            return Err(Errno::ENOSPC);
        }
    }
    let permissions = Mutex::new(Permissions::new(&task.creds(), want.key, want.flags));
    let object = Object { permissions, is_removed: AtomicBool::new(false), body: make()? };
    let mut table = table.lock();
    // Another may have made it meanwhile.
    match table.existing(task, &want, &fits)? {
        Some(id) => Ok(id),
        None => table.add(object),
    }
}

/// Seconds since 1970, as the objects note times.
#[must_use]
pub fn seconds() -> u64 {
    machine::clock::realtime_ns() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::{Object, Permissions, READ, Table, WRITE};
    use crate::Errno;
    use crate::process::creds::Creds;
    use alloc::vec::Vec;

    fn object() -> Object<()> {
        let permissions = Permissions::new(&Creds::new(0, 0, Vec::new()), 0, 0);
        Object { permissions: permissions.into(), is_removed: false.into(), body: () }
    }

    #[test]
    fn an_id_is_not_soon_taken_again() {
        let mut table = Table::new(100);
        let mut ids = Vec::new();
        for _ in 0..200 {
            let id = table.add(object()).unwrap_or(-1);
            assert!(table.remove(id).is_some() && table.find(id).is_err());
            ids.push(id);
        }
        assert_eq!((ids[0], ids[63], ids[64]), (0, 63, 1 << 15));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 200);
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut table = Table::new(100);
        assert!((0..100).all(|place| table.add(object()) == Ok(place)));
        assert_eq!((table.highest(), table.add(object())), (99, Err(Errno::ENOSPC)));
        assert!(table.remove(50).is_some());
        assert_eq!((table.add(object()), table.id_at(50)), (Ok(100), Err(Errno::EINVAL)));
    }

    #[test]
    fn strangers_have_the_last_three_bits() {
        let owner = Creds::new(7, 7, Vec::new());
        let stranger = Creds::new(8, 8, Vec::new());
        let permissions = Permissions::new(&owner, 1, 0o1604);
        assert_eq!(permissions.check(&owner, READ | WRITE), Ok(()));
        assert_eq!(permissions.check(&stranger, READ), Ok(()));
        assert_eq!(permissions.check(&stranger, WRITE), Err(Errno::EACCES));
        assert_eq!(permissions.check_owner(&stranger), Err(Errno::EPERM));
    }
}
