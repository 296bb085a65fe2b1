//! Thread areas: what the LibOS keeps for each host thread, at GS while the thread is in the LibOS.
//!
//! An area is [`abi::boot::THREAD_AREA`] bytes of the arena: a guard page, the LibOS stack, the alternate stack of the host
//! signal handlers, and this control block. Owned by its thread; other threads touch only the atomics.

use crate::call_counts::CallCounts;
use crate::frame::TrapFrame;
#[cfg(target_os = "none")]
use crate::free_blocks::FreeBlocks;
use crate::hand_over::HandOver;
use crate::leaf::{Thread, WORDS};
use crate::outside::Outside;
use crate::slots::{COUNTED, counter_slot, slot_number};
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The host signal that interrupts a thread (SIGSTKFLT: nothing else sends it).
pub const INTERRUPT_SIGNAL: u64 = 16;

/// How a thread leaves the LibOS.
#[cfg(target_os = "none")]
pub(crate) const EXIT_CALL: u32 = 0;
/// All registers are restored (after an interrupt, a fault, sigreturn, exec, and a call with flags that are not ours).
pub(crate) const EXIT_FULL: u32 = 1;

/// The call came by a trap.
pub(crate) const TRAPPED: u32 = 1;
/// The guest runs in single steps.
pub(crate) const STEPPED: u32 = 2;
/// The processor's flag for that.
pub(crate) const TRAP_FLAG: u64 = 0x100;
/// Strings are copied downwards.
#[cfg(target_os = "none")]
pub(crate) const DIRECTION_FLAG: u64 = 0x400;
/// Words that are not aligned trap.
#[cfg(target_os = "none")]
pub(crate) const ALIGNMENT_FLAG: u64 = 0x4_0000;

/// Why a thread entered other than by a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Host signal that reported it (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP); 0 for an interrupt.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// Trap number of the processor.
    pub trapno: u64,
    /// Error code of the processor.
    pub error: u64,
    /// Faulting address as the processor reports it.
    pub cr2: u64,
}

/// A thread area's control block.
#[repr(C, align(64))]
pub struct Cpu {
    /// Address of this block: proves that GS is ours.
    pub(crate) this: Cell<u64>,
    /// Top of the LibOS stack.
    pub(crate) stack_top: Cell<u64>,
    /// Something is to be done before the thread returns to guest code; set by anyone.
    pub(crate) pending: AtomicU32,
    /// Whether the guest set GS itself. Behind `pending`: the way out looks at both at once.
    pub(crate) gs_foreign: Cell<u32>,
    /// `EXIT_CALL` or [`EXIT_FULL`].
    pub(crate) exit_kind: Cell<u32>,
    /// How a host signal took part in the call's entry: [`TRAPPED`], [`STEPPED`].
    pub(crate) signalled: Cell<u32>,
    /// The guest's GS base.
    pub(crate) guest_gs: Cell<u64>,
    /// Where a `cpuid` that is being answered returns to, and the guest's flags meanwhile.
    pub(crate) cpuid_return: Cell<u64>,
    pub(crate) cpuid_flags: Cell<u64>,
    /// Where the guest goes on after an interrupt that found it at a `cpuid`.
    pub(crate) cpuid_interrupted: Cell<u64>,
    /// Registers of the guest.
    pub(crate) frame: UnsafeCell<TrapFrame>,
    /// Set once the thread's signal stack is its own.
    pub(crate) ready: AtomicU32,
    /// Turn of the [`crate::sync::Gate`] at which the thread stands; 0 for none.
    pub(crate) stands_at: AtomicU32,
    /// Whether the thread is in a host call that may sleep.
    pub(crate) asleep: AtomicBool,
    /// How many shared locks the thread holds.
    pub(crate) locks_held: Cell<u32>,
    /// Names the area's present use: no other area, and no other use of this one, has the same.
    identity: AtomicU64,
    /// Address of the lock's word that the thread waits for; 0 for none.
    pub(crate) awaits: AtomicU64,
    /// Last entry's fault.
    pub(crate) fault: Cell<Fault>,
    /// FS base to set when the thread starts.
    pub(crate) start_fs: Cell<u64>,
    /// Names the host memory in which the thread runs: threads and vfork children share it, never is a name used again.
    pub(crate) memory: Cell<u64>,
    /// Name of its maker's memory.
    pub(crate) made_in: Cell<u64>,
    /// Name of the memory in which this area's guard page was unmapped last.
    pub(crate) guarded_in: Cell<u64>,
    /// The kernel's own pointer for this thread: an `Arc<T>` turned raw, and its type's tag.
    task: AtomicPtr<()>,
    task_tag: AtomicU64,
    /// Words in it that answer calls: see [`crate::leaf::Table`].
    pub(crate) words: [AtomicPtr<i32>; WORDS],
    /// Its signal mask.
    pub(crate) mask: AtomicPtr<u64>,
    /// Host calls by number below 64, the rest by a small map of their own.
    host_calls: [Cell<u32>; COUNTED],
    /// Total of host calls: tells whether a guest call made one.
    pub(crate) host_call_total: Cell<u64>,
    /// How often the thread found a lock taken, and how often it then slept.
    lock_waits: Cell<u64>,
    lock_sleeps: Cell<u64>,
    pub(crate) counts: Cell<CallCounts>,
    /// See [`Cpu::outside`].
    #[cfg(not(target_os = "none"))]
    outside: Outside,
    /// How many pins it has.
    pub(crate) pin_depth: Cell<u32>,
    /// How many looks at what it owns are under way: see [`crate::owned`].
    pub(crate) looks: Cell<u32>,
    /// Whether the thread attempts a call: see [`crate::leaf`].
    pub(crate) attempts: Cell<bool>,
    /// Whom the thread wakes before it sleeps: see [`crate::hand_over`].
    pub(crate) hand_over: HandOver,
    /// Memory that the thread keeps for itself.
    #[cfg(target_os = "none")]
    pub(crate) free_blocks: FreeBlocks,
}

// SAFETY: the Cells are touched only by the thread that owns the area, or before it starts.
unsafe impl Sync for Cpu {}

impl core::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Cpu({:#x}, tid {})", self.this.get(), self.tid())
    }
}

impl Cpu {
    /// Registers of the guest at entry.
    #[must_use]
    pub fn frame(&self) -> &TrapFrame {
        // SAFETY: only the owning thread reads or writes the frame, and hands out no lasting reference
        // across `set_frame`; the kernel copies what it keeps.
        unsafe { &*self.frame.get() }
    }

    /// Replaces the registers; the thread returns with all of them.
    pub fn set_frame(&self, frame: &TrapFrame) {
        // SAFETY: the owning thread, or the maker of a thread that has not started.
        unsafe { *self.frame.get() = *frame }
        self.exit_kind.set(EXIT_FULL);
    }

    /// Sets what the call returns.
    #[inline]
    pub fn set_return(&self, value: u64) {
        // SAFETY: the owning thread.
        unsafe { (*self.frame.get()).rax = value }
    }

    /// Host thread id in the container's host pid namespace, 0 once it has ended.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.outside().tid.load(Ordering::Acquire)
    }

    /// Host process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self.outside().leader.load(Ordering::Acquire) {
            0 => self.tid(),
            leader => leader,
        }
    }

    /// Names the thread, as long as it has the area: less than 2^63, and never 0.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity.load(Ordering::Acquire)
    }

    /// Whether two threads run in the same host memory.
    #[must_use]
    pub fn shares_memory_with(&self, other: &Cpu) -> bool {
        self.memory.get() == other.memory.get()
    }

    /// Whether the area was given back: its host thread has ended, or is to end.
    #[must_use]
    pub fn is_given_back(&self) -> bool {
        !self.outside().turns.is_taken()
    }

    /// Whether the thread sleeps where it may be interrupted; it may have just been woken.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Why the thread entered, where it was no call.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault.get()
    }

    /// Makes the thread do its pending work before it returns to guest code or sleeps, and wakes it if it
    /// sleeps or runs guest code.
    pub fn kick(&self) {
        if is_current(self) {
            return self.mark_pending();
        }
        if self.pending.swap(1, Ordering::SeqCst) != 0 {
            // It was told, and has not begun to look: one host signal after the other would keep it from that.
            return;
        }
        if crate::sync::wake_parked(self) {
            // It looks before it sleeps again, and no handler has to run for that.
            return;
        }
        if self.ready.load(Ordering::Acquire) != 0 {
            let (pid, tid) = (self.pid(), self.tid());
            if tid != 0 {
                crate::host::interrupt(pid.cast_signed(), tid.cast_signed());
            }
        }
    }

    /// What others look at of the thread, or wake it by. Not in the area: that is a page a thread, which a new process has not got.
    #[cfg(target_os = "none")]
    #[inline]
    pub(crate) fn outside(&self) -> &Outside {
        let address = core::ptr::from_ref(self) as u64;
        let index = address.wrapping_sub(AREAS.load(Ordering::Relaxed)) / abi::boot::THREAD_AREA;
        crate::outside::at(index)
    }

    /// As the image's.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Marks pending work of the calling thread itself, which looks on its way out: no barrier is needed.
    pub fn mark_pending(&self) {
        self.pending.store(1, Ordering::Release);
    }

    /// Whether work is pending.
    #[must_use]
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst) != 0
    }

    /// Clears the mark before the work is looked at.
    pub fn clear_pending(&self) {
        self.pending.store(0, Ordering::SeqCst);
    }

    /// Total of host calls by this thread.
    #[must_use]
    #[inline]
    pub fn host_call_total(&self) -> u64 {
        self.host_call_total.get()
    }

    /// Host calls by number since the last time, and starts again from zero.
    pub fn drain_host_calls(&self, mut each: impl FnMut(u16, u64)) {
        for (slot, counter) in self.host_calls.iter().enumerate() {
            let count = counter.replace(0);
            if count != 0 {
                each(slot_number(slot), u64::from(count));
            }
        }
    }

    /// How often the thread found a lock taken since the last time, and how often it then slept.
    pub fn take_lock_waits(&self) -> (u64, u64) {
        (self.lock_waits.take(), self.lock_sleeps.take())
    }

    /// The thread found a lock taken, or sleeps until it is free.
    #[cold]
    pub(crate) fn count_lock_wait(&self, sleeps: bool) {
        let counter = if sleeps { &self.lock_sleeps } else { &self.lock_waits };
        counter.set(counter.get() + 1);
    }

    /// Gives the thread its kernel object; one `T` in the whole program.
    pub fn set_task<T: Thread>(&self, task: alloc::sync::Arc<T>) {
        self.clear_task::<T>();
        // Only the area's own guest reads there, and the area keeps what they lie in.
        for (word, own) in task.words().into_iter().zip(&self.words) {
            own.store(word.as_ptr(), Ordering::Relaxed);
        }
        self.mask.store(task.mask().as_ptr(), Ordering::Relaxed);
        self.task_tag.store(tag::<T>(), Ordering::Relaxed);
        self.task.store(alloc::sync::Arc::into_raw(task).cast_mut().cast(), Ordering::Release);
        self.outside().is_guests.store(true, Ordering::Release);
    }

    /// Reads where it lies. In a new host process a read maps the pages around, the first write one page.
    #[cfg(target_os = "none")]
    pub(crate) fn touch_task(&self) {
        let task: *const u8 = self.task.load(Ordering::Relaxed).cast();
        if !task.is_null() {
            // SAFETY: set by `set_task` and kept alive by the area.
            let _ = unsafe { task.read_volatile() };
        }
    }

    /// Whether it has one: a guest's thread.
    pub(crate) fn has_task(&self) -> bool {
        !self.task.load(Ordering::Relaxed).is_null()
    }

    /// Drops the thread's kernel object.
    pub fn clear_task<T: Send + Sync + 'static>(&self) {
        self.outside().is_guests.store(false, Ordering::Relaxed);
        let old = self.task.swap(core::ptr::null_mut(), Ordering::AcqRel);
        if !old.is_null() && self.task_tag.load(Ordering::Relaxed) == tag::<T>() {
            // SAFETY: the pointer came from Arc::into_raw of the same type, by the tag.
            drop(unsafe { alloc::sync::Arc::from_raw(old.cast::<T>()) });
        }
    }

    /// The thread's kernel object. Valid while the thread runs: only [`Cpu::clear_task`] at its end drops it.
    #[inline]
    #[must_use]
    pub fn task<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let task = self.task.load(Ordering::Relaxed);
        if task.is_null() || self.task_tag.load(Ordering::Relaxed) != tag::<T>() {
            return None;
        }
        // SAFETY: set by `set_task` with the same type and kept alive by the area.
        Some(unsafe { &*task.cast::<T>() })
    }
}

/// Which area it is that something runs on, or is told by: it may change.
#[derive(Debug)]
pub struct CpuCell(AtomicPtr<Cpu>);

impl CpuCell {
    /// With an area.
    #[must_use]
    pub fn new(cpu: &'static Cpu) -> CpuCell {
        CpuCell(AtomicPtr::new(core::ptr::from_ref(cpu).cast_mut()))
    }

    /// The area.
    #[inline]
    #[must_use]
    pub fn get(&self) -> &'static Cpu {
        // SAFETY: from a reference of that lifetime, and only ever used as one.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    /// Another area.
    pub fn set(&self, cpu: &'static Cpu) {
        self.0.store(core::ptr::from_ref(cpu).cast_mut(), Ordering::SeqCst);
    }
}

/// A number for a type.
#[inline]
fn tag<T: 'static>() -> u64 {
    size_of::<T>() as u64 | 0x7a67_0000_0000_0000
}

/// Counts a host call of the calling thread.
#[inline]
pub(crate) fn count_host_call(nr: u64) {
    #[cfg(target_os = "none")]
    {
        let cpu = current();
        cpu.host_call_total.set(cpu.host_call_total.get() + 1);
        let counter = &cpu.host_calls[counter_slot(nr)];
        counter.set(counter.get().wrapping_add(1));
    }
    #[cfg(not(target_os = "none"))]
    let _ = counter_slot(nr);
}

fn is_current(cpu: &Cpu) -> bool {
    core::ptr::eq(cpu, current())
}

/// The calling thread's area.
#[cfg(target_os = "none")]
#[inline]
#[must_use]
pub fn current() -> &'static Cpu {
    let address: *const Cpu;
    // SAFETY: in the LibOS GS points at the thread's area, whose first word is its address.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, preserves_flags));
    }
    // SAFETY: areas are never unmapped, and shared access goes through atomics and Cells of the owner.
    unsafe { &*address }
}

/// The calling thread's area (build machine: made at first use).
#[cfg(not(target_os = "none"))]
#[must_use]
pub fn current() -> &'static Cpu {
    use std::boxed::Box;
    thread_local! {
        static CPU: &'static Cpu = {
            let cpu: &'static Cpu = Box::leak(Box::new(Cpu::new()));
            TEST_THREADS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(cpu);
            cpu
        };
    }
    CPU.with(|cpu| *cpu)
}

/// Those of all threads (build machine).
#[cfg(not(target_os = "none"))]
static TEST_THREADS: std::sync::Mutex<Vec<&'static Cpu>> = std::sync::Mutex::new(Vec::new());

#[cfg(not(target_os = "none"))]
impl Cpu {
    fn new() -> Cpu {
        let outside = Outside::new();
        outside.turns.take(|| true);
        outside.tid.store(next_test_tid(), Ordering::Relaxed);
        Cpu {
            this: Cell::new(0),
            stack_top: Cell::new(0),
            pending: AtomicU32::new(0),
            gs_foreign: Cell::new(0),
            exit_kind: Cell::new(0),
            signalled: Cell::new(0),
            guest_gs: Cell::new(0),
            cpuid_return: Cell::new(0),
            cpuid_flags: Cell::new(0),
            cpuid_interrupted: Cell::new(0),
            frame: UnsafeCell::new(TrapFrame::default()),
            ready: AtomicU32::new(0),
            stands_at: AtomicU32::new(0),
            asleep: AtomicBool::new(false),
            locks_held: Cell::new(0),
            identity: AtomicU64::new(u64::from(next_test_tid())),
            awaits: AtomicU64::new(0),
            fault: Cell::new(Fault::default()),
            start_fs: Cell::new(0),
            memory: Cell::new(0),
            made_in: Cell::new(0),
            guarded_in: Cell::new(0),
            task: AtomicPtr::new(core::ptr::null_mut()),
            task_tag: AtomicU64::new(0),
            words: [const { AtomicPtr::new(core::ptr::null_mut()) }; WORDS],
            mask: AtomicPtr::new(core::ptr::null_mut()),
            host_calls: [const { Cell::new(0) }; COUNTED],
            host_call_total: Cell::new(0),
            lock_waits: Cell::new(0),
            lock_sleeps: Cell::new(0),
            counts: Cell::new(CallCounts::default()),
            outside,
            pin_depth: Cell::new(0),
            looks: Cell::new(0),
            attempts: Cell::new(false),
            hand_over: HandOver::new(),
        }
    }
}

#[cfg(not(target_os = "none"))]
fn next_test_tid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The LibOS's own address range, refused to guests. Set at boot.
pub(crate) static LIBOS_START: AtomicU64 = AtomicU64::new(abi::boot::BASE_MIN);
pub(crate) static LIBOS_END: AtomicU64 = AtomicU64::new(abi::boot::BASE_MAX);
/// End of user addresses.
pub const USER_END: u64 = 0x7fff_ffff_f000;

#[cfg(target_os = "none")]
pub(crate) fn set_libos_range(start: u64, end: u64) {
    LIBOS_START.store(start, Ordering::Relaxed);
    LIBOS_END.store(end, Ordering::Relaxed);
}

/// The LibOS's own address range: mappings there are refused, and it is shown nowhere.
#[must_use]
pub fn libos_range() -> core::ops::Range<u64> {
    LIBOS_START.load(Ordering::Relaxed)..LIBOS_END.load(Ordering::Relaxed)
}

/// Whether a range is user memory outside of the LibOS.
#[inline]
#[must_use]
pub fn is_guest_range(addr: u64, len: u64) -> bool {
    let Some(end) = addr.checked_add(len) else { return false };
    end <= USER_END && (end <= LIBOS_START.load(Ordering::Relaxed) || addr >= LIBOS_END.load(Ordering::Relaxed))
}

/// The pool of areas.
#[cfg(target_os = "none")]
static AREAS: AtomicU64 = AtomicU64::new(0);
#[cfg(target_os = "none")]
static AREA_COUNT: AtomicU64 = AtomicU64::new(0);
/// No area below is free: areas are taken from the lowest on, so that few are ever touched.
#[cfg(target_os = "none")]
static LOWEST_FREE: AtomicU64 = AtomicU64::new(1);
/// Highest area that was ever used.
#[cfg(target_os = "none")]
static HIGHEST_AREA: AtomicU64 = AtomicU64::new(0);

#[cfg(target_os = "none")]
pub(crate) fn set_areas(start: u64, count: u64) {
    AREAS.store(start, Ordering::Relaxed);
    AREA_COUNT.store(count, Ordering::Relaxed);
}

/// Initialises area `index` (zeroed memory) and returns it.
///
/// # Safety
/// The area must be unused.
#[cfg(target_os = "none")]
pub(crate) unsafe fn init_area(index: u64) -> &'static Cpu {
    let (cpu, address) = (area(index), address_of(index));
    cpu.this.set(address);
    cpu.stack_top.set(address - crate::stack::SIGNAL_STACK_LEN - 64);
    cpu.identity.store(next_identity(cpu, index), Ordering::Relaxed);
    cpu.outside().turns.take(|| true);
    cpu
}

/// Bits of an identity that count the uses of an area; the number of the area is above.
#[cfg(target_os = "none")]
const USES: u32 = 47;

#[cfg(target_os = "none")]
fn next_identity(cpu: &Cpu, index: u64) -> u64 {
    let uses = (cpu.identity.load(Ordering::Relaxed) + 1) & ((1 << USES) - 1);
    index << USES | uses
}

/// Whether the thread that has, or had, this identity still has its area. One that was killed has until its death is told.
#[cfg(target_os = "none")]
#[must_use]
pub fn is_alive(identity: u64) -> bool {
    let index = identity >> USES;
    if index > HIGHEST_AREA.load(Ordering::Relaxed) {
        return false;
    }
    let cpu = area(index);
    cpu.identity() == identity && !cpu.is_given_back()
}

/// Whether a thread is there (build machine: none dies while a test waits for it).
#[cfg(not(target_os = "none"))]
#[must_use]
pub fn is_alive(_identity: u64) -> bool {
    true
}

#[cfg(target_os = "none")]
fn address_of(index: u64) -> u64 {
    AREAS.load(Ordering::Relaxed) + index * abi::boot::THREAD_AREA + crate::stack::BLOCK
}

#[cfg(target_os = "none")]
pub(crate) fn area(index: u64) -> &'static Cpu {
    // SAFETY: the area is arena memory, never unmapped, and valid as a Cpu in any state; users touch its atomics.
    unsafe { &*(address_of(index) as *const Cpu) }
}

/// The area of an address that was an area's; None for 0.
pub(crate) fn at(address: u64) -> Option<&'static Cpu> {
    // SAFETY: areas are never unmapped, and users touch their atomics.
    unsafe { (address as *const Cpu).as_ref() }
}

/// Every area that was ever used.
#[cfg(target_os = "none")]
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..=HIGHEST_AREA.load(Ordering::SeqCst)).map(area)
}

/// As the image's.
#[cfg(not(target_os = "none"))]
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    TEST_THREADS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().into_iter()
}

/// Areas from `from` up to and with `taken` were seen in use. One that was given back before the bound rose, and so did not
/// lower it, is seen here; one that is given back later lowers it itself.
#[cfg(target_os = "none")]
fn raise_lowest_free(from: u64, taken: u64) {
    if LOWEST_FREE.compare_exchange(from, taken + 1, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        return;
    }
    if let Some(free) = (from..taken).find(|index| area(*index).is_given_back()) {
        LOWEST_FREE.fetch_min(free, Ordering::SeqCst);
    }
}

/// Takes a free area.
///
/// # Errors
/// EAGAIN when there is none.
#[cfg(target_os = "none")]
pub fn allocate() -> crate::Result<&'static Cpu> {
    let count = AREA_COUNT.load(Ordering::Relaxed);
    let from = LOWEST_FREE.load(Ordering::Relaxed);
    let mut all_in_use = true;
    for index in from..count {
        let cpu = area(index);
        if !cpu.is_given_back() {
            continue;
        }
        // A thread that is about to end has its tid.
        if !cpu.outside().turns.take(|| cpu.tid() == 0) {
            all_in_use = false;
            continue;
        }
        if all_in_use {
            raise_lowest_free(from, index);
        }
        HIGHEST_AREA.fetch_max(index, Ordering::SeqCst);
        reset(cpu, index);
        return Ok(cpu);
    }
    Err(crate::Errno::EAGAIN)
}

/// Takes a free area (build machine: a fresh one).
///
/// # Errors
/// None.
#[cfg(not(target_os = "none"))]
pub fn allocate() -> crate::Result<&'static Cpu> {
    Ok(Box::leak(Box::new(Cpu::new())))
}

#[cfg(target_os = "none")]
fn reset(cpu: &Cpu, index: u64) {
    let address = address_of(index);
    cpu.this.set(address);
    cpu.stack_top.set(address - crate::stack::SIGNAL_STACK_LEN - 64);
    cpu.pending.store(0, Ordering::Relaxed);
    cpu.outside().leader.store(0, Ordering::Relaxed);
    cpu.ready.store(0, Ordering::Relaxed);
    cpu.outside().wake.store(0, Ordering::Relaxed);
    cpu.asleep.store(false, Ordering::Relaxed);
    cpu.locks_held.set(0);
    cpu.pin_depth.set(0);
    cpu.attempts.set(false);
    cpu.hand_over.reset();
    cpu.awaits.store(0, Ordering::Relaxed);
    forget_guest(cpu, index);
}

/// What a guest's thread left, and what names it, goes.
#[cfg(target_os = "none")]
fn forget_guest(cpu: &Cpu, index: u64) {
    cpu.identity.store(next_identity(cpu, index), Ordering::Release);
    cpu.exit_kind.set(EXIT_FULL);
    cpu.signalled.set(0);
    cpu.looks.set(0);
    cpu.gs_foreign.set(0);
    cpu.guest_gs.set(0);
    cpu.stands_at.store(0, Ordering::Relaxed);
}

/// The calling thread, whose guest has ended, waits for another one. It holds no lock.
#[cfg(target_os = "none")]
pub fn renew() {
    let cpu = current();
    forget_guest(cpu, index_of(cpu));
    cpu.hand_over.forget_guest();
}

/// As the image's (build machine: nothing).
#[cfg(not(target_os = "none"))]
pub fn renew() {}

/// Gives an area back. Its host thread must have ended (its tid is cleared by the host), or be about to:
/// an area is handed out again only when its tid is 0.
pub fn release(cpu: &Cpu) {
    cpu.outside().turns.give_back();
    #[cfg(target_os = "none")]
    note_free(cpu);
}

/// An area below [`LOWEST_FREE`] may be free.
#[cfg(target_os = "none")]
fn note_free(cpu: &Cpu) {
    LOWEST_FREE.fetch_min(index_of(cpu), Ordering::SeqCst);
}

#[cfg(target_os = "none")]
fn index_of(cpu: &Cpu) -> u64 {
    cpu.this.get().wrapping_sub(AREAS.load(Ordering::Relaxed)) / abi::boot::THREAD_AREA
}

impl Cpu {
    /// The thread's kernel object, to keep.
    #[must_use]
    pub fn task_handle<T: Send + Sync + 'static>(&self) -> Option<alloc::sync::Arc<T>> {
        let task = self.task.load(Ordering::Acquire);
        if task.is_null() || self.task_tag.load(Ordering::Relaxed) != tag::<T>() {
            return None;
        }
        // SAFETY: set by `set_task` with the same type; the area holds one reference.
        unsafe { alloc::sync::Arc::increment_strong_count(task.cast::<T>()) };
        // SAFETY: the reference counted above is ours.
        Some(unsafe { alloc::sync::Arc::from_raw(task.cast::<T>()) })
    }
}

/// A host process has ended: its areas' thread ids are void. `lost` is called for those that were not given
/// back, whose threads died without the LibOS's doing.
#[cfg(target_os = "none")]
pub fn host_process_ended(pid: u32, mut lost: impl FnMut(&'static Cpu)) {
    let high = HIGHEST_AREA.load(Ordering::Relaxed);
    for index in 1..=high {
        let cpu = area(index);
        // First: an area that is just being taken still names the leader that it had, and has no task.
        let is_guests = cpu.outside().is_guests.load(Ordering::Acquire);
        // The host has cleared the thread ids of those that were killed together.
        if cpu.pid() != pid || cpu.tid() == 0 && !is_guests {
            continue;
        }
        let given_back = cpu.is_given_back();
        cpu.outside().pinned_at.store(0, Ordering::Release);
        cpu.outside().tid.store(0, Ordering::Release);
        if !given_back {
            lost(cpu);
        }
    }
}

/// Every area that is taken, or whose host thread has not ended, but the first: the service process's.
#[cfg(target_os = "none")]
pub fn occupied() -> impl Iterator<Item = &'static Cpu> {
    let all = (1..=HIGHEST_AREA.load(Ordering::SeqCst)).map(area);
    all.filter(|cpu| !cpu.is_given_back() || cpu.tid() != 0)
}

/// Every area that is taken (build machine: nobody asks).
#[cfg(not(target_os = "none"))]
pub fn occupied() -> impl Iterator<Item = &'static Cpu> {
    core::iter::empty()
}

/// Waits until the other threads of the calling host process have given their areas back: they hold no lock then, and do
/// nothing more than end.
#[cfg(target_os = "none")]
pub fn wait_for_siblings() {
    const GLANCE_NS: u64 = 20_000;
    let own = current();
    let is_sibling = |cpu: &'static Cpu| !core::ptr::eq(cpu, own) && cpu.pid() == own.pid() && !cpu.is_given_back();
    while (1..=HIGHEST_AREA.load(Ordering::SeqCst)).map(area).any(is_sibling) {
        let _ = crate::sync::park_uninterruptible(Some(crate::clock::monotonic_ns() + GLANCE_NS));
    }
}

/// As the image's (build machine: no process has siblings).
#[cfg(not(target_os = "none"))]
pub fn wait_for_siblings() {}

/// Whether the host thread of the area that `is_it` names has ended, as the host says.
#[cfg(target_os = "none")]
pub(crate) fn is_gone(is_it: impl Fn(&Cpu) -> bool) -> bool {
    let high = HIGHEST_AREA.load(Ordering::Relaxed);
    let Some(cpu) = (0..=high).map(area).find(|cpu| is_it(cpu)) else { return false };
    let (pid, tid) = (u64::from(cpu.pid()), u64::from(cpu.tid()));
    // SAFETY: no signal is sent.
    tid == 0 || unsafe { crate::host::raw(crate::host::nr::TGKILL, [pid, tid, 0, 0, 0, 0]) }.cast_signed() == -3
}

/// Whether a host thread has ended (build machine: none does while a test waits for it).
#[cfg(not(target_os = "none"))]
pub(crate) fn is_gone(_is_it: impl Fn(&Cpu) -> bool) -> bool {
    false
}

/// A host process has ended (build machine: nothing).
#[cfg(not(target_os = "none"))]
pub fn host_process_ended(_pid: u32, _lost: impl FnMut(&'static Cpu)) {}
