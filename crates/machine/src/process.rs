//! Host threads and processes for guest threads and processes.

use crate::cpu::Cpu;
#[cfg(not(target_os = "none"))]
use crate::errno::Errno;
use crate::errno::Result;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A thread of the calling host process.
    Thread,
    /// A host process with a copy of the memory.
    Fork,
    /// A host process that shares the memory.
    Vfork,
}

/// Starts a host thread or process that enters the kernel's `start` hook on `area`, and then returns to guest code
/// with the area's frame and FS base. By the time this returns it may have ended, and the area be another's.
///
/// # Errors
/// The host's errno (EAGAIN, ENOMEM); the area is then still the caller's.
#[cfg(target_os = "none")]
pub fn spawn(kind: Kind, area: &'static Cpu, fs_base: u64) -> Result<()> {
    use core::sync::atomic::Ordering;
    let flags = match kind {
        Kind::Thread => abi::hostcall::CLONE_THREAD_FLAGS,
        Kind::Fork => abi::hostcall::CLONE_FORK_FLAGS,
        Kind::Vfork => abi::hostcall::CLONE_VFORK_FLAGS,
    };
    crate::hand_over::inherit(area, kind != Kind::Thread);
    crate::cpu::current().free_blocks.trade(&area.free_blocks);
    area.start_fs.set(fs_base);
    area.exit_kind.set(crate::cpu::EXIT_FULL);
    let own = crate::cpu::current().memory.get();
    area.made_in.set(own);
    area.memory.set(match kind {
        Kind::Thread | Kind::Vfork => own,
        Kind::Fork => crate::stack::new_memory(),
    });
    if kind == Kind::Thread {
        area.outside().leader.store(crate::cpu::current().pid(), Ordering::Relaxed);
    }
    crate::cpu::count_host_call(crate::host::nr::CLONE);
    // SAFETY: the area is unused, so its stack is free; the child runs on it alone.
    crate::host::check(unsafe { crate::entry::host_clone(flags, area, &area.outside().tid) }).map(|_| ())
}

/// A process was forked, of many in a row perhaps. The caller holds no lock: the host may be asked for a large page, and take long.
pub fn note_fork() {
    #[cfg(target_os = "none")]
    crate::large_page::note_fork();
}

/// What the host thread that waits in `area` begins with; before it has a task, which is what it waits for.
pub fn prepare(kind: Kind, area: &'static Cpu, fs_base: u64) {
    area.start_fs.set(fs_base);
    #[cfg(target_os = "none")]
    crate::hand_over::serves(area, kind != Kind::Thread);
    #[cfg(not(target_os = "none"))]
    let _ = kind;
}

/// Has the host thread that waits in `area` do what [`spawn`] has a new one do. The area is prepared, and has its frame and task.
#[cfg(target_os = "none")]
pub fn serve(kind: Kind, area: &'static Cpu) {
    crate::sync::unpark(area);
    if kind != Kind::Thread {
        crate::hand_over::has_made();
    }
}

/// As the image's (build machine: no thread waits).
#[cfg(not(target_os = "none"))]
pub fn serve(_kind: Kind, _area: &'static Cpu) {}

/// Starts a host thread (build machine: not there).
///
/// # Errors
/// ENOSYS.
#[cfg(not(target_os = "none"))]
pub fn spawn(_kind: Kind, _area: &'static Cpu, _fs_base: u64) -> Result<()> {
    Err(Errno::ENOSYS)
}

/// The calling thread begins anew, on an empty stack, as if its process had just been made: the kernel's `start` hook
/// runs, and guest code follows.
#[cfg(target_os = "none")]
pub fn restart() -> ! {
    // SAFETY: what lies on the LibOS stack is never returned to.
    unsafe { crate::entry::restart(crate::cpu::current()) }
}

/// As the image's (build machine: stops the thread for ever).
#[cfg(not(target_os = "none"))]
pub fn restart() -> ! {
    loop {
        std::thread::park();
    }
}

/// Gives the calling thread's area back and ends its host thread: the area may be handed out again once the host has cleared its
/// tid.
pub fn exit_thread() -> ! {
    crate::cpu::release(crate::cpu::current());
    end_thread()
}

/// Ends the calling host thread, whose area was given back.
#[cfg(target_os = "none")]
pub fn end_thread() -> ! {
    let cpu = crate::cpu::current();
    crate::cpu::count_host_call(crate::host::nr::EXIT);
    // SAFETY: nothing of this thread is used any more, and the area waits for the tid to be cleared.
    unsafe { crate::entry::exit_thread(cpu) }
}

/// Ends the container: for a thread of the service process that cannot go on.
#[cfg(target_os = "none")]
pub fn stop_container() -> ! {
    crate::boot::stop_service()
}

/// Ends the calling host thread (build machine: stops it for ever).
#[cfg(not(target_os = "none"))]
pub fn stop_container() -> ! {
    exit_thread()
}

/// Ends the calling host thread (build machine: stops it for ever).
#[cfg(not(target_os = "none"))]
pub fn end_thread() -> ! {
    loop {
        std::thread::park();
    }
}

/// The calling thread's FS base (the guest's).
#[must_use]
pub fn fs_base() -> u64 {
    #[cfg(target_os = "none")]
    {
        let base: u64;
        // SAFETY: reads a register; FSGSBASE is checked at boot.
        unsafe { core::arch::asm!("rdfsbase {}", out(reg) base, options(nomem, nostack)) };
        base
    }
    #[cfg(not(target_os = "none"))]
    0
}

/// Sets the calling thread's FS base.
pub fn set_fs_base(base: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: the LibOS uses no FS.
    unsafe {
        core::arch::asm!("wrfsbase {}", in(reg) base, options(nomem, nostack));
    }
    #[cfg(not(target_os = "none"))]
    let _ = base;
}

/// Sets the guest's own GS base, honoured at every return; 0 with `foreign` false is the usual state.
pub fn set_guest_gs(base: u64) {
    let cpu = crate::cpu::current();
    cpu.guest_gs.set(base);
    cpu.gs_foreign.set(u32::from(base != 0));
}

/// The guest's own GS base.
#[must_use]
pub fn guest_gs() -> u64 {
    crate::cpu::current().guest_gs.get()
}

/// The page through which stubs of patched images find the entries, as what mmap(2) takes: descriptor of the arena and
/// offset.
#[must_use]
pub fn slot_page() -> Option<(i32, u64)> {
    #[cfg(target_os = "none")]
    {
        let offset = crate::cpuid::slots_address().checked_sub(crate::boot::boot_block().arena_start)?;
        Some((abi::boot::ARENA_FD, offset))
    }
    #[cfg(not(target_os = "none"))]
    None
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    #[test]
    fn a_thread_is_of_its_leaders_host_process_and_a_leader_of_its_own_from_the_start() {
        let made = || crate::cpu::allocate().expect("an area");
        let (leader, thread) = (made(), made());
        assert_eq!(leader.pid(), leader.tid(), "nobody has to note it before it can be kicked");
        thread.outside().leader.store(leader.pid(), Ordering::Relaxed);
        assert_eq!((thread.pid(), thread.tid() == thread.pid()), (leader.tid(), false));
    }
}
