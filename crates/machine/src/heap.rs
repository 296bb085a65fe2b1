//! The arena's heap: the global allocator of the LibOS, shared by all processes of the container.

use crate::cpu;
use crate::free_blocks::{Class, FreeBlocks, KEPT, STEP as LINE, WORD};
use crate::sync::RawFutexLock;
use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use talc::TalcLock;
use talc::base::{CHUNK_UNIT, Talc, binning::Binning};
use talc::source::Source;

/// Bytes that stay for calls that are under way, and for those that give memory back, when guests get no more.
const RESERVE: u64 = 192 << 20;
/// Bytes below the mark where memory is short until it no longer is.
const SLACK: u64 = 1 << 20;

#[global_allocator]
static HEAP: Heap = Heap {
    talc: TalcLock::new(Unused { start: 0, end: 0, far: 0..0 }),
    used: AtomicU64::new(0),
    peak: AtomicU64::new(0),
    mark: AtomicU64::new(u64::MAX),
    short: Flag(AtomicBool::new(false)),
};

struct Heap {
    talc: TalcLock<RawFutexLock, Unused>,
    /// Changed under Talc's lock. What threads keep for themselves counts.
    used: AtomicU64,
    peak: AtomicU64,
    /// With more than so many bytes in use memory is short.
    mark: AtomicU64,
    short: Flag,
}

/// What the heap takes at a time: as much as the host maps at one fault. Talc writes to the end of a free block whenever it takes
/// from its beginning, and a last page far from the others costs each process a fault and a page table.
const STEP: usize = 64 << 10;

/// The arena memory above the heap. It begins where the heap ends.
#[derive(Debug)]
struct Unused {
    start: usize,
    end: usize,
    /// Where the heap goes on when that is used up.
    far: Range<usize>,
}

// SAFETY: no allocation is made in here, and the parent's lock is not touched.
unsafe impl Source for Unused {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let Unused { start, end, .. } = talc.source;
        let old = NonNull::new(start as *mut u8).ok_or(())?;
        // Talc's own words and the alignment come on top.
        let wanted = layout.size().checked_add(layout.align() + 2 * CHUNK_UNIT).ok_or(())?;
        let grown = start.checked_add(wanted.next_multiple_of(STEP)).ok_or(())?.min(end);
        // SAFETY: the heap ends at `start`, and nothing else uses what is up to `end`.
        talc.source.start = unsafe { talc.extend(old, grown as *mut u8) }.as_ptr() as usize;
        if talc.source.start == start { begin_far_part(talc) } else { Ok(()) }
    }
}

fn begin_far_part<B: Binning>(talc: &mut Talc<Unused, B>) -> Result<(), ()> {
    let far = core::mem::take(&mut talc.source.far);
    if far.len() < STEP {
        return Err(());
    }
    // The first block begins behind one of Talc's words, rounded up: at the second line.
    // SAFETY: nothing else uses the range.
    let heap_end = unsafe { talc.claim((far.start + CHUNK_UNIT) as *mut u8, STEP - CHUNK_UNIT) }.ok_or(())?;
    talc.source = Unused { start: heap_end.as_ptr() as usize, end: far.end, far: 0..0 };
    Ok(())
}

/// Read by every call and hardly ever written: it shares no cache line with the counters.
#[repr(align(64))]
struct Flag(AtomicBool);

/// What Talc is asked for: all blocks together with its own word are whole cache lines, and so what is between them, and each begins
/// at one, as the first does.
fn in_lines(layout: Layout) -> Layout {
    let size = (layout.size() + WORD).next_multiple_of(LINE) - WORD;
    let align = if layout.align() <= LINE { CHUNK_UNIT } else { layout.align() };
    // SAFETY: the alignment is a power of two, and a size that is too large for a block is none of ours: Rust's are below half of the
    // address space.
    unsafe { Layout::from_size_align_unchecked(size, align) }
}

/// What such an allocation takes.
fn cost(layout: Layout) -> u64 {
    (layout.size() + WORD) as u64
}

/// Takes what is left of a cache line at the beginning of the heap, which is fresh.
fn begin_at_line<B: Binning>(talc: &mut Talc<Unused, B>) {
    for _ in 0..LINE / CHUNK_UNIT {
        // SAFETY: the layout is not empty. The block is never used.
        let taken = unsafe { talc.try_allocate(Layout::new::<u64>()) };
        if taken.is_none_or(|taken| (taken.as_ptr() as usize + CHUNK_UNIT).is_multiple_of(LINE)) {
            break;
        }
    }
}

impl Heap {
    fn grow(&self, bytes: u64) {
        let used = self.used.load(Ordering::Relaxed) + bytes;
        self.used.store(used, Ordering::Relaxed);
        if used > self.peak.load(Ordering::Relaxed) {
            self.peak.store(used, Ordering::Relaxed);
        }
        if used > self.mark.load(Ordering::Relaxed) {
            self.short.0.store(true, Ordering::Relaxed);
        }
    }

    fn shrink(&self, bytes: u64) {
        let used = self.used.load(Ordering::Relaxed).wrapping_sub(bytes);
        self.used.store(used, Ordering::Relaxed);
        if self.short.0.load(Ordering::Relaxed) && used.saturating_add(SLACK) < self.mark.load(Ordering::Relaxed) {
            self.short.0.store(false, Ordering::Relaxed);
        }
    }

    /// Allocates from Talc.
    ///
    /// # Safety
    /// As the allocator's.
    unsafe fn obtain(&self, layout: Layout) -> *mut u8 {
        let layout = in_lines(layout);
        let mut talc = self.talc.lock();
        let end = talc.source.start;
        // SAFETY: the caller's promise.
        let Some(block) = (unsafe { talc.allocate(layout) }) else { return core::ptr::null_mut() };
        self.grow(cost(layout));
        let grown = talc.source.start - end;
        drop(talc);
        // A page costs a fifth of a fault that way. Of a large block nobody knows whether all of it will be used.
        if grown == STEP {
            crate::host::populate(end as u64, grown as u64);
        }
        block.as_ptr()
    }

    /// Allocates a block of a class from Talc, and further ones for the thread to keep where it wants more.
    fn obtain_several(&self, class: Class, blocks: &FreeBlocks) -> *mut u8 {
        let layout = in_lines(class.layout());
        let wanted = if self.short.0.load(Ordering::Relaxed) { 1 } else { blocks.count_wanted(class) };
        let mut got = [core::ptr::null_mut(); KEPT as usize];
        let mut talc = self.talc.lock();
        let end = talc.source.start;
        let mut count = 0;
        for place in got.iter_mut().take(wanted) {
            // SAFETY: the layout of a class is not empty.
            let Some(block) = (unsafe { talc.allocate(layout) }) else { break };
            *place = block.as_ptr();
            count += 1;
        }
        self.grow(cost(layout) * count);
        let grown = talc.source.start - end;
        drop(talc);
        // A page costs a fifth of a fault that way.
        if grown == STEP {
            crate::host::populate(end as u64, grown as u64);
        }
        let (first, others) = (got[0], &got[1..]);
        // The one that comes next in memory is taken next.
        for block in others.iter().rev().filter(|block| !block.is_null()) {
            // SAFETY: just allocated for the class, and nobody's. There is room: the thread keeps none.
            let _ = unsafe { blocks.keep(class, *block) };
        }
        first
    }

    /// Gives back to Talc.
    ///
    /// # Safety
    /// As the allocator's.
    unsafe fn give_back(&self, ptr: *mut u8, layout: Layout) {
        let layout = in_lines(layout);
        let mut talc = self.talc.lock();
        // SAFETY: the caller's promise.
        unsafe { talc.deallocate(ptr, layout) }
        self.shrink(cost(layout));
    }

    /// Changes the size of a large block where it lies.
    ///
    /// # Safety
    /// As the allocator's.
    unsafe fn resize(&self, ptr: *mut u8, layout: Layout, new_layout: Layout) -> bool {
        let (layout, new_layout) = (in_lines(layout), in_lines(new_layout));
        let mut talc = self.talc.lock();
        // SAFETY: the caller's promise.
        let is_resized = unsafe { talc.try_realloc_in_place(ptr, layout, new_layout.size()) };
        if is_resized {
            self.grow(cost(new_layout));
            self.shrink(cost(layout));
        }
        is_resized
    }
}

// SAFETY: blocks are Talc's, of the layout asked for or of its class, and a thread keeps only free ones.
unsafe impl core::alloc::GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { self.obtain(layout) };
        };
        let blocks = &cpu::current().free_blocks;
        let kept = blocks.take(class);
        if kept.is_null() { self.obtain_several(class, blocks) } else { kept }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { self.give_back(ptr, layout) };
        };
        // SAFETY: the caller does not use the block any more, which `alloc` gave for the class.
        if self.short.0.load(Ordering::Relaxed) || !unsafe { cpu::current().free_blocks.keep(class, ptr) } {
            // SAFETY: `alloc` got it with this layout.
            unsafe { self.give_back(ptr, class.layout()) }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let stays = match (Class::of(layout), Class::of(new_layout)) {
            (None, None) => {
                // SAFETY: the caller's promise.
                unsafe { self.resize(ptr, layout, new_layout) }
            }
            (old, new) => old == new,
        };
        if stays {
            return ptr;
        }
        // SAFETY: the caller's promise.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both blocks have room for the shorter of the two, and the new one is nobody else's.
            unsafe { core::ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size)) };
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(ptr, layout) }
        }
        new
    }
}

/// Hands the heap its memory.
///
/// # Safety
/// Both are arena memory that nothing else uses. Once, at boot.
pub(crate) unsafe fn init(near: Range<u64>, far: Range<u64>) {
    let (start, end) = (near.start, near.end);
    let len = (end - start) + (far.end - far.start);
    let mut talc = HEAP.talc.lock();
    let first = ((start + 1).next_multiple_of(STEP as u64) + STEP as u64).min(end);
    // SAFETY: by the caller's promise.
    let heap_end = unsafe { talc.claim(start as *mut u8, (first - start) as usize) };
    begin_at_line(&mut talc);
    let far = far.start as usize..far.end as usize;
    talc.source = Unused { start: heap_end.map_or(0, |end| end.as_ptr() as usize), end: end as usize, far };
    drop(talc);
    HEAP.mark.store(len.saturating_sub(RESERVE).max(len / 2), Ordering::Relaxed);
}

/// Gives back the larger ones of the free blocks that the calling thread keeps: it begins something else, and may sleep for long.
pub fn give_back_larger() {
    for (class, block) in cpu::current().free_blocks.take_larger() {
        // SAFETY: the thread kept it as free, and `alloc` got it with this layout.
        unsafe { HEAP.give_back(block, class.layout()) }
    }
}

/// Memory is short from `bytes` in use on, where that is earlier than what the arena's size says.
pub fn limit(bytes: u64) {
    HEAP.mark.fetch_min(bytes, Ordering::Relaxed);
}

/// Whether guests get no more: what is left is for calls that are under way.
#[inline]
#[must_use]
pub fn is_short() -> bool {
    HEAP.short.0.load(Ordering::Relaxed)
}

/// Bytes in use and their peak.
#[must_use]
pub fn usage() -> (u64, u64) {
    (HEAP.used.load(Ordering::Relaxed), HEAP.peak.load(Ordering::Relaxed))
}
