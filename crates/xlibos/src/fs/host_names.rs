//! What is known of a host directory's names, and how it is learned in bulk.

use super::broker;
use super::channels::Answer;
use super::dentry::Name;
use super::dir_map::DirMap;
use super::host_ahead::Asked;
use super::host_place::Spot;
use super::host_watch::{self, Moment, OUTDATED};
use super::hostfs::{HostInode, attributes_generation};
use super::inode::{DirEntry, Inode, Kind};
use crate::{Errno, Result};
use abi::broker::{Attributes, Entry, MOST_BESIDE, Node, Reply, Request, SMALL_FILE};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::host::HostFd;
use machine::sync::MutexGuard;

/// A directory's names. Those of earlier rounds may have changed since; they keep their inodes and their places in the order.
#[derive(Default)]
pub(super) struct Listing {
    entries: DirMap<Noted>,
    /// What the names of this round hold for.
    generation: u64,
    round: u32,
    /// Every name is known: the others are absent.
    is_complete: bool,
    /// So are their attributes.
    has_attributes: bool,
    /// They were fetched with the names because a program read the directory.
    was_read: bool,
    misses: u64,
    /// Look-ups that a complete listing has answered.
    answered: u32,
}

/// Look-ups of names that are asked one by one in a small directory, before it is listed.
const FEW: u64 = 3;
/// Look-ups that a listing answers when it was worth its price: that of so many requests.
const WORTH: u32 = 3;
/// Directories that are listed at the first look-up for each that was worth it, and how many at most in advance.
const CREDIT: u32 = 2;
const MOST_CREDIT: u32 = 64;

/// More requests for names under way than this are a walk over a tree by many threads, which all begin before a listing has
/// proven its worth.
const ALONE: u32 = 2;

/// Whether it is likely that a program that asks for one name of a directory asks for others: whoever walks over a tree pays
/// one request a directory, and a program that needs a file here and there does not pay for whole directories.
#[derive(Debug, Default)]
pub(super) struct Eagerness {
    credit: AtomicU32,
    under_way: AtomicU32,
}

impl Eagerness {
    /// A listing was worth it.
    fn earn(&self) {
        let _ =
            self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |had| Some((had + CREDIT).min(MOST_CREDIT)));
    }

    /// Takes one in advance, where there was reason for that.
    fn spend(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > ALONE
            || self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |had| had.checked_sub(1)).is_ok()
    }

    /// A request is under way until the end of what is returned.
    fn ask(&self) -> impl Drop {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }
}

struct UnderWay<'a>(&'a AtomicU32);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a name, with the round and the last bits of the second in which it was learned: no larger than a
/// [`Child`].
pub(super) enum Noted {
    Known {
        second: u16,
        round: u32,
        node: Arc<Node>,
    },
    Live {
        round: u32,
        inode: Arc<HostInode>,
    },
    /// Of its attributes nothing is known.
    Named {
        kind: Kind,
        round: u32,
        ino: u64,
    },
    /// The same, and it may still lead to this inode.
    Unsure {
        round: u32,
        inode: Arc<HostInode>,
    },
    Absent {
        round: u32,
    },
}

/// So many entries of a directory are looked at for files to open in advance, or for the next directory.
const MOST_LOOKS: usize = 128;
/// Of so many the next one in the order of names is found.
const MOST_SORTED: usize = 512;

/// A directory beside another one.
pub(super) struct Beside {
    pub(super) name: Name,
    /// What was heard of it.
    pub(super) attributes: Attributes,
    /// Where there is one.
    pub(super) inode: Option<Arc<HostInode>>,
}

fn is_small_file(attributes: &Attributes) -> bool {
    Kind::from_mode(attributes.mode) == Some(Kind::File) && attributes.size <= SMALL_FILE
}

impl Noted {
    fn new(child: Child, round: u32, second: u32) -> Noted {
        let second = last_bits(second);
        match child {
            Child::Known(node) => Noted::Known { second, round, node },
            Child::Live(inode) => Noted::Live { round, inode },
            Child::Absent => Noted::Absent { round },
        }
    }

    fn round(&self) -> u32 {
        match self {
            Noted::Known { round, .. }
            | Noted::Live { round, .. }
            | Noted::Named { round, .. }
            | Noted::Unsure { round, .. }
            | Noted::Absent { round } => *round,
        }
    }

    fn is_directory(&self) -> bool {
        match self {
            Noted::Known { node, .. } => Kind::from_mode(node.attributes.mode) == Some(Kind::Directory),
            Noted::Live { inode, .. } | Noted::Unsure { inode, .. } => inode.kind() == Kind::Directory,
            Noted::Named { kind, .. } => *kind == Kind::Directory,
            Noted::Absent { .. } => false,
        }
    }

    /// None for what is no directory, or of which nothing but the name was heard.
    fn beside(&self, name: &Name) -> Option<Beside> {
        let (attributes, inode) = match self {
            Noted::Known { node, .. } => (node.attributes, None),
            Noted::Live { inode, .. } | Noted::Unsure { inode, .. } => (inode.attributes(), Some(Arc::clone(inode))),
            Noted::Named { .. } | Noted::Absent { .. } => return None,
        };
        self.is_directory().then(|| Beside { name: Name::clone(name), attributes, inode })
    }

    fn into_child(self) -> Child {
        match self {
            Noted::Known { node, .. } => Child::Known(node),
            Noted::Live { inode, .. } | Noted::Unsure { inode, .. } => Child::Live(inode),
            Noted::Named { .. } | Noted::Absent { .. } => Child::Absent,
        }
    }
}

fn last_bits(second: u32) -> u16 {
    (second >> 1) as u16
}

/// What is known of a name.
pub(super) enum Child {
    /// Its node; no inode was needed yet.
    Known(Arc<Node>),
    /// Its inode.
    Live(Arc<HostInode>),
    /// There is none.
    Absent,
}

/// Answer of a look into a listing.
enum Look {
    Live(Arc<HostInode>),
    /// With the last bits of the second in which it was learned, and the name.
    Known(Arc<Node>, u16, Name),
    Absent,
    Unknown,
}

impl Listing {
    pub(super) fn new(generation: u64) -> Listing {
        Listing { generation, ..Listing::default() }
    }

    /// Whether nothing was noted yet, nor told since this generation.
    pub(super) fn is_untouched(&self, generation: u64) -> bool {
        self.is_empty() && self.generation == generation
    }

    /// Whether no name is noted.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.len() == 0 && !self.is_complete
    }

    /// Notes what a name is; returns what was noted before. An absent name of a complete listing needs no entry.
    pub(super) fn set(&mut self, name: &[u8], child: Child) -> Option<Child> {
        self.set_at(name, child, host_watch::second())
    }

    fn set_at<N: Deref<Target = [u8]> + Into<Name>>(&mut self, name: N, child: Child, second: u32) -> Option<Child> {
        let old = match child {
            Child::Absent if self.is_complete => self.entries.remove(&name),
            child => self.entries.insert(name, Noted::new(child, self.round, second)),
        };
        old.map(Noted::into_child)
    }

    /// The inode that a name leads to, or did when it was last looked at.
    pub(super) fn inode(&self, name: &[u8]) -> Option<Arc<HostInode>> {
        match self.entries.get(name)? {
            Noted::Live { inode, .. } | Noted::Unsure { inode, .. } => Some(Arc::clone(inode)),
            Noted::Known { .. } | Noted::Named { .. } | Noted::Absent { .. } => None,
        }
    }

    fn look(&self, name: &[u8]) -> Look {
        match self.entries.get_named(name).filter(|(_, noted)| noted.round() == self.round) {
            Some((_, Noted::Live { inode, .. })) => Look::Live(Arc::clone(inode)),
            Some((name, Noted::Known { node, second, .. })) => {
                Look::Known(Arc::clone(node), *second, Name::clone(name))
            }
            Some((_, Noted::Absent { .. })) => Look::Absent,
            Some((_, Noted::Named { .. } | Noted::Unsure { .. })) => Look::Unknown,
            None if self.is_complete => Look::Absent,
            None => Look::Unknown,
        }
    }

    /// Notes the inode that was made of a node, where that is still what is known of the name. What it leads to then: None where
    /// nothing is known any more; and what is to be dropped.
    pub(super) fn make_live(
        &mut self,
        name: &[u8],
        of: &Arc<Node>,
        made: Arc<HostInode>,
    ) -> (Option<Arc<HostInode>>, Option<Noted>) {
        let round = match self.entries.get(name) {
            Some(Noted::Known { node, round, .. }) if Arc::ptr_eq(node, of) || node == of => *round,
            Some(Noted::Live { inode, .. } | Noted::Unsure { inode, .. }) => return (Some(Arc::clone(inode)), None),
            _ => return (None, None),
        };
        let old = self.entries.insert(name, Noted::Live { round, inode: Arc::clone(&made) });
        (Some(made), old)
    }

    /// Notes a node of the directory. Where its inode is there already and still the same, that learns the attributes; it is
    /// returned where it has handles on what may be another file now.
    fn learn<N: Deref<Target = [u8]> + Into<Name>>(
        &mut self,
        directory: &Arc<HostInode>,
        name: N,
        node: Node,
        generation: u64,
        since: Moment,
    ) -> Learned {
        let inode = match self.entries.get(&name) {
            Some(Noted::Live { inode, .. } | Noted::Unsure { inode, .. }) if inode.is_of(&node.attributes) => {
                Arc::clone(inode)
            }
            _ => {
                let old = self.set_at(name, Child::Known(Arc::new(node)), since.second);
                return Learned { old, ..Learned::default() };
            }
        };
        let (has_changed, gone) = inode.learn((directory, &*name), &node.attributes, generation, since);
        let old = self.set_at(name, Child::Live(Arc::clone(&inode)), since.second);
        Learned { old, changed: has_changed.then_some(inode), gone }
    }

    /// Notes that a name is there, unless more is known of it.
    fn learn_name(&mut self, name: &[u8], attributes: &Attributes) -> Option<Noted> {
        let round = self.round;
        let noted = match self.entries.get(name) {
            Some(Noted::Known { round: at, .. } | Noted::Live { round: at, .. }) if *at == round => return None,
            Some(Noted::Live { inode, .. } | Noted::Unsure { inode, .. }) if inode.is_of(attributes) => {
                Noted::Unsure { round, inode: Arc::clone(inode) }
            }
            _ => Noted::Named {
                kind: Kind::from_mode(attributes.mode).unwrap_or(Kind::File),
                round,
                ino: attributes.inode,
            },
        };
        self.entries.insert(name, noted)
    }

    /// All names of this round are noted; returns the others.
    fn complete(&mut self, has_attributes: bool) -> Vec<Noted> {
        self.is_complete = true;
        self.has_attributes = has_attributes;
        let round = self.round;
        self.entries.take(|noted| noted.round() != round || matches!(noted, Noted::Absent { .. }))
    }

    /// What was asked at `generation` is noted: nothing holds any longer where something was told meanwhile, or the container
    /// itself made changes.
    fn doubt_unless(&mut self, generation: u64, is_alone: bool) {
        if self.generation != generation || !is_alone {
            self.generation = OUTDATED;
        }
    }

    /// Names of small files without a handle, those behind a name first.
    fn files_around(&self, name: &[u8], most: usize) -> Vec<Name> {
        let Some(at) = self.entries.cookie(name) else { return Vec::new() };
        let is_small = |noted: &Noted| match noted {
            Noted::Known { node, .. } => is_small_file(&node.attributes),
            Noted::Live { inode, .. } => is_small_file(&inode.attributes()) && !inode.has_handles(),
            Noted::Named { .. } | Noted::Unsure { .. } | Noted::Absent { .. } => false,
        };
        let before = self.entries.from(0).take_while(|(next, ..)| *next <= at);
        let around = self.entries.from(at + 1).chain(before).take(MOST_LOOKS);
        let files = around.filter(|(_, _, noted)| noted.round() == self.round && is_small(noted));
        files.take(most).map(|(_, name, _)| Name::clone(name)).collect()
    }

    /// The directory that comes next in the order of the entries (0), or in that of names (1), where it is soon found.
    pub(super) fn directory_behind(&self, name: &[u8], order: usize) -> Option<Beside> {
        let is_directory = |noted: &Noted| noted.round() == self.round && noted.is_directory();
        if order == 0 {
            let at = self.entries.cookie(name).unwrap_or(u64::MAX - 1);
            let mut behind = self.entries.from(at + 1).take(MOST_LOOKS).filter(|(_, _, noted)| is_directory(noted));
            return behind.next().and_then(|(_, name, noted)| noted.beside(name));
        }
        if self.entries.len() > MOST_SORTED {
            return None;
        }
        // What is looked at of each is its name, of hardly any more.
        let mut next: Option<(&Name, &Noted)> = None;
        for (other, noted) in self.entries.iter() {
            if **other > *name && next.is_none_or(|(best, _)| other < best) && is_directory(noted) {
                next = Some((other, noted));
            }
        }
        next.and_then(|(name, noted)| noted.beside(name))
    }

    /// Names that are there, from a cookie on.
    pub(super) fn known_from(&self, cookie: u64) -> impl Iterator<Item = DirEntry<'_>> {
        let of_round = self.entries.from(cookie).filter(|(_, _, noted)| noted.round() == self.round);
        of_round.filter_map(|(next, name, noted)| {
            let (ino, kind) = match noted {
                Noted::Absent { .. } => return None,
                Noted::Live { inode, .. } | Noted::Unsure { inode, .. } => (inode.id().ino, inode.kind()),
                Noted::Named { ino, kind, .. } => (*ino, *kind),
                Noted::Known { node, .. } => {
                    (node.attributes.inode, Kind::from_mode(node.attributes.mode).unwrap_or(Kind::File))
                }
            };
            Some(DirEntry { name, ino, kind, next })
        })
    }
}

/// What learning a node left to be done without locks.
#[derive(Default)]
struct Learned {
    /// Dropped: it may have locks of its own.
    old: Option<Child>,
    changed: Option<Arc<HostInode>>,
    /// Dropped, too.
    gone: Option<Spot>,
}

impl Learned {
    fn is_unfinished(&self) -> bool {
        self.old.is_some() || self.changed.is_some() || self.gone.is_some()
    }

    fn finish(self) {
        drop((self.old, self.gone));
        if let Some(inode) = self.changed {
            inode.drop_dead_handles();
        }
    }
}

/// Whether an answer may have failed for the descriptors that were to travel with it.
pub(super) fn is_of_descriptors(errno: Errno) -> bool {
    matches!(errno, Errno::ETOOMANYREFS | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO)
}

/// What the host says of a directory.
#[derive(Default)]
struct Fetched {
    itself: Option<Attributes>,
    all: Vec<Entry>,
    /// Files opened in advance.
    opened: Vec<(Name, Attributes, HostFd)>,
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
        if let Some(found) = self.known(name)? {
            return found;
        }
        let _under_way = self.fs.eagerness.ask();
        if self.count_miss()? {
            self.list_all()?;
        } else {
            self.walk(&[name])?;
        }
        if let Some(found) = self.known(name)? {
            return found;
        }
        // What was said of it may have been taken back by what others do.
        self.walk(&[name])?;
        self.known(name)?.unwrap_or(Err(Errno::ENOENT))
    }

    /// What is known of a name: None for nothing.
    fn known(&self, name: &[u8]) -> Result<Option<Result<Arc<HostInode>>>> {
        let mut listing = self.listing()?.lock();
        let (look, generation) = (listing.look(name), listing.generation);
        if listing.is_complete {
            listing.answered = listing.answered.saturating_add(u32::from(!matches!(look, Look::Unknown)));
            if listing.answered == WORTH && listing.has_attributes {
                if listing.was_read { self.fs.looks_behind.earn() } else { self.fs.eagerness.earn() }
            }
        }
        drop(listing);
        self.live(name, look, generation)
    }

    /// The inode of a name, made where only its node is known so far.
    fn live(&self, name: &[u8], look: Look, generation: u64) -> Result<Option<Result<Arc<HostInode>>>> {
        let (node, second, own_name) = match look {
            Look::Unknown => return Ok(None),
            Look::Absent => return Ok(Some(Err(Errno::ENOENT))),
            Look::Live(inode) => return Ok(Some(Ok(inode))),
            Look::Known(node, second, own_name) => (node, second, own_name),
        };
        // That is all that has to be told apart.
        let now = host_watch::second();
        let second = if last_bits(now) == second { now } else { 0 };
        let generation = attributes_generation(&node.attributes, generation, second);
        let inode = self.fs.inode(&self.arc()?, &own_name, &node, generation)?;
        // Another may have made one meanwhile, or the name lead to another file.
        let (inode, old) = self.listing()?.lock().make_live(name, &node, inode);
        drop(old);
        Ok(inode.map(Ok))
    }

    /// Names of at most `most` small files without a handle: those that a program which reads the directory in its order opens
    /// after `name`. What other machines may change is not opened in advance: each opening would be a message to them.
    pub(super) fn files_to_open(&self, name: &[u8], most: usize) -> Vec<Name> {
        let Ok(listing) = self.listing() else { return Vec::new() };
        if !self.fs.trust.is_watched {
            return Vec::new();
        }
        listing.lock().files_around(name, most)
    }

    /// The inode of a name, where it is this file of which no more than the node is needed.
    pub(super) fn file_of(&self, name: &[u8], attributes: &Attributes) -> Option<Arc<HostInode>> {
        let listing = self.listing().ok()?.lock();
        let (look, generation) = (listing.look(name), listing.generation);
        drop(listing);
        let inode = self.live(name, look, generation).ok()??.ok()?;
        inode.is_of(attributes).then_some(inode)
    }

    /// Whether the node is still the inode's.
    fn is_of(&self, attributes: &Attributes) -> bool {
        self.id().ino == attributes.inode && Some(self.kind()) == Kind::from_mode(attributes.mode)
    }

    /// Doubts names that may have changed on the host; returns what those of the new round hold for.
    fn drop_outdated(&self) -> Result<u64> {
        let generation = self.names_generation();
        let mut listing = self.listing()?.lock();
        if listing.generation != generation {
            listing.generation = generation;
            listing.round = listing.round.wrapping_add(1);
            listing.is_complete = false;
            listing.has_attributes = false;
            listing.misses = 0;
            listing.answered = 0;
        }
        Ok(generation)
    }

    /// Counts a look-up that had to ask; true once a whole listing is worth its price, which grows with the directory. A small
    /// directory is listed at once where other listings were worth it. What the start itself looks up tells nothing of programs.
    fn count_miss(&self) -> Result<bool> {
        const SMALL: u64 = 4096;
        if crate::kernel::is_starting() {
            return Ok(false);
        }
        let size = self.attributes().size;
        let mut listing = self.listing()?.lock();
        listing.misses += 1;
        let (misses, has_names) = (listing.misses, listing.is_complete);
        drop(listing);
        let is_due = misses > FEW * size.div_ceil(SMALL).max(1) || size <= SMALL && self.fs.eagerness.spend();
        if is_due && has_names {
            self.fs.looks_behind.earn();
        }
        Ok(is_due)
    }

    /// Walks a path in one request, where its first name is not known.
    pub(super) fn walk_ahead(&self, path: &[u8]) -> Result<()> {
        self.drop_outdated()?;
        let parts = plain_components(path);
        let Some(first) = parts.first() else { return Ok(()) };
        if parts.len() < 2 || !matches!(self.listing()?.lock().look(first), Look::Unknown) {
            return Ok(());
        }
        let _under_way = self.fs.eagerness.ask();
        if self.count_miss()? { self.list_all() } else { self.walk(&parts) }
    }

    fn walk(&self, parts: &[&[u8]]) -> Result<()> {
        let since = Moment::now(&self.fs.own_changes);
        let mut generation = self.drop_outdated()?;
        let from = self.path()?;
        let path = parts.join(&b'/');
        let request = Request::Walk { export: self.fs.export, from: &from, path: &path };
        let Reply::Nodes(nodes) = broker::request(&request)?.0 else { return Err(Errno::EIO) };
        let mut at = self.arc()?;
        let mut nodes = nodes.into_iter();
        let mut parts = parts.iter().peekable();
        while let Some(part) = parts.next() {
            let node = nodes.next();
            let attributes = node.as_ref().map(|node| node.attributes);
            at.learn_name(part, node, generation, since)?;
            let is_directory = |a: &Attributes| Kind::from_mode(a.mode) == Some(Kind::Directory);
            let Some(attributes) = attributes.filter(|a| is_directory(a) && parts.peek().is_some()) else { break };
            at = at.known(part)?.unwrap_or(Err(Errno::ENOENT))?;
            generation = at.drop_outdated()?;
            // Else nobody knows whether the names below were read before that or after.
            if !since.is_quiet() {
                break;
            }
            at.set_known(attributes, generation, since);
        }
        Ok(())
    }

    /// Notes what an answer said of one name of this directory.
    fn learn_name(&self, name: &[u8], node: Option<Node>, generation: u64, since: Moment) -> Result<()> {
        let this = self.arc()?;
        let mut listing = self.listing()?.lock();
        let learned = match node {
            Some(node) => listing.learn(&this, name, node, generation, since),
            None => Learned { old: listing.set(name, Child::Absent), ..Learned::default() },
        };
        listing.doubt_unless(generation, since.is_alone(&self.fs.own_changes));
        drop(listing);
        learned.finish();
        Ok(())
    }

    /// Fetches the names of the directory for a program that reads it, with their attributes where those who read directories
    /// have looked at what is in them.
    pub(super) fn list_names(&self) -> Result<()> {
        self.drop_outdated()?;
        if self.listing()?.lock().is_complete {
            return Ok(());
        }
        let attributes = self.fs.looks_behind.spend();
        self.listing()?.lock().was_read = true;
        self.list(attributes)
    }

    /// Fetches all names of the directory and their attributes, unless they are known.
    fn list_all(&self) -> Result<()> {
        self.listing()?.lock().was_read = false;
        self.list(true)
    }

    pub(super) fn list(&self, attributes: bool) -> Result<()> {
        let since = Moment::now(&self.fs.own_changes);
        let generation = self.drop_outdated()?;
        if self.has_names(attributes)? {
            return Ok(());
        }
        let asked = self.take_listed(attributes, generation);
        self.list_next(attributes);
        if let Some(asked) = asked
            && self.learn_listed(asked)?
        {
            return Ok(());
        }
        let (fetched, open) = self.ask_for_all(attributes)?;
        self.fs.opens.give_back(open.saturating_sub(fetched.opened.len()));
        if let Some(itself) = fetched.itself.filter(|attributes| self.is_of(attributes)) {
            self.set_known(itself, generation, since);
        }
        self.learn_all(self.listing()?.lock(), fetched.all, attributes, (generation, since))?;
        self.keep_opened(fetched.opened);
        Ok(())
    }

    /// Learns an answer that was asked for ahead. False where it is none, or where anything else was heard of the directory meanwhile:
    /// what was seen of it is never followed by what was before.
    fn learn_listed(&self, asked: Asked) -> Result<bool> {
        let Asked { sent, attributes, open, generation, since, heard, .. } = asked;
        let fetched = sent.answer().and_then(|first| self.fetch(attributes, 0, Some(first)));
        let fetched = fetched.unwrap_or_default();
        // The path may have led elsewhere.
        let Some(itself) = fetched.itself.filter(|itself| self.is_of(itself)) else {
            self.fs.opens.give_back(open);
            return Ok(false);
        };
        self.fs.opens.give_back(open.saturating_sub(fetched.opened.len()));
        let listing = self.listing()?.lock();
        if !listing.is_untouched(generation) {
            return Ok(false);
        }
        self.learn_all(listing, fetched.all, attributes, (generation, since))?;
        self.set_known_after(&heard, itself, generation, since);
        self.keep_opened(fetched.opened);
        Ok(true)
    }

    fn keep_opened(&self, opened: Vec<(Name, Attributes, HostFd)>) {
        for (name, attributes, handle) in opened {
            self.keep_ahead(&name, &attributes, handle);
        }
    }

    /// Whether all names are known, with attributes where those are wanted.
    fn has_names(&self, attributes: bool) -> Result<bool> {
        let listing = self.listing()?.lock();
        Ok(listing.is_complete && (listing.has_attributes || !attributes))
    }

    /// All names, and how many files might have been opened with them.
    fn ask_for_all(&self, attributes: bool) -> Result<(Fetched, usize)> {
        let most = if attributes { self.may_open_ahead() } else { 0 };
        // Where no descriptor can travel, names can.
        let fetched = self.fetch(attributes, most, None).or_else(|errno| match errno {
            errno if most > 0 && is_of_descriptors(errno) => self.fetch(attributes, 0, None),
            errno => Err(errno),
        });
        if fetched.is_err() {
            self.fs.opens.give_back(most);
        }
        Ok((fetched?, most))
    }

    /// How many files may be opened with a listing: they are paid for.
    pub(super) fn may_open_ahead(&self) -> usize {
        let credit = if self.fs.trust.is_watched { self.fs.opens.take() } else { 0 };
        let most = credit.min(MOST_BESIDE);
        self.fs.opens.give_back(credit - most);
        most
    }

    /// Asks for all names, but for those of the first answer where it is there; at most so many small files may be opened with it.
    fn fetch(&self, attributes: bool, open: usize, mut first: Option<Answer>) -> Result<Fetched> {
        let path = self.path()?;
        let mut fetched = Fetched::default();
        loop {
            let from = u32::try_from(fetched.all.len()).map_err(|_| Errno::EOVERFLOW)?;
            let open = if from == 0 { u8::try_from(open).unwrap_or(0) } else { 0 };
            let request = Request::ReadDir { export: self.fs.export, path: &path, from, attributes, open };
            let answer = first.take().map_or_else(|| broker::request_several(&request), Ok)?;
            let (Reply::Entries { directory, entries, more, opened }, handles) = answer else {
                return Err(Errno::EIO);
            };
            fetched.itself.get_or_insert(directory);
            for (place, handle) in opened.into_iter().zip(handles) {
                let entry = entries.get(usize::from(place)).ok_or(Errno::EIO)?;
                fetched.opened.push((Name::clone(&entry.name), entry.node.attributes, handle));
            }
            let is_end = !more || entries.is_empty();
            if fetched.all.is_empty() {
                fetched.all = entries;
            } else {
                fetched.all.extend(entries);
            }
            if is_end {
                return Ok(fetched);
            }
        }
    }

    /// Notes all names, with the listing locked, as of a generation and a moment.
    fn learn_all(
        &self,
        mut listing: MutexGuard<'_, Listing>,
        all: Vec<Entry>,
        attributes: bool,
        (generation, since): (u64, Moment),
    ) -> Result<()> {
        let this = self.arc()?;
        let (mut learned, mut replaced) = (Vec::new(), Vec::new());
        if listing.is_empty() {
            listing.entries.reserve(all.len());
        }
        // Not collected: that would keep the memory of all entries.
        for entry in all {
            if !attributes && entry.node.attributes.links == 0 {
                replaced.extend(listing.learn_name(&entry.name, &entry.node.attributes));
                continue;
            }
            let one = listing.learn(&this, entry.name, entry.node, generation, since);
            learned.extend(Some(one).filter(Learned::is_unfinished));
        }
        // What others do meanwhile may be missing in what was read.
        let is_alone = since.is_alone(&self.fs.own_changes);
        let gone = if is_alone { listing.complete(attributes) } else { Vec::new() };
        listing.doubt_unless(generation, is_alone);
        drop(listing);
        drop((gone, replaced));
        learned.into_iter().for_each(Learned::finish);
        Ok(())
    }
}
