//! Names: the cache of directory entries.
//!
//! A dentry is a name that exists; absent names are remembered in their directory. A directory's sleeping lock is held
//! by look-ups that miss and by changes, never by hits, which take no lock at all.

use super::host_watch::Word;
use super::inode::{Caching, Inode, InodeId, Kind};
use super::sleep_lock::{SleepGuard, SleepLock};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::epoch::{Counted, Pin, pin};
use machine::name_map::{Before, NameMap, Wanted};
use machine::sync::Mutex;

pub use abi::name::Name;

/// A name by which an inode was found: its own where it is that.
pub(super) fn name_of(inode: &dyn Inode, name: &[u8]) -> Name {
    inode.name_at_hand().filter(|own| **own == *name).unwrap_or_else(|| Name::from(name))
}

/// How many absent names a directory remembers.
const MAX_ABSENT: usize = 1024;

/// An entry of a directory (or a root, or a file without a name). What a look-up needs comes first: with the counts in front of it that
/// is a cache line.
#[repr(C)]
pub struct Dentry {
    inode: Arc<dyn Inode>,
    directory: Option<Box<Directory>>,
    /// Generation of the directory's names for which this one is sure.
    sure_at: AtomicU64,
    mounts: AtomicU32,
    removed: AtomicBool,
    /// The inode's.
    kind: Kind,
    place: Mutex<Place>,
}

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Name,
}

#[derive(Default)]
struct Directory {
    /// None: the name is known to be absent.
    children: NameMap<Dentry>,
    /// About how many absent names there are.
    absent: AtomicUsize,
    changing: SleepLock,
    /// Generation of the names for which the absent ones are sure.
    generation: AtomicU64,
    /// The inode's.
    word: Option<Word>,
}

impl Directory {
    /// As the inode's own, without asking it.
    #[inline]
    fn names_generation(&self) -> u64 {
        self.word.map_or(0, Word::generation)
    }

    /// What is known of a name when the directory's names have this generation.
    #[inline]
    fn sure<'a>(&'a self, name: &Wanted<'_>, generation: u64, pin: &'a Pin) -> Option<Option<Counted<'a, Dentry>>> {
        match self.children.get(name, pin)? {
            Some(child) if child.sure_at.load(Ordering::Relaxed) == generation => Some(Some(child)),
            None if self.generation.load(Ordering::Relaxed) == generation => Some(None),
            _ => None,
        }
    }

    /// Forgets the absent names: they may be there now.
    fn forget_absent(&self) {
        self.absent.store(0, Ordering::Relaxed);
        self.children.retain(|child| child.is_some());
    }
}

impl core::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Dentry({:?})", String::from_utf8_lossy(&self.name()))
    }
}

impl Dentry {
    fn make(parent: Option<Arc<Dentry>>, name: Name, inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let kind = inode.kind();
        let directory = (kind == Kind::Directory).then(|| {
            let word = inode.names_word();
            let generation = AtomicU64::new(word.map_or(0, Word::generation));
            Box::new(Directory { generation, word, ..Directory::default() })
        });
        Arc::new(Dentry {
            inode,
            directory,
            sure_at: AtomicU64::new(0),
            mounts: AtomicU32::new(0),
            removed: AtomicBool::new(false),
            kind,
            place: Mutex::new(Place { parent, name }),
        })
    }

    /// The root of a file system.
    #[must_use]
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::make(None, Name::default(), inode)
    }

    /// A file without a place in the tree (memfd, O_TMPFILE, a pipe): the name is only shown.
    #[must_use]
    pub fn detached(name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::make(None, Name::from(name), inode)
    }

    /// The file.
    #[must_use]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// What the file is.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name; empty for a root.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::clone(&self.place.lock().name)
    }

    /// The directory that holds the name.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// Identity of the directory that holds the name.
    pub(super) fn parent_id(&self) -> Option<InodeId> {
        self.place.lock().parent.as_ref().map(|parent| parent.inode.id())
    }

    /// Parent and name, read together.
    pub(super) fn place(&self) -> (Option<Arc<Dentry>>, Name) {
        let place = self.place.lock();
        (place.parent.clone(), Name::clone(&place.name))
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// Whether the name was removed (the file may live on while open).
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether something is mounted on it, in some mount.
    #[must_use]
    pub fn is_mountpoint(&self) -> bool {
        self.mounts.load(Ordering::Acquire) != 0
    }

    pub(super) fn count_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    fn directory(&self) -> Result<&Directory> {
        self.directory.as_deref().ok_or(Errno::ENOTDIR)
    }

    /// Whether `self` is `other` or lies below it.
    #[must_use]
    pub fn is_below(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(Arc::clone(self));
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, other) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Takes the directory's sleeping lock, for a change.
    ///
    /// # Errors
    /// ENOTDIR.
    pub fn lock(&self) -> Result<SleepGuard<'_>> {
        Ok(self.directory()?.changing.lock())
    }

    /// Its file has lost its name: waits until who may be giving that to another is through.
    pub fn settle(&self) {
        if let Some(parent) = self.parent()
            && let Ok(directory) = parent.directory()
        {
            drop(directory.changing.lock_harmlessly());
        }
    }

    /// Finds a name: `Ok(None)` where it is absent. `path` is what the walk will look up from here on, beginning with
    /// the name.
    ///
    /// # Errors
    /// ENOTDIR; ENOMEM where the name is not known yet and memory is short; the file system's.
    pub fn child(self: &Arc<Self>, name: &[u8], path: &[u8]) -> Result<Option<Arc<Dentry>>> {
        if let Some(known) = self.cached(name)? {
            return Ok(known);
        }
        let _looking = self.directory()?.changing.lock_harmlessly();
        if path.len() > name.len() {
            self.inode.prefetch(path);
        }
        self.child_locked(name)
    }

    /// As [`Dentry::child`], for who may not wait for an answer from outside.
    ///
    /// # Errors
    /// EAGAIN where the name is not known yet.
    pub fn known_child(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        match self.cached(name)? {
            Some(known) => Ok(known),
            None if self.inode.caching() == Caching::Always => Err(Errno::EAGAIN),
            None => self.child(name, name),
        }
    }

    /// As [`Dentry::child`], for who holds the directory's lock.
    ///
    /// # Errors
    /// As [`Dentry::child`].
    pub fn child_locked(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        if let Some(known) = self.cached(name)? {
            return Ok(known);
        }
        if machine::heap::is_short() {
            return Err(Errno::ENOMEM);
        }
        let generation = self.inode.names_generation();
        let wanted = Wanted::of(name);
        let old = self.directory()?.children.get(&wanted, &pin()).flatten().map(Counted::hold);
        let found = match self.inode.lookup(name) {
            Ok(inode) => Some(inode),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        if let Some(old) = old {
            // What is mounted stays where it is.
            if found.as_ref().is_some_and(|inode| old.is_of(inode)) || old.holds_mounts() {
                old.sure_at.store(generation, Ordering::Relaxed);
                return Ok(Some(old));
            }
            old.mark_removed();
        }
        let name = found.as_ref().map_or_else(|| Name::from(name), |inode| name_of(&**inode, name));
        let found = found.map(|inode| Dentry::make(Some(Arc::clone(self)), Name::clone(&name), inode));
        if let Some(child) = &found {
            child.sure_at.store(generation, Ordering::Relaxed);
        }
        if self.inode.caching() == Caching::Always {
            self.remember(&wanted, found.clone(), || name)?;
            self.doubt_absent_unless(generation)?;
        }
        Ok(found)
    }

    fn is_of(&self, inode: &Arc<dyn Inode>) -> bool {
        core::ptr::addr_eq(Arc::as_ptr(&self.inode), Arc::as_ptr(inode))
    }

    /// What is known of a name: None for nothing.
    fn cached(&self, name: &[u8]) -> Result<Option<Option<Arc<Dentry>>>> {
        let directory = self.directory()?;
        let generation = directory.names_generation();
        // Looked at first: a swap by each look-up would take the cache line from all others.
        if directory.generation.load(Ordering::Relaxed) != generation
            && directory.generation.swap(generation, Ordering::Relaxed) != generation
        {
            directory.forget_absent();
        }
        let pin = pin();
        Ok(directory.sure(&Wanted::of(name), generation, &pin).map(|child| child.map(Counted::hold)))
    }

    /// What is known of a name, as long as it is sure: None where the walk has to look closer.
    #[inline]
    pub(super) fn glance<'a>(&'a self, name: &Wanted<'_>, pin: &'a Pin) -> Option<Option<Counted<'a, Dentry>>> {
        let directory = self.directory.as_deref()?;
        directory.sure(name, directory.names_generation(), pin)
    }

    /// An absent name was noted by somebody who asked at `generation`.
    fn doubt_absent_unless(&self, generation: u64) -> Result<()> {
        if self.inode.names_generation() != generation {
            self.directory()?.generation.store(u64::MAX, Ordering::Relaxed);
        }
        Ok(())
    }

    fn holds_mounts(&self) -> bool {
        self.is_mountpoint()
            || self.directory.as_ref().is_some_and(|directory| directory.children.any(|child| child.holds_mounts()))
    }

    /// What a name leads to is known. `own` gives the name as it is to be kept.
    fn remember(&self, name: &Wanted<'_>, found: Option<Arc<Dentry>>, own: impl FnOnce() -> Name) -> Result<()> {
        let directory = self.directory()?;
        // About as many: the directory's lock is held, but by those who forget absent names.
        let mut absent = directory.absent.load(Ordering::Relaxed);
        if found.is_none() {
            if absent >= MAX_ABSENT {
                directory.forget_absent();
                absent = 0;
            }
            absent += 1;
        }
        if directory.children.set(name, found, own) == Before::Nothing {
            absent = absent.saturating_sub(1);
        }
        directory.absent.store(absent, Ordering::Relaxed);
        Ok(())
    }

    /// A new name for an inode; the caller holds the directory's lock.
    pub(super) fn add_child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Result<Arc<Dentry>> {
        let child = Dentry::make(Some(Arc::clone(self)), name_of(&*inode, name), inode);
        child.be_sure_in(self.directory()?);
        if self.inode.caching() == Caching::Always {
            self.remember(&Wanted::of(name), Some(Arc::clone(&child)), || child.name())?;
        }
        Ok(child)
    }

    /// The container itself has just given the name: as sure as what was known of the directory before.
    fn be_sure_in(&self, directory: &Directory) {
        self.sure_at.store(directory.generation.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The name is gone; the caller holds the directory's lock.
    pub(super) fn remove_child(&self, child: &Dentry, name: &[u8]) -> Result<()> {
        child.removed.store(true, Ordering::Release);
        self.remember(&Wanted::of(name), None, || Name::from(name))
    }

    /// The child is now `name` in `to`; what was there is gone. The caller holds both directories' locks.
    pub(super) fn move_child(&self, child: &Arc<Dentry>, to: &Arc<Dentry>, name: &[u8]) -> Result<()> {
        let old = child.name();
        self.remember(&Wanted::of(&old), None, || Name::clone(&old))?;
        let name = Name::from(name);
        *child.place.lock() = Place { parent: Some(Arc::clone(to)), name: Name::clone(&name) };
        child.be_sure_in(to.directory()?);
        to.remember(&Wanted::of(&name), Some(Arc::clone(child)), || Name::clone(&name))
    }

    /// Marks what a rename replaced.
    pub(super) fn mark_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Both children change places. The caller holds both directories' locks.
    pub(super) fn exchange_children(one: &Arc<Dentry>, other: &Arc<Dentry>) -> Result<()> {
        let (first, second) = (one.place(), other.place());
        let (Some(first_dir), Some(second_dir)) = (first.0, second.0) else { return Err(Errno::EBUSY) };
        *one.place.lock() = Place { parent: Some(Arc::clone(&second_dir)), name: Name::clone(&second.1) };
        *other.place.lock() = Place { parent: Some(Arc::clone(&first_dir)), name: Name::clone(&first.1) };
        one.be_sure_in(second_dir.directory()?);
        other.be_sure_in(first_dir.directory()?);
        first_dir.remember(&Wanted::of(&first.1), Some(Arc::clone(other)), || Name::clone(&first.1))?;
        second_dir.remember(&Wanted::of(&second.1), Some(Arc::clone(one)), || Name::clone(&second.1))
    }

    /// Drops names below that nobody uses, to give memory back.
    pub fn prune(&self) {
        let Some(directory) = self.directory.as_ref() else { return };
        let children: Vec<Arc<Dentry>> = directory.children.values();
        children.iter().for_each(|child| child.prune());
        drop(children);
        let is_used = |c: Counted<'_, Dentry>| c.count() != 1 || c.is_mountpoint() || c.has_children();
        directory.children.retain(|child| child.is_some_and(is_used));
        directory.absent.store(0, Ordering::Relaxed);
    }

    fn has_children(&self) -> bool {
        self.directory.as_ref().is_some_and(|directory| !directory.children.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::Dentry;
    use crate::Errno;
    use crate::fs::inode::{NewKind, NewNode};
    use crate::fs::tmpfs_root;

    #[test]
    fn a_known_child_is_one_that_was_looked_up() {
        let dir = Dentry::root(tmpfs_root(0, 0, 0o755).expect("a root"));
        let node = NewNode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
        dir.inode().create(b"f", &node).expect("a file");
        assert_eq!(dir.known_child(b"f").err(), Some(Errno::EAGAIN));
        assert!(matches!(dir.child(b"f", b"f"), Ok(Some(_))));
        assert!(matches!(dir.known_child(b"f"), Ok(Some(_))));
        assert!(matches!(dir.child(b"g", b"g"), Ok(None)));
        assert!(matches!(dir.known_child(b"g"), Ok(None)));
    }
}
