//! Memfds that the broker made for its container, by number.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Most memfds of one container.
const COUNT_LIMIT: usize = 4096;

/// The container's memfds and the bytes that they may have together.
#[derive(Debug)]
pub(super) struct Memories {
    limit: u64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    total: u64,
    memories: HashMap<u32, Memory>,
}

#[derive(Debug)]
struct Memory {
    file: Arc<OwnedFd>,
    size: u64,
}

impl Memories {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, table: Mutex::default() }
    }

    /// Makes a memfd of a size in bytes.
    ///
    /// # Errors
    /// `ENFILE` with too many of them, `ENOMEM` beyond the limit of bytes.
    pub(super) fn create(&self, size: u64) -> Result<(u32, Arc<OwnedFd>), Errno> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.memories.len() >= COUNT_LIMIT {
            return Err(Errno::NFILE);
        }
        let total = self.grown(&table, 0, size)?;
        let file = memfd_create("xc-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size)?;
        fcntl_add_seals(&file, SealFlags::SEAL)?;
        let file = Arc::new(file);
        let mut id = table.next;
        while table.memories.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        table.next = id.wrapping_add(1);
        table.total = total;
        table.memories.insert(id, Memory { file: Arc::clone(&file), size });
        Ok((id, file))
    }

    /// A memfd.
    ///
    /// # Errors
    /// `EBADF` for an unknown number.
    pub(super) fn file(&self, id: u32) -> Result<Arc<OwnedFd>, Errno> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.memories.get(&id).map(|memory| Arc::clone(&memory.file)).ok_or(Errno::BADF)
    }

    /// Changes the size of a memfd.
    ///
    /// # Errors
    /// `EBADF` for an unknown number, `ENOMEM` beyond the limit of bytes.
    pub(super) fn resize(&self, id: u32, size: u64) -> Result<(), Errno> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let old = table.memories.get(&id).ok_or(Errno::BADF)?.size;
        let total = self.grown(&table, old, size)?;
        let memory = table.memories.get_mut(&id).ok_or(Errno::BADF)?;
        ftruncate(&memory.file, size)?;
        memory.size = size;
        table.total = total;
        Ok(())
    }

    /// Forgets a memfd. Its bytes leave the account, though a guest that still holds the descriptor
    /// keeps them: the cgroup's limit is what counts then.
    ///
    /// # Errors
    /// `EBADF` for an unknown number.
    pub(super) fn forget(&self, id: u32) -> Result<(), Errno> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = table.memories.remove(&id).ok_or(Errno::BADF)?;
        table.total = table.total.saturating_sub(memory.size);
        Ok(())
    }

    /// The total after one memfd changes from `old` to `new` bytes.
    fn grown(&self, table: &Table, old: u64, new: u64) -> Result<u64, Errno> {
        let total = (table.total - old).checked_add(new).ok_or(Errno::NOMEM)?;
        if new > old && total > self.limit { Err(Errno::NOMEM) } else { Ok(total) }
    }
}
