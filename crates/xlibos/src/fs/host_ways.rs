//! The ways to a file of the host that is known, and requests that go on another where one leads elsewhere.

use super::broker;
use super::host_place::Place;
use super::host_watch::Moment;
use super::hostfs::HostInode;
use super::inode::{Inode, Kind};
use crate::{Errno, Result};
use abi::broker::{Attributes, FileAt, Reply, Request};
use alloc::vec::Vec;

impl HostInode {
    /// The inode number that the supervisor is to find: 0 for any, where the first write to a file of several names makes it another.
    fn expected(&self) -> u64 {
        if self.fs.trust.is_mappable || self.attributes().links <= 1 { self.id().ino } else { 0 }
    }

    /// Asks for something by the file's path and inode number; where that leads to nothing or to another file, once more by
    /// another name of it.
    pub(super) fn by_name<T>(&self, mut ask: impl FnMut(FileAt<'_>) -> Result<T>) -> Result<T> {
        let mut ask = || ask(FileAt { path: &self.path()?, inode: self.expected() });
        match ask() {
            Err(errno) if is_elsewhere(errno) => match self.refresh_by_path()? {
                Some(_) => ask(),
                None => Err(Errno::ENOENT),
            },
            answer => answer,
        }
    }

    /// None where the file is not found. It has no name any more where the directory that had it says so; where that is not found
    /// either, it may be back in a moment.
    pub(super) fn refresh_by_path(&self) -> Result<Option<Attributes>> {
        let asked = self.ask(self.way())?.found;
        if asked.is_some() || self.is_removed() {
            return Ok(asked);
        }
        // The container itself may be taking the name away, and give it another.
        let _moving = self.fs.moving.lock_harmlessly();
        let mut left = self.place.lock().count_others();
        loop {
            let asked = self.ask(self.way_from_above())?;
            if asked.found.is_some() || !asked.is_directory_there && left == 0 {
                return Ok(asked.found);
            }
            if !asked.is_directory_there {
                left -= 1;
                self.change_place(Place::turn);
                continue;
            }
            // The host has removed it, or given the name to another.
            let gone = self.change_place(|place| {
                let gone = place.leave();
                place.is_removed = gone.is_none();
                gone
            });
            if gone.is_none() {
                return Ok(None);
            }
        }
    }

    /// The shortest way to the file: a directory says itself what it is. None where there is none.
    fn way(&self) -> Option<Way> {
        let mut names = Vec::new();
        let directory = self.name_to(&mut names).filter(|_| self.kind() != Kind::Directory);
        let (from, name) = match directory.filter(|_| !self.is_removed()) {
            Some(directory) => (directory.path().ok()?, names.pop()?.to_vec()),
            None => (self.path().ok()?, Vec::new()),
        };
        Some(Way { from, above: None, name })
    }

    /// The way on which its directory is met.
    fn way_from_above(&self) -> Option<Way> {
        let mut names = Vec::new();
        let directory = self.name_to(&mut names)?;
        let above = directory.name_to(&mut names).filter(|_| !self.is_removed());
        let name = names.pop()?;
        let Some(above) = above else { return self.way() };
        Some(Way {
            from: above.path().ok()?,
            above: Some(directory.id().ino),
            name: [&*name, b"/", &*names.pop()?].concat(),
        })
    }

    /// Asks for the attributes by a way to the file.
    fn ask(&self, way: Option<Way>) -> Result<Asked> {
        let Some(Way { from, above, name }) = way else { return Ok(Asked::default()) };
        let since = Moment::now(&self.fs.own_changes);
        let generation = self.watched_word(&self.attributes()).generation();
        let nodes = match broker::request(&Request::Walk { export: self.fs.export, from: &from, path: &name }) {
            Ok((Reply::Nodes(nodes), _)) => nodes,
            Ok(_) => return Err(Errno::EIO),
            Err(errno) if is_elsewhere(errno) => return Ok(Asked::default()),
            Err(errno) => return Err(errno),
        };
        let mut nodes = nodes.iter().map(|node| node.attributes);
        let is_directory_there = above.is_none_or(|ino| nodes.next().is_some_and(|directory| directory.inode == ino));
        let found = nodes.next_back().filter(|found| is_directory_there && found.inode == self.id().ino);
        // A directory is watched where it says itself what it is.
        if let Some(found) = found.filter(|_| self.kind() != Kind::Directory || name.is_empty()) {
            self.set_known(found, generation, since);
        }
        Ok(Asked { found, is_directory_there })
    }
}

/// A way to a file: from a directory, by way of another one of this inode number or directly.
struct Way {
    from: Vec<u8>,
    above: Option<u64>,
    name: Vec<u8>,
}

/// What was found on it.
#[derive(Default)]
struct Asked {
    found: Option<Attributes>,
    is_directory_there: bool,
}

/// Whether the failure says that a file is not where it was thought to be.
fn is_elsewhere(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV)
}
