//! What a file system implements: inodes and the file system itself.
//!
//! Names and permissions are the business of the path walk and of [`super::change`]: an inode is asked only for what
//! was already allowed. Directories are changed under their dentry's sleeping lock, so an implementation sees one
//! change of a directory at a time; its own locks are leaves.

use super::access::Who;
use super::acl::{self, Acl, AclKind};
use super::dentry::Name;
use super::file::{FileOps, OpenFlags};
use super::host_watch::Word;
use super::path::Path;
use super::stamp;
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

pub use abi::broker::Time;

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// UNIX socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// S_IFMT.
pub const TYPE_MASK: u32 = 0o170_000;
/// Permission bits, with set-id and sticky bits.
pub const PERMISSIONS: u32 = 0o7777;

impl Kind {
    /// The S_IF bits.
    #[must_use]
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::Fifo => 0o010_000,
            Kind::CharDevice => 0o020_000,
            Kind::Directory => 0o040_000,
            Kind::BlockDevice => 0o060_000,
            Kind::File => 0o100_000,
            Kind::Symlink => 0o120_000,
            Kind::Socket => 0o140_000,
        }
    }

    /// From the S_IF bits of a mode.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Some(match mode & TYPE_MASK {
            0o010_000 => Kind::Fifo,
            0o020_000 => Kind::CharDevice,
            0o040_000 => Kind::Directory,
            0o060_000 => Kind::BlockDevice,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Symlink,
            0o140_000 => Kind::Socket,
            _ => return None,
        })
    }

    /// `d_type` of getdents64(2).
    #[must_use]
    pub fn entry_type(self) -> u8 {
        u8::try_from(self.mode_bits() >> 12).unwrap_or(0)
    }
}

/// Attributes, as statx(2) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred transfer size in bytes.
    pub blksize: u32,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
}

impl Stat {
    /// Attributes of an object without a name, as its kind has them: root's, mode 0600, no size.
    #[must_use]
    pub fn anonymous(kind: Kind, ino: u64) -> Stat {
        let mode = kind.mode_bits() | 0o600;
        Stat { dev: ANONYMOUS_DEV, ino, mode, nlink: 1, blksize: 4096, ..Stat::default() }
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::from_mode(self.mode).unwrap_or(Kind::File)
    }

    /// What permissions are told by.
    #[must_use]
    pub fn rights(&self) -> Rights {
        Rights { mode: self.mode, uid: self.uid, gid: self.gid }
    }
}

/// The attributes that permissions are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Device number of objects without a file system (pipes, sockets, anonymous inodes).
pub const ANONYMOUS_DEV: u64 = 0xf;

/// Who makes an object now: user and group. Root without a task.
#[must_use]
pub fn maker() -> (u32, u32) {
    Task::current().map_or((0, 0), |task| {
        let creds = task.creds();
        (creds.fsuid, creds.fsgid)
    })
}

/// The current time, as files are stamped with it.
#[must_use]
pub fn now() -> Time {
    time_of(stamp::coarse_ns())
}

/// A time on the clock of times.
#[must_use]
pub fn time_of(ns: u64) -> Time {
    let sec = i64::try_from(ns / 1_000_000_000).unwrap_or(0);
    Time { sec, nsec: u32::try_from(ns % 1_000_000_000).unwrap_or(0) }
}

/// Changes of attributes: fields that are `Some` change. The ctime changes with any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes (regular files).
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<Time>,
    /// Modification time.
    pub mtime: Option<Time>,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKind<'a> {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(&'a [u8]),
    /// A FIFO.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice(u64),
    /// A block device.
    BlockDevice(u64),
}

impl NewKind<'_> {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            NewKind::File => Kind::File,
            NewKind::Directory => Kind::Directory,
            NewKind::Symlink(_) => Kind::Symlink,
            NewKind::Fifo => Kind::Fifo,
            NewKind::Socket => Kind::Socket,
            NewKind::CharDevice(_) => Kind::CharDevice,
            NewKind::BlockDevice(_) => Kind::BlockDevice,
        }
    }

    /// Device number of a device node, else 0.
    #[must_use]
    pub fn rdev(&self) -> u64 {
        match self {
            NewKind::CharDevice(rdev) | NewKind::BlockDevice(rdev) => *rdev,
            _ => 0,
        }
    }
}

/// The mode that is asked for of what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMode {
    bits: u32,
    umask: u32,
}

impl NewMode {
    /// By who makes it.
    #[must_use]
    pub fn by(who: &Who<'_>, bits: u32) -> NewMode {
        NewMode { bits, umask: who.umask }
    }

    /// Without a umask.
    #[must_use]
    pub fn exact(bits: u32) -> NewMode {
        NewMode { bits, umask: 0 }
    }

    /// What comes of it in a directory.
    #[must_use]
    pub fn within(self, dir: &dyn Inode) -> u32 {
        acl::mode_of_new(dir, self.bits & PERMISSIONS, self.umask)
    }
}

/// A node to be made; umask and set-group-id inheritance are already applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode<'a> {
    /// What.
    pub kind: NewKind<'a>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How a rename treats a target that exists: renameat2(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with EEXIST.
    NoReplace,
    /// Both names change places.
    Exchange,
}

/// What a symbolic link leads to.
pub enum Link {
    /// A text to be walked.
    Text(Vec<u8>),
    /// A place (magic links of /proc).
    Jump(Path),
    /// An open file without a place (/proc/self/fd of a pipe).
    File(Arc<super::file::File>),
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub kind: Kind,
    /// Cookie from which the listing goes on behind this entry.
    pub next: u64,
}

/// Receives entries; false ends the listing before the entry (it was not taken).
pub type Emit<'a> = &'a mut dyn FnMut(&DirEntry<'_>) -> bool;

/// What identifies a file: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// How the path walk may remember a directory's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Names change only through the directory's own operations: found and absent names are kept.
    Always,
    /// Names come and go by themselves (/proc): each look-up asks.
    Never,
}

/// A file of a file system. The defaults are what Linux answers for a file without the operation.
pub trait Inode: Send + Sync + Any {
    /// The type; never changes.
    fn kind(&self) -> Kind;

    /// The identity; never changes.
    fn id(&self) -> InodeId;

    /// Attributes.
    ///
    /// # Errors
    /// EIO.
    fn stat(&self) -> Result<Stat>;

    /// Attributes of which only type, mode and owner have to be right.
    ///
    /// # Errors
    /// EIO.
    fn permissions(&self) -> Result<Stat> {
        self.stat()
    }

    /// Attributes, where they are known without asking anybody outside, and no access control list says more: it may be called
    /// below a pin. False for others. (They are put where the caller wants them: each layer above another one would copy them.)
    fn stat_at_hand(&self, _to: &mut Stat) -> bool {
        false
    }

    /// What permissions are told by, as [`Inode::stat_at_hand`] tells all; None where that is false.
    fn rights_at_hand(&self) -> Option<Rights> {
        let mut stat = Stat::default();
        self.stat_at_hand(&mut stat).then(|| stat.rights())
    }

    /// The file system.
    fn file_system(&self) -> &dyn FileSystem;

    /// Changes attributes. Permission was checked.
    ///
    /// # Errors
    /// EPERM for a file system without changeable attributes; EROFS, ENOSPC, EFBIG.
    fn set_attributes(&self, _change: &Change) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Opens a regular file or directory (or whatever the inode implements itself). Permission was checked, and
    /// the file truncated where O_TRUNC asks for it. FIFOs and device nodes usually leave it to
    /// [`super::special`] by answering ENXIO from this default.
    ///
    /// # Errors
    /// ENXIO, EROFS.
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }

    /// The inode itself as what is opened, where openings have nothing for themselves and take nothing: [`Inode::open`] is not asked.
    fn as_file(&self) -> Option<&dyn FileOps> {
        None
    }

    /// Finds a name (never `.` or `..`).
    ///
    /// # Errors
    /// ENOENT; ENOTDIR.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// A hint: the names of this relative path will be looked up one after the other.
    fn prefetch(&self, _path: &[u8]) {}

    /// Whether the names below may be remembered.
    fn caching(&self) -> Caching {
        Caching::Always
    }

    /// The word that tells when names below may have changed behind the LibOS's back; None where they do not.
    fn names_word(&self) -> Option<Word> {
        None
    }

    /// The name that it keeps for itself, for others to share: mostly the one by which it was looked up.
    fn name_at_hand(&self) -> Option<Name> {
        None
    }

    /// Changes whenever they may have: what is remembered of them is unsure then.
    fn names_generation(&self) -> u64 {
        self.names_word().map_or(0, Word::generation)
    }

    /// Whether a name that is absent may come to be: where not, it is not found by those who would make it either,
    /// whatever their rights.
    fn takes_names(&self) -> bool {
        true
    }

    /// Makes a node; the name does not exist.
    ///
    /// # Errors
    /// EPERM, EACCES of a regular file; ENOSPC, EROFS, EEXIST.
    fn create(&self, _name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Err(if node.kind == NewKind::File { Errno::EACCES } else { Errno::EPERM })
    }

    /// Makes a regular file without a name: O_TMPFILE.
    ///
    /// # Errors
    /// EOPNOTSUPP.
    fn create_unnamed(&self, _node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target`, of the same file system, another name.
    ///
    /// # Errors
    /// EPERM, EMLINK, EXDEV.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes the name of something that is no directory.
    ///
    /// # Errors
    /// EPERM, ENOENT, EISDIR.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// EPERM, ENOENT, ENOTDIR, ENOTEMPTY.
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Renames to a name in `to_dir`, a directory of the same file system. Kinds fit, and no directory moves below
    /// itself; a target directory must be empty.
    ///
    /// # Errors
    /// EPERM, EXDEV, ENOTEMPTY, EEXIST.
    fn rename(&self, _from: &[u8], _to_dir: &Arc<dyn Inode>, _to: &[u8], _mode: RenameMode) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// What a symbolic link leads to.
    ///
    /// # Errors
    /// EINVAL for anything else.
    fn follow(&self) -> Result<Link> {
        self.read_link().map(Link::Text)
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// EINVAL for anything else.
    fn read_link(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Lists entries from a cookie on (0: the first), without `.` and `..`.
    ///
    /// # Errors
    /// ENOTDIR.
    fn read_dir(&self, _from: u64, _emit: Emit<'_>) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODATA.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of the extended attributes, each with a NUL.
    ///
    /// # Errors
    /// EIO.
    fn list_xattrs(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP, EEXIST, ENODATA, ENOSPC.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _mode: XattrMode) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODATA.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// An access control list.
    ///
    /// # Errors
    /// EOPNOTSUPP for a file system, or a kind of file, without any.
    fn acl(&self, _kind: AclKind) -> Result<Option<Acl>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets or takes away an access control list, which was checked, and not the mode.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENOSPC.
    fn set_acl(&self, _kind: AclKind, _acl: Option<Acl>) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether nobody can tell that a file which was open for reading still is: nothing is given back when it is closed.
    fn may_stay_open(&self) -> bool {
        false
    }

    /// What is known of the host's regular file whose bytes these are, if they are: for patched images.
    fn host_attributes(&self) -> Option<abi::broker::Attributes> {
        None
    }

    /// Export of that file, and its path below.
    fn host_name(&self) -> Option<(u16, Vec<u8>)> {
        None
    }

    /// The inode itself, for its own file system.
    fn as_any(&self) -> &dyn Any;
}

/// Flags of setxattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Creates or replaces.
    Any,
    /// XATTR_CREATE.
    Create,
    /// XATTR_REPLACE.
    Replace,
}

/// Sizes of a file system, as statfs(2) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
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

/// A file system instance.
pub trait FileSystem: Send + Sync {
    /// Its type, as /proc/mounts shows it.
    fn name(&self) -> &'static str;

    /// Device number of its files.
    fn dev(&self) -> u64;

    /// Sizes.
    ///
    /// # Errors
    /// EIO.
    fn stat_fs(&self) -> Result<StatFs>;

    /// How long its files can be.
    fn longest_file(&self) -> u64 {
        i64::MAX.unsigned_abs()
    }

    /// Writes what is not yet on disk.
    ///
    /// # Errors
    /// EIO.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// A file system that stores nothing.
#[derive(Debug)]
pub struct Nodev {
    /// Its type.
    pub name: &'static str,
    /// Device number of its files.
    pub dev: u64,
    /// f_type: statfs(2).
    pub kind: u64,
    /// How long its files can be.
    pub longest: u64,
}

/// The longest file of a file system that does not say more: MAX_NON_LFS.
pub const LONGEST_OF_32_BITS: u64 = i32::MAX as u64;

impl FileSystem for Nodev {
    fn name(&self) -> &'static str {
        self.name
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: self.kind, block: 4096, ..StatFs::default() })
    }

    fn longest_file(&self) -> u64 {
        self.longest
    }
}

/// A device number for a file system without a device.
#[must_use]
pub fn new_anonymous_dev() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0x40);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An inode number for an object without a file system (a pipe, a socket).
#[must_use]
pub fn new_anonymous_ino() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Device number of a device node, from its parts, as stat(2) shows it.
#[must_use]
pub fn make_dev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

/// A device's number as the kernel itself writes it, in /proc/PID/fdinfo: twenty bits of minor.
#[must_use]
pub fn kernel_dev(dev: u64) -> u32 {
    let (major, minor) = split_dev(dev);
    major << 20 | minor
}

/// Major and minor number of a device number.
#[must_use]
pub fn split_dev(dev: u64) -> (u32, u32) {
    let major = (dev >> 8 & 0xfff) | (dev >> 32 & 0xffff_f000);
    let minor = (dev & 0xff) | (dev >> 12 & 0xffff_ff00);
    (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0))
}
