//! execve(2): look the program up, then load it, in the calling host process or in a fresh one.
//!
//! Everything that can fail for a reason that the caller must see happens in [`prepare`]; after that the old
//! program is gone, and a failure kills.

use super::creds::SetIds;
use super::elf::{self, Elf, HEAD};
use super::fork;
use super::task::{Start, Task};
use crate::fs::File;
use crate::fs::fd_table::{Fd, OnExec};
use crate::mm::{Backing, Left, MapRequest, Mm, Warm};
use crate::uio::Sink;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use machine::{TrapFrame, guest};

const PAGE: u64 = 4096;
const PROT_READ: u32 = 1;
const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;
const MAP_PRIVATE: u32 = 2;
const MAP_FIXED: u32 = 0x10;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_NORESERVE: u32 = 0x4000;
const MAP_STACK: u32 = 0x2_0000;
/// Longest argument string: MAX_ARG_STRLEN.
const MAX_STRING: usize = 128 * 1024;
/// Longest arguments and environment together: a quarter of an 8 MiB stack.
const MAX_TOTAL: usize = 2 * 1024 * 1024;
const MAX_INTERPRETERS: usize = 5;

/// A program ready to be loaded.
pub struct Plan {
    file: Arc<File>,
    elf: Elf,
    interpreter: Option<(Arc<File>, Elf)>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub env: Vec<Vec<u8>>,
    /// The path as given: AT_EXECFN.
    filename: Vec<u8>,
    name: [u8; 16],
    /// Of its set-user-ID and set-group-ID bits.
    set_ids: SetIds,
}

/// Opens the program and its interpreters, and parses them.
///
/// # Errors
/// Those of execve(2).
pub fn prepare(task: &Task, dirfd: Fd, path: &[u8], flags: u32, argv: Vec<Vec<u8>>, env: Vec<Vec<u8>>) -> Result<Plan> {
    // Since Linux 3.1, so that setuid(2) need not fail where nobody looks.
    let was_over_limit = core::mem::take(&mut task.settings.lock().is_over_limit);
    if was_over_limit && fork::is_over_limit(task, task.creds().uid) {
        task.settings.lock().is_over_limit = true;
        return Err(Errno::EAGAIN);
    }
    let filename = filename_of(dirfd, path);
    let name = comm_of(path);
    let mut argv = argv;
    if argv.is_empty() {
        // Programs take for granted that they have a name.
        argv.push(Vec::new());
    }
    let mut file = crate::fs::open_for_exec(task, dirfd, path, flags)?;
    // A script's interpreter may be a script: each is named to its own interpreter.
    let mut script = filename.clone();
    for _ in 0..MAX_INTERPRETERS {
        let head = read_head(&file)?;
        if let Some(rest) = head.strip_prefix(b"#!") {
            let interpreter = script_arguments(rest, &script, &mut argv)?;
            file = crate::fs::open_for_exec(task, crate::fs::AT_FDCWD, &interpreter, 0)?;
            script = interpreter;
            continue;
        }
        let elf = read_elf(&file, &head)?;
        let interpreter = open_interpreter(task, &file, &head, &elf)?;
        let set_ids = set_ids_of(task, &file)?;
        return Ok(Plan { file, elf, interpreter, argv, env, filename, name, set_ids });
    }
    Err(Errno::ELOOP)
}

fn set_ids_of(task: &Task, file: &File) -> Result<SetIds> {
    let may_set = |path: &&crate::fs::Path| !task.settings.lock().no_new_privs && !path.mount.flags.no_set_id;
    let Some(path) = file.path().filter(may_set) else { return Ok(SetIds::default()) };
    let stat = path.inode().stat()?;
    Ok(SetIds::of(stat.mode, stat.uid, stat.gid))
}

fn filename_of(dirfd: Fd, path: &[u8]) -> Vec<u8> {
    if path.first() == Some(&b'/') || dirfd == crate::fs::AT_FDCWD {
        return path.to_vec();
    }
    let mut name = alloc::format!("/dev/fd/{}", dirfd.0).into_bytes();
    if !path.is_empty() {
        name.push(b'/');
        name.extend_from_slice(path);
    }
    name
}

/// The first 15 bytes of the last component: TASK_COMM_LEN.
fn comm_of(path: &[u8]) -> [u8; 16] {
    let base = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let mut name = [0; 16];
    name.iter_mut().take(15).zip(base).for_each(|(to, from)| *to = *from);
    name
}

fn read_head(file: &File) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut done = 0;
    while done < HEAD {
        let mut sink = Sink::kernel(head.get_mut(done..).unwrap_or(&mut []));
        let count = file.ops().read(file, &mut sink, done as u64)?;
        if count == 0 {
            break;
        }
        done += count;
    }
    head.truncate(done);
    Ok(head)
}

/// How much behind `#!` is looked at: BINPRM_BUF_SIZE.
const LONGEST_LINE: usize = 254;

/// `#! interpreter [argument]`: the interpreter, with argv rewritten.
fn script_arguments(rest: &[u8], script: &[u8], argv: &mut Vec<Vec<u8>>) -> Result<Vec<u8>> {
    let known = rest.get(..LONGEST_LINE.min(rest.len())).unwrap_or(rest);
    let line = known.split(|&b| b == b'\n').next().unwrap_or(known);
    let is_space = |b: &u8| *b == b' ' || *b == b'\t';
    let start = line.iter().position(|b| !is_space(b)).ok_or(Errno::ENOEXEC)?;
    let line = line.get(start..).unwrap_or(&[]);
    let end = line.iter().position(is_space).unwrap_or(line.len());
    let interpreter = line.get(..end).unwrap_or(line).to_vec();
    // An argument may be cut off, a path not.
    if known.len() == LONGEST_LINE && !known.contains(&b'\n') && end == line.len() {
        return Err(Errno::ENOEXEC);
    }
    let argument = line.get(end..).unwrap_or(&[]).trim_ascii();
    if interpreter.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let mut new = vec![interpreter.clone()];
    if !argument.is_empty() {
        new.push(argument.to_vec());
    }
    new.push(script.to_vec());
    new.extend(argv.drain(..).skip(1));
    *argv = new;
    Ok(interpreter)
}

fn read_elf(file: &File, head: &[u8]) -> Result<Elf> {
    let (at, len) = elf::header_range(head)?;
    let headers = read_part(file, head, at, len)?.ok_or(Errno::ENOEXEC)?;
    elf::parse(head, &headers)
}

/// Bytes of a file whose `head` was read before; None where it is too short.
fn read_part(file: &File, head: &[u8], at: u64, len: usize) -> Result<Option<Vec<u8>>> {
    let start = usize::try_from(at).map_err(|_| Errno::ENOEXEC)?;
    if let Some(known) = start.checked_add(len).and_then(|end| head.get(start..end)) {
        return Ok(Some(known.to_vec()));
    }
    let mut bytes = vec![0; len];
    let mut sink = Sink::kernel(&mut bytes);
    let count = file.ops().read(file, &mut sink, at)?;
    Ok((count >= len).then_some(bytes))
}

fn open_interpreter(task: &Task, file: &File, head: &[u8], elf: &Elf) -> Result<Option<(Arc<File>, Elf)>> {
    let Some((at, len)) = elf.interp else { return Ok(None) };
    let len = usize::try_from(len).map_err(|_| Errno::ENOEXEC)?;
    let mut path = read_part(file, head, at, len)?.ok_or(Errno::EIO)?;
    if path.last() != Some(&0) {
        return Err(Errno::ENOEXEC);
    }
    // Who put a shorter path in place filled up with NULs.
    path.truncate(path.iter().position(|&b| b == 0).unwrap_or(0));
    let interpreter = crate::fs::open_for_exec(task, crate::fs::AT_FDCWD, &path, 0)?;
    let head = read_head(&interpreter)?;
    if head.len() < elf::HEADER {
        return Err(Errno::EIO);
    }
    // Linux, too, lets an interpreter be written while programs run with it.
    interpreter.release_claim();
    let parsed = read_elf(&interpreter, &head).map_err(|_| Errno::from_raw(80))?;
    Ok(Some((interpreter, parsed)))
}

/// Reads an array of string pointers of the guest, ended by NULL.
///
/// # Errors
/// EFAULT, E2BIG.
pub fn read_strings(array: u64, total: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if array == 0 {
        return Ok(strings);
    }
    loop {
        let at = array.wrapping_add(strings.len() as u64 * 8);
        let address: u64 = guest::read_value(at)?;
        if address == 0 {
            return Ok(strings);
        }
        let string = guest::read_string(address, MAX_STRING).map_err(|errno| match errno {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        *total += string.len() + 9;
        if *total > MAX_TOTAL {
            return Err(Errno::E2BIG);
        }
        strings.push(string);
    }
}

/// Replaces the calling task's program.
///
/// # Errors
/// Only while the old program can go on; later failures kill.
pub fn exec(task: &'static Task, plan: Plan) -> Result<()> {
    let old_tid = task.tid();
    super::threads::end_others(task)?;
    task.trace.exec_tid.store(old_tid, Ordering::Relaxed);
    if task.process.borrows_memory.load(Ordering::SeqCst) {
        crate::kernel::exec_elsewhere(task, Box::new(plan));
    }
    leave_old_program(task);
    let mut plan = Box::new(plan);
    if is_better_off_elsewhere(task, &plan) {
        plan = crate::kernel::exec_in_known_spare(task, plan);
    }
    let warm = task.mm().unmap_all(Left::For(plan.version().as_ref()));
    load_or_die(task, &plan, warm);
    Ok(())
}

/// Whether a forked child's program had better run in a spare process, which has it mapped from the last time. Not that of a process
/// that had threads or vfork children: host threads and processes wait in it, or have its memory, for others.
fn is_better_off_elsewhere(task: &Task, plan: &Plan) -> bool {
    let was_threaded = task.process.was_threaded.load(Ordering::Relaxed);
    let has_spares = task.process.has_spares.load(Ordering::Relaxed);
    !was_threaded
        && !has_spares
        && !crate::kernel::is_straced()
        && super::spare::is_left_to_itself(task)
        && super::spare::knows(plan)
}

/// What ends with the old program wherever the new one runs.
fn leave_old_program(task: &Task) {
    crate::stats::note_patched(task);
    crate::syscall::prctl::undo_rseq(task);
    super::exit::release_memory_words(task);
}

/// A fresh or spare host process loads a program.
pub fn start_in_fresh_process(task: &'static Task, plan: &Plan, warm: Vec<Warm>) {
    load_or_die(task, plan, warm);
}

/// Hands the old host process's part of a vfork child back.
pub fn leave_borrowed_memory(task: &Task) {
    leave_old_program(task);
}

fn load_or_die(task: &Task, plan: &Plan, warm: Vec<Warm>) {
    let mm = Mm::after(warm);
    task.process.set_mm(Arc::clone(&mm));
    reset_task(task, plan);
    super::exit::release_vfork_parent(&task.process);
    match load(task, &mm, plan) {
        Ok(frame) => {
            machine::process::set_fs_base(0);
            machine::process::set_guest_gs(0);
            machine::xstate::reset();
            machine::cpu::current().set_frame(&frame);
            crate::stats::count_exec();
            machine::heap::give_back_larger();
            super::ptrace::program_loaded(task);
        }
        Err(_) => super::exit::kill_process(task, crate::signal::SIGSEGV),
    }
}

/// Signals, descriptors, name, credentials: what exec resets.
fn reset_task(task: &Task, plan: &Plan) {
    task.keep_closed(None);
    if task.unshare_files() {
        task.own_files();
    }
    let files = task.files();
    for file in files.remove_where(0, usize::MAX, |on_exec| on_exec == OnExec::Close) {
        file.closed_by(task, &files);
    }
    task.process.reset_actions_for_exec();
    task.signals.set_alt_stack(crate::signal::AltStack::default());
    *task.name.lock() = plan.name;
    task.robust_list.store(0, Ordering::Relaxed);
    task.clear_child_tid.store(0, Ordering::Relaxed);
    let secure_bits = task.settings.lock().secure_bits;
    let set_ids = if task.trace.lets_rights_grow() { plan.set_ids } else { SetIds::default() };
    let creds = task.creds().after_exec(set_ids, secure_bits);
    if creds.is_secure() {
        task.mm().info().dumpable = 0;
        task.process.parent_death_signal.store(0, Ordering::Relaxed);
    }
    task.set_creds(creds);
    task.settings.lock().reset_for_exec();
    task.process.alarms.clear_for_exec();
    task.process.has_execed.store(true, Ordering::Relaxed);
}

fn load(task: &Task, mm: &Arc<Mm>, plan: &Plan) -> Result<TrapFrame> {
    let bias = plan.elf.is_relocatable.then(crate::mm::of_program);
    let Object { base, end: brk } = map_object(mm, &plan.file, &plan.elf, bias)?;
    let (interpreter_base, entry) = match &plan.interpreter {
        Some((file, elf)) => {
            let base = map_object(mm, file, elf, None)?.base;
            (base, base.wrapping_add(elf.entry))
        }
        None => (0, base.wrapping_add(plan.elf.entry)),
    };
    mm.forget_written();
    // The heap starts at a random distance behind the program, as on Linux.
    mm.set_brk_start(brk + (crate::random::next_u64() & 0x1fff) * PAGE);
    let rsp = super::stack::build(task, mm, plan, base, interpreter_base)?;
    mm.set_exe(plan.file.path().cloned());
    mm.set_command(&plan.argv);
    Ok(TrapFrame { rip: entry, rsp, rflags: 0x202, orig_rax: u64::MAX, ..TrapFrame::default() })
}

/// A mapped program or interpreter.
struct Object {
    /// What is added to its addresses.
    base: u64,
    /// Where it ends, stubs included.
    end: u64,
}

/// Maps an object's segments. A relocatable object without a wish goes where the address space chooses.
fn map_object(mm: &Arc<Mm>, file: &Arc<File>, elf: &Elf, wish: Option<u64>) -> Result<Object> {
    let (start, end) = elf.span();
    let image = crate::mm::image::of(file);
    let room = image.as_ref().map_or(0, |image| image.room()).max(end - start);
    let map_at = |base: u64, fixed: u32| {
        if let Some(image) = &image {
            mm.place_image(image, base);
        }
        elf.segments.iter().try_for_each(|segment| map_segment(mm, file, segment, base, fixed))?;
        mm.note_object(file, base.wrapping_add(start)..base.wrapping_add(end));
        Ok(Object { base, end: base.wrapping_add(start).wrapping_add(room) })
    };
    let warm = |at: Range<u64>| mm.take_warm(file, image.as_ref(), end - start, at);
    if !elf.is_relocatable {
        let _ = warm(start..start + 1);
        return map_at(0, MAP_FIXED);
    }
    let addr = wish.map_or(0, |wish| wish + start);
    let at = if wish.is_some() { crate::mm::for_programs() } else { crate::mm::for_libraries() };
    let free = warm(at).map_or_else(|| mm.choose(addr, room), Ok)?;
    match map_at(free.wrapping_sub(start), MAP_FIXED_NOREPLACE) {
        // Segments share a page, or something of the host's lies there: the whole range is taken first.
        Err(Errno::EEXIST) => {
            mm.unmap(free, end - start)?;
            let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
            let request = MapRequest { addr, len: end - start, prot: 0, flags, backing: Backing::Zero };
            map_at(mm.map_with_room(request, room)?.wrapping_sub(start), MAP_FIXED)
        }
        mapped => mapped,
    }
}

fn map_segment(mm: &Arc<Mm>, file: &Arc<File>, segment: &elf::Segment, base: u64, fixed: u32) -> Result<()> {
    let start = base.wrapping_add(segment.vaddr & !(PAGE - 1));
    let lead = segment.vaddr % PAGE;
    let prot = protection(segment.flags);
    let file_end = base + segment.vaddr + segment.file_len;
    let mem_end = base + segment.vaddr + segment.mem_len;
    let file_page_end = (file_end + PAGE - 1) & !(PAGE - 1);
    let mem_page_end = (mem_end + PAGE - 1) & !(PAGE - 1);
    if segment.file_len > 0 {
        let backing = Backing::file(Arc::clone(file), segment.offset - lead);
        let flags = MAP_PRIVATE | fixed;
        mm.map(MapRequest { addr: start, len: file_page_end - start, prot, flags, backing })?;
        if segment.mem_len > segment.file_len && prot & PROT_WRITE != 0 {
            guest::zero(file_end, file_page_end - file_end)?;
        }
    }
    let anonymous_start = if segment.file_len > 0 { file_page_end } else { start };
    if mem_page_end > anonymous_start {
        let flags = MAP_PRIVATE | fixed | MAP_ANONYMOUS;
        let len = mem_page_end - anonymous_start;
        mm.map(MapRequest { addr: anonymous_start, len, prot, flags, backing: Backing::Zero })?;
    }
    Ok(())
}

fn protection(flags: u32) -> u32 {
    let bit = |flag: u32, prot: u32| if flags & flag != 0 { prot } else { 0 };
    bit(4, PROT_READ) | bit(2, PROT_WRITE) | bit(1, PROT_EXEC)
}

impl Plan {
    /// The program's version, if it is a file of the host's.
    pub(super) fn version(&self) -> Option<abi::broker::Attributes> {
        crate::mm::image::host_version(&self.file)
    }

    /// The program's headers.
    pub(super) fn elf(&self) -> &Elf {
        &self.elf
    }

    /// The path as given.
    pub(super) fn filename(&self) -> &[u8] {
        &self.filename
    }
}

/// Memory of a main stack of `len` bytes; returns its start.
///
/// # Errors
/// ENOMEM.
pub(super) fn map_stack(mm: &Arc<Mm>, len: u64, executable: bool) -> Result<u64> {
    let prot = PROT_READ | PROT_WRITE | if executable { PROT_EXEC } else { 0 };
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
    mm.map(MapRequest { addr: 0, len, prot, flags, backing: Backing::Stack })
}

/// The task's first host thread begins.
pub fn begin(task: &'static Task) {
    task.own_files();
    let start = task.start.lock().take();
    match start {
        Some(Start::Return { set_tid, state }) => {
            if let Some(state) = state {
                // It is what the processor stored.
                let _ = state.load();
            }
            if set_tid != 0 {
                // As Linux: a bad address is the child's own affair.
                let _ = guest::write_value(set_tid, &task.tid());
            }
            catch_up(task);
        }
        Some(Start::Exec { plan, warm }) => {
            task.begin_cpu_time();
            // Where the host refuses, it runs where the host likes.
            let _ = crate::syscall::sched::apply_mask(task);
            start_in_fresh_process(task, &plan, warm);
            // What was sent meanwhile has told the old host process.
            machine::cpu::current().mark_pending();
        }
        None => {}
    }
}

/// Who ended or stopped the process, or asked its threads to stand, may have looked for them before this one was there.
fn catch_up(task: &Task) {
    if task.process.exit_status().is_some() {
        task.must_exit.store(true, Ordering::SeqCst);
    }
    let is_asked = super::standstill::is_asked(task) || crate::quiesce::is_asked();
    if task.must_exit() || task.process.is_stopped() || is_asked {
        machine::cpu::current().mark_pending();
    }
}
