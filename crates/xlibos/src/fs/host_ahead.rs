//! Directories that are listed before they are asked for: who goes from one to the next finds that the supervisor has read it
//! meanwhile. See docs/design/0021.
//!
//! Such an answer is one that was long under way: it counts as of the moment when it was asked for, and not at all where the
//! directory or the container has changed since, where anything else was heard of the directory, or after a few milliseconds.

use super::broker::{self, Sent};
use super::dentry::Name;
use super::host_names::Beside;
use super::host_watch::{Moment, Word};
use super::hostfs::HostInode;
use super::inode::Inode;
use abi::broker::{Attributes, Request};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use machine::sync::Mutex;

/// So many directories in a row before the next one is expected.
const ROW: u32 = 3;
/// So many more for each that is expected beside it.
const MORE: u32 = 2;
/// Most that are asked for at once: the supervisor goes on with one while the answer for another is used.
const MOST_ASKED: usize = 3;
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
    /// When the last one was listed, and how long after the one before.
    listed_at: u64,
    interval_ns: u64,
    /// What was asked for, in this one of the orders.
    asked: VecDeque<Asked>,
    order: usize,
}

impl Default for State {
    fn default() -> State {
        State {
            most_age_ns: MOST_AGE_NS,
            behind: [0; 2],
            met: [0; 2],
            listed_at: 0,
            interval_ns: u64::MAX,
            asked: VecDeque::new(),
            order: 0,
        }
    }
}

impl State {
    /// In which order the next directory can be told, if any.
    fn order(&self) -> Option<usize> {
        self.met.iter().zip(self.behind).position(|(met, next)| *met >= ROW && next != 0)
    }

    /// How many may be asked for, of which the last is used in time at the pace at which directories are listed.
    fn depth(&self, order: usize) -> usize {
        let earned = self.met.get(order).map_or(0, |met| (1 + met.saturating_sub(ROW) / MORE) as usize);
        let in_time = usize::try_from(self.most_age_ns / 2 / self.interval_ns.max(1)).unwrap_or(MOST_ASKED);
        earned.min(in_time.clamp(1, MOST_ASKED))
    }
}

/// What is known of the directories to come when one is listed.
enum Row {
    /// Nothing was asked for.
    Unasked,
    /// So many more may be asked for, behind the one of this name.
    Asked(usize, usize, Name),
    /// There is none.
    Ended,
}

/// A listing that was asked for.
pub(super) struct Asked {
    pub(super) sent: Sent,
    sent_at: u64,
    name: Name,
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
    /// A directory is listed.
    fn meet(&self, ino: u64) -> Row {
        let mut state = self.0.lock();
        let State { behind, met, .. } = &mut *state;
        for (met, expected) in met.iter_mut().zip(*behind) {
            *met = if expected == ino { *met + 1 } else { 0 };
        }
        let now = machine::clock::monotonic_ns();
        state.interval_ns = now.saturating_sub(core::mem::replace(&mut state.listed_at, now));
        let order = state.order;
        let (Some(front), Some(back)) = (state.asked.front(), state.asked.back()) else { return Row::Unasked };
        let (next, last) = (front.heard.inode, Name::clone(&back.name));
        state.behind = core::array::from_fn(|at| if at == order { next } else { 0 });
        if state.order() != Some(order) {
            return Row::Ended;
        }
        Row::Asked(order, state.depth(order).saturating_sub(state.asked.len()), last)
    }

    /// What comes behind the directory, where nothing was asked for. In which order the next ones can be told, if any, and how many.
    fn expect(&self, behind: [u64; 2]) -> Option<(usize, usize)> {
        let mut state = self.0.lock();
        state.behind = behind;
        let order = state.order()?;
        Some((order, state.depth(order)))
    }

    /// What others have asked for meanwhile goes without the lock.
    fn note(&self, order: usize, asked: Asked) -> Option<VecDeque<Asked>> {
        let mut state = self.0.lock();
        let is_other = core::mem::replace(&mut state.order, order) != order;
        let old = is_other.then(|| core::mem::take(&mut state.asked));
        state.asked.push_back(asked);
        old
    }

    /// It was asked for in vain: that is to be earned anew. What is to be dropped without the lock.
    fn end_row(&self) -> VecDeque<Asked> {
        let mut state = self.0.lock();
        state.met = [0; 2];
        core::mem::take(&mut state.asked)
    }
}

impl HostInode {
    /// The listing of this directory that was asked for in advance, where nothing has changed since.
    pub(super) fn take_listed(&self, attributes: bool, generation: u64) -> Option<Asked> {
        let (asked, most_age_ns) = {
            let mut state = self.fs.lists.0.lock();
            (state.asked.pop_front()?, state.most_age_ns)
        };
        let is_enough = asked.attributes || !attributes;
        let holds = asked.generation == generation
            && asked.since.is_alone(&self.fs.own_changes)
            && machine::clock::monotonic_ns().saturating_sub(asked.sent_at) < most_age_ns
            && self.is_unknown(&asked.heard);
        if is_enough && holds && self.path().is_ok_and(|path| path == asked.path) {
            return Some(asked);
        }
        drop(self.fs.lists.end_row());
        None
    }

    /// Whether no name of the directory is known, and nothing else of itself than this: nothing newer than an answer that is to come.
    fn is_unknown(&self, heard: &Attributes) -> bool {
        self.attributes() == *heard && self.listing().is_ok_and(|listing| listing.lock().is_empty())
    }

    /// Asks for the directories that come next, where this one came so, too. Only where the host tells of changes.
    pub(super) fn list_next(&self, attributes: bool) {
        let Some(parent) = self.directory().filter(|_| self.fs.trust.is_watched) else { return };
        let Ok(listing) = parent.listing() else { return };
        let behind = |name: &[u8], order| listing.lock().directory_behind(name, order);
        let (order, more, mut next) = match self.fs.lists.meet(self.id().ino) {
            Row::Ended => return,
            Row::Asked(order, more, last) => (order, more, if more > 0 { behind(&last, order) } else { None }),
            Row::Unasked => {
                let name = self.name();
                let next = [0, 1].map(|order| behind(&name, order));
                let numbers = next.each_ref().map(|next| next.as_ref().map_or(0, |next| next.attributes.inode));
                let Some((order, more)) = self.fs.lists.expect(numbers) else { return };
                (order, more, next.into_iter().nth(order).flatten())
            }
        };
        for left in (0..more).rev() {
            let Some(asked) = next.and_then(|next| parent.ask_ahead(next, attributes)) else { return };
            next = if left > 0 { behind(&asked.name, order) } else { None };
            drop(self.fs.lists.note(order, asked));
        }
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
        Some(Asked { sent: sent?, sent_at, name: next.name, path, generation, since, attributes, open, heard })
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::fake;
    use super::super::host_names::Child;
    use super::super::host_watch::Moment;
    use super::super::hostfs::{HostInode, Trust, open_export};
    use super::super::inode::Inode as _;
    use super::{MOST_AGE_NS, State};
    use crate::{Errno, Result};
    use abi::broker::{Attributes, Entry, Node, Reply, Request};
    use core::ops::Range;
    use core::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex, PoisonError};

    const DIRECTORY: u32 = 0o040_755;

    type Act = Box<dyn FnOnce() + Send>;

    /// Directories of the names `0` to `7`, or of others, each with a file `f`.
    #[derive(Default)]
    struct Host {
        names: Range<u32>,
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
                self.names
                    .clone()
                    .map(|number| number.to_string())
                    .map(|name| entry(&name, self.directory(&name)))
                    .collect()
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
            Fixture::of(0..8)
        }

        fn of(names: Range<u32>) -> Fixture {
            let host = Arc::new(Mutex::new(Host { names, ..Host::default() }));
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

        /// A program has gone from `10` to `19`, and three more are asked for.
        fn in_a_long_row() -> Fixture {
            let fixture = Fixture::of(10..30);
            (10..20).for_each(|number| assert_eq!(fixture.list(&number.to_string()).0, 0));
            fixture
        }

        /// How often each of those was listed.
        fn counts(&self, names: Range<u32>) -> Vec<usize> {
            let host = self.host();
            names.map(|name| host.listed.iter().filter(|listed| **listed == name.to_string()).count()).collect()
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
    fn who_goes_through_a_long_row_finds_three_listed() {
        let fixture = Fixture::in_a_long_row();
        assert_eq!((fixture.counts(10..23), fixture.counts(23..30)), (vec![1; 13], vec![0; 7]));
        (20..30).for_each(|number| assert_eq!(fixture.list(&number.to_string()).0, 0));
        assert_eq!(fixture.counts(10..30), [1; 20]);
    }

    #[test]
    fn who_leaves_a_long_row_finds_none_of_those_listed() {
        let fixture = Fixture::in_a_long_row();
        fixture.host().size = 100;
        ["28", "20", "21", "22"].iter().for_each(|name| assert_eq!(fixture.list(name).0, 100, "{name}"));
        assert_eq!(fixture.counts(19..24), [1, 2, 2, 2, 0]);
    }

    #[test]
    fn what_was_listed_of_a_long_row_before_a_change_of_the_containers_own_is_asked_for_again() {
        let fixture = Fixture::in_a_long_row();
        fixture.host().size = 100;
        fixture.root.fs.own_changes.fetch_add(1, Ordering::AcqRel);
        ["20", "21", "22"].iter().for_each(|name| assert_eq!(fixture.list(name).0, 100, "{name}"));
        assert_eq!(fixture.counts(19..23), [1, 2, 2, 2]);
    }

    #[test]
    fn a_directory_of_a_long_row_that_was_looked_at_meanwhile_is_asked_for_again() {
        let fixture = Fixture::in_a_long_row();
        fixture.host().size = 100;
        let directory = fixture.directory("21");
        assert!(directory.listing().is_ok_and(|listing| listing.lock().set(b"absent", Child::Absent).is_none()));
        // What was listed before is no older than what was looked at.
        assert_eq!(fixture.list("20").0, 0);
        ["21", "22"].iter().for_each(|name| assert_eq!(fixture.list(name).0, 100, "{name}"));
    }

    #[test]
    fn no_more_are_asked_for_than_are_used_in_time() {
        let depth = |met, interval_ns| State { met: [met, 0], interval_ns, ..State::default() }.depth(0);
        let far = MOST_AGE_NS * 10;
        assert_eq!([3, 4, 5, 7, 100].map(|met| depth(met, MOST_AGE_NS / 20)), [1, 1, 2, 3, 3]);
        assert_eq!([far, MOST_AGE_NS / 2, MOST_AGE_NS / 4, 0].map(|interval| depth(100, interval)), [1, 1, 2, 3]);
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
        let next = fixture.root.fs.lists.0.lock().asked.pop_front().map_or(0, |asked| asked.open);
        assert_eq!(fixture.root.fs.opens.take() + next, 7);
    }
}
