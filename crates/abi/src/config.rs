//! What the supervisor tells the LibOS about its container, encoded by [`crate::encode`].

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A container, as its LibOS needs to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Program and arguments; the program is looked up in the guest's PATH if it has no slash.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value` strings.
    pub env: Vec<Vec<u8>>,
    /// Working directory of the first process.
    pub cwd: Vec<u8>,
    /// Host name.
    pub hostname: String,
    /// Credentials of the first process.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// The first process is an init: it gets those signals alone that it has handlers for.
    pub is_init: bool,
    /// Nice value of the first process.
    pub nice: i32,
    /// Resource limits of the first process by RLIMIT_ number, soft and hard; those that are left out are the usual ones.
    pub limits: Vec<(u64, u64)>,
    /// How many descriptors the host lets each process of the container have.
    pub descriptors: u64,
    /// Mounts, in the order in which they are made; the first is `/`.
    pub mounts: Vec<Mount>,
    /// The caller's standard streams.
    pub stdio: [Stdio; 3],
    /// Present where the front end serves a terminal on `CONSOLE_FD`.
    pub terminal: Option<Winsize>,
    /// Bytes of arena that files in memory and pipes may use.
    pub memory_files_limit: u64,
    /// Bytes of guest memory, 0 for no limit.
    pub memory_limit: u64,
    /// Write a trace of calls, as strace does, through `Request::Log`.
    pub strace: bool,
    /// Count calls for the report.
    pub stats: bool,
    /// Number of processors the container may use.
    pub cpus: u32,
    /// Figures of the host for /proc.
    pub machine: Machine,
}

/// What programs may know of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Lines of /proc/cpuinfo for one processor, without those that tell one from another.
    pub processor: String,
    /// Bytes of memory, 0 where the host does not tell.
    pub memory_total: u64,
    /// Bytes that could be had at the start, 0 where the host does not tell.
    pub memory_available: u64,
}

/// One mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: Vec<u8>,
    /// What is mounted.
    pub source: MountSource,
    /// What it refuses.
    pub flags: MountFlags,
}

/// What a mount refuses: mount(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// MS_RDONLY: writes.
    pub read_only: bool,
    /// MS_NOEXEC: running its files.
    pub no_exec: bool,
    /// MS_NOSUID: set-user-ID and set-group-ID bits have no effect.
    pub no_set_id: bool,
    /// MS_NODEV: opening devices.
    pub no_devices: bool,
}

impl MountFlags {
    /// Nothing but writes.
    pub const READ_ONLY: MountFlags =
        MountFlags { read_only: true, no_exec: false, no_set_id: false, no_devices: false };
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory (or, for a volume, one file) of the host, read and written through the broker.
    Host {
        /// Number of the export.
        export: u16,
        /// Put a writable layer in memory above; the host's files stay as they are.
        overlay: bool,
        /// The host tells of all changes there: no other machine makes any.
        watched: bool,
        /// Mappings of its files show what reads of them would.
        mappable: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Size limit in bytes, 0 for half of the memory.
        size: u64,
        /// How many names its files may have, 0 for no limit of its own.
        inodes: u64,
        /// Mode of its root.
        mode: u32,
    },
    /// The LibOS's own /proc.
    Proc,
    /// The LibOS's own /sys.
    Sys,
    /// The LibOS's own /dev, with /dev/pts and /dev/shm.
    Dev,
}

/// One of the caller's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Was closed: stays closed.
    Closed,
    /// The terminal that the front end serves.
    Terminal,
    /// The host's /dev/null or another device of which the LibOS has its own.
    Null,
    /// Passed as `STDIO_FD + n`.
    Host {
        /// What it is.
        kind: HostKind,
        /// Open for reading.
        readable: bool,
        /// Open for writing.
        writable: bool,
        /// Opened with O_APPEND by the caller.
        append: bool,
    },
}

/// Kind of a host descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostKind {
    /// A regular file: seekable; its offset is shared with the caller.
    File,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// Another character device.
    Device,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winsize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}
