//! overlay: a writable layer in memory above a directory that stays as it is.
//!
//! A directory is its lower one's names, without those that are hidden, and names of its own; what is made or
//! moved is a name of its own. A regular file of the lower layer is copied to memory before its first change and keeps
//! its identity. Whoever opened it for reading before that goes on reading the old bytes, as in Linux's overlayfs.
//!
//! Locks: a file's copy-up lock sleeps; the maps of a directory are leaves. The caller serialises a directory's changes.

use super::acl::{Acl, AclKind};
use super::dentry::{Name, name_of};
use super::file::{self, File, OpenFlags};
use super::host_watch::Word;
use super::inode::{
    Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, NewKind, NewNode, RenameMode, Rights, Stat, XattrMode,
};
use super::overlay_names::{Listed, Names};
use super::sleep_lock::SleepLock;
use super::tmpfs::{TmpFs, TmpInode};
use crate::uio::{Sink, Source};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use machine::epoch::SetOnce;
use machine::sync::{Mutex, MutexGuard};

/// Cookies of added entries lie from here on, those of the lower directory below: removing entries moves none.
const ADDED: u64 = 1 << 62;

/// What a name costs beside its inode.
const NAME_COST: u64 = 512;

/// Bytes that copy-up moves at a time.
const COPY_STEP: usize = 128 * 1024;

/// The root of a writable layer in memory above a directory that stays as it is.
///
/// # Errors
/// The lower directory's.
pub fn new_root(lower: Arc<dyn Inode>) -> Result<Arc<dyn Inode>> {
    Ok(OverlayDir::over(TmpFs::named("overlay"), lower))
}

/// A directory.
struct OverlayDir {
    /// The layer: where new inodes come from. What is made here is an inode of that, without anything of the overlay around it.
    fs: &'static TmpFs,
    lower: Option<Arc<dyn Inode>>,
    /// Carries the attributes of a directory without lower one, or with changed attributes.
    meta: SetOnce<Arc<TmpInode>>,
    id: InodeId,
    names: Mutex<Names>,
    /// How many directories were made or moved here.
    directories: AtomicU32,
    /// It has been removed.
    is_gone: AtomicBool,
    /// Generation of the lower directory's names for which the listing is whole.
    listed_at: AtomicU64,
}

impl OverlayDir {
    fn over(fs: &'static TmpFs, lower: Arc<dyn Inode>) -> Arc<dyn Inode> {
        let id = lower.id();
        Arc::new(OverlayDir {
            fs,
            lower: Some(lower),
            meta: SetOnce::new(),
            id,
            names: Mutex::default(),
            directories: AtomicU32::new(0),
            is_gone: AtomicBool::new(false),
            listed_at: AtomicU64::new(0),
        })
    }

    fn create(fs: &'static TmpFs, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let meta = fs.new_inode(node)?;
        let id = meta.id();
        let meta = SetOnce::from(meta);
        Ok(Arc::new(OverlayDir {
            fs,
            lower: None,
            meta,
            id,
            names: Mutex::default(),
            directories: AtomicU32::new(0),
            is_gone: AtomicBool::new(false),
            listed_at: AtomicU64::new(0),
        }))
    }

    /// The inode that carries the attributes, made from the lower one's at the first change.
    fn meta(&self) -> Result<&TmpInode> {
        if let Some(meta) = self.meta.get() {
            return Ok(meta);
        }
        let stat = self.stat()?;
        let node = NewNode { kind: NewKind::Directory, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
        let fresh = self.fs.new_inode(&node)?;
        let times = Change { atime: Some(stat.atime), mtime: Some(stat.mtime), ..Change::default() };
        fresh.set_attributes(&times)?;
        if let Some(lower) = &self.lower {
            copy_xattrs(lower, &fresh)?;
        }
        Ok(self.meta.get_or_set(fresh))
    }

    fn touch(&self) {
        if let Ok(meta) = self.meta() {
            meta.touch();
        }
    }

    /// Pays for a name that is to be added, if it is none yet.
    fn pay(&self, names: &mut Names) -> Result<()> {
        if names.spare == 0 {
            self.fs.budget().charge(NAME_COST)?;
            (names.paid, names.spare) = (names.paid + 1, 1);
        }
        Ok(())
    }

    /// Puts an inode under a name; whatever had the name is gone.
    fn insert(&self, name: &[u8], inode: Arc<dyn Inode>) {
        let old = self.insert_locked(&mut self.names.lock(), name, inode);
        drop(old);
        self.touch();
    }

    /// The same with a name that is paid for.
    fn insert_new(&self, name: &[u8], inode: Arc<dyn Inode>) -> Result<()> {
        let mut names = self.names.lock();
        self.pay(&mut names)?;
        let old = self.insert_locked(&mut names, name, inode);
        drop(names);
        drop(old);
        self.touch();
        Ok(())
    }

    /// Returns what had the name, to be dropped when no lock is held.
    fn insert_locked(&self, names: &mut Names, name: &[u8], inode: Arc<dyn Inode>) -> Option<Arc<dyn Inode>> {
        if self.counts(&inode) {
            self.directories.fetch_add(1, Ordering::Relaxed);
        }
        let old = names.add(name, inode, self.lower.is_some());
        if old.as_ref().is_some_and(|old| self.counts(old)) {
            self.directories.fetch_sub(1, Ordering::Relaxed);
        }
        old
    }

    /// Whether a name adds to the directory's links; above a lower one they are not told.
    fn counts(&self, inode: &Arc<dyn Inode>) -> bool {
        self.lower.is_none() && inode.kind() == Kind::Directory
    }

    /// A name of the lower directory is one of its own from now on: what it has been given here outlives what the host did. False
    /// where another thread has changed the name.
    fn adopt(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        let mut names = self.names.lock();
        if !names.is_as_seen(name, inode) {
            return false;
        }
        // It is there already, whether there is room or not.
        let _ = self.pay(&mut names);
        let old = names.add(name, Arc::clone(inode), true);
        drop(names);
        drop(old);
        true
    }

    /// Looks once; None where another thread has changed the name meanwhile.
    fn look_up(&self, name: &[u8]) -> Result<Option<Arc<dyn Inode>>> {
        let (own, is_hidden) = {
            let names = self.names.lock();
            names.entries.get(name).map(|entry| (entry.own.clone(), entry.is_hidden)).unwrap_or_default()
        };
        let Some(lower) = self.lower.as_ref().filter(|_| !is_hidden) else { return own.ok_or(Errno::ENOENT).map(Some) };
        let generation = self.names_word().map(Word::generation);
        let lower = match (lower.lookup(name), &own) {
            (Ok(lower), Some(own)) if is_over(own, &lower) => return Ok(Some(Arc::clone(own))),
            (Ok(lower), None) => lower,
            (Ok(_) | Err(Errno::ENOENT), Some(own)) if is_changed(own) => {
                return Ok(self.adopt(name, own).then(|| Arc::clone(own)));
            }
            // Removed or replaced on the host.
            (result @ (Ok(_) | Err(Errno::ENOENT)), Some(own)) => {
                let mut names = self.names.lock();
                if !names.is_as_seen(name, own) {
                    return Ok(None);
                }
                let old = names.forget_lower(name);
                drop(names);
                drop(old);
                result?
            }
            (Err(Errno::ENOENT), None) => {
                self.names.lock().note_nothing_below(name, generation);
                return Err(Errno::ENOENT);
            }
            (Err(errno), _) => return Err(errno),
        };
        let inode = match lower.kind() {
            Kind::Directory => OverlayDir::over(self.fs, lower),
            Kind::File => OverlayFile::over(self.fs, lower),
            _ => lower,
        };
        let own_name = name_of(&*inode, name);
        let mut names = self.names.lock();
        if names.is_hidden(name) {
            return Ok(None);
        }
        let entry = names.entries.entry(own_name).or_default();
        Ok(Some(Arc::clone(entry.own.get_or_insert(inode))))
    }

    /// Looks again at what was changed here, so that none is missing in a listing that the lower directory may have changed.
    fn adopt_changed(&self) {
        let generation = self.names_generation();
        if self.listed_at.swap(generation, Ordering::Relaxed) == generation {
            return;
        }
        let names = self.names.lock();
        let shown = names.entries.iter().filter(|(_, entry)| !entry.is_hidden);
        let own: Vec<_> =
            shown.filter_map(|(name, entry)| Some((name.clone(), Arc::clone(entry.own.as_ref()?)))).collect();
        drop(names);
        for (name, _) in own.iter().filter(|(_, inode)| is_changed(inode)) {
            // What is wrong with it is told to who looks it up.
            let _ = self.lookup(name);
        }
    }

    /// Takes a name out.
    fn take(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let (mut names, hides) = self.lock_to_take(name)?;
        let inode = self.take_locked(&mut names, name, hides)?;
        drop(names);
        self.touch();
        Ok(inode)
    }

    /// The names, with one that is to be taken out, and whether that has to hide a lower one.
    fn lock_to_take(&self, name: &[u8]) -> Result<(MutexGuard<'_, Names>, bool)> {
        let Some(lower) = &self.lower else { return Ok((self.names.lock(), false)) };
        let generation = self.names_word().map(Word::generation);
        let mut names = self.names.lock();
        if !names.is_nothing_below(name, generation) {
            let is_own = names.has_for_itself(name);
            drop(names);
            if !is_own {
                self.lookup(name)?;
            }
            let found = lower.lookup(name);
            names = self.names.lock();
            if !names.has(name) {
                return Err(Errno::ENOENT);
            }
            if !matches!(found, Err(Errno::ENOENT)) {
                return Ok((names, found.is_ok()));
            }
        }
        // It may come again.
        names.note_nothing_below(name, generation);
        Ok((names, false))
    }

    fn take_locked(&self, names: &mut Names, name: &[u8], hides: bool) -> Result<Arc<dyn Inode>> {
        let inode = if hides {
            names.hide(name).ok_or(Errno::ENOENT)?
        } else {
            let taken = names.take(name).ok_or(Errno::ENOENT)?;
            self.fs.budget().uncharge(NAME_COST * names.take_spare());
            taken
        };
        if self.counts(&inode) {
            self.directories.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(inode)
    }

    fn is_empty(&self) -> Result<bool> {
        let mut empty = true;
        self.read_dir(0, &mut |_| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    /// Lists the lower directory's entries that are still its own, from a cookie of its own on. False: the listing
    /// ended early.
    fn read_lower(&self, from: u64, emit: Emit<'_>) -> Result<bool> {
        let Some(lower) = &self.lower else { return Ok(true) };
        let mut goes_on = true;
        let read = lower.read_dir(from, &mut |entry| {
            let is_hidden = self.names.lock().is_hidden(entry.name);
            goes_on = is_hidden || emit(entry);
            goes_on
        });
        match read {
            // The host has removed it; what was made here stays.
            Ok(()) | Err(Errno::ENOENT) => Ok(goes_on),
            Err(errno) => Err(errno),
        }
    }

    /// The inode with the current attributes.
    fn attributes(&self) -> Result<&dyn Inode> {
        match self.meta.get() {
            Some(meta) => Ok(&**meta),
            None => self.lower.as_deref().ok_or(Errno::EIO),
        }
    }

    /// Makes the attributes of the inode that carries them the directory's own.
    fn make_own(&self, stat: &mut Stat) {
        stat.nlink = match &self.lower {
            _ if self.is_gone.load(Ordering::Relaxed) => 0,
            Some(_) if self.meta.get().is_none() => return,
            // As in Linux's overlayfs: who counts directories by links (find) is told that they do not tell.
            Some(_) => 1,
            None => self.directories.load(Ordering::Relaxed) + 2,
        };
        (stat.dev, stat.ino) = (self.id.dev, self.id.ino);
    }

    fn overlay(inode: &Arc<dyn Inode>) -> Result<&OverlayDir> {
        inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }
}

impl Drop for OverlayDir {
    fn drop(&mut self) {
        self.fs.budget().uncharge(NAME_COST * self.names.get_mut().paid);
    }
}

impl Inode for OverlayDir {
    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn id(&self) -> InodeId {
        self.id
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = self.attributes()?.stat()?;
        self.make_own(&mut stat);
        Ok(stat)
    }

    fn permissions(&self) -> Result<Stat> {
        self.attributes()?.permissions()
    }

    fn stat_at_hand(&self, to: &mut Stat) -> bool {
        let is_known = self.attributes().is_ok_and(|inode| inode.stat_at_hand(to));
        self.make_own(to);
        is_known
    }

    fn rights_at_hand(&self) -> Option<Rights> {
        self.attributes().ok()?.rights_at_hand()
    }

    fn file_system(&self) -> &dyn FileSystem {
        self.fs
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.meta()?.set_attributes(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        loop {
            if let Some(found) = self.look_up(name)? {
                return Ok(found);
            }
        }
    }

    fn names_word(&self) -> Option<Word> {
        self.lower.as_ref()?.names_word()
    }

    fn name_at_hand(&self) -> Option<Name> {
        self.lower.as_ref()?.name_at_hand()
    }

    fn prefetch(&self, path: &[u8]) {
        if let Some(lower) = &self.lower {
            lower.prefetch(path);
        }
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let inode = if node.kind == NewKind::Directory {
            OverlayDir::create(self.fs, node)?
        } else {
            self.fs.new_inode(node)?
        };
        self.insert_new(name, Arc::clone(&inode))?;
        Ok(inode)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        self.fs.create_unnamed(node)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        // First: whoever finds the name finds it counted.
        linked(target)?;
        self.insert_new(name, Arc::clone(target)).inspect_err(|_| unlinked(target))
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        unlinked(&self.take(name)?);
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let child = self.lookup(name)?;
        let directory = OverlayDir::overlay(&child)?;
        if !directory.is_empty()? {
            return Err(Errno::ENOTEMPTY);
        }
        self.take(name)?;
        directory.is_gone.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn rename(&self, from: &[u8], to_dir: &Arc<dyn Inode>, to: &[u8], mode: RenameMode) -> Result<()> {
        let target = OverlayDir::overlay(to_dir)?;
        if mode == RenameMode::Exchange {
            let (a, b) = (self.lookup(from)?, target.lookup(to)?);
            self.insert(from, b);
            target.insert(to, a);
            return Ok(());
        }
        // Gone on the host meanwhile, perhaps: then the target stays.
        self.lookup(from)?;
        let old = target.lookup(to).ok();
        if old.is_some() && mode == RenameMode::NoReplace {
            return Err(Errno::EEXIST);
        }
        let old_directory = old.as_ref().and_then(|old| old.as_any().downcast_ref::<OverlayDir>());
        if let Some(directory) = old_directory
            && !directory.is_empty()?
        {
            return Err(Errno::ENOTEMPTY);
        }
        let (mut names, hides) = self.lock_to_take(from)?;
        let inode = self.take_locked(&mut names, from, hides)?;
        // Within a directory in one step: who lists it finds one of the names, and what is replaced has the other one all the time.
        if !core::ptr::eq(self, target) {
            drop(names);
            names = target.names.lock();
        }
        let replaced = target.insert_locked(&mut names, to, inode);
        drop(names);
        drop(replaced);
        self.touch();
        target.touch();
        match (old_directory, &old) {
            (Some(directory), _) => directory.is_gone.store(true, Ordering::Relaxed),
            (None, Some(file)) => unlinked(file),
            (None, None) => {}
        }
        Ok(())
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        self.adopt_changed();
        if from < ADDED && !self.read_lower(from, emit)? {
            return Ok(());
        }
        let names = self.names.lock();
        for (at, Listed { name, ino, kind }) in names.order.from(from.saturating_sub(ADDED)) {
            if !emit(&DirEntry { name, ino: *ino, kind: *kind, next: ADDED + at + 1 }) {
                break;
            }
        }
        Ok(())
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Acl>> {
        acl_of(self.attributes()?, kind)
    }

    fn set_acl(&self, kind: AclKind, acl: Option<Acl>) -> Result<()> {
        self.meta()?.set_acl(kind, acl)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.attributes()?.xattr(name)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.attributes()?.list_xattrs()
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.meta()?.set_xattr(name, value, mode)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.meta()?.remove_xattr(name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A file has another name.
fn linked(file: &Arc<dyn Inode>) -> Result<()> {
    if let Some(file) = file.as_any().downcast_ref::<TmpInode>() {
        return file.linked();
    }
    if let Some(file) = file.as_any().downcast_ref::<OverlayFile>() {
        file.links_made.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A name of a file is gone.
fn unlinked(file: &Arc<dyn Inode>) {
    if let Some(file) = file.as_any().downcast_ref::<TmpInode>() {
        file.unlinked();
    } else if let Some(file) = file.as_any().downcast_ref::<OverlayFile>() {
        file.links_made.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an inode shows this one of the lower directory.
fn is_over(inode: &Arc<dyn Inode>, lower: &Arc<dyn Inode>) -> bool {
    let is = |one: &Arc<dyn Inode>| core::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(lower));
    let shown = match inode.as_any().downcast_ref::<OverlayDir>() {
        Some(directory) => directory.lower.as_ref(),
        None => Some(inode.as_any().downcast_ref::<OverlayFile>().map_or(inode, |file| &file.lower)),
    };
    shown.is_some_and(is)
}

/// Whether something was written below a name of the lower directory.
fn is_changed(inode: &Arc<dyn Inode>) -> bool {
    if let Some(file) = inode.as_any().downcast_ref::<OverlayFile>() {
        return file.upper.get().is_some();
    }
    let Some(directory) = inode.as_any().downcast_ref::<OverlayDir>() else {
        return inode.as_any().is::<TmpInode>();
    };
    if directory.meta.get().is_some() {
        return true;
    }
    let below: Vec<_> = directory.names.lock().entries.values().filter_map(|entry| entry.own.clone()).collect();
    below.iter().any(is_changed)
}

/// A file of the lower layer, until it is copied to memory.
struct OverlayFile {
    fs: &'static TmpFs,
    lower: Arc<dyn Inode>,
    upper: SetOnce<Arc<TmpInode>>,
    copying: SetOnce<SleepLock>,
    id: InodeId,
    kind: Kind,
    /// How many links it had when it came to memory.
    links_at_copy: AtomicU32,
    /// How many were made here, less those that were taken away.
    links_made: AtomicI32,
}

impl OverlayFile {
    fn over(fs: &'static TmpFs, lower: Arc<dyn Inode>) -> Arc<dyn Inode> {
        Arc::new(OverlayFile {
            fs,
            id: lower.id(),
            kind: lower.kind(),
            lower,
            upper: SetOnce::new(),
            copying: SetOnce::new(),
            links_at_copy: AtomicU32::new(1),
            links_made: AtomicI32::new(0),
        })
    }

    /// The inode with the current bytes.
    fn current(&self) -> &dyn Inode {
        match self.upper.get() {
            Some(upper) => &**upper,
            None => &*self.lower,
        }
    }

    /// Makes the attributes of the inode with the bytes the file's own.
    fn make_own(&self, stat: &mut Stat) {
        // Those of the lower file are the host's to change, until it is copied.
        let is_copied = self.upper.get().is_some();
        let before = if is_copied { self.links_at_copy.load(Ordering::Relaxed) } else { stat.nlink };
        stat.nlink = before.saturating_add_signed(self.links_made.load(Ordering::Relaxed));
        (stat.dev, stat.ino) = (self.id.dev, self.id.ino);
    }

    /// The inode in memory, copied from the lower one at the first change. `keep` bytes of the data are needed.
    fn copy_up(&self, keep: u64) -> Result<&Arc<TmpInode>> {
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let _copying = self.copying.get_or_make(SleepLock::new).lock();
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let stat = self.lower.stat()?;
        let node = NewNode { kind: NewKind::File, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
        let fresh = self.fs.new_inode(&node)?;
        copy_data(&self.lower, &fresh, keep.min(stat.size))?;
        copy_xattrs(&self.lower, &fresh)?;
        let times = Change { atime: Some(stat.atime), mtime: Some(stat.mtime), ..Change::default() };
        fresh.set_attributes(&times)?;
        self.links_at_copy.store(stat.nlink, Ordering::Relaxed);
        Ok(self.upper.get_or_set(fresh))
    }
}

/// A list of an inode in memory. What still is the host's has none here, and can get one.
fn acl_of(inode: &dyn Inode, kind: AclKind) -> Result<Option<Acl>> {
    match inode.acl(kind) {
        Err(Errno::EOPNOTSUPP) if inode.kind() != Kind::Symlink => Ok(None),
        found => found,
    }
}

/// Copies the extended attributes that can be read.
fn copy_xattrs(from: &Arc<dyn Inode>, to: &TmpInode) -> Result<()> {
    let names = from.list_xattrs().unwrap_or_default();
    let is_copied = |name: &&[u8]| !name.is_empty() && AclKind::of_name(name).is_none();
    for name in names.split(|byte| *byte == 0).filter(is_copied) {
        if let Ok(value) = from.xattr(name) {
            to.set_xattr(name, &value, XattrMode::Any)?;
        }
    }
    Ok(())
}

/// Copies the first `len` bytes.
fn copy_data(from: &Arc<dyn Inode>, to: &Arc<TmpInode>, len: u64) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    let source = File::new(Arc::clone(from).open(OpenFlags::empty())?, OpenFlags::empty());
    let target = File::new(Arc::clone(to).open(OpenFlags::RDWR)?, OpenFlags::RDWR);
    let mut buffer = vec![0; COPY_STEP];
    let mut at = 0;
    while at < len {
        let want = COPY_STEP.min(usize::try_from(len - at).unwrap_or(COPY_STEP));
        let piece = buffer.get_mut(..want).ok_or(Errno::EIO)?;
        let got = source.read_at(&mut Sink::kernel(piece), at)?;
        if got == 0 {
            break;
        }
        let mut rest = piece.get(..got).unwrap_or(&[]);
        while !rest.is_empty() {
            let written = target.write_at(&mut Source::kernel(rest), at)?;
            rest = rest.get(written..).unwrap_or(&[]);
            at += written as u64;
        }
    }
    Ok(())
}

impl Inode for OverlayFile {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn id(&self) -> InodeId {
        self.id
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = self.current().stat()?;
        self.make_own(&mut stat);
        Ok(stat)
    }

    fn permissions(&self) -> Result<Stat> {
        self.current().permissions()
    }

    fn stat_at_hand(&self, to: &mut Stat) -> bool {
        let is_known = self.current().stat_at_hand(to);
        self.make_own(to);
        is_known
    }

    fn rights_at_hand(&self) -> Option<Rights> {
        self.current().rights_at_hand()
    }

    fn file_system(&self) -> &dyn FileSystem {
        self.fs
    }

    fn name_at_hand(&self) -> Option<Name> {
        self.lower.name_at_hand()
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.copy_up(change.size.unwrap_or(u64::MAX))?.set_attributes(change)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn file::FileOps>> {
        if flags.is_writable() {
            self.copy_up(u64::MAX)?;
        }
        match self.upper.get() {
            Some(upper) => Arc::clone(upper).open(flags),
            None => Arc::clone(&self.lower).open(flags),
        }
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        self.current().read_link()
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Acl>> {
        acl_of(self.current(), kind)
    }

    fn set_acl(&self, kind: AclKind, acl: Option<Acl>) -> Result<()> {
        self.copy_up(u64::MAX)?.set_acl(kind, acl)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.current().xattr(name)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.current().list_xattrs()
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.copy_up(u64::MAX)?.set_xattr(name, value, mode)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.copy_up(u64::MAX)?.remove_xattr(name)
    }

    fn may_stay_open(&self) -> bool {
        self.upper.get().is_none()
    }

    fn host_attributes(&self) -> Option<abi::broker::Attributes> {
        if self.upper.get().is_some() { None } else { self.lower.host_attributes() }
    }

    fn host_name(&self) -> Option<(u16, Vec<u8>)> {
        if self.upper.get().is_some() { None } else { self.lower.host_name() }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lower directory in which something happens while a name is looked up.
    struct Lower {
        names: Arc<TmpInode>,
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl Inode for Lower {
        fn kind(&self) -> Kind {
            Kind::Directory
        }

        fn id(&self) -> InodeId {
            self.names.id()
        }

        fn stat(&self) -> Result<Stat> {
            self.names.stat()
        }

        fn file_system(&self) -> &dyn FileSystem {
            self.names.file_system()
        }

        fn as_any(&self) -> &dyn Any {
            self
        }

        fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
            let found = self.names.lookup(name);
            let meanwhile = self.meanwhile.lock().take();
            meanwhile.into_iter().for_each(|act| act());
            found
        }
    }

    fn node(kind: NewKind<'_>) -> NewNode<'_> {
        NewNode { kind, mode: 0o755, uid: 0, gid: 0 }
    }

    /// A file that was changed here and that the host has removed.
    fn changed() -> (Arc<Lower>, Arc<dyn Inode>, Arc<dyn Inode>) {
        let names = TmpFs::new(0, 0).new_inode(&node(NewKind::Directory)).unwrap();
        let lower = Arc::new(Lower { names, meanwhile: Mutex::new(None) });
        lower.names.create(b"f", &node(NewKind::File)).unwrap();
        let root = new_root(Arc::clone(&lower) as Arc<dyn Inode>).unwrap();
        let file = root.lookup(b"f").unwrap();
        file.set_attributes(&Change { mode: Some(0o600), ..Change::default() }).unwrap();
        lower.names.unlink(b"f").unwrap();
        (lower, root, file)
    }

    #[test]
    fn names_that_are_gone_are_paid_for_no_longer() {
        let fs = TmpFs::named("overlay");
        let root = OverlayDir::create(fs, &node(NewKind::Directory)).unwrap();
        let used = || fs.budget().sizes().1;
        let names: Vec<Vec<u8>> = (0..100_u8).map(|name| vec![b'n', name]).collect();
        for _ in 0..3 {
            names.iter().for_each(|name| assert!(root.create(name, &node(NewKind::File)).is_ok()));
            assert_eq!(used(), 100 * NAME_COST);
            names.iter().for_each(|name| assert_eq!(root.unlink(name), Ok(())));
            // A few stay, for those that come next.
            assert!(used() <= 8 * NAME_COST);
        }
        drop(root);
        assert_eq!(used(), 0);
    }

    #[test]
    fn links_of_what_was_made_here_are_counted() {
        let root = OverlayDir::create(TmpFs::named("overlay"), &node(NewKind::Directory)).unwrap();
        let file = root.create(b"a", &node(NewKind::File)).unwrap();
        let links = || file.stat().unwrap().nlink;
        assert_eq!((root.link(b"b", &file), links()), (Ok(()), 2));
        assert_eq!(root.rename(b"a", &root, b"b", RenameMode::Replace), Ok(()));
        assert_eq!(links(), 1);
        assert_eq!((root.unlink(b"b"), links()), (Ok(()), 0));
        let unnamed = root.create_unnamed(&node(NewKind::File)).unwrap();
        assert_eq!(unnamed.stat().unwrap().nlink, 0);
        assert_eq!((root.link(b"c", &unnamed), unnamed.stat().unwrap().nlink), (Ok(()), 1));
    }

    #[test]
    fn what_was_changed_here_outlives_what_the_host_removes() {
        let (_lower, root, file) = changed();
        assert!(Arc::ptr_eq(&root.lookup(b"f").unwrap(), &file));
        root.unlink(b"f").unwrap();
        assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
    }

    #[test]
    fn a_name_that_is_made_anew_while_it_is_looked_up_is_the_new_one() {
        let (lower, root, file) = changed();
        let of_others = Arc::clone(&root);
        *lower.meanwhile.lock() = Some(Box::new(move || {
            of_others.unlink(b"f").unwrap();
            of_others.create(b"f", &node(NewKind::File)).unwrap();
        }));
        let found = root.lookup(b"f").unwrap();
        assert!(!Arc::ptr_eq(&found, &file));
        assert!(Arc::ptr_eq(&root.lookup(b"f").unwrap(), &found));
    }

    #[test]
    fn that_a_lower_directory_has_none_of_a_name_is_known_of_one_generation() {
        let file = TmpFs::named("overlay").new_inode(&node(NewKind::File)).unwrap();
        let mut names = Names::default();
        names.note_nothing_below(b"f", Some(6));
        drop(names.add(b"f", Arc::clone(&file) as Arc<dyn Inode>, true));
        drop(names.add(b"g", file, true));
        let known = |name: &[u8], generation| names.is_nothing_below(name, generation);
        assert!(known(b"f", Some(6)) && !known(b"f", Some(8)) && !known(b"f", None));
        assert!(!known(b"g", Some(6)) && !known(b"g", None));
    }

    #[test]
    fn a_name_that_another_takes_is_there_all_the_time_and_is_left_once() {
        let fs = TmpFs::named("overlay");
        let [one, other] = [1, 2].map(|_| OverlayDir::create(fs, &node(NewKind::Directory)).unwrap());
        for (from_dir, name) in [(&one, b"a"), (&other, b"b")] {
            let old = one.create(b"name", &node(NewKind::File)).unwrap();
            let new = from_dir.create(name, &node(NewKind::File)).unwrap();
            assert_eq!(from_dir.rename(name, &one, b"name", RenameMode::Replace), Ok(()));
            assert!(Arc::ptr_eq(&one.lookup(b"name").unwrap(), &new));
            assert_eq!((old.stat().unwrap().nlink, new.stat().unwrap().nlink), (0, 1));
            assert_eq!(from_dir.lookup(name).err(), Some(Errno::ENOENT));
            assert_eq!(one.unlink(b"name"), Ok(()));
        }
        let [sub, full] = [b"s", b"t"].map(|name| one.create(name, &node(NewKind::Directory)).unwrap());
        full.create(b"f", &node(NewKind::File)).unwrap();
        assert_eq!(one.rename(b"s", &one, b"t", RenameMode::Replace), Err(Errno::ENOTEMPTY));
        assert_eq!(one.rename(b"t", &one, b"s", RenameMode::Replace), Ok(()));
        assert_eq!((sub.stat().unwrap().nlink, one.stat().unwrap().nlink), (0, 3));
        assert_eq!(one.rename(b"s", &other, b"d", RenameMode::Replace), Ok(()));
        assert_eq!((one.stat().unwrap().nlink, other.stat().unwrap().nlink), (2, 3));
    }

    #[test]
    fn a_name_that_is_removed_while_it_is_looked_up_stays_so() {
        let (lower, root, _) = changed();
        let of_others = Arc::clone(&root);
        *lower.meanwhile.lock() = Some(Box::new(move || of_others.unlink(b"f").unwrap()));
        assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
        assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
    }
}
