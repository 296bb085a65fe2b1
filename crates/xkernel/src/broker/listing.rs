//! ReadDir: entries of a directory, with their attributes where they are wanted, in as many replies as they need; small files
//! among them opened, where the asker will most likely open them next.
//!
//! A directory that goes on stays open here, so that reading it whole costs time linear in its
//! length. It holds a descriptor and where to go on, and no names, whatever the directory's size.

use super::attributes;
use super::bucket::Bucket;
use super::export::{Export, look_and_open_small};
use super::watch::Watches;
use abi::broker::{Attributes, Entry, MAX_REPLY, Node};
use abi::name::Name;
use rustix::fs::{FileType, RawDir, RawDirEntry, SeekFrom, seek};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Most directories that stay open between two replies.
const OPEN_LIMIT: usize = 16;
/// Bytes of one reply that entries may take: the rest is for the envelope and the places of what was opened.
const ROOM: usize = MAX_REPLY - 256;
/// Upper bound of an encoded entry without its name and target: varints at their longest.
const ENTRY_COST: usize = 128;
/// So many times as many files as may be opened are tried at most: of the others it shows only then that they are large.
const TRIES: usize = 2;
/// Room is made for so many entries at first.
const USUAL: usize = 32;
/// Bytes that are read of a directory at once.
const READ: usize = 16 * 1024;

/// One reply's entries.
#[derive(Default)]
pub(super) struct Chunk {
    /// Attributes of the directory.
    pub(super) directory: Attributes,
    pub(super) entries: Vec<Entry>,
    /// Files that were opened, and which of the entries they are.
    pub(super) opened: Vec<(u16, OwnedFd)>,
    /// Whether the directory goes on.
    pub(super) more: bool,
}

/// A directory to read.
pub(super) struct Directory<'a> {
    pub(super) watches: &'a Watches,
    /// Each file that is tried is paid: it is as much work as a request.
    pub(super) bucket: &'a Bucket,
    pub(super) number: u16,
    pub(super) export: &'a Export,
    pub(super) path: &'a [u8],
    pub(super) wants_attributes: bool,
    /// How many files may be opened.
    pub(super) open: usize,
}

/// What may still be opened for one reply, and tried.
struct Tries<'a> {
    bucket: &'a Bucket,
    open: usize,
    tries: usize,
}

/// Directories that were read in part, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Listings {
    open: Mutex<VecDeque<Listing>>,
}

#[derive(Debug)]
struct Listing {
    export: u16,
    path: Vec<u8>,
    wants_attributes: bool,
    /// How many entries went out: the only position from which this listing can go on.
    delivered: u32,
    /// The same for the host; 0 for the start.
    cookie: u64,
    directory: OwnedFd,
    /// Its own attributes, from before its entries were read.
    attributes: Attributes,
}

impl Listings {
    /// Entries of a directory from a position on. It is watched before it is read.
    ///
    /// # Errors
    /// Those of opening and reading it. A mount point in the export is an empty directory.
    pub(super) fn read(&self, directory: &Directory<'_>, from: u32) -> Result<Chunk, Errno> {
        let &Directory { export, path, .. } = directory;
        if from == 0 {
            self.forget(directory);
        }
        let mut listing = match self.take(directory, from) {
            Some(listing) => listing,
            None => match Listing::open(directory, from) {
                Err(Errno::XDEV) if is_mount_point(export, path) => return Ok(Chunk::default()),
                listing => listing?,
            },
        };
        let tries = Tries { bucket: directory.bucket, open: directory.open, tries: TRIES * directory.open };
        let chunk = listing.chunk(tries)?;
        if chunk.more {
            self.keep(listing);
        }
        Ok(chunk)
    }

    /// Who begins anew goes on from nothing that was there before: of a listing that nobody read to its end, the place is another one
    /// since the directory has changed.
    fn forget(&self, directory: &Directory<'_>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|listing| !listing.is_of(directory));
    }

    fn take(&self, directory: &Directory<'_>, from: u32) -> Option<Listing> {
        if from == 0 {
            return None;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let index = open.iter().position(|listing| listing.delivered == from && listing.is_of(directory))?;
        open.remove(index)
    }

    fn keep(&self, listing: Listing) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(listing);
        if open.len() > OPEN_LIMIT {
            open.pop_front();
        }
    }
}

impl Listing {
    fn is_of(&self, directory: &Directory<'_>) -> bool {
        let is_same = self.export == directory.number && self.path == directory.path;
        is_same && self.wants_attributes == directory.wants_attributes
    }

    /// Opens a directory and passes over the entries before `from`.
    fn open(directory: &Directory<'_>, from: u32) -> Result<Self, Errno> {
        let &Directory { watches, number: export, export: of, path, wants_attributes, .. } = directory;
        let directory = of.readable_directory(path)?;
        let mut attributes = attributes::of_descriptor(&directory)?;
        if watches.watch_known(of, &directory, &attributes) {
            attributes = attributes::of_descriptor(&directory)?;
        }
        let path = path.to_vec();
        let mut listing = Self { export, path, wants_attributes, delivered: 0, cookie: 0, directory, attributes };
        listing.pass_over(from)?;
        Ok(listing)
    }

    fn pass_over(&mut self, count: u32) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut stream = RawDir::new(&self.directory, &mut buffer);
        while self.delivered < count
            && let Some(entry) = stream.next().transpose()?
        {
            if !is_dots(&entry) {
                self.delivered += 1;
                self.cookie = entry.next_entry_cookie();
            }
        }
        Ok(())
    }

    /// As many entries as one reply holds.
    fn chunk(&mut self, mut tries: Tries<'_>) -> Result<Chunk, Errno> {
        let entries = Vec::with_capacity(USUAL);
        let mut chunk = Chunk { directory: self.attributes, entries, ..Chunk::default() };
        let mut room = ROOM;
        let mut buffer = [MaybeUninit::uninit(); READ];
        if self.cookie != 0 {
            seek(&self.directory, SeekFrom::Start(self.cookie))?;
        }
        let mut stream = RawDir::new(&self.directory, &mut buffer);
        while let Some(entry) = stream.next().transpose()? {
            if is_dots(&entry) {
                continue;
            }
            let opened = self.look_and_open(&entry, &mut tries);
            let looked = || look(&self.directory, &entry, self.wants_attributes).map(|node| (node, None));
            let Some((node, file)) = opened.or_else(looked) else {
                continue;
            };
            let name = Name::from(entry.file_name().to_bytes());
            let cost = ENTRY_COST + name.len() + node.target.len();
            if cost > room {
                // It is looked at again.
                chunk.more = true;
                return Ok(chunk);
            }
            room -= cost;
            if let (Some(file), Ok(place)) = (file, u16::try_from(chunk.entries.len())) {
                tries.open -= 1;
                chunk.opened.push((place, file));
            }
            chunk.entries.push(Entry { name, node });
            self.delivered = self.delivered.saturating_add(1);
            self.cookie = entry.next_entry_cookie();
        }
        Ok(chunk)
    }

    /// The node of a small file, and the file where it could be opened; None for others.
    fn look_and_open(&self, entry: &RawDirEntry<'_>, tries: &mut Tries<'_>) -> Option<(Node, Option<OwnedFd>)> {
        if tries.open == 0 || !self.wants_attributes || entry.file_type() != FileType::RegularFile {
            return None;
        }
        tries.tries = tries.tries.checked_sub(1)?;
        tries.bucket.take();
        let (attributes, file) = look_and_open_small(self.directory.as_fd(), entry.file_name().to_bytes()).ok()?;
        Some((Node { attributes, target: Vec::new() }, file))
    }
}

fn is_dots(entry: &RawDirEntry<'_>) -> bool {
    matches!(entry.file_name().to_bytes(), b"." | b"..")
}

/// The node of an entry; None where it was removed since.
fn look(directory: &OwnedFd, entry: &RawDirEntry<'_>, wants_attributes: bool) -> Option<Node> {
    let (name, kind) = (entry.file_name(), entry.file_type());
    // Whoever reads a directory goes on into those below it, and through links.
    let leads_on = matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
    if !wants_attributes && !leads_on {
        return Some(bare_node(entry));
    }
    match attributes::node_of_name(directory.as_fd(), name) {
        Ok(node) => Some(node),
        Err(Errno::NOENT) => None,
        // A directory that may be read but not searched: the name and type are all there is.
        Err(_) => Some(bare_node(entry)),
    }
}

fn bare_node(entry: &RawDirEntry<'_>) -> Node {
    let attributes = Attributes { inode: entry.ino(), mode: entry.file_type().as_raw_mode(), ..Attributes::default() };
    Node { attributes, target: Vec::new() }
}

/// Whether only the last component of a path leads into another mount.
fn is_mount_point(export: &Export, path: &[u8]) -> bool {
    export.parent(path).is_ok()
}
