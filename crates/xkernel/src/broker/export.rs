//! An export: one mount of the host, or one file of it, that a container may see.

use super::{BrokerError, attributes, name};
use crate::mountinfo;
use abi::broker::{Attributes, FileAt, SMALL_FILE};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstatfs, open, openat, openat2, statx,
};
use rustix::io::Errno;
use rustix::path::DecInt;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

/// Magic numbers of the file systems whose files act on the host.
const FORBIDDEN: [(u64, &str); 15] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0xcafe_4a11, "bpf"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0x1cd1, "devpts"),
    (0xde5e_81e4, "efivarfs"),
    (0x6165_676c, "pstore"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6573_5543, "fusectl"),
    (0x0187, "autofs"),
];

/// Magic numbers of file systems that other machines, or programs, change without the host's knowledge.
const UNWATCHED: [u64; 14] = [
    0x6969,      // nfs
    0x6573_5546, // fuse, virtiofs
    0x0102_1997, // 9p
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x00c3_6400, // ceph
    0x5346_414f, // afs
    0x6b41_4653, // afs of the kernel
    0x7375_7245, // coda
    0x0116_1970, // gfs2
    0x7461_636f, // ocfs2
    0x0bd0_0bd0, // lustre
    0x786f_4256, // vboxsf
];

/// Magic number of overlayfs: the first write to a file puts a copy in its place, which mappings do not show.
const OVERLAYFS: u64 = 0x794c_7630;

/// Magic number of tmpfs.
const TMPFS: u64 = 0x0102_1994;

/// How often a walk is begun again that a rename elsewhere disturbed.
const RETRIES: usize = 32;

/// What every opening carries.
const BASE: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

/// One mount of the host, or one file, and whether it may be written.
#[derive(Debug)]
pub struct Export {
    root: OwnedFd,
    /// Device and inode number of the root.
    id: (u64, u64),
    read_only: bool,
    is_directory: bool,
    is_watched: bool,
    is_mappable: bool,
}

impl Export {
    /// Opens a directory or a regular file of the host as an export. The path is the operator's and
    /// may hold symbolic links.
    ///
    /// # Errors
    /// [`BrokerError`] where the path cannot be opened, is of another kind, or lies in proc, sysfs,
    /// devtmpfs, cgroup, bpf and their like.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, BrokerError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty());
        Self::of_descriptor(root.map_err(|errno| BrokerError::Open { path: path.into(), errno })?, path, read_only)
    }

    /// A directory of this one as an export of its own, read-only.
    ///
    /// # Errors
    /// As [`Self::open`], and where the path leads through a link or into another mount.
    pub fn below(&self, path: &str) -> Result<Self, BrokerError> {
        let root = self.directory(path.as_bytes());
        Self::of_descriptor(root.map_err(|errno| BrokerError::Open { path: path.into(), errno })?, path.as_ref(), true)
    }

    fn of_descriptor(root: OwnedFd, path: &Path, read_only: bool) -> Result<Self, BrokerError> {
        let failed = |errno| BrokerError::Open { path: path.into(), errno };
        let attributes = attributes::of_descriptor(&root).map_err(failed)?;
        let is_directory = match attributes::kind(&attributes) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => return Err(BrokerError::Kind { path: path.into() }),
        };
        if let Some(filesystem) = forbidden(&root).map_err(failed)? {
            return Err(BrokerError::Forbidden { path: path.into(), filesystem });
        }
        let magic = magic_of(&root).map_err(failed)?;
        let is_watched = !UNWATCHED.contains(&magic);
        let is_mappable = is_watched && magic != OVERLAYFS;
        let id = (attributes.device, attributes.inode);
        Ok(Self { root, id, read_only, is_directory, is_watched, is_mappable })
    }

    /// Whether the host tells of all changes below.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Whether a mapping of a file below shows what a read would.
    #[must_use]
    pub fn is_mappable(&self) -> bool {
        self.is_mappable
    }

    /// Fails with `EROFS` where nothing may be written.
    pub(super) fn check_writable(&self) -> Result<(), Errno> {
        if self.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// The export's root, an O_PATH descriptor.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// An O_PATH descriptor of a node of any kind; a symbolic link is the node itself.
    ///
    /// # Errors
    /// `EXDEV` where the path leads into another mount, `ELOOP` where it leads through a link.
    pub(super) fn node(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH)
    }

    /// The same of a node that is known.
    ///
    /// # Errors
    /// `ESTALE` where the path leads to another one, and as [`Export::node`].
    pub(super) fn node_of(&self, file: FileAt<'_>) -> Result<OwnedFd, Errno> {
        let node = self.node(file.path)?;
        if file.inode != 0 {
            check_inode(&attributes::of_descriptor(&node)?, file.inode)?;
        }
        Ok(node)
    }

    /// An O_PATH descriptor of a directory.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// A directory opened for reading its entries.
    pub(super) fn readable_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The directory that holds a name, and the name.
    pub(super) fn parent<'a>(&'a self, path: &'a [u8]) -> Result<(Parent<'a>, &'a [u8]), Errno> {
        let (parent, last) = name::split(path)?;
        if parent.is_empty() && self.is_directory {
            return Ok((Parent::Root(self), last));
        }
        Ok((Parent::Below(self.directory(parent)?), last))
    }

    /// The same, for several steps that need it.
    pub(super) fn named<'a>(&'a self, path: &'a [u8]) -> Named<'a> {
        Named { path, parent: self.parent(path) }
    }

    /// Opens a regular file for reading or writing, with its attributes.
    ///
    /// # Errors
    /// `ESTALE` for another one; `EROFS` for writing a read-only export; `EISDIR`, `ELOOP`, `ENXIO` (FIFO, socket) and `EACCES`
    /// (device) for what is no regular file: opening those would block or act.
    pub(super) fn file(&self, file: FileAt<'_>, access: Access) -> Result<(OwnedFd, Attributes), Errno> {
        if access == Access::Write {
            self.check_writable()?;
        }
        open_regular(&self.node(file.path)?, file.inode, access)
    }

    /// As [`Export::file`] of a name whose directory is open already.
    pub(super) fn file_named(
        &self,
        named: &Named<'_>,
        inode: u64,
        access: Access,
    ) -> Result<(OwnedFd, Attributes), Errno> {
        if named.path.is_empty() {
            return self.file(FileAt { path: named.path, inode }, access);
        }
        if access == Access::Write {
            self.check_writable()?;
        }
        let (directory, name) = named.parent()?;
        open_regular(&below(directory.as_fd(), name, OFlags::PATH)?, inode, access)
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        name::check_path(path)?;
        if !path.is_empty() {
            return below(self.root(), path, flags);
        }
        if flags.contains(OFlags::DIRECTORY) && !self.is_directory {
            return Err(Errno::NOTDIR);
        }
        if self.is_directory && !flags.contains(OFlags::PATH) {
            return below(self.root(), b".", flags);
        }
        // Also where the caller may not enter it: a mount that is closed to us is there, and tells its attributes.
        rustix::io::fcntl_dupfd_cloexec(&self.root, 0)
    }
}

/// The directory that holds a name, an O_PATH descriptor.
#[derive(Debug)]
pub(super) enum Parent<'a> {
    /// That is open for good.
    Root(&'a Export),
    Below(OwnedFd),
}

impl Parent<'_> {
    /// Its device and inode number.
    pub(super) fn id(&self) -> Result<(u64, u64), Errno> {
        match self {
            Parent::Root(export) => Ok(export.id),
            Parent::Below(directory) => {
                attributes::of_descriptor(directory).map(|attributes| (attributes.device, attributes.inode))
            }
        }
    }
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Root(export) => export.root(),
            Parent::Below(directory) => directory.as_fd(),
        }
    }
}

/// A path, and what [`Export::parent`] said of it.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) path: &'a [u8],
    parent: Result<(Parent<'a>, &'a [u8]), Errno>,
}

impl<'a> Named<'a> {
    /// The directory that holds the name, and the name.
    pub(super) fn parent(&self) -> Result<(&Parent<'a>, &'a [u8]), Errno> {
        self.parent.as_ref().map(|(parent, name)| (parent, *name)).map_err(|errno| *errno)
    }

    /// Opens regular files that lie beside it for reading, each with its place among the names; those that cannot be opened are left
    /// out.
    pub(super) fn files_beside(&self, names: &[&[u8]]) -> Vec<(u8, OwnedFd, Attributes)> {
        let Some((directory, _)) = (!names.is_empty()).then(|| self.parent().ok()).flatten() else {
            return Vec::new();
        };
        let open = |name: &[u8]| {
            name::check_component(name)?;
            open_regular(&below(directory.as_fd(), name, OFlags::PATH)?, 0, Access::Read)
        };
        let opened = (0..).zip(names).map(|(at, name)| open(name).map(|(file, attributes)| (at, file, attributes)));
        opened.flatten().collect()
    }
}

/// Whether a handle can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Opens a checked path below a directory: no link, no way up, no other mount.
pub(super) fn below(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    create_below(directory, path, flags, Mode::empty())
}

/// The same for O_CREAT, with the mode of the new file.
pub(super) fn create_below(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    // O_PATH goes with nothing but these two; openat2 refuses the rest.
    let flags = if flags.contains(OFlags::PATH) { flags | OFlags::CLOEXEC | OFlags::NOFOLLOW } else { flags | BASE };
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..RETRIES {
        match openat2(directory, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

const DIRECTORY_OF_DESCRIPTORS: &str = "/proc/self/fd";

/// The name under which a call that takes only paths reaches exactly this open node.
pub(super) fn magic_path(node: impl AsFd) -> String {
    format!("{DIRECTORY_OF_DESCRIPTORS}/{}", node.as_fd().as_raw_fd())
}

/// Attributes of an entry of a directory, which the host says is a regular file, and the file opened for reading where it is
/// small.
pub(super) fn look_and_open_small(
    directory: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(Attributes, Option<OwnedFd>), Errno> {
    let node = below(directory, name, OFlags::PATH)?;
    let attributes = regular_attributes(&node)?;
    let is_small = attributes.size <= SMALL_FILE;
    Ok((attributes, if is_small { reopen(&node, Access::Read).ok() } else { None }))
}

/// Opens the regular file that an O_PATH descriptor stands for, with its attributes.
pub(super) fn open_regular(node: &OwnedFd, inode: u64, access: Access) -> Result<(OwnedFd, Attributes), Errno> {
    let attributes = regular_attributes(node)?;
    check_inode(&attributes, inode)?;
    Ok((reopen(node, access)?, attributes))
}

fn check_inode(attributes: &Attributes, inode: u64) -> Result<(), Errno> {
    if inode == 0 || attributes.inode == inode { Ok(()) } else { Err(Errno::STALE) }
}

pub(super) fn regular_attributes(node: &OwnedFd) -> Result<Attributes, Errno> {
    let attributes = attributes::of_descriptor(node)?;
    match attributes::kind(&attributes) {
        FileType::RegularFile => Ok(attributes),
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Fifo | FileType::Socket => Err(Errno::NXIO),
        _ => Err(Errno::ACCESS),
    }
}

/// The supervisor's descriptors by number: half of the way to a node is walked once.
static DESCRIPTORS: OnceLock<OwnedFd> = OnceLock::new();

/// Opens exactly the node of an O_PATH descriptor.
fn reopen(node: &OwnedFd, access: Access) -> Result<OwnedFd, Errno> {
    let mode = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::RDWR,
    };
    let descriptors = match DESCRIPTORS.get() {
        Some(descriptors) => descriptors,
        None => {
            let opened = open(DIRECTORY_OF_DESCRIPTORS, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            DESCRIPTORS.get_or_init(|| opened)
        }
    };
    // Without O_NOFOLLOW: the name is the host's own link to the node that was checked.
    let flags = mode | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    openat(descriptors, DecInt::from_fd(node), flags, Mode::empty())
}

fn magic_of(root: &OwnedFd) -> Result<u64, Errno> {
    Ok(u64::try_from(fstatfs(root)?.f_type).unwrap_or(0) & 0xffff_ffff)
}

fn forbidden(root: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    let magic = magic_of(root)?;
    if let Some(&(_, filesystem)) = FORBIDDEN.iter().find(|&&(number, _)| number == magic) {
        return Ok(Some(filesystem));
    }
    // devtmpfs answers with tmpfs's magic; only the table of mounts tells.
    Ok((magic == TMPFS && is_devtmpfs(root)?).then_some("devtmpfs"))
}

fn is_devtmpfs(root: &OwnedFd) -> Result<bool, Errno> {
    let id = statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    let mounts = mountinfo::of_host().map_err(|_| Errno::ACCESS)?;
    Ok(mounts.iter().any(|mount| mount.id == id && mount.kind == "devtmpfs"))
}
