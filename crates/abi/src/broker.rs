//! The broker protocol: one request and one reply, each a SOCK_SEQPACKET datagram, on a channel that
//! carries one request at a time. A reply may carry descriptors (SCM_RIGHTS): one, or those of several files.
//!
//! Paths are relative to their export's root, without leading slash, without `.` and `..`; the empty
//! path is the root. They hold no symbolic link: the LibOS resolves those itself.

use crate::name::Name;
use crate::stats::Stats;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Largest request datagram in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Largest reply datagram in bytes.
pub const MAX_REPLY: usize = 128 * 1024;
/// Most files that one request opens beside the one that it is for, or with a listing.
pub const MOST_BESIDE: usize = 31;
/// Files no larger than this many bytes are opened in advance.
pub const SMALL_FILE: u64 = 64 * 1024;

/// No processor's number: see [`Envelope::runs_on`].
pub const ANYWHERE: u16 = u16::MAX;

/// A request with its sequence number: a reply whose number differs answers an abandoned request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Chosen by the LibOS, echoed by the broker.
    pub sequence: u32,
    /// Of a request: number, plus 1, of the host's processor that runs the asker, which is tied to it as long as it asks in
    /// quick succession. The broker had better answer there. [`ANYWHERE`] for who will ask again and does not wait. Else 0.
    pub runs_on: u16,
    /// Request or reply.
    pub body: T,
}

/// A file by its path, and which one is to be found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAt<'a> {
    /// Path.
    pub path: &'a [u8],
    /// Its inode number: `ESTALE` where the path leads to another file. 0 for any.
    pub inode: u64,
}

impl<'a> FileAt<'a> {
    /// Whatever file is there.
    #[must_use]
    pub fn any(path: &'a [u8]) -> Self {
        Self { path, inode: 0 }
    }
}

/// The closed list of requests; at most 24 kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Attributes of each component along a path, from the first on, stopping at the first that is
    /// missing or no directory. Answer: `Reply::Nodes`.
    Walk {
        /// Export.
        export: u16,
        /// Directory from which the walk starts.
        from: &'a [u8],
        /// Components to look up below it.
        path: &'a [u8],
    },
    /// Entries of a directory, from position `from` (0 first). Answer: `Reply::Entries`, each with its attributes, or files
    /// with inode number and type alone: they have no link then.
    ReadDir {
        /// Export.
        export: u16,
        /// Directory.
        path: &'a [u8],
        /// How many entries to skip (the order is stable while the directory does not change).
        from: u32,
        /// Whether attributes and targets of links are wanted.
        attributes: bool,
        /// How many small files ([`SMALL_FILE`]) may be opened for reading with it, at most [`MOST_BESIDE`]: only with attributes.
        open: u8,
    },
    /// A handle on a regular file, with its attributes, and handles for reading on others that are likely to be asked for next.
    /// Answer: `Reply::Opened` and the descriptors.
    Open {
        /// Export.
        export: u16,
        /// File.
        #[serde(borrow)]
        file: FileAt<'a>,
        /// Whether the handle can write.
        writable: bool,
        /// Names of others in the same directory, at most [`MOST_BESIDE`].
        #[serde(borrow)]
        beside: Vec<&'a [u8]>,
    },
    /// Makes a node. Answer: `Reply::Node`; for a regular file also a descriptor (read-write).
    Create {
        /// Export.
        export: u16,
        /// Path of the new node.
        path: &'a [u8],
        /// What to make.
        kind: NewNode<'a>,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: (u32, u32),
    },
    /// Removes a name. Answer: `Reply::Done`.
    Remove {
        /// Export.
        export: u16,
        /// Path.
        path: &'a [u8],
        /// rmdir instead of unlink.
        directory: bool,
    },
    /// Renames within one export. Answer: `Reply::Done`.
    Rename {
        /// Export.
        export: u16,
        /// Old path.
        from: &'a [u8],
        /// New path.
        to: &'a [u8],
        /// Bits of renameat2: NOREPLACE 1, EXCHANGE 2.
        flags: u32,
    },
    /// A hard link. Answer: `Reply::Done`.
    Link {
        /// Export.
        export: u16,
        /// Existing file.
        #[serde(borrow)]
        from: FileAt<'a>,
        /// New name.
        to: &'a [u8],
    },
    /// Changes attributes. Answer: `Reply::Node`.
    SetAttributes {
        /// Export.
        export: u16,
        /// Node.
        #[serde(borrow)]
        file: FileAt<'a>,
        /// Fields that are `Some` change.
        change: Change,
    },
    /// Extended attributes. Answer: `Reply::Bytes` or `Reply::Done`.
    Xattr {
        /// Export.
        export: u16,
        /// Node.
        #[serde(borrow)]
        file: FileAt<'a>,
        /// What to do.
        operation: XattrOperation<'a>,
    },
    /// Sizes of the file system behind an export. Answer: `Reply::Space`.
    Space {
        /// Export.
        export: u16,
    },
    /// Writes a file's data to its disk. Answer: `Reply::Done`.
    Sync {
        /// Export.
        export: u16,
        /// Node.
        #[serde(borrow)]
        file: FileAt<'a>,
    },
    /// Preallocates or punches. Answer: `Reply::Done`.
    Allocate {
        /// Export.
        export: u16,
        /// Node.
        #[serde(borrow)]
        file: FileAt<'a>,
        /// Mode bits of fallocate(2).
        mode: u32,
        /// Start in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A memfd of a size in bytes. Answer: `Reply::Memory` and a descriptor.
    Memory {
        /// Size in bytes.
        size: u64,
    },
    /// Changes the size of a memfd. Answer: `Reply::Done`.
    ResizeMemory {
        /// Its number from `Reply::Memory`.
        id: u32,
        /// New size in bytes.
        size: u64,
    },
    /// The broker forgets its descriptor of a memfd. Answer: `Reply::Done`.
    DropMemory {
        /// Its number.
        id: u32,
    },
    /// The patched image of a file's text. Answer: `Reply::Image` and a descriptor, or `NotFound`
    /// errno ENOEXEC where the file has none.
    Image {
        /// Export.
        export: u16,
        /// File.
        #[serde(borrow)]
        file: FileAt<'a>,
    },
    /// The patched image of the text in a memfd. Answer: as for `Image`.
    MemoryImage {
        /// Its number from `Reply::Memory`.
        id: u32,
    },
    /// A host epoll set. Answer: `Reply::Done` and a descriptor.
    Epoll,
    /// Text for the caller's standard error (trace, log). Answer: `Reply::Done`.
    Log {
        /// Lines, each with its newline.
        text: &'a [u8],
    },
    /// The first guest process ended. No answer: the supervisor ends the container.
    Exit {
        /// Wait status as wait4(2) gives it.
        status: i32,
        /// The report.
        stats: Stats,
    },
    /// The first program could not be started. No answer: the supervisor ends the container.
    StartFailed {
        /// What was being done.
        step: StartStep,
        /// errno of the failed step.
        errno: i32,
        /// What was at fault, for people.
        what: &'a [u8],
    },
    /// Every thread of the container stands at its entry frame. No answer.
    Quiesced {
        /// How many.
        threads: u32,
    },
}

/// A step of a container's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartStep {
    /// Streams, the first process: ours.
    Container,
    /// The working directory.
    Directory,
    /// The program and its interpreters.
    Program,
    /// A mount.
    Mount,
}

/// How many kinds of request there are.
pub const REQUEST_KINDS: usize = 22;

/// Names of the kinds, in the order of their tags.
pub const REQUEST_NAMES: [&str; REQUEST_KINDS] = [
    "walk",
    "readdir",
    "open",
    "create",
    "remove",
    "rename",
    "link",
    "setattr",
    "xattr",
    "space",
    "sync",
    "allocate",
    "memory",
    "resize-memory",
    "drop-memory",
    "image",
    "memory-image",
    "epoll",
    "log",
    "exit",
    "start-failed",
    "quiesced",
];

/// What `Create` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewNode<'a> {
    /// A regular file; fails where the name exists.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// A FIFO: a name only; the LibOS implements it.
    Fifo,
    /// A socket: a name only.
    Socket,
}

/// Attribute changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<Time>,
    /// Modification time.
    pub mtime: Option<Time>,
}

/// What to do with extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrOperation<'a> {
    /// Value of a name.
    Get(&'a [u8]),
    /// Names, each with a NUL.
    List,
    /// Set: name, value, flags (XATTR_CREATE 1, XATTR_REPLACE 2).
    Set(&'a [u8], &'a [u8], u32),
    /// Remove a name.
    Remove(&'a [u8]),
}

/// A point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds below a second.
    pub nsec: u32,
}

/// Attributes of a node, as statx(2) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Device number of the host file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Type and permission bits (`S_IFMT` included).
    pub mode: u32,
    /// Links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
}

/// A node and what a symbolic link holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Attributes.
    pub attributes: Attributes,
    /// Target of a symbolic link, else empty.
    pub target: Vec<u8>,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name.
    pub name: Name,
    /// Node.
    pub node: Node,
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It was done.
    Done,
    /// It failed with this errno of the host.
    Failed(i32),
    /// Attributes of the components found, in order; fewer than asked where one is missing or no directory.
    Nodes(Vec<Node>),
    /// Entries, without `.` and `..`; `more` says that another request continues.
    Entries {
        /// Attributes of the directory itself.
        directory: Attributes,
        /// Entries.
        entries: Vec<Entry>,
        /// Whether the directory goes on.
        more: bool,
        /// Which of the entries were opened: their places here, in the order of their descriptors, which travel beside.
        opened: Vec<u16>,
    },
    /// Attributes of one node.
    Node(Attributes),
    /// Attributes of an opened file. Its descriptor travels beside, and behind that those of `beside`.
    Opened {
        /// Attributes of the file that was asked for.
        attributes: Attributes,
        /// Which of the others could be opened: their places in the request, in order, and their attributes.
        beside: Vec<(u8, Attributes)>,
    },
    /// Bytes of an extended attribute.
    Bytes(Vec<u8>),
    /// A file system's sizes.
    Space(Space),
    /// A memfd's number; its descriptor travels beside.
    Memory {
        /// Number.
        id: u32,
    },
    /// A patched image of the file that has these attributes; its descriptor travels beside.
    Image(Attributes, Image),
}

/// Sizes of a file system, as statfs(2) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Magic number.
    pub kind: u64,
    /// Bytes a block.
    pub block: u64,
    /// Blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for an ordinary user.
    pub available: u64,
    /// Inodes.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

/// How to map a patched image. The descriptor holds the file's executable pages at the file's own
/// offsets, and the stubs from `stub_offset` on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The object's load span in bytes, from its lowest virtual address, page aligned.
    pub span: u64,
    /// Lowest virtual address of the object (0 for a shared object).
    pub base_vaddr: u64,
    /// Virtual address of the slot page, directly behind the span.
    pub slot_vaddr: u64,
    /// Virtual address of the stubs.
    pub stub_vaddr: u64,
    /// Offset of the stubs in the descriptor's file.
    pub stub_offset: u64,
    /// Length of the stubs in bytes.
    pub stub_len: u64,
    /// Text that has patches.
    pub text: Vec<Text>,
    /// Pieces of the stubs, ordered.
    pub moved: Vec<Moved>,
    /// Patched `syscall` sites, ordered: virtual address and tier.
    pub sites: Vec<(u64, u8)>,
}

/// A range of text in a patched image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Where it lies in the file and in the image, page aligned.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Virtual address of its first byte.
    pub vaddr: u64,
}

/// A piece of a stub, or a hole in the text through which a short jump leads to one: virtual addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Program counter that the guest sees instead.
    pub original: u64,
    /// Whether the guest goes on here when it wants to run at `original`, whose bytes may be overwritten.
    pub resumes: bool,
}
