//! Directories that are listed before they are asked for: who goes from one to the next finds that the supervisor has read it
//! meanwhile. See docs/design/0021.
//!
//! Such an answer is one that was long under way: it counts as of the moment when it was asked for, and not at all where the
//! directory or the container has changed since, where anything else was heard of the directory, or after a few milliseconds.

use super::broker::{self, Sent};
use super::host_names::Beside;
use super::host_watch::{Moment, Word};
use super::hostfs::HostInode;
use super::inode::Inode;
use abi::broker::{Attributes, Request};
use alloc::vec::Vec;
use machine::sync::Mutex;

/// So many directories in a row before the next one is expected.
const ROW: u32 = 3;
/// No older an answer is used: as late the supervisor may tell of what the host does to a directory that was looked at before.
const MOST_AGE_NS: u64 = 2_000_000;

/// Which directory is likely to be listed next.
#[derive(Default)]
pub(super) struct ListsAhead(Mutex<State>);

struct State {
    most_age_ns: u64,
    /// Inode numbers of the directories behind the last one, in each order; 0 for none.
    behind: [u64; 2],
    /// How many in a row were those.
    met: [u32; 2],
    asked: Option<Asked>,
}

impl Default for State {
    fn default() -> State {
        State { most_age_ns: MOST_AGE_NS, behind: [0; 2], met: [0; 2], asked: None }
    }
}

/// A listing that was asked for.
pub(super) struct Asked {
    pub(super) sent: Sent,
    sent_at: u64,
    path: Vec<u8>,
    pub(super) generation: u64,
    pub(super) since: Moment,
    pub(super) attributes: bool,
    /// How many files may have been opened.
    pub(super) open: usize,
    /// What was known of the directory itself.
    pub(super) heard: Attributes,
}

impl ListsAhead {
    /// A directory is listed. In which order the next one can be told, if any.
    fn meet(&self, ino: u64, behind: [u64; 2]) -> Option<usize> {
        let mut state = self.0.lock();
        let before = core::mem::replace(&mut state.behind, behind);
        for (met, expected) in state.met.iter_mut().zip(before) {
            *met = if expected == ino { *met + 1 } else { 0 };
        }
        state.met.iter().zip(behind).position(|(met, next)| *met >= ROW && next != 0)
    }
}

impl HostInode {
    /// The listing of this directory that was asked for in advance, where nothing has changed since.
    pub(super) fn take_listed(&self, attributes: bool, generation: u64) -> Option<Asked> {
        let (asked, most_age_ns) = {
            let mut state = self.fs.lists.0.lock();
            (state.asked.take()?, state.most_age_ns)
        };
        let is_enough = asked.attributes || !attributes;
        let holds = asked.generation == generation
            && asked.since.is_alone(&self.fs.own_changes)
            && machine::clock::monotonic_ns().saturating_sub(asked.sent_at) < most_age_ns
            && self.is_unknown(&asked.heard);
        if is_enough && holds && self.path().is_ok_and(|path| path == asked.path) {
            return Some(asked);
        }
        // It was asked for in vain: that is to be earned anew.
        self.fs.lists.0.lock().met = [0; 2];
        None
    }

    /// Whether no name of the directory is known, and nothing else of itself than this: nothing newer than an answer that is to come.
    fn is_unknown(&self, heard: &Attributes) -> bool {
        self.attributes() == *heard && self.listing().is_ok_and(|listing| listing.lock().is_empty())
    }

    /// Asks for the directory that comes next, where this one came so, too. Only where the host tells of changes.
    pub(super) fn list_next(&self, attributes: bool) {
        let Some(parent) = self.directory().filter(|_| self.fs.trust.is_watched) else { return };
        let Ok(listing) = parent.listing() else { return };
        let behind = listing.lock().directories_behind(&self.name());
        let numbers = behind.each_ref().map(|next| next.as_ref().map_or(0, |next| next.attributes.inode));
        let Some(order) = self.fs.lists.meet(self.id().ino, numbers) else { return };
        let next = behind.into_iter().nth(order).flatten();
        let asked = next.and_then(|next| parent.ask_ahead(next, attributes));
        // Whatever was asked for before goes without the lock.
        let old = core::mem::replace(&mut self.fs.lists.0.lock().asked, asked);
        drop(old);
    }

    fn ask_ahead(&self, next: Beside, attributes: bool) -> Option<Asked> {
        let heard = next.attributes;
        if next.inode.is_some_and(|inode| !inode.is_unknown(&heard)) {
            return None;
        }
        let sent_at = machine::clock::monotonic_ns();
        let since = Moment::now(&self.fs.own_changes);
        let generation = Word::of(heard.inode, false).generation();
        let path = self.path_of(&next.name).ok()?;
        let open = if attributes { self.may_open_ahead() } else { 0 };
        let places = u8::try_from(open).unwrap_or(0);
        let sent = broker::send_ahead(&Request::ReadDir {
            export: self.fs.export,
            path: &path,
            from: 0,
            attributes,
            open: places,
        });
        if sent.is_none() {
            self.fs.opens.give_back(open);
        }
        Some(Asked { sent: sent?, sent_at, path, generation, since, attributes, open, heard })
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::fake;
    use super::super::host_names::Child;
    use super::super::host_watch::Moment;
    use super::super::hostfs::{HostInode, Trust, open_export};
    use super::super::inode::Inode as _;
    use crate::{Errno, Result};
    use abi::broker::{Attributes, Entry, Node, Reply, Request};
    use core::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex, PoisonError};

    const DIRECTORY: u32 = 0o040_755;

    type Act = Box<dyn FnOnce() + Send>;

    /// Directories of the names `0` to `7`, each with a file `f`.
    #[derive(Default)]
    struct Host {
        /// Of each file.
        size: u64,
        /// Added to the inode number of each directory but the root.
        moved: u64,
        /// What was listed.
        listed: Vec<String>,
        /// Done while a directory is asked for.
        meanwhile: Option<(&'static str, Act)>,
    }

    impl Host {
        fn directory(&self, name: &str) -> Node {
            let inode = name.parse::<u64>().map_or(1, |number| 10 + number + self.moved);
            let attributes = Attributes { inode, mode: DIRECTORY, links: 2, size: self.size, ..Attributes::default() };
            Node { attributes, target: vec![] }
        }

        fn answer(&mut self, request: &Request<'_>) -> Result<Reply> {
            let file = Attributes { inode: 99, mode: 0o100_644, links: 1, size: self.size, ..Attributes::default() };
            let file = Node { attributes: file, target: vec![] };
            let path = match request {
                Request::ReadDir { path, .. } => path,
                Request::Walk { path: b"f", .. } => return Ok(Reply::Nodes(vec![file])),
                Request::Walk { from, .. } => {
                    return Ok(Reply::Nodes(vec![self.directory(&String::from_utf8_lossy(from))]));
                }
                _ => return Err(Errno::EOPNOTSUPP),
            };
            let path = String::from_utf8(path.to_vec()).map_err(|_| Errno::EINVAL)?;
            let entry = |name: &str, node| Entry { name: name.as_bytes().into(), node };
            let entries = if path.is_empty() {
                (0..8).map(|number| number.to_string()).map(|name| entry(&name, self.directory(&name))).collect()
            } else {
                vec![entry("f", file)]
            };
            let directory = self.directory(&path).attributes;
            self.listed.push(path);
            Ok(Reply::Entries { directory, entries, more: false, opened: vec![] })
        }
    }

    struct Fixture {
        host: Arc<Mutex<Host>>,
        root: Arc<HostInode>,
    }

    impl Fixture {
        fn new() -> Fixture {
            let host = Arc::new(Mutex::new(Host::default()));
            let answering = Arc::clone(&host);
            fake::set(move |request| {
                let mut host = answering.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = host.answer(request);
                let Host { meanwhile, listed, .. } = &mut *host;
                let meanwhile = meanwhile.take_if(|(name, _)| listed.last().is_some_and(|last| last == name));
                drop(host);
                meanwhile.into_iter().for_each(|(_, act)| act());
                answer
            });
            let Ok(root) = open_export(0, Trust { is_watched: true, is_mappable: true }) else { panic!("no export") };
            // Tests wait for processors.
            root.fs.lists.0.lock().most_age_ns = u64::MAX;
            assert!(root.list(true).is_ok());
            Fixture { host, root }
        }

        fn host(&self) -> std::sync::MutexGuard<'_, Host> {
            self.host.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// A program has gone from `0` to `3`, and `4` comes next.
        fn with_4_asked_ahead() -> Fixture {
            let fixture = Fixture::new();
            assert_eq!(fixture.list_all(&["0", "1", "2", "3"]), "01243");
            fixture
        }

        fn directory(&self, name: &str) -> Arc<HostInode> {
            self.root.find(name.as_bytes()).unwrap_or_else(|errno| panic!("no directory: {errno:?}"))
        }

        /// Lists a directory; answers the size of its file, and what was asked for until then.
        fn list(&self, name: &str) -> (u64, String) {
            let directory = self.directory(name);
            assert!(directory.list(true).is_ok());
            let size = directory.find(b"f").and_then(|file| file.stat()).map_or(0, |stat| stat.size);
            (size, self.host().listed.concat())
        }

        fn list_all(&self, names: &[&str]) -> String {
            names.iter().fold(String::new(), |_, name| self.list(name).1)
        }
    }

    #[test]
    fn who_goes_from_one_directory_to_the_next_finds_it_listed() {
        let fixture = Fixture::new();
        assert_eq!(fixture.list_all(&["0", "1", "2"]), "012");
        assert_eq!(fixture.list("3").1, "01243");
        assert_eq!(fixture.list("4").1, "012435");
        assert_eq!(fixture.list_all(&["5", "6", "7"]), "01243567");
    }

    #[test]
    fn who_goes_elsewhere_finds_nothing_listed() {
        let fixture = Fixture::new();
        assert_eq!(fixture.list_all(&["0", "2", "4", "6"]), "0246");
        // Three in a row are needed anew.
        let fixture = Fixture::new();
        assert_eq!(fixture.list_all(&["0", "1", "2", "3", "7", "4"]), "0124374");
    }

    #[test]
    fn what_was_listed_too_long_ago_is_asked_for_again() {
        let fixture = Fixture::with_4_asked_ahead();
        fixture.root.fs.lists.0.lock().most_age_ns = 0;
        fixture.host().size = 100;
        assert_eq!(fixture.list("4"), (100, "012434".to_owned()));
    }

    #[test]
    fn what_was_listed_before_a_change_of_the_containers_own_is_asked_for_again() {
        let fixture = Fixture::with_4_asked_ahead();
        fixture.host().size = 100;
        fixture.root.fs.own_changes.fetch_add(1, Ordering::AcqRel);
        assert_eq!(fixture.list("4"), (100, "012434".to_owned()));
    }

    #[test]
    fn what_was_listed_before_anything_else_was_heard_of_the_directory_is_asked_for_again() {
        let fixture = Fixture::with_4_asked_ahead();
        fixture.host().size = 100;
        let directory = fixture.directory("4");
        assert!(directory.listing().is_ok_and(|listing| listing.lock().set(b"absent", Child::Absent).is_none()));
        assert_eq!(fixture.list("4"), (100, "012434".to_owned()));
    }

    #[test]
    fn a_listing_of_another_directory_on_the_path_is_asked_for_again() {
        let fixture = Fixture::new();
        fixture.list_all(&["0", "1", "2"]);
        fixture.host().moved = 100;
        assert_eq!(fixture.list("3").1, "01243");
        (fixture.host().moved, fixture.host().size) = (0, 100);
        assert_eq!(fixture.list("4"), (100, "0124354".to_owned()));
    }

    #[test]
    fn what_was_heard_of_a_directory_itself_is_not_followed_by_what_was_before() {
        let fixture = Fixture::with_4_asked_ahead();
        fixture.host().size = 100;
        let directory = fixture.directory("4");
        assert!(directory.refresh_by_path().is_ok_and(|found| found.is_some_and(|attributes| attributes.size == 100)));
        assert_eq!(fixture.list("4"), (100, "012434".to_owned()));
        assert_eq!(directory.attributes().size, 100);
    }

    #[test]
    fn what_is_heard_of_a_directory_while_its_answer_is_taken_is_not_followed_by_what_was_before() {
        let fixture = Fixture::with_4_asked_ahead();
        let directory = fixture.directory("4");
        let heard = Arc::clone(&directory);
        // The next one is asked for between.
        let hear = move || {
            assert!(heard.listing().is_ok_and(|listing| listing.lock().set(b"absent", Child::Absent).is_none()));
        };
        fixture.host().meanwhile = Some(("5", Box::new(hear)));
        assert_eq!(fixture.list("4").1, "0124354");
        assert!(fixture.host().meanwhile.is_none());

        let fixture = Fixture::with_4_asked_ahead();
        let directory = fixture.directory("4");
        let heard = Arc::clone(&directory);
        let newer = Attributes { size: 100, ..directory.attributes() };
        let since = Moment::now(&fixture.root.fs.own_changes);
        fixture.host().meanwhile = Some(("5", Box::new(move || heard.set_attributes_known(newer, since))));
        assert_eq!(fixture.list("4").1, "012435");
        assert_eq!(directory.attributes().size, 100);
    }

    #[test]
    fn what_was_earned_is_given_back_where_another_directory_was_listed() {
        let fixture = Fixture::new();
        fixture.list_all(&["0", "1", "2"]);
        fixture.root.fs.opens.give_back(7);
        fixture.host().moved = 100;
        assert_eq!(fixture.list("3").1, "01243");
        fixture.host().moved = 0;
        assert_eq!(fixture.list("4").1, "0124354");
        let next = fixture.root.fs.lists.0.lock().asked.take().map_or(0, |asked| asked.open);
        assert_eq!(fixture.root.fs.opens.take() + next, 7);
    }
}
