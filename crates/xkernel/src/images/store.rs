//! The directory that outlives containers.
//!
//! `<digest of a file>.plan` is its record, `<digest of a record>.img` the patched file, `<digest of a file's identity and
//! times>.version` the digest that the file had then (docs/design/0003). What is here
//! becomes code in other containers, so the directory counts only if it belongs to us and nobody else
//! can enter it; files are made without a name (O_TMPFILE), so that a death in the middle leaves nothing.

use super::record::Record;
use abi::broker::Attributes;
use blake3::Hash;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, StatVfsMountFlags, fdatasync, fstat, fstatvfs, linkat, open, openat,
    statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

/// Longest record that is read.
const RECORD_LIMIT: u64 = 64 << 20;
/// Bytes that one container may add.
const BUDGET: u64 = 256 << 20;
/// Bytes of the whole directory above which the oldest files go.
const TOTAL_LIMIT: u64 = 1 << 30;
/// Files of the whole directory above which the oldest go.
const COUNT_LIMIT: usize = 8192;

/// Records and images of earlier containers.
#[derive(Debug)]
pub(super) struct Store {
    directory: OwnedFd,
    /// Whether files in it may be mapped executable.
    is_executable: bool,
    /// Bytes that this container may still add; `None` before the first.
    budget: Mutex<Option<u64>>,
}

/// Where plans are kept: `/var/cache/xc/plans` for root, `$XDG_CACHE_HOME/xc/plans` or
/// `~/.cache/xc/plans` for others; `None` where there is no such place.
pub fn default_directory() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/var/cache/xc/plans".into());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("xc/plans"))
}

impl Store {
    /// Opens the directory, making it where it is missing; `None` where it cannot be had or trusted.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let _ = std::fs::create_dir_all(path.parent()?);
        let _ = DirBuilder::new().mode(0o700).create(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty()).ok()?;
        let stat = fstat(&directory).ok()?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return None;
        }
        let is_executable = !fstatvfs(&directory).ok()?.f_flag.contains(StatVfsMountFlags::NOEXEC);
        Some(Self { directory, is_executable, budget: Mutex::new(None) })
    }

    /// The record of a file, with the name of its image.
    pub(super) fn record(&self, digest: &Hash) -> Option<(Hash, Record)> {
        let (file, len) = self.existing(&record_name(digest))?;
        if len > RECORD_LIMIT {
            return None;
        }
        let bytes = super::build::read_whole(&file, usize::try_from(len).ok()?).ok()?;
        Record::from_bytes(digest, &bytes)
    }

    /// The digest of a version of a file that an earlier container read.
    pub(super) fn digest(&self, version: &Version) -> Option<Hash> {
        let (file, len) = self.existing(&version.name())?;
        if usize::try_from(len).ok()? != 2 * blake3::OUT_LEN {
            return None;
        }
        let bytes = super::build::read_whole(&file, 2 * blake3::OUT_LEN).ok()?;
        let (digest, check) = bytes.split_at_checked(blake3::OUT_LEN)?;
        let digest = Hash::from_slice(digest).ok()?;
        (version.check(&digest).as_bytes() == check).then_some(digest)
    }

    /// Keeps the digest of a version of a file.
    pub(super) fn keep_digest(&self, version: &Version, digest: &Hash) {
        let bytes = [*digest.as_bytes(), *version.check(digest).as_bytes()].concat();
        if self.afford(bytes.len() as u64) {
            let _ = self.keep(&version.name(), |file| super::build::write_at(file, &bytes, 0));
        }
    }

    /// A finished image of just this length.
    pub(super) fn image(&self, name: &Hash, len: u64) -> Option<OwnedFd> {
        if !self.is_executable {
            return None;
        }
        self.existing(&image_name(name)).filter(|&(_, found)| found == len).map(|(file, _)| file)
    }

    /// Keeps a record; one that cannot be kept is only made again.
    pub(super) fn keep_record(&self, digest: &Hash, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.afford(len) {
            let _ = self.keep(&record_name(digest), |file| super::build::write_at(file, bytes, 0));
        }
    }

    /// Keeps an image that `write` produces, and opens it for reading.
    pub(super) fn keep_image(
        &self,
        name: &Hash,
        len: u64,
        write: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Option<OwnedFd> {
        if !self.is_executable || !self.afford(len) {
            return None;
        }
        let written = |file: &OwnedFd| {
            write(file)?;
            // A name whose data a power cut could still take would be a program full of zeros. Records
            // carry a checksum instead.
            fdatasync(file)
        };
        self.keep(&image_name(name), written).ok()?;
        self.image(name, len)
    }

    fn existing(&self, name: &str) -> Option<(OwnedFd, u64)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty()).ok()?;
        let stat = fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let len = u64::try_from(stat.st_size).ok().filter(|_| is_file)?;
        Some((file, len))
    }

    fn keep(&self, name: &str, write: impl FnOnce(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&self.directory, ".", flags, Mode::RUSR | Mode::WUSR)?;
        write(&file)?;
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = || linkat(CWD, &source, &self.directory, name, AtFlags::SYMLINK_FOLLOW);
        match link() {
            Err(Errno::EXIST) => {
                // What is there could not be used, or somebody was faster with the same.
                unlinkat(&self.directory, name, AtFlags::empty())?;
                link()
            }
            result => result,
        }
    }

    /// Whether this container may add so many bytes. The first time makes room for all that it may add.
    fn afford(&self, len: u64) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let left = *budget.get_or_insert_with(|| {
            self.prune(TOTAL_LIMIT, COUNT_LIMIT);
            BUDGET
        });
        if len > left {
            return false;
        }
        *budget = Some(left - len);
        true
    }

    /// Removes the files that were unused for longest until the rest is within the limits.
    pub(super) fn prune(&self, total_limit: u64, count_limit: usize) {
        let Ok(mut files) = self.files() else { return };
        let mut total: u64 = files.iter().map(|file| file.len).sum();
        let mut count = files.len();
        files.sort_by_key(|file| file.used);
        for file in files {
            if total <= total_limit && count <= count_limit {
                return;
            }
            let _ = unlinkat(&self.directory, &file.name, AtFlags::empty());
            total = total.saturating_sub(file.len);
            count -= 1;
        }
    }

    fn files(&self) -> Result<Vec<Kept>, Errno> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_owned();
            let Ok(stat) = statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let len = u64::try_from(stat.st_size).unwrap_or(0);
                files.push(Kept { name, len, used: stat.st_atime.max(stat.st_mtime) });
            }
        }
        Ok(files)
    }
}

/// A version of a file: its identity, size and times, until the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(Hash);

impl Version {
    /// The version that a file with these attributes is.
    pub(super) fn of(attributes: &Attributes) -> Self {
        static BOOT: OnceLock<Vec<u8>> = OnceLock::new();
        let mut hasher = blake3::Hasher::new();
        // Device numbers are given out anew at each boot.
        hasher.update(BOOT.get_or_init(|| std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()));
        for number in [attributes.device, attributes.inode, attributes.size] {
            hasher.update(&number.to_le_bytes());
        }
        for time in [attributes.mtime, attributes.ctime] {
            hasher.update(&time.sec.to_le_bytes());
            hasher.update(&time.nsec.to_le_bytes());
        }
        Self(hasher.finalize())
    }

    fn name(&self) -> String {
        format!("{}.version", self.0.to_hex())
    }

    /// What stands behind the digest: a file that was written by half says nothing.
    fn check(&self, digest: &Hash) -> Hash {
        blake3::hash(&[*self.0.as_bytes(), *digest.as_bytes()].concat())
    }
}

/// A file of the directory.
struct Kept {
    name: CString,
    len: u64,
    used: i64,
}

fn record_name(digest: &Hash) -> String {
    format!("{}.plan", digest.to_hex())
}

fn image_name(name: &Hash) -> String {
    format!("{}.img", name.to_hex())
}
