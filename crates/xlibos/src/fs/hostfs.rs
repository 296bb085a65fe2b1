//! hostfs: a directory of the host (an export), through the broker.
//!
//! Names and attributes come in bulk and are kept: a first look-up walks the whole path in one request, a few misses
//! in one directory fetch its whole listing. What is kept is void when the file system's generation changes.

use super::broker;
use super::file::{FileOps, OpenFlags};
use super::host_file::{Handles, HostFile};
use super::host_names::{Child, Listing};
use super::inode::{
    Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, NewKind, NewNode, RenameMode, Stat, StatFs, XattrMode,
};
use super::sleep_lock::SleepLock;
use super::tmpfs::downcast;
use crate::{Errno, Result};
use abi::broker::{Attributes, Node, Reply, Request, XattrOperation};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hashbrown::HashMap;
use machine::sync::Mutex;

/// One export.
pub struct HostFs {
    this: Weak<HostFs>,
    pub(super) export: u16,
    dev: u64,
    generation: AtomicU64,
    /// Files with several names, by inode number: all names lead to one inode.
    linked: Mutex<HashMap<u64, Weak<HostInode>>>,
}

/// A file of an export.
pub struct HostInode {
    pub(super) fs: Arc<HostFs>,
    this: Weak<HostInode>,
    id: InodeId,
    kind: Kind,
    place: Mutex<Place>,
    attributes: Mutex<Attributes>,
    /// Generation of the attributes.
    generation: AtomicU64,
    /// Written through a handle since the attributes were fetched.
    pub(super) written: AtomicBool,
    target: Box<[u8]>,
    pub(super) listing: Option<Box<Mutex<Listing>>>,
    pub(super) handles: Mutex<Handles>,
    pub(super) opening: SleepLock,
}

struct Place {
    parent: Option<Arc<HostInode>>,
    name: Box<[u8]>,
    is_removed: bool,
}

/// All exports that are mounted, to pass on what changed outside.
static MOUNTED: Mutex<Vec<Weak<HostFs>>> = Mutex::new(Vec::new());

/// Names and attributes of an export are void: something changed on the host.
pub fn forget_export(export: u16) {
    for fs in MOUNTED.lock().iter().filter_map(Weak::upgrade) {
        if fs.export == export {
            fs.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The root of an export.
///
/// # Errors
/// The broker's.
pub fn open_export(export: u16) -> Result<Arc<HostInode>> {
    let reply = broker::request(&Request::Walk { export, from: b"", path: b"" })?.0;
    let node = match reply {
        Reply::Nodes(nodes) => nodes.into_iter().next().ok_or(Errno::ENOENT)?,
        _ => return Err(Errno::EIO),
    };
    let fs = Arc::new_cyclic(|this| HostFs {
        this: this.clone(),
        export,
        dev: node.attributes.device,
        generation: AtomicU64::new(0),
        linked: Mutex::new(HashMap::new()),
    });
    MOUNTED.lock().push(Arc::downgrade(&fs));
    Ok(HostInode::make(&fs, None, b"", &node))
}

impl HostFs {
    /// The export's number.
    #[must_use]
    pub fn export(&self) -> u16 {
        self.export
    }

    /// The inode of a node found under a name: the one already known, for a file with several names.
    pub(super) fn inode(&self, parent: &Arc<HostInode>, name: &[u8], node: &Node) -> Result<Arc<HostInode>> {
        let fs = self.this.upgrade().ok_or(Errno::EIO)?;
        let is_shared = node.attributes.links > 1 && Kind::from_mode(node.attributes.mode) != Some(Kind::Directory);
        if !is_shared {
            return Ok(HostInode::make(&fs, Some(parent), name, node));
        }
        let ino = node.attributes.inode;
        let fresh = HostInode::make(&fs, Some(parent), name, node);
        let mut linked = self.linked.lock();
        let known = linked.get(&ino).and_then(Weak::upgrade).filter(|inode| !inode.is_removed());
        if let Some(known) = known {
            drop(linked);
            return Ok(known);
        }
        if linked.len() > 4096 {
            linked.retain(|_, inode| inode.strong_count() > 0);
        }
        linked.insert(ino, Arc::downgrade(&fresh));
        Ok(fresh)
    }
}

impl FileSystem for HostFs {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn stat_fs(&self) -> Result<StatFs> {
        match broker::request(&Request::Space { export: self.export })?.0 {
            Reply::Space(s) => Ok(StatFs {
                kind: s.kind,
                block: s.block,
                blocks: s.blocks,
                free: s.free,
                available: s.available,
                inodes: s.inodes,
                inodes_free: s.inodes_free,
            }),
            _ => Err(Errno::EIO),
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl HostInode {
    fn make(fs: &Arc<HostFs>, parent: Option<&Arc<HostInode>>, name: &[u8], node: &Node) -> Arc<HostInode> {
        let kind = Kind::from_mode(node.attributes.mode).unwrap_or(Kind::File);
        let generation = fs.generation();
        let listing = (kind == Kind::Directory).then(|| Box::new(Mutex::new(Listing::new(generation))));
        Arc::new_cyclic(|this| HostInode {
            fs: Arc::clone(fs),
            this: this.clone(),
            id: InodeId { dev: node.attributes.device, ino: node.attributes.inode },
            kind,
            place: Mutex::new(Place { parent: parent.cloned(), name: Box::from(name), is_removed: false }),
            attributes: Mutex::new(node.attributes),
            generation: AtomicU64::new(generation),
            written: AtomicBool::new(false),
            target: Box::from(node.target.as_slice()),
            listing,
            handles: Mutex::new(Handles::default()),
            opening: SleepLock::new(),
        })
    }

    /// Path below the export.
    pub(super) fn path(&self) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = self.name_to(&mut names);
        if self.is_removed() {
            return Err(Errno::ENOENT);
        }
        while let Some(inode) = at {
            at = inode.name_to(&mut names);
        }
        let mut path = Vec::new();
        for name in names.iter().rev().filter(|name| !name.is_empty()) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Ok(path)
    }

    /// Appends the name; returns the directory above.
    fn name_to(&self, names: &mut Vec<Box<[u8]>>) -> Option<Arc<HostInode>> {
        let place = self.place.lock();
        names.push(place.name.clone());
        place.parent.clone()
    }

    /// Path of a name in this directory.
    pub(super) fn path_of(&self, name: &[u8]) -> Result<Vec<u8>> {
        let mut path = self.path()?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    fn is_removed(&self) -> bool {
        self.place.lock().is_removed
    }

    pub(super) fn attributes(&self) -> Attributes {
        *self.attributes.lock()
    }

    pub(super) fn set_known(&self, attributes: Attributes) {
        *self.attributes.lock() = attributes;
        self.generation.store(self.fs.generation(), Ordering::Relaxed);
        self.written.store(false, Ordering::Relaxed);
    }

    /// Whether the attributes cannot have changed.
    fn is_fresh(&self) -> bool {
        !self.written.load(Ordering::Relaxed) && self.generation.load(Ordering::Relaxed) == self.fs.generation()
    }

    /// Brings the attributes up to date where they may have changed.
    fn refresh(&self) -> Result<Attributes> {
        if self.written.load(Ordering::Relaxed) && self.refresh_from_handle() {
            return Ok(self.attributes());
        }
        if self.generation.load(Ordering::Relaxed) != self.fs.generation()
            && let Ok(path) = self.path()
        {
            self.refresh_by_path(&path)?;
        }
        Ok(self.attributes())
    }

    fn refresh_by_path(&self, path: &[u8]) -> Result<()> {
        let (from, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(at) => (path.get(..at).unwrap_or(b""), path.get(at + 1..).unwrap_or(b"")),
            None => (&b""[..], path),
        };
        match broker::request(&Request::Walk { export: self.fs.export, from, path: name })?.0 {
            Reply::Nodes(nodes) => {
                if let Some(node) = nodes.last().filter(|node| node.attributes.inode == self.id.ino) {
                    self.set_known(node.attributes);
                }
                Ok(())
            }
            _ => Err(Errno::EIO),
        }
    }

    /// A name of this directory is gone.
    fn name_removed(&self, name: &[u8]) -> Result<()> {
        let removed = self.listing()?.lock().set(name, Child::Absent);
        if let Some(Child::Live(inode)) = removed {
            let links = inode.attributes().links;
            inode.attributes.lock().links = links.saturating_sub(1);
            if links <= 1 || inode.kind == Kind::Directory {
                inode.place.lock().is_removed = true;
            }
        }
        self.changed()
    }

    /// Entries of this directory changed: its times are the host's, asked for at the next stat.
    fn changed(&self) -> Result<()> {
        self.generation.store(u64::MAX, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn listing(&self) -> Result<&Mutex<Listing>> {
        self.listing.as_deref().ok_or(Errno::ENOTDIR)
    }

    fn xattr_request(&self, operation: XattrOperation<'_>) -> Result<Reply> {
        let path = self.path()?;
        Ok(broker::request(&Request::Xattr { export: self.fs.export, path: &path, operation })?.0)
    }

    /// The inode as its own handle.
    pub(super) fn arc(&self) -> Result<Arc<HostInode>> {
        self.this.upgrade().ok_or(Errno::EIO)
    }
}

impl Inode for HostInode {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn id(&self) -> InodeId {
        self.id
    }

    fn stat(&self) -> Result<Stat> {
        self.refresh().map(|attributes| stat_from(&attributes))
    }

    fn stat_at_hand(&self) -> Option<Stat> {
        self.is_fresh().then(|| stat_from(&self.attributes()))
    }

    fn file_system(&self) -> &dyn FileSystem {
        &*self.fs
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        let path = self.path()?;
        let change = abi::broker::Change {
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: change.atime,
            mtime: change.mtime,
        };
        match broker::request(&Request::SetAttributes { export: self.fs.export, path: &path, change })?.0 {
            Reply::Node(attributes) => {
                self.set_known(attributes);
                Ok(())
            }
            _ => Err(Errno::EIO),
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            Kind::File => Ok(Arc::new(HostFile::open(&self, flags.is_writable())?)),
            _ => Err(Errno::ENXIO),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.find(name)?)
    }

    fn prefetch(&self, path: &[u8]) {
        // A hint only: the look-up that follows reports what is wrong.
        let _ = self.walk_ahead(path);
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let kind = match node.kind {
            NewKind::File => abi::broker::NewNode::File,
            NewKind::Directory => abi::broker::NewNode::Directory,
            NewKind::Symlink(target) => abi::broker::NewNode::Symlink(target),
            NewKind::Fifo => abi::broker::NewNode::Fifo,
            NewKind::Socket => abi::broker::NewNode::Socket,
            NewKind::CharDevice(_) | NewKind::BlockDevice(_) => return Err(Errno::EPERM),
        };
        let path = self.path_of(name)?;
        let (export, owner) = (self.fs.export, (node.uid, node.gid));
        let reply = broker::request(&Request::Create { export, path: &path, kind, mode: node.mode, owner })?;
        let (Reply::Node(attributes), handle) = reply else { return Err(Errno::EIO) };
        let target = if let NewKind::Symlink(target) = node.kind { target.to_vec() } else { Vec::new() };
        let inode = self.fs.inode(&self.arc()?, name, &Node { attributes, target })?;
        if let Some(handle) = handle {
            inode.keep_handle(Arc::new(handle), true);
        }
        self.listing()?.lock().set(name, Child::Live(Arc::clone(&inode)));
        self.changed()?;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target: Arc<HostInode> = downcast(target)?;
        if !Arc::ptr_eq(&target.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let (from, to) = (target.path()?, self.path_of(name)?);
        broker::request_done(&Request::Link { export: self.fs.export, from: &from, to: &to })?;
        target.attributes.lock().links += 1;
        self.fs.linked.lock().insert(target.id.ino, Arc::downgrade(&target));
        self.listing()?.lock().set(name, Child::Live(target));
        self.changed()
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let path = self.path_of(name)?;
        broker::request_done(&Request::Remove { export: self.fs.export, path: &path, directory: false })?;
        self.name_removed(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let path = self.path_of(name)?;
        broker::request_done(&Request::Remove { export: self.fs.export, path: &path, directory: true })?;
        self.name_removed(name)
    }

    fn rename(&self, from: &[u8], to_dir: &Arc<dyn Inode>, to: &[u8], mode: RenameMode) -> Result<()> {
        let to_dir: Arc<HostInode> = downcast(to_dir)?;
        if !Arc::ptr_eq(&to_dir.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let flags = match mode {
            RenameMode::Replace => 0,
            RenameMode::NoReplace => 1,
            RenameMode::Exchange => 2,
        };
        let moved = self.find(from)?;
        let other = to_dir.find(to).ok();
        let (old, new) = (self.path_of(from)?, to_dir.path_of(to)?);
        broker::request_done(&Request::Rename { export: self.fs.export, from: &old, to: &new, flags })?;
        if other.is_some() && mode != RenameMode::Exchange {
            to_dir.name_removed(to)?;
        }
        moved.move_to(&to_dir, to)?;
        match other.filter(|_| mode == RenameMode::Exchange) {
            Some(other) => other.move_to(&self.arc()?, from)?,
            None => drop(self.listing()?.lock().set(from, Child::Absent)),
        }
        self.changed()?;
        to_dir.changed()
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        if self.kind == Kind::Symlink { Ok(self.target.to_vec()) } else { Err(Errno::EINVAL) }
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        self.list_all()?;
        let listing = self.listing()?.lock();
        for (next, name, child) in listing.entries.from(from) {
            let (ino, kind) = match child {
                Child::Absent => continue,
                Child::Known(node) => {
                    (node.attributes.inode, Kind::from_mode(node.attributes.mode).unwrap_or(Kind::File))
                }
                Child::Live(inode) => (inode.id.ino, inode.kind),
            };
            if !emit(&DirEntry { name, ino, kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        match self.xattr_request(XattrOperation::Get(name))? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(Errno::EIO),
        }
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        match self.xattr_request(XattrOperation::List)? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(Errno::EIO),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let flags = match mode {
            XattrMode::Any => 0,
            XattrMode::Create => 1,
            XattrMode::Replace => 2,
        };
        self.xattr_request(XattrOperation::Set(name, value, flags)).map(|_| ())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.xattr_request(XattrOperation::Remove(name)).map(|_| ())
    }

    fn host_attributes(&self) -> Option<Attributes> {
        (self.kind() == Kind::File).then(|| self.attributes())
    }

    fn host_name(&self) -> Option<(u16, Vec<u8>)> {
        Some((self.fs.export, self.path().ok()?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl HostInode {
    /// The inode is now `name` in `dir`.
    fn move_to(self: &Arc<Self>, dir: &Arc<HostInode>, name: &[u8]) -> Result<()> {
        let new = Place { parent: Some(Arc::clone(dir)), name: Box::from(name), is_removed: false };
        let old = core::mem::replace(&mut *self.place.lock(), new);
        drop(old);
        let replaced = dir.listing()?.lock().set(name, Child::Live(Arc::clone(self)));
        drop(replaced);
        Ok(())
    }
}

fn stat_from(a: &Attributes) -> Stat {
    Stat {
        dev: a.device,
        ino: a.inode,
        mode: a.mode,
        nlink: a.links,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        size: a.size,
        blksize: 4096,
        blocks: a.blocks,
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
    }
}
