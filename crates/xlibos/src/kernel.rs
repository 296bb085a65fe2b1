//! The kernel's entry points, called by `machine`'s entry; the service process.
//!
//! The service process is the container's first host process. It has no guest memory: its main thread runs timers and
//! forks fresh host processes for exec, its second thread reads events from outside.

use crate::fs::hostpoll::{self, HostReady};
use crate::process::run_state::RunState;
use crate::process::session::Session;
use crate::process::task::{Parts, Start};
use crate::process::thread_group::{Links, Parts as ProcessParts};
use crate::process::{Process, Task, creds::Creds, exec, exit, fork, ptrace, spare, standstill, tree, visit};
use crate::signal::{SIGTRAP, SigInfo, TaskSignals, deliver, send};
use crate::syscall::{Restart, Row, TABLE};
use crate::wait::Events;
use crate::{Errno, Result};
use crate::{quiesce, stats};
use abi::broker::{Request, StartStep};
use abi::config::Config;
use abi::event::Event;
use abi::stats::OUTSIDE_CALLS;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::TrapFrame;
use machine::cpu::Cpu;
use machine::host::Wait;
use machine::process::Kind;
use machine::sync::Mutex;

/// What the container was started with.
struct Global {
    config: Option<Arc<Config>>,
    service: Option<&'static Cpu>,
    /// Tasks whose program a fresh host process is to load.
    zygotes: Vec<Arc<Task>>,
}

static GLOBAL: Mutex<Global> = Mutex::new(Global { config: None, service: None, zygotes: Vec::new() });

/// Whether `--stats` counts guest calls by number, and `--strace` traces them.
static COUNTING: AtomicU32 = AtomicU32::new(0);
const COUNT: u32 = 1;
const TRACE: u32 = 2;
/// Counts the tracees of ptrace(2), above.
const TRACEE: u32 = 4;

/// Whether `--stats` counts.
#[must_use]
pub fn is_counting() -> bool {
    COUNTING.load(Ordering::Relaxed) & COUNT != 0
}

/// Who looks on decides about leaves, one after the other.
static WATCHERS: Mutex<()> = Mutex::new(());

/// One more task is traced: calls are looked at as they begin.
pub fn watch_calls() {
    let _watchers = WATCHERS.lock();
    COUNTING.fetch_add(TRACEE, Ordering::SeqCst);
    machine::leaf::serve_none();
}

/// One less.
pub fn unwatch_calls() {
    let _watchers = WATCHERS.lock();
    if COUNTING.fetch_sub(TRACEE, Ordering::SeqCst) == TRACEE {
        machine::leaf::serve();
    }
}

/// Whether any task is traced.
#[must_use]
pub fn watches_calls() -> bool {
    COUNTING.load(Ordering::SeqCst) >= TRACEE
}

/// Whether calls are counted or traced, or any task is.
#[inline]
pub(crate) fn is_watched() -> bool {
    COUNTING.load(Ordering::Relaxed) != 0
}

/// Whether `--strace` tells.
pub(crate) fn is_straced() -> bool {
    COUNTING.load(Ordering::Relaxed) & TRACE != 0
}

/// The container's configuration.
#[must_use]
pub fn config() -> Option<Arc<Config>> {
    GLOBAL.lock().config.clone()
}

static HAS_INIT: AtomicBool = AtomicBool::new(true);

static STARTING: AtomicBool = AtomicBool::new(false);

/// Whether the container's first program is still to come.
pub(crate) fn is_starting() -> bool {
    STARTING.load(Ordering::Relaxed)
}

/// Whether the first process is an init, which gets those signals alone that it has handlers for.
pub fn has_init() -> bool {
    HAS_INIT.load(Ordering::Relaxed)
}

// ---------------------------------------------------------------- entries

/// A guest thread made a call.
pub fn on_syscall(cpu: &'static Cpu) {
    let Some(task) = cpu.task::<Task>() else { return };
    if cpu.is_signalled() {
        note_signal(cpu, task);
    }
    if is_counting() {
        dispatch_counted(cpu, task);
    } else {
        dispatch(cpu, task);
    }
    machine::epoch::settle();
    cpu.forget_signal();
}

#[cold]
fn dispatch_counted(cpu: &'static Cpu, task: &'static Task) {
    let before = cpu.host_call_total();
    dispatch(cpu, task);
    cpu.count_call(before);
}

/// A host signal took part in the entry.
#[cold]
fn note_signal(cpu: &Cpu, task: &Task) {
    cpu.keep_steps();
    if cpu.is_trapped() {
        note_trap(cpu, task);
    }
}

/// A call came by a trap: a file of the container's own that traps often gets a patched image, under the running
/// program, and an object that the program loaded itself. Processes whose threads cannot be stopped soon, or that share their memory, get theirs later.
fn note_trap(cpu: &Cpu, task: &Task) {
    let back = cpu.frame().rip;
    let mm = task.mm();
    let file = mm.file_at(back.wrapping_sub(1)).map(|(file, _)| file);
    let is_worth_image = file.as_ref().is_none_or(|file| file.ops().note_trap());
    let Some(traps) = mm.note_trap().filter(|_| is_worth_image) else { return };
    let done = match file {
        Some(file) => {
            let Some(image) = mm.image_to_adopt(&file, back) else { return };
            standstill::alone(task, || mm.adopt_image(&file, &image, back))
        }
        None if mm.may_patch_live(back, traps) => standstill::alone(task, || mm.patch_live(back)),
        None => None,
    };
    if done.is_some() {
        go_on_in_image(cpu, task);
    }
}

/// The text that the thread returns to may have an image, or another one, since it entered: instructions have moved.
fn go_on_in_image(cpu: &Cpu, task: &Task) {
    let frame = *cpu.frame();
    let mm = task.mm();
    let original = mm.original_pc(frame.rip);
    let rip = mm.resume_pc(original);
    if rip != frame.rip {
        // A stub's address may stand where the hardware leaves the return address.
        let rcx = if frame.rcx == frame.rip { original } else { frame.rcx };
        cpu.set_frame(&TrapFrame { rip, rcx, ..frame });
    }
}

fn dispatch(cpu: &'static Cpu, task: &'static Task) {
    let is_plain = !is_watched() && !machine::heap::is_short();
    if !is_plain {
        return dispatch_watched(cpu, task);
    }
    let frame = cpu.frame();
    let row = row_of(frame);
    finish(cpu, task, row, serve(task, row, frame));
}

#[inline]
fn finish(cpu: &'static Cpu, task: &'static Task, row: Option<&Row>, result: Result<u64>) {
    match end_call(task, result) {
        Ok(value) => cpu.set_return(value),
        Err(errno) => fail_call(cpu, task, row, errno),
    }
}

/// A call ends with a result, unless that says that it was interrupted.
#[inline]
pub(crate) fn end_call(task: &Task, result: Result<u64>) -> Result<u64> {
    if task.keeps_something() { end_begun_again(task, result) } else { result }
}

/// The end of a call that had begun before, and may not have come to what it kept: what was done counts, and nothing is left
/// to the next call.
#[cold]
fn end_begun_again(task: &Task, result: Result<u64>) -> Result<u64> {
    if result.is_err_and(Errno::is_interruption) {
        return result;
    }
    let done = task.kept_progress();
    task.forget_progress();
    if done > 0 && result.is_err() { Ok(done as u64) } else { result }
}

/// As [`dispatch`], with all who look on. Apart, so that other calls pay nothing.
#[cold]
#[inline(never)]
fn dispatch_watched(cpu: &'static Cpu, task: &'static Task) {
    let is_made = !task.trace.is_on() || ptrace::enter_call(task);
    // The tracer may have put another call in its place.
    let row = row_of(cpu.frame());
    if is_made {
        finish(cpu, task, row, serve_watched(cpu, task, row));
    }
    if task.trace.is_on() {
        cpu.mark_pending();
    }
}

#[inline]
fn row_of(frame: &TrapFrame) -> Option<&'static Row> {
    usize::try_from(frame.orig_rax).ok().and_then(|n| TABLE.get(n).copied().flatten())
}

#[inline]
fn serve(task: &Task, row: Option<&Row>, frame: &TrapFrame) -> Result<u64> {
    match row.and_then(|row| row.handler) {
        Some(handler) => handler(task, frame),
        None => Err(Errno::ENOSYS),
    }
}

/// As [`serve`], counted and traced, or refused where memory is short.
fn serve_watched(cpu: &'static Cpu, task: &'static Task, row: Option<&'static Row>) -> Result<u64> {
    // The call may replace the frame.
    let frame = *cpu.frame();
    let (number, arguments) = (frame.orig_rax, frame.arguments());
    if is_counting() || is_straced() {
        stats::collect_host_calls(cpu, OUTSIDE_CALLS);
        stats::count_guest_call(number, row.is_some_and(|row| row.handler.is_some()));
        stats::count_site(cpu, task);
    }
    let line = is_straced().then(|| crate::syscall::trace::enter(task, number, row, &arguments));
    let short_of = row.filter(|_| machine::heap::is_short());
    let refused = short_of.and_then(|row| crate::syscall::shortage::errno_of(row, &arguments));
    let result = refused.map_or_else(|| serve(task, row, &frame), Err);
    if is_counting() {
        stats::collect_host_calls(cpu, u16::try_from(number).unwrap_or(OUTSIDE_CALLS));
    }
    if let Some(line) = line {
        crate::syscall::trace::leave(task, line, row, &arguments, result);
    }
    result
}

#[cold]
fn fail_call(cpu: &Cpu, task: &Task, row: Option<&Row>, errno: Errno) {
    match errno {
        Errno::INTERRUPTED => interrupted(cpu, task, row.map_or(Restart::Never, |row| row.restart)),
        Errno::INTERRUPTED_UNTOLD => interrupted(cpu, task, Restart::Untold),
        Errno::INTERRUPTED_TIMED => interrupted(cpu, task, Restart::NoHandler),
        errno => cpu.set_return(errno.as_return()),
    }
}

/// What becomes of the call is known when the signals have been handled.
fn interrupted(cpu: &Cpu, task: &Task, class: Restart) {
    task.note_interrupted(class);
    cpu.set_return(Errno::EINTR.as_return());
    cpu.mark_pending();
}

/// `si_code` of a single step.
const TRAP_TRACE: i32 = 2;

/// A guest thread was interrupted, or faulted, in its own code.
pub fn on_event(cpu: &'static Cpu) {
    let Some(task) = cpu.task::<Task>() else { return };
    let fault = cpu.fault();
    if fault.signal != 0 {
        if crate::mm::fault::handle(task, &fault) {
            return;
        }
        // The guest steps through a stub, of which it sees whole instructions of its own alone.
        if (fault.signal, fault.code) == (SIGTRAP, TRAP_TRACE) && task.mm().is_amid_moved(cpu.frame().rip) {
            return;
        }
        // An address of code is the guest's own, not that of a copy in a stub.
        let address = task.mm().original_pc(fault.address);
        let code = crate::mm::fault::code(task, &fault);
        let info = SigInfo { signal: fault.signal, code, value: address, ..SigInfo::default() };
        send::force(task, info);
    }
}

/// Something is pending for a thread that is about to return to guest code.
pub fn before_return(cpu: &'static Cpu) {
    cpu.clear_pending();
    let Some(task) = cpu.task::<Task>() else { return };
    if standstill::stand(task) {
        go_on_in_image(cpu, task);
    }
    if task.must_exit() {
        exit::exit_thread(task);
    }
    visit::serve(task);
    quiesce::stand(task);
    if task.must_exit() {
        exit::exit_thread(task);
    }
    if !fork::vfork_child_has_gone(task) {
        return;
    }
    if task.trace.is_on() {
        ptrace::before_return(task);
    }
    if let (RunState::Stopped(signal), true) = (task.process.run_state(), task.is_held()) {
        if task.trace.is_on() {
            ptrace::stop_with_group(task, signal);
        } else {
            task.process.sleep_while_stopped(task);
        }
        return;
    }
    finish_call(cpu, task);
}

/// Delivers signals, and lets a call that was interrupted go on or end.
fn finish_call(cpu: &'static Cpu, task: &'static Task) {
    let done = task.kept_progress();
    if done != 0 && task.interrupted().is_some() {
        // A handler finds the call ended by what it did.
        cpu.set_return(done as u64);
    }
    let outcome = deliver::deliver_all(task, done);
    if task.must_exit() {
        exit::exit_thread(task);
    }
    send::pass_on(task);
    let interrupted = task.take_interrupted();
    let goes_on = match (outcome, interrupted) {
        (deliver::Outcome::Handler, _) => return task.forget_progress(),
        (_, None) => false,
        (deliver::Outcome::NoHandler, Some(class)) => class != Restart::Never || done != 0,
        // It was woken for something that is over: the call knows nothing of it.
        (deliver::Outcome::Nothing, Some(_)) => true,
    };
    if let (true, true, Some(class)) = (goes_on, task.is_held(), interrupted) {
        // After the stop.
        return task.note_interrupted(class);
    }
    task.signals.restore_mask();
    if goes_on {
        dispatch(cpu, task);
    }
    // What the call did not use is not for the next one.
    if !goes_on || task.interrupted().is_none() {
        task.forget_progress();
    }
}

/// First code of a new host thread.
pub fn on_child(cpu: &'static Cpu) {
    match cpu.task::<Task>() {
        Some(task) => {
            stats::note_first_instruction();
            exec::begin(task);
        }
        None => event_loop(),
    }
}

// ---------------------------------------------------------------- boot

/// The service process begins.
pub fn main(boot: &'static abi::boot::BootBlock) -> ! {
    crate::random::seed(&boot.seed);
    VDSO.store(boot.vdso, Ordering::Relaxed);
    crate::mm::reserve_host_page(boot.vdso);
    stats::note_start(boot.started_ns);
    #[cfg(target_os = "none")]
    let bytes = machine::boot::boot_bytes(boot.config_addr, boot.config_len);
    #[cfg(not(target_os = "none"))]
    let bytes: &[u8] = &[];
    let config: Config = match abi::decode(bytes) {
        Ok(config) => config,
        Err(_) => fail(StartStep::Container, Errno::EINVAL, b"the configuration cannot be read"),
    };
    let config = Arc::new(config);
    {
        let mut global = GLOBAL.lock();
        global.config = Some(Arc::clone(&config));
        global.service = Some(machine::cpu::current());
    }
    HAS_INIT.store(config.is_init, Ordering::Relaxed);
    let flags = if config.stats { COUNT } else { 0 } | if config.strace { TRACE } else { 0 };
    COUNTING.store(flags, Ordering::Relaxed);
    if flags == 0 {
        machine::leaf::serve();
    }
    crate::syscall::system::set_hostname(config.hostname.as_bytes());
    crate::fs::broker::connect();
    crate::time::timer::set_waker(wake_service);
    STARTING.store(true, Ordering::Relaxed);
    if let Err((step, errno, what)) = start_container(&config) {
        fail(step, errno, &what);
    }
    service_loop()
}

/// Says why the container cannot start, and ends.
fn fail(step: StartStep, errno: Errno, what: &[u8]) -> ! {
    let request = Request::StartFailed { step, errno: i32::from(errno.number()), what };
    let _ = crate::fs::broker::post(&request);
    loop {
        let _ = machine::sync::park_uninterruptible(None);
    }
}

type StartError = (StartStep, Errno, Vec<u8>);

fn start_container(config: &Arc<Config>) -> Result<(), StartError> {
    let ours = |what: &'static [u8]| move |errno| (StartStep::Container, errno, what.to_vec());
    crate::mm::charge::set_limit(config.memory_limit);
    let root = crate::fs::init(config).map_err(|(errno, target)| (StartStep::Mount, errno, target))?;
    let area = machine::cpu::allocate().map_err(ours(b"thread area"))?;
    let task = first_task(config, root, area).map_err(ours(b"the first task"))?;
    let in_directory = |errno| (StartStep::Directory, errno, config.cwd.clone());
    crate::fs::change_directory(&task, &config.cwd).map_err(in_directory)?;
    start_event_thread().map_err(ours(b"event thread"))?;
    crate::fs::open_standard_streams(&task, config).map_err(ours(b"standard streams"))?;
    let name = config.argv.first().cloned().unwrap_or_default();
    let plan = find_program(&task, &name, config)?;
    *task.start.lock() = Some(Start::Exec { plan: Box::new(plan), warm: Vec::new() });
    area.set_task(task);
    STARTING.store(false, Ordering::Relaxed);
    machine::process::spawn(Kind::Fork, area, 0).map_err(ours(b"first process"))?;
    Ok(())
}

fn first_task(config: &Config, root: crate::fs::path::Path, area: &'static Cpu) -> Result<Arc<Task>> {
    let session = Session::new(1);
    let limits = crate::process::limits::Limits::default();
    for (resource, &(current, max)) in config.limits.iter().enumerate() {
        limits.set(resource, crate::process::limits::Limit { current, max });
    }
    let files = crate::fs::FdTable::new(limits.get(crate::process::limits::NOFILE).map_or(1024, |l| l.current));
    let links = Links { pgid: 1, session, children: Vec::new() };
    let parts = ProcessParts {
        parent: 0,
        links,
        mm: crate::mm::Mm::new(),
        actions: Arc::default(),
        limits,
        exit_signal: crate::signal::SIGCHLD,
    };
    let mut tree = tree::lock();
    let pid = tree.allocate_pid()?;
    let process = Process::new(pid, parts);
    let fs = crate::fs::context::FsContext::new(root.clone(), root, config.umask);
    let creds = Arc::new(Creds::new(config.uid, config.gid, config.groups.clone()));
    let task = Task::new(pid, Arc::clone(&process), area, Parts { files, fs, creds }, TaskSignals::default(), [0; 16]);
    task.settings.lock().nice = config.nice;
    process.add_task(Arc::clone(&task));
    tree.add_process(process);
    tree.add_task(Arc::clone(&task));
    drop(tree);
    Ok(task)
}

/// Looks the program up in the guest's PATH, as execvp(3) does.
fn find_program(task: &Task, name: &[u8], config: &Config) -> Result<exec::Plan, StartError> {
    let with_name = |errno| (StartStep::Program, errno, name.to_vec());
    let attempt =
        |path: &[u8]| exec::prepare(task, crate::fs::AT_FDCWD, path, 0, config.argv.clone(), config.env.clone());
    if name.is_empty() {
        return Err(with_name(Errno::ENOENT));
    }
    if name.contains(&b'/') {
        return attempt(name).map_err(with_name);
    }
    let path = config.env.iter().find_map(|var| var.strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    let mut seen = Errno::ENOENT;
    for directory in path.split(|&b| b == b':') {
        let mut candidate = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
        candidate.push(b'/');
        candidate.extend_from_slice(name);
        match attempt(&candidate) {
            Ok(plan) => return Ok(plan),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => seen = Errno::EACCES,
            Err(errno) => return Err(with_name(errno)),
        }
    }
    Err(with_name(seen))
}

// ---------------------------------------------------------------- service process

/// Timers and fresh host processes.
fn service_loop() -> ! {
    machine::hand_over::keep();
    loop {
        let waiting = core::mem::take(&mut GLOBAL.lock().zygotes);
        waiting.into_iter().for_each(spawn_waiting);
        let now = machine::clock::monotonic_ns();
        let deadlines = [
            crate::time::timer::run_expired(now),
            spare::retire(now),
            machine::hand_over::look(now),
            crate::fs::broker::look_after_asks(now),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        machine::cpu::current().clear_pending();
        if quiesce::is_asked() {
            quiesce::stand_as_service();
        }
        let _ = machine::sync::park(deadline);
    }
}

/// Wakes the service process's main thread: a timer changed, or a host process is wanted.
pub fn wake_service() {
    let service = GLOBAL.lock().service;
    if let Some(cpu) = service {
        machine::sync::unpark(cpu);
    }
}

fn spawn_waiting(task: Arc<Task>) {
    let area = task.cpu();
    area.set_task(Arc::clone(&task));
    if machine::process::spawn(Kind::Fork, area, 0).is_err() {
        area.clear_task::<Task>();
        machine::cpu::release(area);
        lost(&task);
    }
}

/// exec of a vfork child: a spare host process, or a fresh one, loads the program, and the calling one waits for another child or ends.
pub fn exec_elsewhere(task: &'static Task, plan: Box<exec::Plan>) -> ! {
    let old = machine::cpu::current();
    if is_straced() {
        // The call does not return, and its arguments lie in the memory that is given back.
        let (frame, row) = (old.frame(), row_of(old.frame()));
        let arguments = frame.arguments();
        let line = crate::syscall::trace::enter(task, frame.orig_rax, row, &arguments);
        crate::syscall::trace::leave(task, line, row, &arguments, Ok(0));
    }
    let lender = spare::lender(task);
    exec::leave_borrowed_memory(task);
    if task.process.was_threaded.load(Ordering::Relaxed) {
        machine::cpu::wait_for_siblings();
    }
    task.carry_cpu_time();
    task.leave_files();
    let shared = tree::task(task.tid());
    let started = shared.ok_or(Errno::ESRCH).and_then(|shared| start_elsewhere(&shared, plan));
    if started.is_err() {
        exit::kill_process(task, crate::signal::SIGKILL);
        exit::exit_thread(task);
    }
    stats::collect_counters(old);
    old.clear_task::<Task>();
    if let Some(lender) = lender {
        spare::wait_for_child(old, lender);
    }
    machine::cpu::release(old);
    machine::host::exit(0)
}

/// exec of a process with memory of its own: a spare host process that ran the program before loads it, and the calling one ends. The
/// program comes back where there is none any more.
pub fn exec_in_known_spare(task: &'static Task, plan: Box<exec::Plan>) -> Box<exec::Plan> {
    let Some(shared) = tree::task(task.tid()) else { return plan };
    let old = machine::cpu::current();
    task.carry_cpu_time();
    task.leave_files();
    if let Err(plan) = spare::hand_over(&shared, plan, spare::Choice::Known) {
        task.own_files();
        task.note_process_cpu_base();
        return plan;
    }
    drop(shared);
    stats::collect_counters(old);
    old.clear_task::<Task>();
    machine::cpu::release(old);
    machine::host::exit(0)
}

/// Has a spare host process take a task over, or the service make a fresh one.
///
/// # Errors
/// EAGAIN where there are too many threads.
fn start_elsewhere(task: &Arc<Task>, plan: Box<exec::Plan>) -> Result<()> {
    let Err(plan) = spare::hand_over(task, plan, spare::Choice::Any) else { return Ok(()) };
    let area = machine::cpu::allocate()?;
    *task.start.lock() = Some(Start::Exec { plan, warm: Vec::new() });
    task.set_cpu(area);
    GLOBAL.lock().zygotes.push(Arc::clone(task));
    wake_service();
    Ok(())
}

/// Readiness of the event channel: the event thread harvests it like any host descriptor.
struct EventChannel;

impl HostReady for EventChannel {
    fn ready(&self, _events: Events) {
        while let Some(event) = receive_event(Wait::No) {
            on_outside_event(event);
        }
    }
}

/// The next datagram from reaper or supervisor; None where there is none yet. Their end is the container's end.
fn receive_event(wait: Wait) -> Option<Event> {
    let mut buffer = [0_u8; abi::event::MAX_EVENT];
    loop {
        let len = match machine::host::receive(abi::boot::EVENT_FD, &mut buffer, wait) {
            Err(Errno::EAGAIN) => return None,
            Err(Errno::EINTR) => continue,
            Ok(received) if received.len > 0 => received.len,
            Ok(_) | Err(_) => machine::process::stop_container(),
        };
        if let Ok(event) = abi::decode::<Event>(buffer.get(..len).unwrap_or(&[])) {
            return Some(event);
        }
    }
}

fn start_event_thread() -> Result<()> {
    let (_, set) = crate::fs::broker::request(&Request::Epoll)?;
    hostpoll::install(set.ok_or(Errno::EIO)?);
    let channel: Arc<dyn HostReady> = Arc::new(EventChannel);
    let watch = hostpoll::watch(abi::boot::EVENT_FD, &channel)?;
    // Both live as long as the container.
    core::mem::forget((channel, watch));
    let area = machine::cpu::allocate()?;
    machine::process::spawn(Kind::Thread, area, 0)
}

/// The service's second thread: events from reaper and supervisor, and host descriptors that become ready.
fn event_loop() {
    #[cfg(target_os = "none")]
    machine::cpuid::ask_in_advance();
    loop {
        let limit_ms = if quiesce::is_asked() { quiesce::ROUND_MS } else { -1 };
        match hostpoll::service_loop_step(limit_ms) {
            Ok(()) => {}
            Err(Errno::INTERRUPTED) => machine::cpu::current().clear_pending(),
            Err(_) => machine::process::stop_container(),
        }
        if quiesce::is_asked() {
            quiesce_round();
        }
    }
}

/// Once everybody stands: tells so, and waits to be told to go on. What happens meanwhile is for later.
fn quiesce_round() {
    let Some(main) = GLOBAL.lock().service else { return };
    let Some(threads) = quiesce::round(main, machine::cpu::current()) else { return };
    crate::fs::broker::end_asks();
    let _ = crate::fs::broker::post(&Request::Quiesced { threads });
    let mut later = Vec::new();
    loop {
        match receive_event(Wait::Uninterruptible) {
            Some(Event::Resume) => break,
            Some(event) => later.push(event),
            None => {}
        }
    }
    quiesce::end();
    later.into_iter().for_each(on_outside_event);
    // The set tells of changes only.
    EventChannel.ready(Events::empty());
}

fn on_outside_event(event: Event) {
    match event {
        Event::Died(deaths) => deaths.iter().for_each(|&(pid, status)| host_process_died(pid, status)),
        Event::Signal(signal) => {
            if let Some(init) = tree::process(1) {
                init.allow_outside_signal(signal);
                crate::signal::send_process(&init, SigInfo { signal, ..SigInfo::default() });
            }
        }
        Event::Resized(size) => crate::tty::console_resized(size),
        Event::Hangup => crate::tty::console_hung_up(),
        Event::Quiesce => quiesce::begin(),
        Event::Resume => quiesce::end(),
    }
}

/// A host process ended. Areas that the LibOS had given back are free now; one still in use means that the
/// process died without the LibOS's doing.
fn host_process_died(pid: i32, status: i32) {
    let pid = pid.cast_unsigned();
    machine::cpu::host_process_ended(pid, |area| {
        if area.locks_left_held() != 0 {
            panic!("host process {pid} died (status {status:#x}) while it held a shared lock");
        }
        crate::fs::broker::release_channel_of(area);
        // First: who gave a spare that died a task has done so by then.
        spare::forget(area);
        let task = area.task_handle::<Task>();
        area.clear_task::<Task>();
        machine::cpu::release(area);
        if let Some(task) = task.filter(|task| core::ptr::eq(task.cpu(), area)) {
            task.process.begin_exit(status & 0x7f);
            exit::forget_half_done(&task);
            lost(&task);
        }
    });
}

/// A task whose host thread is gone: what it would have done at its end is done for it.
fn lost(task: &Arc<Task>) {
    task.process.begin_exit(crate::signal::SIGKILL);
    exit::bury(task);
}

// ---------------------------------------------------------------- end and counters

/// The container's first process ended.
pub fn container_exit(status: i32) {
    crate::tty::flush_console();
    let stats = stats::collect_stats();
    let _ = crate::fs::broker::post(&Request::Exit { status, stats });
}

static VDSO: AtomicU64 = AtomicU64::new(0);

/// Address of the vDSO; 0 where the host has none.
#[must_use]
pub fn vdso() -> u64 {
    VDSO.load(Ordering::Relaxed)
}
