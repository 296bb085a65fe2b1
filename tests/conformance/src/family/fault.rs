//! Faults: which signal, code and address, and going on after them.

use crate::kit::{assert_errno, cases, child, file, pid};
use crate::sys::{fault, memory, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;
use signal::LAST;

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRERR: i32 = 2;
const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;
const ILL_ILLOPN: i32 = 2;
const TRAP_TRACE: i32 = 2;
const SI_KERNEL: i32 = 0x80;

cases! { fault;
    fn unmapped_read() {
        let addr = memory::hole()?;
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(2);
        fault::load_2(addr);
        assert_eq!(seen(c::SIGSEGV), (SEGV_MAPERR, addr));
        assert_eq!(LAST.trap.load(SeqCst), 14);
        assert_eq!(LAST.error.load(SeqCst) & 7, 4);
        assert_eq!(LAST.cr2.load(SeqCst), addr);
    }
    fn unmapped_write() {
        let addr = memory::hole()? + 123;
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(3);
        fault::store_3(addr);
        assert_eq!(seen(c::SIGSEGV), (SEGV_MAPERR, addr));
        assert_eq!(LAST.error.load(SeqCst) & 7, 6);
    }
    fn null_pointer() {
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(2);
        fault::load_2(0);
        assert_eq!(seen(c::SIGSEGV), (SEGV_MAPERR, 0));
    }
    fn read_only_write() {
        let addr = memory::map(memory::PAGE, c::PROT_READ, memory::ANON, -1)?;
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(3);
        fault::store_3(addr + 5);
        assert_eq!(seen(c::SIGSEGV), (SEGV_ACCERR, addr + 5));
    }
    fn no_access_read() {
        let addr = memory::map(memory::PAGE, c::PROT_NONE, memory::ANON, -1)?;
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(2);
        fault::load_2(addr);
        assert_eq!(seen(c::SIGSEGV), (SEGV_ACCERR, addr));
    }
    fn no_execute() {
        let addr = memory::pages(1)?;
        memory::poke(addr, 0xc3u8);
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(signal::RETURN);
        fault::call_address(addr);
        assert_eq!(seen(c::SIGSEGV), (SEGV_ACCERR, addr));
        let hole = memory::hole()?;
        fault::call_address(hole);
        assert_eq!(LAST.code.load(SeqCst), SEGV_MAPERR);
        assert_eq!(LAST.addr.load(SeqCst), hole);
    }
    fn address_that_none_can_be() {
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(2);
        fault::load_2(0x8000_0000_0000_0000);
        assert_eq!(seen(c::SIGSEGV), (SI_KERNEL, 0));
        assert_eq!(LAST.trap.load(SeqCst), 13);
    }
    fn kernel_address() {
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(2);
        fault::load_2(0xffff_ffff_8000_0000);
        assert_eq!(LAST.code.load(SeqCst), SEGV_MAPERR);
        assert_eq!(LAST.addr.load(SeqCst), 0xffff_ffff_8000_0000);
    }
    fn privileged_instruction() {
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(1);
        fault::privileged_1();
        assert_eq!(seen(c::SIGSEGV), (SI_KERNEL, 0));
    }
    fn division_by_zero() {
        signal::record(c::SIGFPE, 0)?;
        signal::step_over(2);
        fault::divide_2();
        assert_eq!(seen(c::SIGFPE).0, FPE_INTDIV);
        assert_eq!(LAST.trap.load(SeqCst), 0);
    }
    fn division_of_floats() {
        signal::record(c::SIGFPE, 0)?;
        signal::step_over(4);
        fault::divide_float_4();
        assert_eq!(seen(c::SIGFPE).0, FPE_FLTDIV);
        assert_eq!(LAST.trap.load(SeqCst), 19);
    }
    fn illegal_instruction() {
        signal::record(c::SIGILL, 0)?;
        signal::step_over(2);
        fault::illegal_2();
        assert_eq!(seen(c::SIGILL).0, ILL_ILLOPN);
        assert_eq!(LAST.trap.load(SeqCst), 6);
    }
    fn breakpoint() {
        signal::record(c::SIGTRAP, 0)?;
        fault::breakpoint();
        assert_eq!(seen(c::SIGTRAP).0, SI_KERNEL);
        assert_eq!(LAST.trap.load(SeqCst), 3);
    }
    fn single_step() {
        signal::record(c::SIGTRAP, 0)?;
        fault::single_step();
        assert_eq!(seen(c::SIGTRAP).0, TRAP_TRACE);
        assert_eq!(LAST.trap.load(SeqCst), 1);
    }
    fn behind_the_end_of_a_mapped_file() {
        let fd = file(c"f", b"x")?;
        let addr = memory::map(2 * memory::PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        signal::record(c::SIGBUS, 0)?;
        signal::step_over(2);
        fault::load(addr);
        assert_eq!(signal::count(c::SIGBUS), 0);
        fault::load_2(addr + memory::PAGE);
        assert_eq!(seen(c::SIGBUS), (BUS_ADRERR, addr + memory::PAGE));
    }
    fn kernel_access_behind_the_end_of_a_file_is_efault() {
        let fd = file(c"f", b"x")?;
        let addr = memory::map(2 * memory::PAGE, c::PROT_READ, c::MAP_SHARED, fd)?;
        let ends = crate::kit::pipe(0)?;
        assert_errno(sys!(write, ends[1], addr + memory::PAGE, 10), c::EFAULT);
    }
    fn unhandled_faults_kill() {
        for (number, faulty) in [
            (c::SIGSEGV, (|| fault::load(0)) as fn()),
            (c::SIGFPE, fault::divide_2),
            (c::SIGILL, fault::illegal_2),
            (c::SIGTRAP, fault::breakpoint),
        ] {
            let victim = child(|| {
                sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
                faulty();
                Ok(())
            })?;
            victim.dies_of(number)?;
        }
    }
    fn blocked_or_ignored_faults_kill() {
        child(|| {
            sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
            signal::record(c::SIGSEGV, 0)?;
            signal::mask(c::SIG_BLOCK, signal::bit(c::SIGSEGV))?;
            fault::load(0);
            Ok(())
        })?.dies_of(c::SIGSEGV)?;
        child(|| {
            sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
            signal::ignore(c::SIGILL)?;
            fault::illegal_2();
            Ok(())
        })?.dies_of(c::SIGILL)?;
    }
    fn sent_segv_is_told_from_a_fault() {
        signal::record(c::SIGSEGV, 0)?;
        sys!(kill, pid()?, c::SIGSEGV)?;
        assert_eq!((LAST.code.load(SeqCst), LAST.pid.load(SeqCst)), (c::SI_USER, pid()?));
    }
    fn stack_overflow_is_handled_on_the_alternate_stack() {
        let victim = child(|| {
            sys!(setrlimit, c::RLIMIT_STACK, &[1u64 << 20, 1 << 20])?;
            let stack = memory::pages(16)?;
            sys!(sigaltstack, &[stack, 0, 16 * memory::PAGE], 0)?;
            signal::handle(c::SIGSEGV, exits_with_7, c::SA_ONSTACK)?;
            assert_eq!(recurse(1), 0);
            Ok(())
        })?;
        victim.exits(7)?;
    }
    fn stack_overflow_without_one_kills() {
        let victim = child(|| {
            sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
            sys!(setrlimit, c::RLIMIT_STACK, &[1u64 << 20, 1 << 20])?;
            signal::handle(c::SIGSEGV, exits_with_7, 0)?;
            assert_eq!(recurse(1), 0);
            Ok(())
        })?;
        victim.dies_of(c::SIGSEGV)?;
    }
    fn stack_grows_on_demand() {
        let victim = child(|| {
            assert_eq!(deep(2000), 2000);
            Ok(())
        })?;
        victim.succeeds()?;
    }
    fn registers_survive_a_handler() {
        signal::record(c::SIGTRAP, 0)?;
        assert_eq!(fault::registers_across_trap(), ([1, 2, 3, 4, 5, 6], [1.5, 2.5]));
        assert_eq!(signal::count(c::SIGTRAP), 1);
    }
    fn flags_and_registers_survive_signals_of_another_process() {
        signal::record(c::SIGUSR1, 0)?;
        let me = pid()?;
        let sender = child(|| loop { sys!(kill, me, c::SIGUSR1)?; })?;
        // Where both share a processor with others there may be few, but one.
        while signal::count(c::SIGUSR1) == 0 {}
        for _ in (0..MOST_ROUNDS).take_while(|_| signal::count(c::SIGUSR1) < 1000) {
            assert!(fault::flags_and_registers_stay());
        }
        // One more would interrupt the wait.
        signal::ignore(c::SIGUSR1)?;
        sender.end()?;
    }
    fn registers_survive_a_call() {
        // One that is answered on the way in, and one that is not.
        assert!(fault::registers_across_call(c::SYS_getpid));
        assert!(fault::registers_across_call(c::SYS_sched_yield));
    }
    fn registers_survive_calls_amid_signals() {
        signal::record(c::SIGUSR1, 0)?;
        let me = pid()?;
        let sender = child(|| loop { sys!(kill, me, c::SIGUSR1)?; })?;
        while signal::count(c::SIGUSR1) == 0 {}
        for _ in (0..MOST_ROUNDS).take_while(|_| signal::count(c::SIGUSR1) < 2000) {
            assert!((0..64).all(|_| fault::registers_across_call(c::SYS_getppid)));
        }
        // One more would interrupt the wait.
        signal::ignore(c::SIGUSR1)?;
        sender.end()?;
    }
    fn flags_survive_changes_of_the_mask_amid_signals() {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        extern "C" fn count(_signal: std::ffi::c_int) {
            COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        const DIRECTION: u64 = 0x400;
        const ALIGNMENT: u64 = 0x4_0000;
        let counted = || COUNT.load(std::sync::atomic::Ordering::Relaxed);
        signal::handle(c::SIGUSR1, count, 0)?;
        let me = pid()?;
        let sender = child(|| loop { sys!(kill, me, c::SIGUSR1)?; })?;
        while counted() == 0 {}
        for flag in [DIRECTION, ALIGNMENT] {
            let end = counted() + 2000;
            for _ in (0..MOST_ROUNDS).take_while(|_| counted() < end) {
                for _ in 0..48 {
                    assert!(fault::mask_with_flag(flag), "{flag:x}");
                }
            }
        }
        signal::ignore(c::SIGUSR1)?;
        sender.end()?;
    }
    fn registers_survive_changes_of_the_mask_amid_signals() {
        signal::record(c::SIGUSR1, 0)?;
        let me = pid()?;
        let sender = child(|| loop { sys!(kill, me, c::SIGUSR1)?; })?;
        while signal::count(c::SIGUSR1) == 0 {}
        let (few, more) = (signal::bit(c::SIGUSR2), signal::bit(c::SIGUSR2) | signal::bit(c::SIGHUP));
        let mut old = 0;
        for _ in (0..MOST_ROUNDS).take_while(|_| signal::count(c::SIGUSR1) < 2000) {
            for _ in 0..16 {
                assert!(fault::registers_across_mask(0, &few, &mut old) && old == 0);
                assert!(fault::registers_across_mask(2, &more, &mut old) && old == few);
                assert!(fault::registers_across_mask(2, &0, &mut old) && old == more);
            }
        }
        // One more would interrupt the wait.
        signal::ignore(c::SIGUSR1)?;
        sender.end()?;
    }
    fn handler_mends_the_fault_and_the_access_is_repeated() {
        let addr = memory::map(memory::PAGE, c::PROT_NONE, memory::ANON, -1)?;
        PAGE_TO_MEND.store(addr, SeqCst);
        signal::handle(c::SIGSEGV, makes_writable, 0)?;
        fault::store_3(addr);
        assert_eq!(memory::peek::<u8>(addr), 1);
    }
    fn a_thousand_faults() {
        let addr = memory::hole()?;
        signal::record(c::SIGSEGV, 0)?;
        signal::step_over(2);
        for _ in 0..1000 {
            fault::load_2(addr);
        }
        assert_eq!(signal::count(c::SIGSEGV), 1000);
    }
    fn unknown_call_is_enosys() {
        assert_errno(crate::sys::call(1000, [0; 6]), c::ENOSYS);
        assert_errno(crate::sys::call(-1, [0; 6]), c::ENOSYS);
    }
}

/// Rounds in which as many signals come as are hoped for, where two processors have nothing else to do.
const MOST_ROUNDS: u32 = 100_000;

static PAGE_TO_MEND: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

extern "C" fn makes_writable(_: i32) {
    let _ = sys!(mprotect, PAGE_TO_MEND.load(SeqCst), memory::PAGE, memory::RW);
}

extern "C" fn exits_with_7(_: i32) {
    crate::sys::process::exit(7)
}

/// Code and address of the one signal that came.
fn seen(number: i32) -> (i32, usize) {
    assert_eq!((signal::count(number), LAST.signal.load(SeqCst)), (1, number));
    (LAST.code.load(SeqCst), LAST.addr.load(SeqCst))
}

/// Never returns: there is not that much stack.
fn recurse(depth: u64) -> u64 {
    let block = core::hint::black_box([depth; 512]);
    if core::hint::black_box(depth) == 0 { block[0] } else { recurse(depth + 1).wrapping_add(block[511]) }
}

fn deep(depth: u64) -> u64 {
    let block = core::hint::black_box([1u64; 256]);
    if depth == 0 { 0 } else { deep(depth - 1) + block[255] }
}
