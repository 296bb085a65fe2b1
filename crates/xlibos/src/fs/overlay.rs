//! overlay: a writable layer in memory above a directory that stays as it is.
//!
//! A directory is its lower one's names, without those that are hidden, and names of its own; what is made or
//! moved is a name of its own. A regular file of the lower layer is copied to memory before its first change and keeps
//! its identity. Whoever opened it for reading before that goes on reading the old bytes, as in Linux's overlayfs.
//!
//! Locks: a file's copy-up lock sleeps; the maps of a directory are leaves. The caller serialises a directory's changes.

use super::acl::{Acl, AclKind};
use super::file::{File, FileOps, OpenFlags};
use super::host_watch::Word;
use super::inode::{
    Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, NewKind, NewNode, RenameMode, Stat, StatFs, XattrMode,
    now,
};
use super::sleep_lock::SleepLock;
use super::tmpfs::TmpFs;
use crate::uio::{Sink, Source};
use crate::{Errno, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use machine::epoch::SetOnce;
use machine::sync::Mutex;

/// Cookies of added entries lie from here on, those of the lower directory below: removing entries moves none.
const ADDED: u64 = 1 << 62;

/// What a listing says of an added name.
struct Listed {
    name: Vec<u8>,
    ino: u64,
    kind: Kind,
}

/// What a name costs beside its inode.
const NAME_COST: u64 = 512;

/// Bytes that copy-up moves at a time.
const COPY_STEP: usize = 128 * 1024;

/// The layer: where new inodes come from.
struct OverlayFs {
    upper: Arc<TmpFs>,
}

impl FileSystem for OverlayFs {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn dev(&self) -> u64 {
        self.upper.dev()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        self.upper.stat_fs()
    }
}

/// The root of a writable layer in memory above a directory that stays as it is.
///
/// # Errors
/// The lower directory's.
pub fn new_root(lower: Arc<dyn Inode>) -> Result<Arc<dyn Inode>> {
    let fs = Arc::new(OverlayFs { upper: TmpFs::new(0, 0) });
    Ok(OverlayDir::over(&fs, lower))
}

/// Names of a directory.
#[derive(Default)]
struct Names {
    /// Made or moved here, and lower ones that were looked up: they keep their inode.
    own: BTreeMap<Vec<u8>, Arc<dyn Inode>>,
    /// Which of those are not in the lower directory's listing.
    added: BTreeMap<Vec<u8>, u64>,
    /// The same, in the order in which they came.
    order: BTreeMap<u64, Listed>,
    /// The next number in that order.
    next: u64,
    /// Lower names that are gone or replaced.
    hidden: BTreeSet<Vec<u8>>,
    /// How many names are paid for.
    paid: u64,
}

impl Names {
    /// An added name keeps its place in the listing where it is replaced.
    fn add(&mut self, name: &[u8], inode: &dyn Inode) {
        let at = self.added.get(name).copied().unwrap_or(self.next);
        if at == self.next {
            self.added.insert(name.to_vec(), at);
            self.next += 1;
        }
        self.order.insert(at, Listed { name: name.to_vec(), ino: inode.id().ino, kind: inode.kind() });
    }
}

/// A directory.
struct OverlayDir {
    fs: Arc<OverlayFs>,
    lower: Option<Arc<dyn Inode>>,
    /// Carries the attributes of a directory without lower one, or with changed attributes.
    meta: SetOnce<Arc<dyn Inode>>,
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
    fn over(fs: &Arc<OverlayFs>, lower: Arc<dyn Inode>) -> Arc<dyn Inode> {
        let id = lower.id();
        Arc::new(OverlayDir {
            fs: Arc::clone(fs),
            lower: Some(lower),
            meta: SetOnce::new(),
            id,
            names: Mutex::default(),
            directories: AtomicU32::new(0),
            is_gone: AtomicBool::new(false),
            listed_at: AtomicU64::new(0),
        })
    }

    fn create(fs: &Arc<OverlayFs>, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let meta: Arc<dyn Inode> = fs.upper.new_inode(node)?;
        let id = meta.id();
        let meta = SetOnce::from(meta);
        Ok(Arc::new(OverlayDir {
            fs: Arc::clone(fs),
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
    fn meta(&self) -> Result<Arc<dyn Inode>> {
        if let Some(meta) = self.meta.get() {
            return Ok(Arc::clone(meta));
        }
        let stat = self.stat()?;
        let node = NewNode { kind: NewKind::Directory, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
        let fresh: Arc<dyn Inode> = self.fs.upper.new_inode(&node)?;
        let times = Change { atime: Some(stat.atime), mtime: Some(stat.mtime), ..Change::default() };
        fresh.set_attributes(&times)?;
        if let Some(lower) = &self.lower {
            copy_xattrs(lower, &fresh)?;
        }
        Ok(Arc::clone(self.meta.get_or_set(fresh)))
    }

    fn touch(&self) {
        if let Ok(meta) = self.meta() {
            let _ = meta.set_attributes(&Change { mtime: Some(now()), ..Change::default() });
        }
    }

    /// Pays for a name that is to be added.
    fn pay_for(&self, name: &[u8]) -> Result<()> {
        let mut names = self.names.lock();
        if !names.hidden.contains(name) && !names.added.contains_key(name) {
            self.fs.upper.budget().charge(NAME_COST)?;
            names.paid += 1;
        }
        Ok(())
    }

    /// A name left nothing behind.
    fn repay(&self, names: &mut Names) {
        if names.paid > 0 {
            names.paid -= 1;
            self.fs.upper.budget().uncharge(NAME_COST);
        }
    }

    /// Puts an inode under a name; whatever had the name is gone.
    fn insert(&self, name: &[u8], inode: Arc<dyn Inode>) {
        self.directories.fetch_add(self.counted(&inode), Ordering::Relaxed);
        let old = {
            let mut names = self.names.lock();
            names.add(name, &*inode);
            if self.lower.is_some() {
                names.hidden.insert(name.to_vec());
            }
            names.own.insert(name.to_vec(), inode)
        };
        if let Some(old) = old {
            self.directories.fetch_sub(self.counted(&old), Ordering::Relaxed);
        }
        self.touch();
    }

    /// By how much a name adds to the directory's links; above a lower one they are not told.
    fn counted(&self, inode: &Arc<dyn Inode>) -> u32 {
        u32::from(inode.kind() == Kind::Directory && self.lower.is_none())
    }

    /// A name of the lower directory is one of its own from now on: what it has been given here outlives what the host did.
    fn adopt(&self, name: &[u8], inode: &dyn Inode) {
        // It is there already, whether there is room or not.
        let _ = self.pay_for(name);
        let mut names = self.names.lock();
        names.add(name, inode);
        names.hidden.insert(name.to_vec());
    }

    /// Looks again at what was changed here, so that none is missing in a listing that the lower directory may have changed.
    fn adopt_changed(&self) {
        let generation = self.names_generation();
        if self.listed_at.swap(generation, Ordering::Relaxed) == generation {
            return;
        }
        let is_shown = |names: &Names, name: &Vec<u8>| !names.hidden.contains(name);
        let names = self.names.lock();
        let own = names.own.iter().filter(|(name, _)| is_shown(&names, name));
        let own: Vec<_> = own.map(|(name, inode)| (name.clone(), Arc::clone(inode))).collect();
        drop(names);
        for (name, _) in own.iter().filter(|(_, inode)| is_changed(inode)) {
            // What is wrong with it is told to who looks it up.
            let _ = self.lookup(name);
        }
    }

    /// Takes a name out.
    fn take(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let inode = self.lookup(name)?;
        let hides = self.lower.as_ref().is_some_and(|lower| lower.lookup(name).is_ok());
        self.directories.fetch_sub(self.counted(&inode), Ordering::Relaxed);
        {
            let mut names = self.names.lock();
            names.own.remove(name);
            let added = names.added.remove(name);
            if let Some(at) = added {
                names.order.remove(&at);
            }
            if hides {
                names.hidden.insert(name.to_vec());
            } else {
                names.hidden.remove(name);
                self.repay(&mut names);
            }
        }
        self.touch();
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
            let is_hidden = self.names.lock().hidden.contains(entry.name);
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
    fn attributes(&self) -> Result<&Arc<dyn Inode>> {
        self.meta.get().or(self.lower.as_ref()).ok_or(Errno::EIO)
    }

    /// The attributes of the inode that carries them, as the directory's own.
    fn own_stat(&self, stat: Stat) -> Stat {
        let nlink = match &self.lower {
            _ if self.is_gone.load(Ordering::Relaxed) => 0,
            Some(_) if self.meta.get().is_none() => return stat,
            // As in Linux's overlayfs: who counts directories by links (find) is told that they do not tell.
            Some(_) => 1,
            None => self.directories.load(Ordering::Relaxed) + 2,
        };
        Stat { dev: self.id.dev, ino: self.id.ino, nlink, ..stat }
    }

    fn overlay(inode: &Arc<dyn Inode>) -> Result<&OverlayDir> {
        inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }
}

impl Drop for OverlayDir {
    fn drop(&mut self) {
        self.fs.upper.budget().uncharge(NAME_COST * self.names.get_mut().paid);
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
        Ok(self.own_stat(self.attributes()?.stat()?))
    }

    fn permissions(&self) -> Result<Stat> {
        self.attributes()?.permissions()
    }

    fn stat_at_hand(&self) -> Option<Stat> {
        Some(self.own_stat(self.attributes().ok()?.stat_at_hand()?))
    }

    fn file_system(&self) -> &dyn FileSystem {
        &*self.fs
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.meta()?.set_attributes(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let (own, is_hidden) = {
            let names = self.names.lock();
            (names.own.get(name).cloned(), names.hidden.contains(name))
        };
        let Some(lower) = self.lower.as_ref().filter(|_| !is_hidden) else { return own.ok_or(Errno::ENOENT) };
        let lower = match (lower.lookup(name), &own) {
            (Ok(lower), Some(own)) if is_over(own, &lower) => return Ok(Arc::clone(own)),
            (Ok(lower), None) => lower,
            (Ok(_) | Err(Errno::ENOENT), Some(own)) if is_changed(own) => {
                self.adopt(name, &**own);
                return Ok(Arc::clone(own));
            }
            // Removed or replaced on the host.
            (result @ (Ok(_) | Err(Errno::ENOENT)), Some(_)) => {
                let old = self.names.lock().own.remove(name);
                drop(old);
                result?
            }
            (Err(errno), _) => return Err(errno),
        };
        let inode = match lower.kind() {
            Kind::Directory => OverlayDir::over(&self.fs, lower),
            Kind::File => OverlayFile::over(&self.fs, lower),
            _ => lower,
        };
        let mut names = self.names.lock();
        Ok(Arc::clone(names.own.entry(name.to_vec()).or_insert(inode)))
    }

    fn names_word(&self) -> Option<Word> {
        self.lower.as_ref()?.names_word()
    }

    fn prefetch(&self, path: &[u8]) {
        if let Some(lower) = &self.lower {
            lower.prefetch(path);
        }
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let inode = if node.kind == NewKind::Directory {
            OverlayDir::create(&self.fs, node)?
        } else {
            let upper: Arc<dyn Inode> = self.fs.upper.new_inode(node)?;
            OverlayFile::over_upper(&self.fs, upper)
        };
        self.pay_for(name)?;
        self.insert(name, Arc::clone(&inode));
        Ok(inode)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let upper: Arc<dyn Inode> = self.fs.upper.new_inode(node)?;
        let file = OverlayFile::over_upper(&self.fs, upper);
        if let Some(file) = file.as_any().downcast_ref::<OverlayFile>() {
            file.links_made.store(-1, Ordering::Relaxed);
        }
        Ok(file)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.pay_for(name)?;
        if let Some(file) = target.as_any().downcast_ref::<OverlayFile>() {
            file.links_made.fetch_add(1, Ordering::Relaxed);
        }
        self.insert(name, Arc::clone(target));
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let inode = self.take(name)?;
        if let Some(file) = inode.as_any().downcast_ref::<OverlayFile>() {
            file.links_made.fetch_sub(1, Ordering::Relaxed);
        }
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
        if let Ok(old) = target.lookup(to) {
            if mode == RenameMode::NoReplace {
                return Err(Errno::EEXIST);
            }
            if old.kind() == Kind::Directory {
                target.rmdir(to)?;
            } else {
                target.unlink(to)?;
            }
        }
        let inode = self.take(from)?;
        target.insert(to, inode);
        Ok(())
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        self.adopt_changed();
        if from < ADDED && !self.read_lower(from, emit)? {
            return Ok(());
        }
        let names = self.names.lock();
        for (at, Listed { name, ino, kind }) in names.order.range(from.saturating_sub(ADDED)..) {
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

/// Whether an inode shows this one of the lower directory.
fn is_over(inode: &Arc<dyn Inode>, lower: &Arc<dyn Inode>) -> bool {
    let is = |one: &Arc<dyn Inode>| core::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(lower));
    let shown = match inode.as_any().downcast_ref::<OverlayDir>() {
        Some(directory) => directory.lower.as_ref(),
        None => inode.as_any().downcast_ref::<OverlayFile>().map_or(Some(inode), |file| file.lower.as_ref()),
    };
    shown.is_some_and(is)
}

/// Whether something was written below a name of the lower directory.
fn is_changed(inode: &Arc<dyn Inode>) -> bool {
    if let Some(file) = inode.as_any().downcast_ref::<OverlayFile>() {
        return file.upper.get().is_some();
    }
    let Some(directory) = inode.as_any().downcast_ref::<OverlayDir>() else { return false };
    if directory.meta.get().is_some() {
        return true;
    }
    let below: Vec<_> = directory.names.lock().own.values().cloned().collect();
    below.iter().any(is_changed)
}

/// Anything but a directory: of the lower layer, until it is copied, or in memory.
struct OverlayFile {
    fs: Arc<OverlayFs>,
    lower: Option<Arc<dyn Inode>>,
    upper: SetOnce<Arc<dyn Inode>>,
    copying: SleepLock,
    id: InodeId,
    kind: Kind,
    /// How many links it had when it came to memory.
    links_at_copy: AtomicU32,
    /// How many were made here, less those that were taken away.
    links_made: AtomicI32,
}

impl OverlayFile {
    fn over(fs: &Arc<OverlayFs>, lower: Arc<dyn Inode>) -> Arc<dyn Inode> {
        Arc::new(OverlayFile {
            fs: Arc::clone(fs),
            id: lower.id(),
            kind: lower.kind(),
            lower: Some(lower),
            upper: SetOnce::new(),
            copying: SleepLock::new(),
            links_at_copy: AtomicU32::new(1),
            links_made: AtomicI32::new(0),
        })
    }

    fn over_upper(fs: &Arc<OverlayFs>, upper: Arc<dyn Inode>) -> Arc<dyn Inode> {
        Arc::new(OverlayFile {
            fs: Arc::clone(fs),
            id: upper.id(),
            kind: upper.kind(),
            lower: None,
            upper: SetOnce::from(upper),
            copying: SleepLock::new(),
            links_at_copy: AtomicU32::new(1),
            links_made: AtomicI32::new(0),
        })
    }

    /// The inode with the current bytes.
    fn current(&self) -> Result<&Arc<dyn Inode>> {
        self.upper.get().or(self.lower.as_ref()).ok_or(Errno::EIO)
    }

    /// The attributes of the inode with the bytes, as the file's own.
    fn own_stat(&self, stat: Stat) -> Stat {
        // Those of the lower file are the host's to change, until it is copied.
        let is_copied = self.upper.get().is_some();
        let before = if is_copied { self.links_at_copy.load(Ordering::Relaxed) } else { stat.nlink };
        let nlink = before.saturating_add_signed(self.links_made.load(Ordering::Relaxed));
        Stat { dev: self.id.dev, ino: self.id.ino, nlink, ..stat }
    }

    /// The inode in memory, copied from the lower one at the first change. `keep` bytes of the data are needed.
    fn copy_up(&self, keep: u64) -> Result<Arc<dyn Inode>> {
        let _copying = self.copying.lock();
        if let Some(upper) = self.upper.get() {
            return Ok(Arc::clone(upper));
        }
        let lower = self.lower.clone().ok_or(Errno::EIO)?;
        let stat = lower.stat()?;
        let node = NewNode { kind: NewKind::File, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
        let fresh: Arc<dyn Inode> = self.fs.upper.new_inode(&node)?;
        copy_data(&lower, &fresh, keep.min(stat.size))?;
        copy_xattrs(&lower, &fresh)?;
        let times = Change { atime: Some(stat.atime), mtime: Some(stat.mtime), ..Change::default() };
        fresh.set_attributes(&times)?;
        self.links_at_copy.store(stat.nlink, Ordering::Relaxed);
        Ok(Arc::clone(self.upper.get_or_set(fresh)))
    }
}

/// A list of an inode in memory. What still is the host's has none here, and can get one.
fn acl_of(inode: &Arc<dyn Inode>, kind: AclKind) -> Result<Option<Acl>> {
    match inode.acl(kind) {
        Err(Errno::EOPNOTSUPP) if inode.kind() != Kind::Symlink => Ok(None),
        found => found,
    }
}

/// Copies the extended attributes that can be read.
fn copy_xattrs(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>) -> Result<()> {
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
fn copy_data(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>, len: u64) -> Result<()> {
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
        Ok(self.own_stat(self.current()?.stat()?))
    }

    fn permissions(&self) -> Result<Stat> {
        self.current()?.permissions()
    }

    fn stat_at_hand(&self) -> Option<Stat> {
        Some(self.own_stat(self.current().ok()?.stat_at_hand()?))
    }

    fn file_system(&self) -> &dyn FileSystem {
        &*self.fs
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.copy_up(change.size.unwrap_or(u64::MAX))?.set_attributes(change)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if flags.is_writable() { self.copy_up(u64::MAX)?.open(flags) } else { Arc::clone(self.current()?).open(flags) }
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        self.current()?.read_link()
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Acl>> {
        acl_of(self.current()?, kind)
    }

    fn set_acl(&self, kind: AclKind, acl: Option<Acl>) -> Result<()> {
        self.copy_up(u64::MAX)?.set_acl(kind, acl)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.current()?.xattr(name)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.current()?.list_xattrs()
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
        if self.upper.get().is_some() { None } else { self.lower.as_ref()?.host_attributes() }
    }

    fn host_name(&self) -> Option<(u16, Vec<u8>)> {
        if self.upper.get().is_some() { None } else { self.lower.as_ref()?.host_name() }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
