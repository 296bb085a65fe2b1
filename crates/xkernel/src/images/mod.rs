//! Patched images: a file's text with its system calls turned into jumps, made once a file.
//!
//! The trusted side derives them from its own descriptor of the file and names them by the content's
//! digest, never by a name, a time or a guest's report: a false one would be code in a neighbour.
//!
//! [`Images`] answers for one container and remembers what it handed out. [`Store`] is the directory
//! that outlives containers: plans and finished images by digest. [`Record`] is a plan as it is stored.
//!
//! Locks: `known` is a leaf. `building` is held while a file is read whole and planned, so that one
//! container holds the memory for one file at a time; `known` is taken inside.
#![forbid(unsafe_code)]

mod build;
mod functions;
mod record;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use functions::functions;
pub use store::default_directory;

use abi::broker::Attributes;
use record::Record;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use store::Store;

/// Longest file that is looked at.
const FILE_LIMIT: u64 = 256 << 20;
/// Longest file of a container's own that is looked at.
const MEMORY_LIMIT: u64 = 64 << 20;
/// Length of an ELF header, below which no file can run.
const HEADER: usize = 64;
/// Most files that are remembered; each patched one holds a descriptor.
const KNOWN_LIMIT: usize = 1024;
/// A file that changed more recently could change again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);
/// Bytes that are read and hashed at a time: they stay in the processor's cache.
const CHUNK: usize = 64 * 1024;

/// One container's patched images.
#[derive(Debug)]
pub struct Images {
    directory: Option<PathBuf>,
    store: OnceLock<Option<Store>>,
    known: Mutex<BTreeMap<Key, Finding>>,
    building: Mutex<()>,
}

/// What tells a file and its version apart within one container.
type Key = (u64, u64, u64, abi::broker::Time, abi::broker::Time);

/// A patched image and how to map it.
#[derive(Debug)]
pub struct Patched {
    /// How to map it.
    pub layout: abi::broker::Image,
    /// A sealed memfd, or a read-only descriptor of a file in the store.
    pub file: Arc<OwnedFd>,
}

/// The result for a file; `None` where there is nothing to patch.
type Finding = Option<Arc<Patched>>;

impl Images {
    /// Images kept in `directory`, or in memory alone.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, store: OnceLock::new(), known: Mutex::default(), building: Mutex::new(()) }
    }

    /// The patched image of an open regular file.
    ///
    /// # Errors
    /// `ENOEXEC` for what is no x86-64 ELF file, too long, or has no site that can be patched; `EIO`
    /// for a file that changes meanwhile, and what reading says.
    pub fn patched(&self, file: &OwnedFd, attributes: &Attributes) -> Result<Arc<Patched>, Errno> {
        let key = (attributes.device, attributes.inode, attributes.size, attributes.mtime, attributes.ctime);
        if let Some(finding) = self.known(&key) {
            return finding.ok_or(Errno::NOEXEC);
        }
        let size = usize::try_from(attributes.size).map_err(|_| Errno::NOEXEC)?;
        if attributes.size > FILE_LIMIT || !is_candidate(file, size)? {
            return Err(Errno::NOEXEC);
        }
        let (finding, is_stored) = match self.stored(file, size, attributes)? {
            Some(finding) => (finding, true),
            None => (self.built(file, size, &key)?, false),
        };
        // The container keeps what it gets: whoever asks again is rare, and finds a stored one in the store again.
        if is_settled(attributes) && !(is_stored && finding.is_some()) {
            self.remember(key, finding.clone());
        }
        finding.ok_or(Errno::NOEXEC)
    }

    /// The patched image of what a container wrote into a memfd, for itself: nothing of it is kept.
    ///
    /// # Errors
    /// As for [`Images::patched`].
    pub fn of_memory(&self, file: &OwnedFd) -> Result<(Attributes, Patched), Errno> {
        let attributes = crate::broker::attributes_of(file)?;
        let size = usize::try_from(attributes.size).map_err(|_| Errno::NOEXEC)?;
        if attributes.size > MEMORY_LIMIT || !is_candidate(file, size)? {
            return Err(Errno::NOEXEC);
        }
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        // Read once: the container may write meanwhile, and gets the image of what was read.
        let bytes = build::read_whole(file, size)?;
        let record = Record::plan(blake3::hash(&bytes), &bytes);
        let (Some(layout), Some(image)) = (record.layout(), record.apply(&bytes)) else { return Err(Errno::NOEXEC) };
        let file = Arc::new(build::in_memory(&bytes, &image)?);
        Ok((attributes, Patched { layout, file }))
    }

    fn known(&self, key: &Key) -> Option<Finding> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn remember(&self, key: Key, finding: Finding) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_LIMIT {
            known.clear();
        }
        known.insert(key, finding);
    }

    fn store(&self) -> Option<&Store> {
        self.store.get_or_init(|| Store::open(self.directory.as_deref()?)).as_ref()
    }

    /// What an earlier container left for this content.
    fn stored(&self, file: &OwnedFd, size: usize, attributes: &Attributes) -> Result<Option<Finding>, Errno> {
        let Some(store) = self.store() else { return Ok(None) };
        let digest = known_digest(store, file, size, attributes)?;
        let Some((name, record)) = store.record(&digest) else { return Ok(None) };
        let Some(layout) = record.layout() else { return Ok(Some(None)) };
        let Some(image) = store.image(&name, record.len()) else { return Ok(None) };
        Ok(Some(Some(Arc::new(Patched { layout, file: Arc::new(image) }))))
    }

    /// Plans the file, or takes a stored plan, and makes the image.
    fn built(&self, file: &OwnedFd, size: usize, key: &Key) -> Result<Finding, Errno> {
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(finding) = self.known(key) {
            return Ok(finding);
        }
        let bytes = build::read_whole(file, size)?;
        // Of the bytes that are planned: the file may have changed since it was hashed.
        let digest = blake3::hash(&bytes);
        let (name, record) = self.record(&digest, &bytes).ok_or(Errno::NOMEM)?;
        let (Some(layout), Some(image)) = (record.layout(), record.apply(&bytes)) else { return Ok(None) };
        let write = |to: &OwnedFd| build::write(to, &bytes, &image);
        let file = match self.store().and_then(|store| store.keep_image(&name, record.len(), write)) {
            Some(file) => file,
            None => build::in_memory(&bytes, &image)?,
        };
        Ok(Some(Arc::new(Patched { layout, file: Arc::new(file) })))
    }

    /// The record of a content, stored or new, and its name.
    fn record(&self, digest: &blake3::Hash, bytes: &[u8]) -> Option<(blake3::Hash, Record)> {
        let stored = self.store().and_then(|store| store.record(digest));
        if let Some(stored) = stored.filter(|(_, record)| record.fits(bytes)) {
            return Some(stored);
        }
        let record = Record::plan(*digest, bytes);
        let (name, encoded) = record.to_bytes()?;
        if let Some(store) = self.store() {
            store.keep_record(digest, &encoded);
        }
        Some((name, record))
    }
}

/// Whether the first bytes are those of a 64-bit little-endian x86-64 ELF file.
fn is_candidate(file: &OwnedFd, size: usize) -> Result<bool, Errno> {
    let mut header = [0; HEADER];
    if size < HEADER || rustix::io::pread(file, &mut header, 0)? < HEADER {
        return Ok(false);
    }
    Ok(header.starts_with(b"\x7fELF\x02\x01") && header.get(18..20) == Some(&[62, 0]))
}

/// Digest of a file, remembered from an earlier container where the file has not changed since (docs/design/0003).
fn known_digest(store: &Store, file: &OwnedFd, size: usize, attributes: &Attributes) -> Result<blake3::Hash, Errno> {
    if !is_settled(attributes) {
        return digest_of(file, size);
    }
    let version = store::Version::of(attributes);
    if let Some(digest) = store.digest(&version) {
        return Ok(digest);
    }
    let digest = digest_of(file, size)?;
    // What changed while it was read has no digest.
    if crate::broker::attributes_of(file).is_ok_and(|now| store::Version::of(&now) == version) {
        store.keep_digest(&version, &digest);
    }
    Ok(digest)
}

/// Digest of a file's first `size` bytes, through a small buffer: fresh memory would cost more than the
/// hashing.
fn digest_of(file: &OwnedFd, size: usize) -> Result<blake3::Hash, Errno> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK.min(size)];
    let mut at = 0;
    while at < size {
        let wanted = buffer.len().min(size - at);
        let room = buffer.get_mut(..wanted).ok_or(Errno::IO)?;
        let got = build::read_at(file, room, at)?;
        hasher.update(room.get(..got).ok_or(Errno::IO)?);
        at += got;
    }
    Ok(hasher.finalize())
}

fn is_settled(attributes: &Attributes) -> bool {
    let Ok(seconds) = u64::try_from(attributes.ctime.sec) else { return true };
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > SETTLED)
}
