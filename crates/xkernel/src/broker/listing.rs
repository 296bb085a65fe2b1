//! ReadDir: entries of a directory, with their attributes where they are wanted, in as many replies as they need.
//!
//! A directory that goes on stays open here, so that reading it whole costs time linear in its
//! length. Open streams hold a fixed buffer each and no names, whatever the directory's size.

use super::attributes;
use super::export::Export;
use super::watch::Watches;
use abi::broker::{Attributes, Entry, MAX_REPLY, Node};
use rustix::fs::{Dir, DirEntry, FileType};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Most directories that stay open between two replies.
const OPEN_LIMIT: usize = 16;
/// Bytes of one reply that entries may take: the rest is for the envelope.
const ROOM: usize = MAX_REPLY - 64;
/// Upper bound of an encoded entry without its name and target: varints at their longest.
const ENTRY_COST: usize = 128;

/// The directory, one reply's entries, and whether the directory goes on.
pub(super) type Chunk = (Attributes, Vec<Entry>, bool);

/// A directory to read.
pub(super) struct Directory<'a> {
    pub(super) watches: &'a Watches,
    pub(super) number: u16,
    pub(super) export: &'a Export,
    pub(super) path: &'a [u8],
    pub(super) wants_attributes: bool,
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
    /// How many entries went out: the only position from which this stream can go on.
    delivered: u32,
    /// For the attributes of its names.
    directory: OwnedFd,
    /// Its own attributes, from before its entries were read.
    attributes: Attributes,
    stream: Dir,
    /// The entry that did not fit any more.
    held: Option<Entry>,
}

impl Listings {
    /// Entries of a directory from a position on. It is watched before it is read.
    ///
    /// # Errors
    /// Those of opening and reading it. A mount point in the export is an empty directory.
    pub(super) fn read(&self, directory: &Directory<'_>, from: u32) -> Result<Chunk, Errno> {
        let &Directory { export, path, .. } = directory;
        let mut listing = match self.take(directory, from) {
            Some(listing) => listing,
            None => match Listing::open(directory, from) {
                Err(Errno::XDEV) if is_mount_point(export, path) => {
                    return Ok((Attributes::default(), Vec::new(), false));
                }
                listing => listing?,
            },
        };
        let attributes = listing.attributes;
        let (entries, more) = listing.chunk()?;
        if more {
            self.keep(listing);
        }
        Ok((attributes, entries, more))
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
        let &Directory { watches, number, export, path, wants_attributes } = directory;
        let directory = export.readable_directory(path)?;
        watches.watch(export, &directory)?;
        let attributes = attributes::of_descriptor(&directory)?;
        let stream = Dir::read_from(&directory)?;
        let (export, path) = (number, path.to_vec());
        let mut listing =
            Self { export, path, wants_attributes, delivered: 0, directory, attributes, stream, held: None };
        while listing.delivered < from && listing.next()?.is_some() {
            listing.delivered += 1;
        }
        Ok(listing)
    }

    /// As many entries as one reply holds.
    fn chunk(&mut self) -> Result<(Vec<Entry>, bool), Errno> {
        let mut entries = Vec::new();
        let mut room = ROOM;
        while let Some(entry) = self.next()? {
            let cost = ENTRY_COST + entry.name.len() + entry.node.target.len();
            if cost > room {
                self.held = Some(entry);
                return Ok((entries, true));
            }
            room -= cost;
            entries.push(entry);
            self.delivered = self.delivered.saturating_add(1);
        }
        Ok((entries, false))
    }

    fn next(&mut self) -> Result<Option<Entry>, Errno> {
        if let Some(entry) = self.held.take() {
            return Ok(Some(entry));
        }
        while let Some(entry) = self.stream.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Whoever reads a directory goes on into those below it, and through links.
            let leads_on = matches!(entry.file_type(), FileType::Directory | FileType::Symlink | FileType::Unknown);
            if !self.wants_attributes && !leads_on {
                return Ok(Some(Entry { name: name.to_bytes().to_vec(), node: bare_node(&entry) }));
            }
            let node = match attributes::node_of_name(self.directory.as_fd(), name) {
                Ok(node) => node,
                // Removed since.
                Err(Errno::NOENT) => continue,
                // A directory that may be read but not searched: the name and type are all there is.
                Err(_) => bare_node(&entry),
            };
            return Ok(Some(Entry { name: name.to_bytes().to_vec(), node }));
        }
        Ok(None)
    }
}

fn bare_node(entry: &DirEntry) -> Node {
    let attributes = Attributes { inode: entry.ino(), mode: entry.file_type().as_raw_mode(), ..Attributes::default() };
    Node { attributes, target: Vec::new() }
}

/// Whether only the last component of a path leads into another mount.
fn is_mount_point(export: &Export, path: &[u8]) -> bool {
    export.parent(path).is_ok()
}
