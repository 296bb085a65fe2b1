//! hostfs: a directory of the host (an export), through the broker.
//!
//! Names and attributes come in bulk and are kept: a first look-up walks the whole path in one request, a few misses
//! in one directory fetch its whole listing. What is kept is void when the change word of its directory changes
//! ([`super::host_watch`]). A request that names something in a directory has the supervisor watch it first.

use super::broker;
use super::dentry::Name;
use super::file::{FileOps, OpenFlags};
use super::host_ahead::ListsAhead;
use super::host_attributes::{Known, Locked};
use super::host_file::{Handles, HostFile, OpensAhead};
use super::host_names::{Child, Eagerness, Listing};
use super::host_place::{Place, Spot};
use super::host_watch::{self, AtomicWord, Moment, OUTDATED, Word};
use super::inode::{
    Change, Emit, FileSystem, Inode, InodeId, Kind, NewKind, NewNode, RenameMode, Stat, StatFs, XattrMode,
};
use super::sleep_lock::SleepLock;
use super::tmpfs::downcast;
use crate::{Errno, Result};
use abi::broker::{Attributes, FileAt, Node, Reply, Request, XattrOperation};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use hashbrown::HashMap;
use machine::epoch::SetOnce;
use machine::sync::Mutex;

/// One export.
pub struct HostFs {
    this: Weak<HostFs>,
    pub(super) export: u16,
    dev: u64,
    pub(super) trust: Trust,
    /// Counts the changes that the container makes itself: an answer from before one says nothing of it.
    pub(super) own_changes: AtomicU64,
    pub(super) eagerness: Eagerness,
    /// The same for attributes of the names of a directory that a program has read.
    pub(super) looks_behind: Eagerness,
    pub(super) opens: OpensAhead,
    pub(super) lists: ListsAhead,
    /// Files with several names, by inode number: all names lead to one inode.
    linked: Mutex<HashMap<u64, Weak<HostInode>>>,
    /// Held by renames, and while a name is taken away of a file that has others: who does not find a file waits for them.
    pub(super) moving: SleepLock,
}

/// What the supervisor knows of an export.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// The host tells of all changes.
    pub is_watched: bool,
    /// Mappings of files show what reads would.
    pub is_mappable: bool,
}

/// A file of an export.
pub struct HostInode {
    pub(super) fs: Arc<HostFs>,
    this: Weak<HostInode>,
    id: InodeId,
    kind: Kind,
    pub(super) place: Mutex<Place>,
    attributes: Known,
    /// The change word that tells of the attributes: a directory's own, else that of the directory above.
    word: AtomicWord,
    /// Generation of the attributes.
    generation: AtomicU64,
    /// The container has changed names of the directory since its attributes were fetched: its times, links and size.
    names_changed: AtomicBool,
    /// A handle that writes is kept: the host changes the attributes, and the supervisor does not tell of it.
    pub(super) has_writer: AtomicBool,
    /// Its handle was opened in advance, and not used yet.
    pub(super) is_ahead: AtomicBool,
    /// Open files that can write, mapped ones too.
    pub(super) writers: AtomicU32,
    /// It is among those that have handles, or had.
    pub(super) is_listed: AtomicBool,
    target: Box<[u8]>,
    pub(super) listing: Option<Box<Mutex<Listing>>>,
    pub(super) handles: Mutex<Handles>,
    /// Changes with them: who has one knows by that whether it would get the same again.
    pub(super) handles_turn: AtomicU32,
    /// Of whoever opens it by a request, which most files never need.
    pub(super) opening: SetOnce<SleepLock>,
}

/// The root of an export.
///
/// # Errors
/// The broker's.
pub fn open_export(export: u16, trust: Trust) -> Result<Arc<HostInode>> {
    let own_changes = AtomicU64::new(0);
    let since = Moment::now(&own_changes);
    let reply = broker::request(&Request::Walk { export, from: b"", path: b"" })?.0;
    let node = match reply {
        Reply::Nodes(nodes) => nodes.into_iter().next().ok_or(Errno::ENOENT)?,
        _ => return Err(Errno::EIO),
    };
    let fs = Arc::new_cyclic(|this| HostFs {
        this: this.clone(),
        export,
        dev: node.attributes.device,
        trust,
        own_changes,
        eagerness: Eagerness::default(),
        looks_behind: Eagerness::default(),
        opens: OpensAhead::default(),
        lists: ListsAhead::default(),
        linked: Mutex::new(HashMap::new()),
        moving: SleepLock::new(),
    });
    let generation = Word::of(node.attributes.inode, !trust.is_watched).generation();
    Ok(HostInode::make(&fs, None, &Name::default(), &node, if since.is_quiet() { generation } else { OUTDATED }))
}

impl HostFs {
    /// The export's number.
    #[must_use]
    pub fn export(&self) -> u16 {
        self.export
    }

    /// The inode of a node found under a name: the one already known, for a file with several names. `generation` is that
    /// of the node's attributes.
    pub(super) fn inode(
        &self,
        parent: &Arc<HostInode>,
        name: &Name,
        node: &Node,
        generation: u64,
    ) -> Result<Arc<HostInode>> {
        let fs = self.this.upgrade().ok_or(Errno::EIO)?;
        let is_shared = node.attributes.links > 1 && Kind::from_mode(node.attributes.mode) != Some(Kind::Directory);
        if !is_shared {
            return Ok(HostInode::make(&fs, Some(parent), name, node, generation));
        }
        let ino = node.attributes.inode;
        let fresh = HostInode::make(&fs, Some(parent), name, node, generation);
        let mut linked = self.linked.lock();
        let known = linked.get(&ino).and_then(Weak::upgrade).filter(|inode| !inode.is_removed());
        if let Some(known) = known {
            drop(linked);
            // It may have been replaced under the name that is known of it.
            if !known.place.lock().at.is(parent, name) {
                drop(known.change_place(|place| place.confirm(parent, name)));
            }
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
}

impl HostInode {
    fn make(
        fs: &Arc<HostFs>,
        parent: Option<&Arc<HostInode>>,
        name: &Name,
        node: &Node,
        generation: u64,
    ) -> Arc<HostInode> {
        let kind = Kind::from_mode(node.attributes.mode).unwrap_or(Kind::File);
        let listing = (kind == Kind::Directory).then(|| Box::new(Mutex::new(Listing::new(OUTDATED))));
        let word = match parent {
            // Nobody has asked for anything in the directory, so the supervisor does not watch it.
            Some(_) if kind == Kind::Directory => Word::of(node.attributes.inode, true),
            Some(parent) => parent.own_names_word().timed(!fs.trust.is_watched || node.attributes.links > 1),
            None => Word::of(node.attributes.inode, !fs.trust.is_watched),
        };
        Arc::new_cyclic(|this| HostInode {
            fs: Arc::clone(fs),
            this: this.clone(),
            id: InodeId { dev: node.attributes.device, ino: node.attributes.inode },
            kind,
            place: Mutex::new(Place::of(parent, name)),
            attributes: Known::new(&node.attributes),
            word: AtomicWord::new(word),
            generation: AtomicU64::new(generation),
            names_changed: AtomicBool::new(false),
            has_writer: AtomicBool::new(false),
            is_ahead: AtomicBool::new(false),
            writers: AtomicU32::new(0),
            is_listed: AtomicBool::new(false),
            target: Box::from(node.target.as_slice()),
            listing,
            handles: Mutex::new(Handles::default()),
            handles_turn: AtomicU32::new(0),
            opening: SetOnce::new(),
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
    pub(super) fn name_to(&self, names: &mut Vec<Name>) -> Option<Arc<HostInode>> {
        let place = self.place.lock();
        names.push(place.at.name.clone());
        place.at.parent.clone()
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

    /// The directory that holds it.
    pub(super) fn directory(&self) -> Option<Arc<HostInode>> {
        self.place.lock().at.parent.clone()
    }

    /// Its name there.
    pub(super) fn name(&self) -> Name {
        self.place.lock().at.name.clone()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.place.lock().is_removed
    }

    pub(super) fn attributes(&self) -> Attributes {
        self.attributes.get()
    }

    /// What a request said that the inode itself made, or that walked into the directory: the supervisor watches it.
    pub(super) fn set_known(&self, attributes: Attributes, generation: u64, since: Moment) {
        self.set_known_locked(&mut self.attributes.lock(), attributes, generation, since);
    }

    /// The same, unless anything else than this was heard before.
    pub(super) fn set_known_after(&self, heard: &Attributes, attributes: Attributes, generation: u64, since: Moment) {
        let mut known = self.attributes.lock();
        if *known == *heard {
            self.set_known_locked(&mut known, attributes, generation, since);
        }
    }

    fn set_known_locked(&self, known: &mut Locked<'_>, attributes: Attributes, generation: u64, since: Moment) {
        if !since.is_alone(&self.fs.own_changes) {
            return;
        }
        known.set(attributes);
        self.names_changed.store(false, Ordering::Relaxed);
        self.word.store(self.watched_word(&attributes));
        self.generation.store(generation, Ordering::Release);
    }

    /// What an answer about a name said, and the directory that has it. True where the inode has handles on what may be another
    /// file now; with what is to be dropped.
    pub(super) fn learn(
        &self,
        (directory, name): (&Arc<HostInode>, &[u8]),
        attributes: &Attributes,
        names_generation: u64,
        since: Moment,
    ) -> (bool, Option<Spot>) {
        let mut known = self.attributes.lock();
        if !since.is_alone(&self.fs.own_changes) {
            return (false, None);
        }
        let gone = self.place.lock().confirm(directory, name);
        if self.kind == Kind::Directory && self.is_current() {
            return (false, gone);
        }
        let is_changed = known.ctime != attributes.ctime;
        known.set(*attributes);
        if self.kind == Kind::Directory {
            let word = self.word.load();
            if word.is_timed() {
                self.generation.store(word.generation_at(word.value(), since.second), Ordering::Release);
            }
        } else {
            let word = directory.own_names_word().timed(!self.fs.trust.is_watched || attributes.links > 1);
            self.word.store(word);
            self.generation.store(word.generation_at(names_generation, since.second), Ordering::Release);
        }
        drop(known);
        (is_changed && self.has_handles(), gone)
    }

    /// The change word of the directory's names.
    pub(super) fn own_names_word(&self) -> Word {
        Word::of(self.id.ino, !self.fs.trust.is_watched)
    }

    /// The change word of the attributes, once the supervisor watches. Other names of a file are not watched.
    pub(super) fn watched_word(&self, attributes: &Attributes) -> Word {
        if self.kind == Kind::Directory {
            return self.own_names_word();
        }
        self.word.load().timed(!self.fs.trust.is_watched || attributes.links > 1)
    }

    /// What a handle said. It does not say for how long that holds; nothing where the container has changed something since.
    pub(super) fn set_attributes_known(&self, attributes: Attributes, since: Moment) {
        let mut known = self.attributes.lock();
        if since.is_alone(&self.fs.own_changes) {
            known.set(attributes);
        }
    }

    /// The container has changed the file: nothing that is known of the attributes holds, nor what an answer from before says
    /// of them, however late it comes.
    fn outdate<T>(&self, change: impl FnOnce(&mut Locked<'_>) -> T) -> T {
        let mut known = self.attributes.lock();
        self.fs.own_changes.fetch_add(1, Ordering::AcqRel);
        self.generation.store(OUTDATED, Ordering::Release);
        change(&mut known)
    }

    /// Changes where the file is: the directory that has it then is told of its changes.
    pub(super) fn change_place<T>(&self, change: impl FnOnce(&mut Place) -> T) -> T {
        self.outdate(|_| self.change_place_locked(change))
    }

    fn change_place_locked<T>(&self, change: impl FnOnce(&mut Place) -> T) -> T {
        let mut place = self.place.lock();
        let changed = change(&mut place);
        if let Some(parent) = place.at.parent.as_ref().filter(|_| self.kind != Kind::Directory) {
            self.word.store(parent.own_names_word());
        }
        changed
    }

    /// The last handle that writes is closed: the supervisor tells of writes from here on, and never of those before.
    pub(super) fn end_writing(&self) {
        if self.has_writer.load(Ordering::Relaxed) {
            // Who sees no writer sees that nothing is known.
            self.outdate(|_| self.has_writer.store(false, Ordering::Release));
        }
    }

    /// Whether nothing was told since the attributes were fetched.
    fn is_current(&self) -> bool {
        self.generation.load(Ordering::Acquire) == self.word.load().generation()
    }

    /// Whether the attributes cannot have changed.
    fn is_fresh(&self) -> bool {
        !self.has_writer.load(Ordering::Acquire) && self.is_settled()
    }

    /// The same but for what a handle writes.
    fn is_settled(&self) -> bool {
        !self.names_changed.load(Ordering::Relaxed) && self.is_current()
    }

    /// Attributes as they are, asked for where they may have changed. What is asked for is the answer also where it cannot be
    /// noted, since the container has changed something meanwhile.
    fn refresh(&self) -> Result<Attributes> {
        if self.is_fresh() {
            return Ok(self.attributes());
        }
        let of_handle = if self.is_settled() { self.refresh_from_handle() } else { None };
        let asked = if of_handle.is_none() { self.refresh_by_path()? } else { of_handle };
        Ok(asked.or_else(|| self.refresh_from_handle()).unwrap_or_else(|| self.attributes()))
    }

    /// A name of this directory is gone.
    fn name_removed(&self, name: &[u8]) -> Result<()> {
        self.leave_name(name)?;
        self.set_name(name, Child::Absent)?;
        self.changed()
    }

    /// The file that has a name of this directory has it no longer.
    fn leave_name(&self, name: &[u8]) -> Result<()> {
        let left = self.listing()?.lock().inode(name);
        if let Some(inode) = left {
            inode.lose_name(self, name);
        }
        Ok(())
    }

    /// One of the file's names is gone, or its only one.
    fn lose_name(&self, directory: &HostInode, name: &[u8]) {
        let gone = self.outdate(|known| {
            let links = known.links;
            known.set(Attributes { links: links.saturating_sub(1), ..**known });
            self.change_place_locked(|place| {
                let gone = place.forget(directory, name);
                place.is_removed = gone.is_none() && (links <= 1 || self.kind == Kind::Directory);
                gone
            })
        });
        drop(gone);
    }

    /// Entries of this directory changed: its times are the host's, asked for at the next stat.
    fn changed(&self) -> Result<()> {
        self.names_changed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Notes a name as the container itself has made it.
    fn set_name(&self, name: &[u8], child: Child) -> Result<Option<Child>> {
        self.fs.own_changes.fetch_add(1, Ordering::AcqRel);
        Ok(self.listing()?.lock().set(name, child))
    }

    pub(super) fn listing(&self) -> Result<&Mutex<Listing>> {
        self.listing.as_deref().ok_or(Errno::ENOTDIR)
    }

    fn xattr_request(&self, operation: XattrOperation<'_>) -> Result<Reply> {
        let export = self.fs.export;
        let ask = |file: FileAt<'_>| broker::request(&Request::Xattr { export, file, operation });
        Ok(self.by_name(ask)?.0)
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

    fn permissions(&self) -> Result<Stat> {
        let attributes = if self.is_current() { self.attributes() } else { self.refresh()? };
        Ok(stat_from(&attributes))
    }

    fn stat_at_hand(&self, to: &mut Stat) -> bool {
        let is_fresh = self.is_fresh();
        if is_fresh {
            *to = stat_from(&self.attributes());
        }
        is_fresh
    }

    fn file_system(&self) -> &dyn FileSystem {
        &*self.fs
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        let since = Moment::now(&self.fs.own_changes);
        let generation = self.watched_word(&self.attributes()).generation();
        let change = abi::broker::Change {
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: change.atime,
            mtime: change.mtime,
        };
        let export = self.fs.export;
        let ask = |file: FileAt<'_>| broker::request(&Request::SetAttributes { export, file, change });
        match self.by_name(ask)?.0 {
            Reply::Node(attributes) => {
                self.outdate(|known| {
                    if attributes.inode != self.id.ino {
                        return;
                    }
                    known.set(attributes);
                    // Another change may have come later and been noted before, but for this one's own. Whether a directory
                    // itself is watched is not said.
                    if since.is_followed_by_one(&self.fs.own_changes) && self.kind != Kind::Directory {
                        self.generation.store(generation, Ordering::Release);
                    }
                });
                self.drop_idle_writer();
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

    fn names_word(&self) -> Option<Word> {
        Some(self.own_names_word())
    }

    fn name_at_hand(&self) -> Option<Name> {
        Some(self.name())
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
        let (generation, second) = (self.names_generation(), host_watch::second());
        let reply = broker::request(&Request::Create { export, path: &path, kind, mode: node.mode, owner })?;
        let (Reply::Node(attributes), handle) = reply else { return Err(Errno::EIO) };
        let target = if let NewKind::Symlink(target) = node.kind { target.to_vec() } else { Vec::new() };
        let generation = attributes_generation(&attributes, generation, second);
        let inode = self.fs.inode(&self.arc()?, &Name::from(name), &Node { attributes, target }, generation)?;
        if let Some(handle) = handle {
            inode.keep_handle(Arc::new(handle), true);
        }
        self.set_name(name, Child::Live(Arc::clone(&inode)))?;
        self.changed()?;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target: Arc<HostInode> = downcast(target)?;
        if !Arc::ptr_eq(&target.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let (export, to) = (self.fs.export, self.path_of(name)?);
        target.by_name(|from| broker::request_done(&Request::Link { export, from, to: &to }))?;
        target.outdate(|known| known.set(Attributes { links: known.links + 1, ..**known }));
        target.place.lock().note(&self.arc()?, name);
        self.fs.linked.lock().insert(target.id.ino, Arc::downgrade(&target));
        self.set_name(name, Child::Live(target))?;
        self.changed()
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let path = self.path_of(name)?;
        let known = self.listing()?.lock().inode(name);
        let has_others = known.is_some_and(|inode| inode.place.lock().count_others() > 0);
        let _moving = has_others.then(|| self.fs.moving.lock());
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
        // Before the paths: another may be renaming a directory on them.
        let _moving = self.fs.moving.lock();
        let (old, new) = (self.path_of(from)?, to_dir.path_of(to)?);
        broker::request_done(&Request::Rename { export: self.fs.export, from: &old, to: &new, flags })?;
        if other.is_some() && mode != RenameMode::Exchange {
            // Its name stays in the directory, for who lists that meanwhile.
            to_dir.leave_name(to)?;
        }
        let this = self.arc()?;
        moved.move_to((&this, from), &to_dir, to)?;
        match other.filter(|_| mode == RenameMode::Exchange) {
            Some(other) => other.move_to((&to_dir, to), &this, from)?,
            None => drop(self.set_name(from, Child::Absent)?),
        }
        self.changed()?;
        to_dir.changed()
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        if self.kind == Kind::Symlink { Ok(self.target.to_vec()) } else { Err(Errno::EINVAL) }
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        self.list_names()?;
        let listing = self.listing()?.lock();
        // Until one is refused.
        let _ = listing.known_from(from).all(|entry| emit(&entry));
        Ok(())
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        // A long listing asks for one of each file.
        if !abi::xattr::is_shown(name) {
            return Err(Errno::ENODATA);
        }
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
        if self.kind == Kind::File { self.refresh().ok() } else { None }
    }

    fn host_name(&self) -> Option<(u16, Vec<u8>)> {
        Some((self.fs.export, self.path().ok()?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl HostInode {
    /// What was `old` is now `name` in `dir`.
    fn move_to(self: &Arc<Self>, old: (&Arc<HostInode>, &[u8]), dir: &Arc<HostInode>, name: &[u8]) -> Result<()> {
        let rename = |place: &mut Place| place.rename((old.0, old.1), dir, name);
        let gone =
            if self.kind == Kind::Directory { rename(&mut self.place.lock()) } else { self.change_place(rename) };
        drop(gone);
        dir.set_name(name, Child::Live(Arc::clone(self))).map(drop)
    }
}

/// Generation of attributes that an answer about the directory above gave in a second, when its names had `generation`.
pub(super) fn attributes_generation(attributes: &Attributes, generation: u64, second: u32) -> u64 {
    if Kind::from_mode(attributes.mode) == Some(Kind::Directory) {
        let word = Word::of(attributes.inode, true);
        return word.generation_at(word.value(), second);
    }
    Word::of(0, attributes.links > 1).generation_at(generation, second)
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

#[cfg(test)]
#[path = "hostfs_tests.rs"]
mod tests;
