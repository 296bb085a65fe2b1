//! tmpfs: files in memory. tmpfs(5).

use super::acl::{Acl, AclKind};
use super::attributes::{Attributes, Meta};
use super::budget::{self, Budget};
use super::data::{FileData, SEAL_EXEC, SEAL_SEAL};
use super::dir_map::DirMap;
use super::file::{Extent, File, FileOps, MapObject, OpenFlags, Sharing};
use super::inode::{
    Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, NewKind, NewNode, PERMISSIONS, RenameMode, Rights, Stat,
    StatFs, XattrMode, new_anonymous_dev, now,
};
use crate::mm::image::Image;
use crate::uio::{Sink, Source};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::sync::Mutex;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const EXECUTE_BITS: u32 = 0o111;
/// What an inode with a name costs, with what the VFS keeps of it, counted so that empty files end at the limit too.
const INODE_COST: u64 = 2048;

/// One tmpfs. It stays, as mounts do: its files count nothing that all of them share.
pub struct TmpFs {
    dev: u64,
    name: &'static str,
    budget: Budget,
    /// Counts files, and of each its names but the first: nr_inodes of tmpfs(5). None without a limit.
    inodes: Option<Budget>,
    next_ino: AtomicU64,
}

impl TmpFs {
    /// An empty file system; `limit` in bytes, `inodes` in names, 0 for no limit of its own.
    #[must_use]
    pub fn new(limit: u64, inodes: u64) -> &'static TmpFs {
        TmpFs::made("tmpfs", limit, inodes)
    }

    /// As [`TmpFs::new`] without limits, shown by another name: the upper half of an overlay.
    #[must_use]
    pub fn named(name: &'static str) -> &'static TmpFs {
        TmpFs::made(name, 0, 0)
    }

    fn made(name: &'static str, limit: u64, inodes: u64) -> &'static TmpFs {
        let (budget, inodes) = (Budget::optional(limit), (inodes != 0).then(|| Budget::new(inodes)));
        let (dev, next_ino) = (new_anonymous_dev(), AtomicU64::new(1));
        Box::leak(Box::new(TmpFs { dev, name, budget, inodes, next_ino }))
    }

    /// Counts a file or a further name.
    fn charge_name(&self) -> Result<()> {
        self.inodes.iter().try_for_each(|inodes| inodes.take(1))?;
        budget::charge_all(INODE_COST).inspect_err(|_| self.inodes.iter().for_each(|inodes| inodes.give(1)))
    }

    fn uncharge_names(&self, count: u64) {
        self.inodes.iter().for_each(|inodes| inodes.give(count));
        budget::uncharge_all(INODE_COST * count);
    }

    /// What its files may use.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// A node without a name.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn new_inode(&'static self, node: &NewNode<'_>) -> Result<Arc<TmpInode>> {
        self.new_inode_sealed(node, SEAL_SEAL)
    }

    /// A file that never had a name.
    ///
    /// # Errors
    /// ENOSPC.
    pub(super) fn create_unnamed(&'static self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let file = self.new_inode(node)?;
        file.unlinked();
        Ok(file)
    }

    /// As [`TmpFs::new_inode`], with the seals that a memfd starts with.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn new_inode_sealed(&'static self, node: &NewNode<'_>, seals: u32) -> Result<Arc<TmpInode>> {
        self.charge_name()?;
        if let NewKind::Symlink(target) = node.kind {
            self.budget.charge(target.len() as u64).inspect_err(|_| self.uncharge_names(1))?;
        }
        let body = match node.kind {
            NewKind::File => Body::File(FileData::new(&self.budget, seals)),
            NewKind::Directory => Body::Directory(Mutex::new(DirMap::default())),
            NewKind::Symlink(target) => Body::Symlink(Box::from(target)),
            _ => Body::Other { rdev: node.kind.rdev() },
        };
        let kind = node.kind.kind();
        let time = now();
        let nlink = if kind == Kind::Directory { 2 } else { 1 };
        let mode = if kind == Kind::Symlink { 0o777 } else { node.mode & PERMISSIONS };
        let meta = Meta { mode, uid: node.uid, gid: node.gid, nlink, atime: time, mtime: time, ctime: time };
        Ok(Arc::new(TmpInode {
            attributes: Attributes::new(kind, meta),
            fs: self,
            ino: self.next_ino.fetch_add(1, Ordering::Relaxed),
            body,
            xattrs: Mutex::new(BTreeMap::new()),
            acls: Mutex::default(),
        }))
    }
}

impl FileSystem for TmpFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn stat_fs(&self) -> Result<StatFs> {
        let (limit, used) = self.budget.sizes();
        let limit = if limit == u64::MAX { 1 << 40 } else { limit };
        let (blocks, free) = (limit / 4096, limit.saturating_sub(used) / 4096);
        let (all_limit, all_used) = budget::sizes_of_all();
        let (inodes, inodes_free) = match self.inodes.as_ref().map(Budget::sizes) {
            Some((limit, used)) => (limit, limit.saturating_sub(used)),
            None => (all_limit / INODE_COST, all_limit.saturating_sub(all_used) / INODE_COST),
        };
        Ok(StatFs { kind: TMPFS_MAGIC, block: 4096, blocks, free, available: free, inodes, inodes_free })
    }
}

/// A file of a tmpfs. What a stat tells comes first: with the counts in front of it that is two cache lines.
#[repr(C)]
pub struct TmpInode {
    attributes: Attributes,
    fs: &'static TmpFs,
    ino: u64,
    body: Body,
    xattrs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    acls: Mutex<Option<Box<Acls>>>,
}

/// Access control lists.
#[derive(Default)]
struct Acls {
    access: Option<Acl>,
    default: Option<Acl>,
}

impl Acls {
    fn of(&mut self, kind: AclKind) -> &mut Option<Acl> {
        match kind {
            AclKind::Access => &mut self.access,
            AclKind::Default => &mut self.default,
        }
    }

    fn cost(&self) -> u64 {
        self.access.iter().chain(&self.default).map(Acl::cost).sum()
    }
}

enum Body {
    File(FileData),
    Directory(Mutex<DirMap<Arc<TmpInode>>>),
    Symlink(Box<[u8]>),
    Other { rdev: u64 },
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        let target = if let Body::Symlink(target) = &self.body { target.len() as u64 } else { 0 };
        let further_names =
            if self.kind() == Kind::Directory { 0 } else { self.attributes.read().nlink.saturating_sub(1) };
        let xattrs: u64 = self.xattrs.get_mut().iter().map(|(name, value)| xattr_cost(name, value)).sum();
        let acls = self.acls.get_mut().as_ref().map_or(0, |acls| acls.cost());
        self.fs.budget.uncharge(target + xattrs + acls);
        self.fs.uncharge_names(1 + u64::from(further_names));
    }
}

/// What an extended attribute costs.
fn xattr_cost(name: &[u8], value: &[u8]) -> u64 {
    (name.len() + value.len()) as u64 + 128
}

impl TmpInode {
    fn entries(&self) -> Result<&Mutex<DirMap<Arc<TmpInode>>>> {
        match &self.body {
            Body::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn data(&self) -> Result<&FileData> {
        match &self.body {
            Body::File(data) => Ok(data),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The bytes, or names, changed.
    pub(super) fn touch(&self) {
        self.attributes.touch();
    }

    /// It was changed, and its bytes were not.
    fn note_change(&self) {
        self.attributes.change(|meta, now| meta.ctime = now);
    }

    fn add_links(&self, count: i32) {
        self.attributes.change(|meta, now| {
            meta.nlink = meta.nlink.saturating_add_signed(count);
            meta.ctime = now;
        });
    }

    fn child(&self, name: &[u8]) -> Result<Arc<TmpInode>> {
        self.entries()?.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn is_empty(&self) -> bool {
        self.entries().is_ok_and(|entries| entries.lock().len() == 0)
    }

    /// Puts a node under a name and counts its `..`.
    fn adopt(&self, name: &[u8], child: &Arc<TmpInode>) -> Result<Option<Arc<TmpInode>>> {
        let replaced = self.entries()?.lock().insert(name, Arc::clone(child));
        self.touch();
        let counts = |child: &TmpInode| i32::from(child.kind() == Kind::Directory);
        let links = counts(child) - replaced.as_ref().map_or(0, |replaced| counts(replaced));
        if links != 0 {
            self.add_links(links);
        }
        Ok(replaced)
    }

    /// Gives a child another name in the directory, in one step: who lists it finds one of both.
    fn give_name(&self, child: &Arc<TmpInode>, from: &[u8], to: &[u8]) -> Result<()> {
        let mut entries = self.entries()?.lock();
        entries.remove(from).ok_or(Errno::ENOENT)?;
        let replaced = entries.insert(to, Arc::clone(child));
        drop(entries);
        self.touch();
        if replaced.is_some_and(|replaced| replaced.kind() == Kind::Directory) {
            self.add_links(-1);
        }
        Ok(())
    }

    /// Takes a name out and uncounts its `..`.
    fn release(&self, name: &[u8]) -> Result<Arc<TmpInode>> {
        let child = self.entries()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        self.touch();
        if child.kind() == Kind::Directory {
            self.add_links(-1);
        }
        Ok(child)
    }

    /// The name is gone.
    pub(super) fn unlinked(&self) {
        if self.kind() == Kind::Directory {
            return self.add_links(-2);
        }
        let left = self.attributes.change(|meta, now| {
            (meta.nlink, meta.ctime) = (meta.nlink.saturating_sub(1), now);
            meta.nlink
        });
        if left > 0 {
            self.fs.uncharge_names(1);
        }
    }

    /// Another name; the first one is paid for with the inode.
    pub(super) fn linked(&self) -> Result<()> {
        self.attributes.change(|meta, now| {
            if meta.nlink > 0 {
                self.fs.charge_name()?;
            }
            (meta.nlink, meta.ctime) = (meta.nlink + 1, now);
            Ok(())
        })
    }

    /// The attributes, where `meta` is what changes of them.
    #[inline]
    fn fill(&self, meta: &Meta, to: &mut Stat) {
        let rdev = if let Body::Other { rdev } = self.body { rdev } else { 0 };
        (to.dev, to.ino, to.rdev, to.blksize) = (self.fs.dev, self.ino, rdev, 4096);
        (to.mode, to.nlink) = (self.kind().mode_bits() | meta.mode, meta.nlink);
        (to.uid, to.gid) = (meta.uid, meta.gid);
        (to.atime, to.mtime, to.ctime) = (meta.atime, meta.mtime, meta.ctime);
    }

    /// All attributes, to be told.
    #[inline]
    fn fill_all(&self, to: &mut Stat) {
        let (size, bytes) = match &self.body {
            Body::File(data) => data.sizes(),
            Body::Directory(entries) => (entries.lock().len() as u64 * 20 + 40, 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Other { .. } => (0, 0),
        };
        (to.size, to.blocks) = (size, bytes.div_ceil(4096) * 8);
        self.fill(&self.attributes.tell(), to);
    }

    fn exchange(&self, from: &[u8], to_dir: &TmpInode, to: &[u8]) -> Result<()> {
        let (one, other) = (self.child(from)?, to_dir.child(to)?);
        self.adopt(from, &other)?;
        to_dir.adopt(to, &one)?;
        Ok(())
    }
}

/// The inode as one of the file system's own.
pub(super) fn downcast<T: Inode>(inode: &Arc<dyn Inode>) -> Result<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = Arc::clone(inode) as Arc<dyn Any + Send + Sync>;
    any.downcast().map_err(|_| Errno::EXDEV)
}

fn as_tmp(inode: &Arc<dyn Inode>) -> Result<&TmpInode> {
    inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
}

impl Inode for TmpInode {
    fn kind(&self) -> Kind {
        self.attributes.kind()
    }

    fn id(&self) -> InodeId {
        InodeId { dev: self.fs.dev, ino: self.ino }
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::default();
        self.fill_all(&mut stat);
        Ok(stat)
    }

    fn permissions(&self) -> Result<Stat> {
        let mut stat = Stat::default();
        self.fill(&self.attributes.read(), &mut stat);
        Ok(stat)
    }

    fn stat_at_hand(&self, to: &mut Stat) -> bool {
        if self.attributes.is_listed(AclKind::Access) {
            return false;
        }
        self.fill_all(to);
        true
    }

    fn rights_at_hand(&self) -> Option<Rights> {
        (!self.attributes.is_listed(AclKind::Access)).then(|| self.attributes.rights())
    }

    fn file_system(&self) -> &dyn FileSystem {
        self.fs
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        if let Some(size) = change.size {
            self.data()?.truncate(size)?;
            self.touch();
        }
        self.attributes.change(|meta, now| {
            let runs_otherwise = change.mode.is_some_and(|mode| (mode ^ meta.mode) & EXECUTE_BITS != 0);
            if runs_otherwise && matches!(&self.body, Body::File(data) if data.seals() & SEAL_EXEC != 0) {
                return Err(Errno::EPERM);
            }
            if let Some(mode) = change.mode {
                meta.mode = mode & PERMISSIONS;
                if let Some(access) = self.acls.lock().as_mut().and_then(|acls| acls.access.as_mut()) {
                    access.set_mode(mode);
                }
            }
            meta.uid = change.uid.unwrap_or(meta.uid);
            meta.gid = change.gid.unwrap_or(meta.gid);
            meta.atime = change.atime.unwrap_or(meta.atime);
            meta.mtime = change.mtime.unwrap_or(meta.mtime);
            meta.ctime = now;
            Ok(())
        })
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind() {
            Kind::File => Ok(self),
            _ => Err(Errno::ENXIO),
        }
    }

    #[inline]
    fn as_file(&self) -> Option<&dyn FileOps> {
        if self.kind() == Kind::File { Some(self) } else { None }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.child(name)?)
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        if self.entries()?.lock().get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let child = self.fs.new_inode(node)?;
        self.adopt(name, &child)?;
        Ok(child)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        self.fs.create_unnamed(node)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target: Arc<TmpInode> = downcast(target)?;
        self.entries()?;
        target.linked()?;
        self.adopt(name, &target).map(|_| ())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        if self.child(name)?.kind() == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        self.release(name)?.unlinked();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let child = self.child(name)?;
        child.entries()?;
        if !child.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.release(name)?.unlinked();
        Ok(())
    }

    fn rename(&self, from: &[u8], to_dir: &Arc<dyn Inode>, to: &[u8], mode: RenameMode) -> Result<()> {
        let to_dir = as_tmp(to_dir)?;
        let moved = self.child(from)?;
        if mode == RenameMode::Exchange {
            return self.exchange(from, to_dir, to);
        }
        let target = to_dir.child(to).ok();
        match &target {
            Some(_) if mode == RenameMode::NoReplace => return Err(Errno::EEXIST),
            Some(old) if old.kind() == Kind::Directory && !old.is_empty() => return Err(Errno::ENOTEMPTY),
            Some(_) | None => {}
        }
        if core::ptr::eq(self, to_dir) {
            self.give_name(&moved, from, to)?;
        } else {
            self.release(from)?;
            to_dir.adopt(to, &moved)?;
        }
        target.inspect(|old| old.unlinked());
        moved.note_change();
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        let entries = self.entries()?.lock();
        for (next, name, child) in entries.from(from) {
            if !emit(&DirEntry { name, ino: child.ino, kind: child.kind(), next }) {
                break;
            }
        }
        Ok(())
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattrs.lock().get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        let has = |kind: &AclKind| matches!(self.acl(*kind), Ok(Some(_)));
        let acls = AclKind::ALL.into_iter().filter(has).map(|kind| kind.name().to_vec());
        let xattrs = self.xattrs.lock();
        Ok(acls.chain(xattrs.keys().cloned()).flat_map(|name| name.into_iter().chain([0])).collect())
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Acl>> {
        if self.kind() == Kind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.attributes.is_listed(kind) {
            return Ok(None);
        }
        Ok(self.acls.lock().as_mut().and_then(|acls| acls.of(kind).clone()))
    }

    fn set_acl(&self, kind: AclKind, acl: Option<Acl>) -> Result<()> {
        self.fs.budget.charge(acl.as_ref().map_or(0, Acl::cost))?;
        let old = {
            let mut acls = self.acls.lock();
            if acl.is_none() && acls.is_none() {
                None
            } else {
                self.attributes.set_listed(kind, acl.is_some());
                core::mem::replace(acls.get_or_insert_default().of(kind), acl)
            }
        };
        self.fs.budget.uncharge(old.map_or(0, |old| old.cost()));
        self.note_change();
        Ok(())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let mut xattrs = self.xattrs.lock();
        match (xattrs.contains_key(name), mode) {
            (true, XattrMode::Create) => return Err(Errno::EEXIST),
            (false, XattrMode::Replace) => return Err(Errno::ENODATA),
            _ => {}
        }
        let total: usize = xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
        if total + name.len() + value.len() > 128 * 1024 {
            return Err(Errno::ENOSPC);
        }
        self.fs.budget.charge(xattr_cost(name, value))?;
        let old = xattrs.insert(name.to_vec(), value.to_vec());
        drop(xattrs);
        self.fs.budget.uncharge(old.map_or(0, |old| xattr_cost(name, &old)));
        self.note_change();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let removed = self.xattrs.lock().remove(name).ok_or(Errno::ENODATA)?;
        self.fs.budget.uncharge(xattr_cost(name, &removed));
        self.note_change();
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open regular file is its inode: there is nothing that one opening has for itself.
impl FileOps for TmpInode {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        self.data()?.read(to, offset)
    }

    fn write(&self, file: &File, from: &mut Source<'_>, offset: u64) -> Result<usize> {
        let offset = (!file.flags().contains(OpenFlags::APPEND)).then_some(offset);
        let count = self.data()?.write(from, offset)?;
        self.touch();
        Ok(count)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.data()?.size())
    }

    fn map(&self, file: &File, sharing: Sharing) -> Result<MapObject> {
        self.data()?.map(sharing, file.flags().is_writable())
    }

    fn note_trap(&self) -> bool {
        self.data().is_ok_and(FileData::note_trap)
    }

    fn image(&self) -> Option<Arc<Image>> {
        self.data().ok()?.image()
    }

    fn allocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.data()?.allocate(mode, offset, len)?;
        self.touch();
        Ok(())
    }

    fn seek_extent(&self, what: Extent, offset: u64) -> Result<u64> {
        self.data()?.seek_extent(what, offset)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn seals(&self, add: Option<u32>) -> Result<u32> {
        let data = self.data()?;
        let Some(add) = add else { return Ok(data.seals()) };
        let is_program = self.attributes.read().mode & EXECUTE_BITS != 0;
        data.add_seals(add, is_program)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{FileData, TmpInode};
    use core::mem::offset_of;

    #[test]
    fn what_a_stat_tells_is_in_two_cache_lines() {
        const COUNTS: usize = 16;
        const TAG: usize = 8;
        assert_eq!(COUNTS + offset_of!(TmpInode, body) + TAG + FileData::SIZES, 128);
    }
}
