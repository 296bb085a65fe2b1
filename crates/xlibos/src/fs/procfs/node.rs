//! The names of /proc and what they stand for.

use super::settings::{self, Setting};
use super::subject::Who;
use super::{net, ns, sysvipc};
use crate::fs::fd_table::Fd;
use crate::fs::inode::Kind;
use crate::process::{Pid, tree};
use crate::{Errno, Result};
use alloc::string::ToString;
use alloc::vec::Vec;

/// Files of the root directory.
const GLOBAL: [&str; 15] = [
    "cmdline",
    "cpuinfo",
    "diskstats",
    "filesystems",
    "loadavg",
    "locks",
    "meminfo",
    "modules",
    "partitions",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
    "devices",
];
/// Links of the root directory whose text is fixed.
const ALIASES: [(&str, &str); 2] = [("mounts", "self/mounts"), ("net", "self/net")];
/// Files of a process's directory and of a thread's, with their permissions.
const OF_SUBJECT: [(&str, u32); 22] = [
    ("auxv", 0o400),
    ("cgroup", 0o444),
    ("cmdline", 0o444),
    ("comm", 0o644),
    ("environ", 0o400),
    ("gid_map", 0o444),
    ("limits", 0o444),
    ("maps", 0o444),
    ("mem", 0o600),
    ("mountinfo", 0o444),
    ("mounts", 0o444),
    ("oom_score", 0o444),
    ("oom_score_adj", 0o644),
    ("personality", 0o400),
    ("setgroups", 0o444),
    ("smaps", 0o444),
    ("smaps_rollup", 0o444),
    ("stat", 0o444),
    ("statm", 0o444),
    ("status", 0o444),
    ("uid_map", 0o444),
    ("wchan", 0o444),
];
/// More files of a process's directory.
const OF_PROCESS: [(&str, u32); 2] = [("coredump_filter", 0o644), ("timerslack_ns", 0o666)];
/// Links of a process's directory.
const LINKS: [&str; 3] = ["cwd", "exe", "root"];

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Root,
    SelfLink,
    ThreadSelfLink,
    /// A link with a fixed text.
    Alias(&'static str, &'static str),
    Global(&'static str),
    /// A directory of /proc/sys, by its path below that.
    Settings(&'static str),
    Setting(&'static Setting),
    Subject(Who),
    Text(Who, &'static str),
    Place(Who, &'static str),
    Tasks(Pid),
    Descriptors(Who),
    Descriptor(Who, Fd),
    DescriptorInfos(Who),
    DescriptorInfo(Who, Fd),
    Namespaces(Who),
    Namespace(Who, &'static str),
    Net(Who),
    NetFile(Who, &'static str),
    Ipc,
    IpcFile(&'static str),
}

/// Files of a process's directory.
fn texts() -> impl Iterator<Item = &'static (&'static str, u32)> {
    OF_SUBJECT.iter().chain(&OF_PROCESS)
}

/// Those that the directory of a process, or of a thread, has.
fn texts_of(who: Who) -> impl Iterator<Item = &'static (&'static str, u32)> {
    let more = if matches!(who, Who::Process(_)) { OF_PROCESS.as_slice() } else { &[] };
    OF_SUBJECT.iter().chain(more)
}

type Named = (Vec<u8>, Node);

fn named(name: &str, node: Node) -> Named {
    (name.as_bytes().to_vec(), node)
}

fn number<T: core::str::FromStr + ToString>(name: &[u8]) -> Option<T> {
    let number: T = core::str::from_utf8(name).ok()?.parse().ok()?;
    // "01" and "+1" are no names.
    (number.to_string().as_bytes() == name).then_some(number)
}

impl Node {
    pub(super) fn kind(self) -> Kind {
        match self {
            Node::Root
            | Node::Settings(_)
            | Node::Subject(_)
            | Node::Tasks(_)
            | Node::Descriptors(_)
            | Node::DescriptorInfos(_)
            | Node::Namespaces(_)
            | Node::Net(_)
            | Node::Ipc => Kind::Directory,
            Node::SelfLink
            | Node::ThreadSelfLink
            | Node::Alias(..)
            | Node::Place(..)
            | Node::Descriptor(..)
            | Node::Namespace(..) => Kind::Symlink,
            Node::Global(_)
            | Node::Setting(_)
            | Node::Text(..)
            | Node::DescriptorInfo(..)
            | Node::NetFile(..)
            | Node::IpcFile(_) => Kind::File,
        }
    }

    pub(super) fn permissions(self) -> u32 {
        match self {
            Node::Descriptors(_) | Node::DescriptorInfos(_) => 0o500,
            Node::DescriptorInfo(..) => 0o400,
            Node::Namespaces(_) => 0o511,
            Node::Setting(_) => 0o644,
            Node::Text(_, name) => texts().find(|(known, _)| *known == name).map_or(0, |(_, mode)| *mode),
            _ if self.kind() == Kind::Directory => 0o555,
            _ if self.kind() == Kind::Symlink => 0o777,
            _ => 0o444,
        }
    }

    /// Whether a write can succeed.
    pub(super) fn is_writable(self) -> bool {
        matches!(self, Node::Text(_, "comm" | "coredump_filter" | "mem" | "oom_score_adj" | "timerslack_ns"))
    }

    fn who(self) -> Option<Who> {
        match self {
            Node::Subject(who)
            | Node::Text(who, _)
            | Node::Place(who, _)
            | Node::Descriptors(who)
            | Node::Descriptor(who, _)
            | Node::DescriptorInfos(who)
            | Node::DescriptorInfo(who, _)
            | Node::Namespaces(who)
            | Node::Namespace(who, _)
            | Node::Net(who)
            | Node::NetFile(who, _) => Some(who),
            Node::Tasks(pid) => Some(Who::Process(pid)),
            _ => None,
        }
    }

    /// User and group: those of the process, for what belongs to one.
    pub(super) fn owner(self) -> (u32, u32) {
        let subject = self.who().and_then(|who| who.subject().ok());
        subject.map_or((0, 0), |subject| (subject.creds.euid, subject.creds.egid))
    }

    /// A number that is the same for the same node.
    pub(super) fn number(self) -> u64 {
        const DESCRIPTORS: u64 = 1 << 22;
        const INFOS: u64 = 1 << 23;
        let at = |found: Option<usize>| found.unwrap_or(0) as u64;
        let global = |name: &str| at(GLOBAL.iter().position(|known| *known == name));
        let slot = match self {
            Node::Root => return 1,
            Node::SelfLink => return 2,
            Node::ThreadSelfLink => return 3,
            Node::Alias(name, _) => return 8 + at(ALIASES.iter().position(|(known, _)| *known == name)),
            Node::Ipc => return 4,
            Node::IpcFile(name) => return 16 + at(sysvipc::FILES.iter().position(|known| *known == name)),
            Node::Global(name) => return 32 + global(name),
            Node::Setting(setting) => return 0x8000 + settings::index(setting.path),
            Node::Settings(path) => return 0x4000 + settings::index(path) * 8 + path.matches('/').count() as u64,
            Node::Subject(_) => 0,
            Node::Tasks(_) => 1,
            Node::Descriptors(_) => 2,
            Node::DescriptorInfos(_) => 3,
            Node::Namespaces(_) => 4,
            Node::Net(_) => 5,
            Node::Namespace(_, name) => 80 + at(ns::ALL.iter().position(|(known, ..)| *known == name)),
            Node::NetFile(_, name) => 96 + at(net::FILES.iter().position(|known| *known == name)),
            Node::Text(_, name) => 16 + at(texts().position(|(known, _)| *known == name)),
            Node::Place(_, name) => 64 + at(LINKS.iter().position(|known| *known == name)),
            Node::Descriptor(_, fd) => DESCRIPTORS + u64::from(fd.0.unsigned_abs()),
            Node::DescriptorInfo(_, fd) => INFOS + u64::from(fd.0.unsigned_abs()),
        };
        self.who().map_or(0, Who::number) + slot
    }

    /// The names in a directory.
    pub(super) fn children(self) -> Result<Vec<Named>> {
        match self {
            Node::Root => Ok(of_root()),
            Node::Settings(path) => Ok(settings::children(path).into_iter().map(|(n, node)| named(n, node)).collect()),
            Node::Subject(who) => Ok(of_subject(who)),
            Node::Tasks(pid) => {
                let tasks = Who::Process(pid).subject()?.process.tasks();
                let mut ids: Vec<Pid> = tasks.iter().map(|task| task.tid()).collect();
                ids.sort_unstable();
                Ok(ids.iter().map(|&tid| named(&tid.to_string(), Node::Subject(Who::Thread(pid, tid)))).collect())
            }
            Node::Descriptors(who) => descriptors(who, Node::Descriptor),
            Node::DescriptorInfos(who) => descriptors(who, Node::DescriptorInfo),
            Node::Namespaces(who) => {
                Ok(ns::ALL.iter().map(|(name, ..)| named(name, Node::Namespace(who, name))).collect())
            }
            Node::Ipc => Ok(sysvipc::FILES.iter().map(|name| named(name, Node::IpcFile(name))).collect()),
            Node::Net(who) => Ok(net::FILES.iter().map(|name| named(name, Node::NetFile(who, name))).collect()),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// One name of a directory.
    pub(super) fn child(self, name: &[u8]) -> Result<Node> {
        let found = match self {
            Node::Root => in_root(name),
            Node::Settings(path) => {
                settings::children(path).into_iter().find(|(n, _)| n.as_bytes() == name).map(|(_, n)| n)
            }
            Node::Subject(who) => in_subject(who, name),
            Node::Tasks(pid) => {
                number(name).map(|tid| Who::Thread(pid, tid)).filter(|w| w.subject().is_ok()).map(Node::Subject)
            }
            Node::Descriptors(who) => open_fd(who, name).map(|fd| Node::Descriptor(who, fd)),
            Node::DescriptorInfos(who) => open_fd(who, name).map(|fd| Node::DescriptorInfo(who, fd)),
            Node::Namespaces(_) | Node::Net(_) | Node::Ipc => {
                self.children()?.into_iter().find(|(known, _)| known == name).map(|(_, node)| node)
            }
            _ => return Err(Errno::ENOTDIR),
        };
        found.ok_or(Errno::ENOENT)
    }
}

fn of_root() -> Vec<Named> {
    let mut all = Vec::new();
    let processes = tree::collect_processes();
    all.extend(processes.iter().map(|p| named(&p.pid.to_string(), Node::Subject(Who::Process(p.pid)))));
    all.extend([("self", Node::SelfLink), ("thread-self", Node::ThreadSelfLink)].map(|(n, node)| named(n, node)));
    all.extend([named("sys", Node::Settings("")), named("sysvipc", Node::Ipc)]);
    all.extend(GLOBAL.iter().map(|name| named(name, Node::Global(name))));
    all.extend(ALIASES.iter().map(|(name, target)| named(name, Node::Alias(name, target))));
    all
}

fn in_root(name: &[u8]) -> Option<Node> {
    match name {
        b"self" => return Some(Node::SelfLink),
        b"thread-self" => return Some(Node::ThreadSelfLink),
        b"sys" => return Some(Node::Settings("")),
        b"sysvipc" => return Some(Node::Ipc),
        _ => {}
    }
    let global = GLOBAL.iter().find(|known| known.as_bytes() == name).map(|known| Node::Global(known));
    let alias = || ALIASES.iter().find(|(known, _)| known.as_bytes() == name).map(|(n, to)| Node::Alias(n, to));
    // A thread's number leads to it, though no directory lists it.
    let of_task = |id| tree::task(id).map(|task| Who::Thread(task.process.pid, id));
    let who = |id| tree::process(id).map(|_| Who::Process(id)).or_else(|| of_task(id));
    global.or_else(alias).or_else(|| number(name).and_then(who).map(Node::Subject))
}

fn of_subject(who: Who) -> Vec<Named> {
    let mut all = Vec::new();
    if let Who::Process(pid) = who {
        all.push(named("task", Node::Tasks(pid)));
    }
    all.extend([named("fd", Node::Descriptors(who)), named("fdinfo", Node::DescriptorInfos(who))]);
    all.extend([named("net", Node::Net(who)), named("ns", Node::Namespaces(who))]);
    all.extend(texts_of(who).map(|(name, _)| named(name, Node::Text(who, name))));
    all.extend(LINKS.iter().map(|name| named(name, Node::Place(who, name))));
    all
}

fn in_subject(who: Who, name: &[u8]) -> Option<Node> {
    match (name, who) {
        (b"task", Who::Process(pid)) => return Some(Node::Tasks(pid)),
        (b"fd", _) => return Some(Node::Descriptors(who)),
        (b"fdinfo", _) => return Some(Node::DescriptorInfos(who)),
        (b"net", _) => return Some(Node::Net(who)),
        (b"ns", _) => return Some(Node::Namespaces(who)),
        _ => {}
    }
    let text = texts_of(who).find(|(known, _)| known.as_bytes() == name).map(|(known, _)| Node::Text(who, known));
    text.or_else(|| LINKS.iter().find(|known| known.as_bytes() == name).map(|known| Node::Place(who, known)))
}

fn descriptors(who: Who, node: fn(Who, Fd) -> Node) -> Result<Vec<Named>> {
    let subject = who.subject()?;
    let open = subject.task.map(|task| task.files().collect()).unwrap_or_default();
    Ok(open.iter().map(|(fd, _)| named(&fd.0.to_string(), node(who, *fd))).collect())
}

fn open_fd(who: Who, name: &[u8]) -> Option<Fd> {
    let fd = number(name).map(Fd)?;
    who.subject().ok()?.open_file(fd).ok().map(|_| fd)
}
