//! What is known of a host directory's names, and how it is learned in bulk.

use super::broker;
use super::dir_map::DirMap;
use super::hostfs::HostInode;
use super::inode::{Inode, Kind};
use crate::{Errno, Result};
use abi::broker::{Entry, Node, Reply, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A directory's names.
pub(super) struct Listing {
    pub(super) entries: DirMap<Child>,
    generation: u64,
    /// Every name is known: the others are absent.
    is_complete: bool,
    misses: u64,
}

/// What is known of a name.
pub(super) enum Child {
    /// Its node; no inode was needed yet.
    Known(Box<Node>),
    /// Its inode.
    Live(Arc<HostInode>),
    /// There is none.
    Absent,
}

/// Answer of a look into a listing.
enum Look {
    Live(Arc<HostInode>),
    Known(Box<Node>),
    Absent,
    Unknown,
}

impl Listing {
    pub(super) fn new(generation: u64) -> Listing {
        Listing { entries: DirMap::default(), generation, is_complete: false, misses: 0 }
    }

    /// Notes what a name is; returns what was noted before. An absent name of a complete listing needs no entry.
    pub(super) fn set(&mut self, name: &[u8], child: Child) -> Option<Child> {
        match child {
            Child::Absent if self.is_complete => self.entries.remove(name),
            child => self.entries.insert(name, child),
        }
    }

    fn look(&self, name: &[u8]) -> Look {
        match self.entries.get(name) {
            Some(Child::Live(inode)) => Look::Live(Arc::clone(inode)),
            Some(Child::Known(node)) => Look::Known(node.clone()),
            Some(Child::Absent) => Look::Absent,
            None if self.is_complete => Look::Absent,
            None => Look::Unknown,
        }
    }

    /// Notes a node unless its inode is there already and still the same.
    fn learn(&mut self, name: &[u8], node: Node) -> Option<Child> {
        if let Some(Child::Live(inode)) = self.entries.get(name)
            && inode.id().ino == node.attributes.inode
        {
            return None;
        }
        self.entries.insert(name, Child::Known(Box::new(node)))
    }
}

/// The components of a path that can be walked ahead: up to the first `..`.
fn plain_components(path: &[u8]) -> Vec<&[u8]> {
    let parts = path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.take_while(|part| *part != b"..").collect()
}

impl HostInode {
    /// Finds a name, from what is known or by asking.
    pub(super) fn find(&self, name: &[u8]) -> Result<Arc<HostInode>> {
        self.drop_outdated()?;
        match self.known(name)? {
            Some(found) => return found,
            None if self.count_miss(0)? => self.list_all()?,
            None => self.walk(&[name])?,
        }
        self.known(name)?.unwrap_or(Err(Errno::ENOENT))
    }

    /// What is known of a name: None for nothing.
    fn known(&self, name: &[u8]) -> Result<Option<Result<Arc<HostInode>>>> {
        let look = self.listing()?.lock().look(name);
        let node = match look {
            Look::Unknown => return Ok(None),
            Look::Absent => return Ok(Some(Err(Errno::ENOENT))),
            Look::Live(inode) => return Ok(Some(Ok(inode))),
            Look::Known(node) => node,
        };
        let inode = self.fs.inode(&self.arc()?, name, &node)?;
        let old = self.listing()?.lock().set(name, Child::Live(Arc::clone(&inode)));
        drop(old);
        Ok(Some(Ok(inode)))
    }

    /// Forgets names that may have changed on the host.
    fn drop_outdated(&self) -> Result<()> {
        let generation = self.fs_generation();
        let mut listing = self.listing()?.lock();
        if listing.generation == generation {
            return Ok(());
        }
        let old = core::mem::replace(&mut *listing, Listing::new(generation));
        drop(listing);
        drop(old);
        Ok(())
    }

    fn fs_generation(&self) -> u64 {
        self.file_system().generation()
    }

    /// Counts a look-up that had to ask; true once a whole listing is worth its price, which grows with the directory. That of
    /// a small one is worth it at once: its names come in the one request that the directory needs anyhow.
    /// `spared` misses do not count.
    fn count_miss(&self, spared: u64) -> Result<bool> {
        const SMALL: u64 = 4096;
        let size = self.attributes().size;
        let mut listing = self.listing()?.lock();
        listing.misses += 1;
        Ok(listing.misses > spared + size / 8192 + u64::from(size > SMALL))
    }

    /// Walks a path in one request, where its first name is not known.
    pub(super) fn walk_ahead(&self, path: &[u8]) -> Result<()> {
        self.drop_outdated()?;
        let parts = plain_components(path);
        let Some(first) = parts.first() else { return Ok(()) };
        if parts.len() < 2 || !matches!(self.listing()?.lock().look(first), Look::Unknown) {
            return Ok(());
        }
        // A second path through the directory: there will be more.
        if self.count_miss(1)? { self.list_all() } else { self.walk(&parts) }
    }

    fn walk(&self, parts: &[&[u8]]) -> Result<()> {
        let from = self.path()?;
        let path = parts.join(&b'/');
        let request = Request::Walk { export: self.fs.export, from: &from, path: &path };
        let Reply::Nodes(nodes) = broker::request(&request)?.0 else { return Err(Errno::EIO) };
        let mut at = self.arc()?;
        for (index, part) in parts.iter().enumerate() {
            let Some(node) = nodes.get(index) else {
                let old = at.listing()?.lock().set(part, Child::Absent);
                drop(old);
                return Ok(());
            };
            let is_directory = Kind::from_mode(node.attributes.mode) == Some(Kind::Directory);
            let old = at.listing()?.lock().learn(part, node.clone());
            drop(old);
            if !is_directory {
                return Ok(());
            }
            if index + 1 < parts.len() {
                at = at.known(part)?.unwrap_or(Err(Errno::ENOENT))?;
            }
        }
        Ok(())
    }

    /// Fetches all names of the directory, unless they are known.
    pub(super) fn list_all(&self) -> Result<()> {
        self.drop_outdated()?;
        if self.listing()?.lock().is_complete {
            return Ok(());
        }
        let path = self.path()?;
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let from = u32::try_from(all.len()).map_err(|_| Errno::EOVERFLOW)?;
            let request = Request::ReadDir { export: self.fs.export, path: &path, from };
            let Reply::Entries { entries, more } = broker::request(&request)?.0 else { return Err(Errno::EIO) };
            let is_end = !more || entries.is_empty();
            all.extend(entries);
            if is_end {
                break;
            }
        }
        self.learn_all(all)
    }

    fn learn_all(&self, all: Vec<Entry>) -> Result<()> {
        let mut listing = self.listing()?.lock();
        let mut fresh = Listing::new(listing.generation);
        let mut replaced = Vec::new();
        for entry in all {
            if let Some(Child::Live(inode)) = listing.entries.remove(&entry.name) {
                fresh.entries.insert(&entry.name, Child::Live(inode));
            }
            replaced.extend(fresh.learn(&entry.name, entry.node));
        }
        fresh.is_complete = true;
        let old = core::mem::replace(&mut *listing, fresh);
        drop(listing);
        drop((old, replaced));
        Ok(())
    }
}
