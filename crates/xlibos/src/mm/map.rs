//! New mappings: mmap(2).

use super::image::{self, Image};
use super::place::{self, HOST_FIXED};
use super::space::{self, LIMIT_AS, LIMIT_DATA, LIMIT_MEMLOCK, Mm, State};
use super::vma::{self, Backing, Form, Prot, Vma, VmaFlags};
use super::warm::{Loader, Wanted};
use super::{PAGE, charge, page_align};
use crate::fs::File;
use crate::fs::file::{MapObject, Sharing, WritableMappings};
use crate::process::creds::CAP_IPC_LOCK;
use crate::uio::Sink;
use crate::{Errno, Result, Task};
use abi::broker::Attributes;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use machine::host::{self, HostFd};

/// MAP_SHARED.
pub(crate) const MAP_SHARED: u32 = 1;
/// MAP_PRIVATE.
pub(crate) const MAP_PRIVATE: u32 = 2;
const MAP_SHARED_VALIDATE: u32 = 3;
const MAP_TYPE: u32 = 0xf;
/// MAP_FIXED.
pub(crate) const MAP_FIXED: u32 = 0x10;
/// MAP_ANONYMOUS.
pub(crate) const MAP_ANONYMOUS: u32 = 0x20;
const MAP_32BIT: u32 = 0x40;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_DENYWRITE: u32 = 0x800;
const MAP_LOCKED: u32 = 0x2000;
const MAP_NORESERVE: u32 = 0x4000;
/// MAP_POPULATE.
pub(super) const MAP_POPULATE: u32 = 0x8000;
/// MAP_HUGETLB.
pub(crate) const MAP_HUGETLB: u32 = 0x4_0000;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
/// Flags that Linux knew before MAP_SHARED_VALIDATE: others are refused with it.
const LEGACY: u32 = 0xf
    | 0x10
    | 0x20
    | 0x40
    | 0x100
    | 0x800
    | 0x1000
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x4_0000
    | 0x400_0000
    | 0x7c00_0000;

/// Most bytes of private data of a file that are there at once.
const SMALL_DATA: u64 = 8 * PAGE;

/// vm.max_map_count; the host, too, has no more.
const MAX_MAPPINGS: usize = 65_530;

/// A mapping that is asked for.
#[derive(Clone, Debug)]
pub struct MapRequest {
    /// Hint, or the address with MAP_FIXED.
    pub addr: u64,
    /// Bytes; rounded up to pages.
    pub len: u64,
    /// PROT_* bits.
    pub prot: u32,
    /// MAP_* bits.
    pub flags: u32,
    /// Contents.
    pub backing: Backing,
}

/// How much an address is insisted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// A hint.
    Anywhere,
    /// In the second GiB: MAP_32BIT.
    Low,
    /// There, whatever was there.
    Fixed,
    /// There, if nothing is.
    FixedNoReplace,
}

/// Where a mapping is wanted.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) addr: u64,
    pub(super) placement: Placement,
    pub(super) backing: Backing,
}

/// A checked request with what the host is to map.
struct Plan {
    wish: Wish,
    len: u64,
    prot: Prot,
    max_prot: Prot,
    flags: VmaFlags,
    handle: Option<Arc<HostFd>>,
    populate: bool,
    /// The file's patched image, where the mapping is of text or brings a whole object.
    image: Option<Arc<Image>>,
    /// Free bytes that a chosen address is followed by, the mapping's own included.
    room: u64,
    /// Whether a loader begins with an object.
    is_object: bool,
    /// The file's version then, if it is the host's.
    object: Option<Box<Attributes>>,
}

impl Mm {
    /// Maps; returns the address.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn map(&self, request: MapRequest) -> Result<u64> {
        self.map_with_room(request, 0)
    }

    /// Maps so that `room` bytes from the address on were free, if the address is chosen here.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn map_with_room(&self, request: MapRequest, room: u64) -> Result<u64> {
        let plan = Plan::new(request)?.with_image(room);
        let (addr, removed) = self.map_planned(&plan)?;
        drop(removed);
        if let Backing::File { file, offset, form: Form::Copied, .. } = &plan.wish.backing {
            fill(file, *offset, addr, plan.len)?;
            if plan.prot != FILLING {
                host::mprotect(addr, plan.len, plan.prot.bits())?;
            }
        }
        Ok(addr)
    }

    /// Where `len` bytes are free, at `addr` if it is not 0 and they are free there.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn choose(&self, addr: u64, len: u64) -> Result<u64> {
        let len = page_align(len).ok_or(Errno::ENOMEM)?;
        self.state().choose(&Wish { addr, placement: Placement::Anywhere, backing: Backing::Zero }, len)
    }

    /// Host mapping and tree entry, together.
    fn map_planned(&self, plan: &Plan) -> Result<(u64, Vec<Vma>)> {
        let mut state = self.state();
        if state.tree.count() >= MAX_MAPPINGS {
            return Err(Errno::ENOMEM);
        }
        state.check_limits(plan)?;
        if plan.flags.contains(VmaFlags::GROWSDOWN) {
            // What lies below it is to fault.
            state.cool(&(0..u64::MAX));
        }
        let flags = plan.flags | state.default_flags;
        let (addr, (removed, is_patched)) = match plan.wish.placement {
            Placement::Fixed | Placement::FixedNoReplace => (plan.wish.addr, self.map_fixed(&mut state, plan)?),
            Placement::Anywhere | Placement::Low => {
                if plan.wish.addr != 0 {
                    state.cool(&(plan.wish.addr..plan.wish.addr.saturating_add(plan.len)));
                }
                let ask = |addr| plan.map_on_host(addr, place::HOST_FIXED_NOREPLACE, None);
                let addr = match state.map_warm(plan) {
                    Some(addr) => addr,
                    None => place::with_fresh_range(&state, &plan.wish, plan.room.max(plan.len), ask)?,
                };
                (addr, (Vec::new(), false))
            }
        };
        let mut vma = Vma {
            start: addr,
            end: addr + plan.len,
            prot: plan.prot,
            max_prot: plan.max_prot,
            flags,
            backing: plan.wish.backing.clone(),
        };
        vma.note_writable();
        if is_patched {
            image::mark_patched(&mut vma);
        }
        let imaged = plan.image.as_ref().filter(|_| !is_patched).map(|image| (image, vma.clone()));
        state.tree.insert(vma);
        self.forget_images(&mut state, &removed);
        if let Some((image, vma)) = imaged {
            self.bring_image(&mut state, plan, image, &vma)?;
        }
        if let (Some(version), Backing::File { file, .. }) = (&plan.object, &plan.wish.backing) {
            state.note_object(file, **version, addr..addr + plan.len, Loader::Guest);
        }
        state.note_peak();
        Ok((addr, removed))
    }

    /// Maps where the caller insists on. Returns what was there, and whether it is an image's text now.
    fn map_fixed(&self, state: &mut State, plan: &Plan) -> Result<(Vec<Vma>, bool)> {
        let addr = plan.wish.addr;
        let range = addr..addr + plan.len;
        let replaces = plan.wish.placement == Placement::Fixed;
        state.cool(&range);
        if replaces {
            state.check_not_kept(&range)?;
        } else if !state.tree.is_free(range.clone()) {
            return Err(Errno::EEXIST);
        }
        let patched = self.text_handle(plan, addr);
        let form = if patched.is_some() { Form::Image } else { Form::Handle };
        if !state.finds_on_host(plan, &range, form) {
            state.bring_back(&range)?;
            plan.map_on_host(addr, if replaces { HOST_FIXED } else { place::HOST_FIXED_NOREPLACE }, patched)?;
        }
        let removed = if replaces { state.tree.remove(range) } else { Vec::new() };
        Ok((removed, patched.is_some()))
    }

    /// The image's handle, where it replaces all of a mapping of text.
    fn text_handle(&self, plan: &Plan, addr: u64) -> Option<i32> {
        let Backing::File { offset, .. } = &plan.wish.backing else { return None };
        let image = plan.image.as_ref().filter(|_| plan.prot.contains(Prot::EXEC))?;
        self.image_handle(image, addr, *offset, plan.len)
    }

    /// Stubs behind a whole object, and the image over its text.
    fn bring_image(&self, state: &mut State, plan: &Plan, image: &Arc<Image>, vma: &Vma) -> Result<()> {
        image::timed(|| {
            if plan.room > 0 {
                self.place_locked(state, image, vma.start);
            }
            if plan.prot.contains(Prot::EXEC) { self.overlay_image(state, image, vma) } else { Ok(()) }
        })
    }
}

impl State {
    /// Whether the host has just what is asked for: as part of a warm object, which is claimed, or since it was mapped before.
    fn finds_on_host(&mut self, plan: &Plan, range: &Range<u64>, form: Form) -> bool {
        let Backing::File { file, offset, form: Form::Handle, .. } = &plan.wish.backing else { return false };
        if !plan.flags.is_empty() || plan.populate {
            return false;
        }
        if plan.prot.contains(Prot::WRITE) {
            let is_data = plan.prot == Prot::READ | Prot::WRITE;
            return is_data && plan.handle.as_ref().is_some_and(|its| self.claim_written(file, range, *offset, its));
        }
        self.claim(file, range, *offset, plan.prot, form) || self.has_same(plan, range, form)
    }

    /// Whether the very mapping that is asked for is there.
    fn has_same(&self, plan: &Plan, range: &Range<u64>, form: Form) -> bool {
        let Some(vma) = self.tree.find(range.start).filter(|vma| vma.end >= range.end) else { return false };
        let (Backing::File { file, offset, .. }, Backing::File { file: its, offset: at, form: has, .. }) =
            (&plan.wish.backing, &vma.clipped(range).backing)
        else {
            return false;
        };
        let is_it = Arc::ptr_eq(its, file) && at == offset && *has == form && vma.prot == plan.prot;
        is_it && vma.is_pristine() && self.is_settled(range)
    }

    /// Maps an object where a warm one of its kind lies, if there is one: what is missing of its span, to be read.
    fn map_warm(&mut self, plan: &Plan) -> Option<u64> {
        let Backing::File { file, .. } = &plan.wish.backing else { return None };
        let (version, image) = (plan.object.as_deref()?, plan.image.as_ref());
        let start = self.take_warm(&Wanted { file, version, image, len: plan.len, at: place::LIBRARIES })?;
        let span = start..start + plan.len;
        let mut there = self.sort_constants(start);
        there.extend(self.ready_ranges());
        there.sort_unstable_by_key(|range| range.start);
        let holes = space::without(Vec::from([span.clone()]), &there);
        let map = |hole: &Range<u64>| {
            let at = hole.start - start;
            place::map_file(hole, plan.prot, place::HOST_FIXED_NOREPLACE, plan.handle.as_deref()?, at).ok()
        };
        if holes.iter().all(|hole| map(hole).is_some()) {
            return Some(start);
        }
        // The tree has nothing there: all of it goes.
        let _ = self.settle(&(0..u64::MAX));
        space::unmap_on_host(&span);
        None
    }

    /// RLIMIT_AS, RLIMIT_DATA and RLIMIT_MEMLOCK.
    fn check_limits(&self, plan: &Plan) -> Result<()> {
        let fixed = plan.wish.placement == Placement::Fixed;
        let range = plan.wish.addr..plan.wish.addr.saturating_add(plan.len);
        let replaced = if fixed { self.tree.totals_in(&range) } else { vma::Totals::default() };
        let locked = (plan.flags | self.default_flags).contains(VmaFlags::LOCKED);
        if locked && !may_lock(self.tree.totals().locked.saturating_add(plan.len)) {
            return Err(if space::limit(LIMIT_MEMLOCK) == 0 { Errno::EPERM } else { Errno::EAGAIN });
        }
        let data = vma::is_data(plan.prot, plan.flags, &plan.wish.backing);
        if matches!(plan.wish.backing, Backing::SharedZero { .. }) && !charge::has_room(plan.len) {
            return Err(Errno::ENOMEM);
        }
        self.check_growth(plan.len.saturating_sub(replaced.mapped), if data { plan.len } else { 0 })
    }

    /// Whether `mapped` more bytes, of them `data` private writable, are within the limits.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn check_growth(&self, mapped: u64, data: u64) -> Result<()> {
        let totals = self.tree.totals();
        let too_much =
            |now: u64, more: u64, resource: usize| more > 0 && now.saturating_add(more) > space::limit(resource);
        let is_over = data > 0 && !charge::has_room(data);
        if is_over || too_much(totals.mapped, mapped, LIMIT_AS) || too_much(totals.data, data, LIMIT_DATA) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}

/// Whether the caller may have that many bytes locked.
pub(super) fn may_lock(bytes: u64) -> bool {
    bytes <= space::limit(LIMIT_MEMLOCK) || Task::current().is_none_or(|task| task.creds().has(CAP_IPC_LOCK))
}

/// While a copy is filled.
const FILLING: Prot = Prot::READ.union(Prot::WRITE);

impl Plan {
    fn new(request: MapRequest) -> Result<Plan> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let placement = placement(request.flags);
        let len = page_align(request.len).filter(|len| *len <= place::USER_END).ok_or(Errno::ENOMEM)?;
        if let Backing::File { offset, .. } = &request.backing {
            offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        }
        if matches!(placement, Placement::Fixed | Placement::FixedNoReplace) {
            place::check_fixed(request.addr, len).map_err(|errno| match (errno, placement) {
                // Over the LibOS: as an occupied range.
                (Errno::ENOMEM, Placement::FixedNoReplace) if request.addr.saturating_add(len) <= place::USER_END => {
                    Errno::EEXIST
                }
                (other, _) => other,
            })?;
        }
        let prot = Prot::from_bits_truncate(request.prot);
        let wish = Wish { addr: request.addr, placement, backing: request.backing };
        let flags = vma_flags(request.flags);
        let populate = request.flags & (MAP_POPULATE | MAP_LOCKED) != 0;
        let (max_prot, handle, image, object) = (Prot::all(), None, None, None);
        let is_object = false;
        let mut plan = Plan { wish, len, prot, max_prot, flags, handle, populate, image, room: 0, is_object, object };
        if matches!(plan.wish.backing, Backing::File { .. }) {
            plan.is_object = plan.begins_object(request.flags);
            plan.with_file(request.flags)
        } else {
            plan.without_file(request.flags)
        }
    }

    /// Looks for the patched image of what is mapped. `room` is what the caller wants free at least.
    fn with_image(mut self, room: u64) -> Plan {
        self.room = room;
        let Backing::File { file, offset, sharing: Sharing::Private, form: Form::Handle, .. } = &self.wish.backing
        else {
            return self;
        };
        if self.prot.contains(Prot::WRITE) {
            return self;
        }
        let is_chosen = matches!(self.wish.placement, Placement::Anywhere | Placement::Low);
        let whole = if is_chosen { image::of_whole_object(file, *offset, self.len) } else { None };
        if self.is_object {
            self.object = image::host_version(file).map(Box::new);
        }
        if let Some(image) = whole {
            self.room = room.max(image.room());
            self.image = Some(image);
        } else if self.prot.contains(Prot::EXEC) {
            self.image = image::of(file);
        }
        self
    }

    /// Whether a loader maps an object's span, to map its segments over that: only loaders ask for MAP_DENYWRITE, which does
    /// nothing else.
    fn begins_object(&self, flags: u32) -> bool {
        flags & (MAP_DENYWRITE | MAP_TYPE) == MAP_DENYWRITE | MAP_PRIVATE
            && self.prot == Prot::READ
            && self.flags.is_empty()
            && (self.wish.placement, self.wish.addr) == (Placement::Anywhere, 0)
            && matches!(self.wish.backing, Backing::File { offset: 0, .. })
    }

    fn without_file(mut self, flags: u32) -> Result<Plan> {
        match flags & MAP_TYPE {
            MAP_SHARED if flags & MAP_GROWSDOWN != 0 => Err(Errno::EINVAL),
            MAP_SHARED => {
                self.flags |= VmaFlags::SHARED;
                if matches!(self.wish.backing, Backing::Zero) {
                    self.wish.backing = Backing::SharedZero { id: space::next_shared_id(), offset: 0 };
                }
                Ok(self)
            }
            MAP_PRIVATE => Ok(self),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Access checks in Linux's order, then the object that the host maps.
    fn with_file(mut self, flags: u32) -> Result<Plan> {
        let Backing::File { file, offset, .. } = self.wish.backing.clone() else { return Err(Errno::EINVAL) };
        let open = file.flags();
        let sharing = match flags & MAP_TYPE {
            MAP_SHARED_VALIDATE if flags & !LEGACY & !MAP_FIXED_NOREPLACE != 0 => return Err(Errno::EOPNOTSUPP),
            MAP_SHARED | MAP_SHARED_VALIDATE => Sharing::Shared,
            MAP_PRIVATE => Sharing::Private,
            _ => return Err(Errno::EINVAL),
        };
        if sharing == Sharing::Shared {
            if self.prot.contains(Prot::WRITE) && !open.is_writable() {
                return Err(Errno::EACCES);
            }
            self.flags |= VmaFlags::SHARED;
            if !open.is_writable() {
                self.max_prot.remove(Prot::WRITE);
            }
        }
        if !open.is_readable() {
            return Err(Errno::EACCES);
        }
        if flags & MAP_GROWSDOWN != 0 {
            return Err(Errno::EINVAL);
        }
        if file.path().is_some_and(|path| path.mount.flags.no_exec) {
            if self.prot.contains(Prot::EXEC) {
                return Err(Errno::EPERM);
            }
            self.max_prot.remove(Prot::EXEC);
        }
        let mut counted = None;
        let form = match file.ops().map(&file, sharing)? {
            MapObject::Zero => {
                self.wish.backing = Backing::Zero;
                let kind = if sharing == Sharing::Shared { MAP_SHARED } else { MAP_PRIVATE };
                return self.without_file(kind);
            }
            MapObject::Sealed(_) if self.prot.contains(Prot::WRITE) => return Err(Errno::EPERM),
            object @ (MapObject::Handle(_) | MapObject::Counted(..) | MapObject::Sealed(_)) => {
                counted = self.take_handle(object);
                Form::Handle
            }
            // Nothing would carry writes back.
            MapObject::Copy if sharing == Sharing::Shared && open.is_writable() => return Err(Errno::ENODEV),
            MapObject::Copy => Form::Copied,
        };
        self.wish.backing = Backing::File { file, offset, sharing, form, counted };
        Ok(self)
    }

    /// Keeps the host's handle of what is mapped; returns what the mapping holds while it can write.
    fn take_handle(&mut self, object: MapObject) -> Option<Arc<WritableMappings>> {
        let (handle, counted) = match object {
            MapObject::Handle(handle) => (handle, None),
            MapObject::Counted(handle, counted) => (handle, Some(counted)),
            MapObject::Sealed(handle) => {
                self.max_prot.remove(Prot::WRITE);
                (handle, None)
            }
            MapObject::Copy | MapObject::Zero => return None,
        };
        self.handle = Some(handle);
        counted
    }

    /// Whether it is an object's data, nearly every page of which its loader writes: one call takes less than a fault for each.
    fn is_small_data(&self) -> bool {
        self.len <= SMALL_DATA
            && self.handle.is_some()
            && self.prot.contains(Prot::WRITE)
            && !self.flags.contains(VmaFlags::SHARED)
            && self.wish.placement != Placement::Anywhere
    }

    /// Maps on the host: the file's handle, or `patched` in its stead.
    fn map_on_host(&self, addr: u64, fixed: u32, patched: Option<i32>) -> Result<u64> {
        let mut flags = fixed;
        // A read-only shared mapping of a copy is private memory for the host.
        let copied = matches!(self.wish.backing, Backing::File { form: Form::Copied, .. });
        let shared = self.flags.contains(VmaFlags::SHARED) && !copied;
        flags |= if shared { MAP_SHARED } else { MAP_PRIVATE };
        if self.flags.contains(VmaFlags::NORESERVE) {
            flags |= MAP_NORESERVE;
        }
        if self.populate || self.is_small_data() {
            flags |= MAP_POPULATE;
        }
        let prot = if copied { FILLING } else { self.prot };
        match (&self.handle, &self.wish.backing) {
            (Some(handle), Backing::File { offset, .. }) => {
                host::mmap(addr, self.len, prot.bits(), flags, patched.unwrap_or(handle.raw()), *offset)
            }
            _ => host::mmap(addr, self.len, prot.bits(), flags | MAP_ANONYMOUS, -1, 0),
        }
    }
}

fn placement(flags: u32) -> Placement {
    if flags & MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace
    } else if flags & MAP_FIXED != 0 {
        Placement::Fixed
    } else if flags & MAP_32BIT != 0 {
        Placement::Low
    } else {
        Placement::Anywhere
    }
}

fn vma_flags(flags: u32) -> VmaFlags {
    let pairs =
        [(MAP_LOCKED, VmaFlags::LOCKED), (MAP_NORESERVE, VmaFlags::NORESERVE), (MAP_GROWSDOWN, VmaFlags::GROWSDOWN)];
    pairs.iter().filter(|(bit, _)| flags & bit != 0).fold(VmaFlags::empty(), |all, (_, flag)| all | *flag)
}

/// Reads a file into fresh memory; what lies beyond its end stays zero.
///
/// # Errors
/// Those of the file.
pub(super) fn fill(file: &File, offset: u64, addr: u64, len: u64) -> Result<()> {
    let mut done = 0;
    while done < len {
        let mut sink = Sink::guest(addr + done, len - done);
        let count = file.ops().read(file, &mut sink, offset.wrapping_add(done))?;
        if count == 0 {
            break;
        }
        done += count as u64;
    }
    Ok(())
}

/// Whether an offset of mmap(2) is one.
#[must_use]
pub(crate) fn is_offset(offset: u64) -> bool {
    offset.is_multiple_of(PAGE)
}
