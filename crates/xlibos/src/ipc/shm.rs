//! Shared memory segments: shmget(2). A segment is a file in memory, an attachment a shared mapping of it.

use super::table::{self, Object, Permissions, READ, Table, WRITE, Wanted, seconds};
use crate::fs::file::{File, OpenFlags};
use crate::fs::inode::Change;
use crate::fs::memfd;
use crate::mm::{Backing, MapRequest, PAGE, check_lock};
use crate::process::Pid;
use crate::process::creds::CAP_IPC_LOCK;
use crate::{Errno, Result, Task};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::sync::Mutex;

const RDONLY: u32 = 0o1_0000;
const ROUND: u32 = 0o2_0000;
const REMAP: u32 = 0o4_0000;
const EXEC: u32 = 0o10_0000;
const HUGETLB: u32 = 0o4000;
/// In the mode of a segment that goes with its last attachment.
const DEST: u32 = 0o1000;
/// In the mode of one that SHM_LOCK was asked for.
const LOCKED: u32 = 0o2000;
const MAP_SHARED: u32 = 1;
const MAP_FIXED: u32 = 0x10;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;

/// Most segments: SHMMNI.
pub const MOST: usize = 4096;
/// Bytes of the largest: SHMMAX.
pub const LARGEST: u64 = i64::MAX.unsigned_abs();
/// Pages of all: SHMALL.
pub const ALL_PAGES: u64 = u64::MAX - (1 << 24);

/// The container's segments.
static SEGMENTS: Mutex<Table<Segment>> = Mutex::new(Table::new(MOST));

/// Two open files of one segment: attachments for reading only have the second.
type Files = [Arc<File>; 2];

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    attached: u64,
    detached: u64,
    changed: u64,
    last: Pid,
}

/// A segment.
pub struct Segment {
    size: u64,
    creator: Pid,
    files: [Weak<File>; 2],
    /// What keeps it while nobody is attached; None once it was removed.
    kept: Mutex<Option<Files>>,
    times: Mutex<Times>,
    /// The user whom SHM_LOCK counts against.
    locked_by: Mutex<Option<u32>>,
}

impl Segment {
    fn new(task: &Task, want: Wanted, size: u64) -> Result<Segment> {
        // There is no huge page, for whom may ask for some.
        if want.flags & HUGETLB != 0 {
            return Err(if task.creds().has(CAP_IPC_LOCK) { Errno::ENOMEM } else { Errno::EPERM });
        }
        let name = format!("/SYSV{:08x} (deleted)", want.key);
        let writable = memfd::create_named(&task.creds(), name.as_bytes())?;
        let path = writable.path().cloned().ok_or(Errno::ENOMEM)?;
        path.inode().set_attributes(&Change { size: Some(size), ..Change::default() })?;
        let ops = Arc::clone(path.inode()).open(OpenFlags::empty())?;
        let readable = File::with_path(ops, OpenFlags::empty(), Some(path));
        let files = [writable, readable];
        Ok(Segment {
            size,
            creator: task.process.pid,
            files: files.each_ref().map(Arc::downgrade),
            kept: Mutex::new(Some(files)),
            times: Mutex::new(Times { changed: seconds(), ..Times::default() }),
            locked_by: Mutex::new(None),
        })
    }

    /// Each mapping of it holds one of its files.
    fn attachments(&self) -> usize {
        let kept = self.kept.lock();
        let own = if kept.is_some() { self.files.len() } else { 0 };
        self.files.iter().map(Weak::strong_count).sum::<usize>().saturating_sub(own)
    }

    /// Pages that there is memory for.
    fn resident_pages(&self) -> u64 {
        const PAGES_A_BLOCK: u64 = PAGE / 512;
        let file = self.files.iter().find_map(Weak::upgrade);
        let stat = file.and_then(|file| file.path()?.inode().stat().ok());
        stat.map_or(0, |stat| stat.blocks / PAGES_A_BLOCK)
    }

    fn has(&self, file: &Arc<File>) -> bool {
        self.files.iter().any(|own| core::ptr::eq(own.as_ptr(), Arc::as_ptr(file)))
    }
}

/// Drops those that were removed and are attached nowhere.
fn sweep() {
    let over = SEGMENTS.lock().take_where(|object| object.is_removed() && object.body.attachments() == 0);
    drop(over);
}

fn find(id: i32) -> Result<Arc<Object<Segment>>> {
    sweep();
    SEGMENTS.lock().find(id)
}

/// The segment of a key: shmget(2).
///
/// # Errors
/// EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM, EPERM.
pub fn get(task: &Task, want: Wanted, size: u64) -> Result<i32> {
    sweep();
    let fits = |segment: &Segment| size <= segment.size;
    table::get(&SEGMENTS, task, want, fits, || {
        if size == 0 || size > LARGEST {
            return Err(Errno::EINVAL);
        }
        Segment::new(task, want, size)
    })
}

/// Maps a segment: shmat(2).
///
/// # Errors
/// EINVAL, EACCES, ENOMEM.
pub fn attach(task: &Task, id: i32, addr: u64, flags: u32) -> Result<u64> {
    let (addr, map_flags) = place_of(addr, flags)?;
    let object = find(id)?;
    let is_read_only = flags & RDONLY != 0;
    object.check(task, READ | if is_read_only { 0 } else { WRITE } | if flags & EXEC != 0 { 0o111 } else { 0 })?;
    let segment = &object.body;
    let [writable, readable] = &segment.files;
    // A removed one is there as long as anybody is attached in the same way.
    let file = if is_read_only { readable } else { writable }.upgrade().ok_or(Errno::EINVAL)?;
    let prot = 1 | if is_read_only { 0 } else { 2 } | if flags & EXEC != 0 { 4 } else { 0 };
    let request =
        MapRequest { addr, len: segment.size, prot, flags: MAP_SHARED | map_flags, backing: Backing::file(file, 0) };
    let at = task.mm().map(request).map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno })?;
    let mut times = segment.times.lock();
    times.attached = seconds();
    times.last = task.process.pid;
    Ok(at)
}

/// Where it is to go, and how much that is insisted on.
fn place_of(addr: u64, flags: u32) -> Result<(u64, u32)> {
    let rest = addr % PAGE;
    if rest != 0 && flags & ROUND == 0 {
        return Err(Errno::EINVAL);
    }
    let addr = addr - rest;
    match (addr, flags & REMAP != 0) {
        (0, true) => Err(Errno::EINVAL),
        (0, false) => Ok((0, 0)),
        (_, true) => Ok((addr, MAP_FIXED)),
        (_, false) => Ok((addr, MAP_FIXED_NOREPLACE)),
    }
}

/// Unmaps what was attached at an address: shmdt(2).
///
/// # Errors
/// EINVAL.
pub fn detach(task: &Task, addr: u64) -> Result<()> {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let segments = SEGMENTS.lock().collect();
    let mut found: Option<Arc<Object<Segment>>> = None;
    for vma in task.mm().collect_vmas().iter().filter(|vma| vma.start >= addr) {
        let Backing::File { file, offset, .. } = &vma.backing else { continue };
        if *offset != vma.start - addr {
            continue;
        }
        let Some(object) = segments.iter().find(|object| object.body.has(file)) else { continue };
        if found.get_or_insert_with(|| Arc::clone(object)).body.has(file) {
            task.mm().unmap(vma.start, vma.end - vma.start)?;
        }
    }
    let object = found.ok_or(Errno::EINVAL)?;
    {
        let mut times = object.body.times.lock();
        times.detached = seconds();
        times.last = task.process.pid;
    }
    sweep();
    Ok(())
}

/// IPC_RMID: the key goes, the segment with its last attachment.
///
/// # Errors
/// EINVAL, EPERM.
pub fn remove(task: &Task, id: i32) -> Result<()> {
    let object = find(id)?;
    object.check_owner(task)?;
    object.mark_removed(DEST);
    let kept = object.body.kept.lock().take();
    drop(kept);
    sweep();
    Ok(())
}

/// IPC_SET.
///
/// # Errors
/// EINVAL, EPERM.
pub fn set_owner(task: &Task, id: i32, uid: u32, gid: u32, mode: u32) -> Result<()> {
    let object = find(id)?;
    object.check_owner(task)?;
    object.set_owner(uid, gid, mode);
    object.body.times.lock().changed = seconds();
    Ok(())
}

/// SHM_LOCK: counted, and the host may swap.
///
/// # Errors
/// EINVAL, EPERM, ENOMEM beyond what the user may lock.
pub fn lock(task: &Task, id: i32) -> Result<()> {
    let object = lockable(task, id)?;
    if object.body.locked_by.lock().is_some() {
        return Ok(());
    }
    let user = task.creds().uid;
    let segments = SEGMENTS.lock().collect();
    let own = segments.iter().filter(|other| *other.body.locked_by.lock() == Some(user));
    check_lock(own.map(|other| other.body.size).fold(object.body.size, u64::saturating_add))?;
    *object.body.locked_by.lock() = Some(user);
    object.change_mode(|mode| mode | LOCKED);
    Ok(())
}

/// SHM_UNLOCK.
///
/// # Errors
/// EINVAL, EPERM.
pub fn unlock(task: &Task, id: i32) -> Result<()> {
    let object = lockable(task, id)?;
    *object.body.locked_by.lock() = None;
    object.change_mode(|mode| mode & !LOCKED);
    Ok(())
}

fn lockable(task: &Task, id: i32) -> Result<Arc<Object<Segment>>> {
    let object = find(id)?;
    if !task.creds().has(CAP_IPC_LOCK) {
        object.check_owner(task)?;
    }
    Ok(object)
}

/// What all segments have: SHM_INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Segments.
    pub segments: u64,
    /// Their pages.
    pub pages: u64,
    /// Pages that there is memory for.
    pub resident_pages: u64,
}

/// What all segments have.
pub fn used() -> Used {
    sweep();
    let all = SEGMENTS.lock().collect();
    all.iter().fold(Used::default(), |sum, object| Used {
        segments: sum.segments + 1,
        pages: sum.pages.saturating_add(object.body.size.div_ceil(PAGE)),
        resident_pages: sum.resident_pages.saturating_add(object.body.resident_pages()),
    })
}

/// The highest place that a segment has.
pub fn highest() -> i32 {
    sweep();
    SEGMENTS.lock().highest()
}

/// The id of who is at a place: SHM_STAT.
///
/// # Errors
/// EINVAL.
pub fn id_at(place: i32) -> Result<i32> {
    sweep();
    SEGMENTS.lock().id_at(place)
}

/// As [`status`], for anybody: SHM_STAT_ANY.
///
/// # Errors
/// EINVAL.
pub fn status_for_any(id: i32) -> Result<[u64; 14]> {
    find(id).map(|object| words(&object))
}

/// IPC_STAT, as `struct shmid64_ds`.
///
/// # Errors
/// EINVAL, EACCES.
pub fn status(task: &Task, id: i32) -> Result<[u64; 14]> {
    let object = find(id)?;
    object.check(task, READ)?;
    Ok(words(&object))
}

/// All of them, as IPC_STAT tells of each.
pub fn list() -> Vec<(i32, [u64; 14])> {
    let all = SEGMENTS.lock().numbered();
    all.iter().map(|(id, object)| (*id, words(object))).collect()
}

fn words(object: &Object<Segment>) -> [u64; 14] {
    let (segment, times) = (&object.body, *object.body.times.lock());
    let mut words = [0; 14];
    let permissions: Permissions = object.permissions();
    words.iter_mut().zip(permissions.to_words()).for_each(|(to, from)| *to = from);
    words[6] = segment.size;
    words[7] = times.attached;
    words[8] = times.detached;
    words[9] = times.changed;
    words[10] = u64::from(segment.creator.cast_unsigned()) | u64::from(times.last.cast_unsigned()) << 32;
    words[11] = segment.attachments() as u64;
    words
}
