//! The texts of /proc's files, in Linux's format.

use crate::fs::inode::{make_dev, split_dev};
use crate::mm::{Backing, Prot, Vma};
use crate::process::thread_group::RunState;
use crate::process::{Process, Task};
use crate::tty::devices::PTS_MAJOR;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::guest;

const SECOND: u64 = 1_000_000_000;
/// Longest command line or environment that is shown.
const LONGEST: u64 = 1 << 20;

/// A file of the root directory.
pub(super) fn global(name: &str) -> Vec<u8> {
    let up = machine::clock::read_ns(7);
    let text = match name {
        "uptime" => format!("{}.{:02} 0.00\n", up / SECOND, up % SECOND / 10_000_000),
        "loadavg" => format!("0.00 0.00 0.00 1/{} 1\n", crate::process::tree::collect_processes().len()),
        "version" => format!("Linux version {} (xlibos)\n", crate::syscall::system::RELEASE),
        "filesystems" => String::from("nodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\toverlay\n"),
        "mounts" => mounts(),
        "cpuinfo" => cpuinfo(),
        "stat" => stat_of_all(up),
        _ => meminfo(),
    };
    text.into_bytes()
}

fn mounts() -> String {
    String::from(
        "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0\ndevtmpfs /dev devtmpfs rw 0 0\n",
    )
}

fn cpus() -> u32 {
    crate::kernel::config().map_or(1, |config| config.cpus)
}

fn cpuinfo() -> String {
    (0..cpus()).map(|n| format!("processor\t: {n}\nmodel name\t: x86-64\ncpu cores\t: {}\n\n", cpus())).collect()
}

fn stat_of_all(up: u64) -> String {
    let idle = up / 10_000_000;
    let each: String = (0..cpus()).map(|n| format!("cpu{n} 0 0 0 {idle} 0 0 0 0 0 0\n")).collect();
    let boot = machine::clock::realtime_ns().saturating_sub(up) / SECOND;
    format!(
        "cpu  0 0 0 {} 0 0 0 0 0 0\n{each}intr 0\nctxt 0\nbtime {boot}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n",
        idle * u64::from(cpus())
    )
}

fn meminfo() -> String {
    let limit = crate::kernel::config().map_or(0, |config| config.memory_limit);
    let total = if limit == 0 { 4 << 20 } else { limit / 1024 };
    let rows = [
        ("MemTotal:", total),
        ("MemFree:", total / 2),
        ("MemAvailable:", total / 2),
        ("Buffers:", 0),
        ("Cached:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
    ];
    rows.iter().map(|(name, value)| format!("{name:<16}{value:>8} kB\n")).collect()
}

/// A file of a process's directory.
pub(super) fn of_process(task: &Arc<Task>, name: &str) -> Vec<u8> {
    match name {
        "cmdline" => strings(task, task.mm().info().arguments),
        "environ" => strings(task, task.mm().info().environment),
        "comm" => [comm(task).as_bytes(), b"\n"].concat(),
        "maps" => maps(task).into_bytes(),
        "mounts" => mounts().into_bytes(),
        "stat" => stat(task).into_bytes(),
        "statm" => statm(task).into_bytes(),
        _ => status(task).into_bytes(),
    }
}

/// Memory of the caller's own process; another's is not reachable from here, and its name stands for it.
fn strings(task: &Arc<Task>, range: (u64, u64)) -> Vec<u8> {
    let own = Task::current().is_some_and(|current| Arc::ptr_eq(&current.process, &task.process));
    if !own {
        return [comm(task).as_bytes(), b"\0"].concat();
    }
    let len = range.1.saturating_sub(range.0).min(LONGEST);
    let mut bytes = alloc::vec![0; usize::try_from(len).unwrap_or(0)];
    match guest::read_some(range.0, &mut bytes) {
        Ok(count) => bytes.truncate(count),
        Err(_) => bytes.clear(),
    }
    bytes
}

fn comm(task: &Task) -> String {
    let name = *task.name.lock();
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or(&[])).into_owned()
}

fn state(task: &Task) -> (char, &'static str) {
    match task.process.run_state() {
        RunState::Stopped(_) => ('T', "stopped"),
        RunState::Zombie(_) => ('Z', "zombie"),
        // Of a process whose first thread has ended, that one is shown.
        RunState::Running if !has_leader(&task.process) => ('Z', "zombie"),
        RunState::Running if task.cpu().is_asleep() => ('S', "sleeping"),
        RunState::Running => ('R', "running"),
    }
}

fn has_leader(process: &Process) -> bool {
    process.tasks().iter().any(|task| task.tid() == process.pid)
}

fn maps(task: &Arc<Task>) -> String {
    task.mm().collect_vmas().iter().map(map_line).collect()
}

fn map_line(vma: &Vma) -> String {
    let bit = |flag: Prot, letter: char| if vma.prot.contains(flag) { letter } else { '-' };
    let sharing = if vma.is_shared() { 's' } else { 'p' };
    let (offset, dev, ino, name) = match &vma.backing {
        Backing::File { file, offset, .. } => {
            let id = file.path().map(|path| path.inode().id());
            let root = Task::current().map(|current| current.fs().root());
            let name = match (file.path(), root) {
                (Some(path), Some(root)) => String::from_utf8_lossy(&path.display(&root)).into_owned(),
                _ => String::new(),
            };
            (*offset, id.map_or(0, |id| id.dev), id.map_or(0, |id| id.ino), name)
        }
        Backing::SharedZero { id, offset } => (*offset, 1, *id, String::from("/dev/zero (deleted)")),
        Backing::Stack => (0, 0, 0, String::from("[stack]")),
        Backing::Heap => (0, 0, 0, String::from("[heap]")),
        Backing::Vdso => (0, 0, 0, String::from("[vdso]")),
        Backing::Zero => (0, 0, 0, String::new()),
    };
    let (major, minor) = split_dev(dev);
    let head = format!(
        "{:08x}-{:08x} {}{}{}{sharing} {offset:08x} {major:02x}:{minor:02x} {ino}",
        vma.start,
        vma.end,
        bit(Prot::READ, 'r'),
        bit(Prot::WRITE, 'w'),
        bit(Prot::EXEC, 'x'),
    );
    if name.is_empty() { format!("{head} \n") } else { format!("{head:<73}{name}\n") }
}

fn stat(task: &Arc<Task>) -> String {
    let process = &task.process;
    let (parent, pgid, sid) = super::family(process);
    let session = process.session();
    let foreground = session.foreground();
    let terminal = session.tty().map_or(0, |tty| make_dev(PTS_MAJOR, tty.index));
    let started = process.started_ns / 10_000_000;
    let bytes = process.mm().totals().mapped;
    format!(
        "{} ({}) {} {parent} {pgid} {sid} {terminal} {} 0 0 0 0 0 0 0 0 0 20 0 {} 0 {started} {bytes} {} 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        process.pid,
        comm(task),
        state(task).0,
        if foreground == 0 { -1 } else { foreground },
        process.thread_count(),
        bytes / 4096,
    )
}

fn statm(task: &Arc<Task>) -> String {
    let pages = task.mm().totals().mapped / 4096;
    format!("{pages} {pages} 0 0 0 {pages} 0\n")
}

/// The mask as words of eight digits, the highest first, and as ranges.
fn processors_allowed(mask: &[u64]) -> String {
    let bits = u32::try_from(mask.len() * 64).unwrap_or(0);
    let has = |n: u32| mask.get(n as usize / 64).is_some_and(|word| word >> (n % 64) & 1 != 0);
    let mut ranges: Vec<String> = Vec::new();
    let mut next = 0;
    while let Some(start) = (next..bits).find(|n| has(*n)) {
        let end = (start..bits).find(|n| !has(*n)).unwrap_or(bits);
        ranges.push(if end - start == 1 { format!("{start}") } else { format!("{start}-{}", end - 1) });
        next = end;
    }
    let halves = mask.iter().flat_map(|word| [word & 0xffff_ffff, word >> 32]);
    let mut words: Vec<String> = halves.map(|half| format!("{half:08x}")).collect();
    while words.len() > 1 && words.last().is_some_and(|word| word == "00000000") {
        words.pop();
    }
    words.reverse();
    format!("Cpus_allowed:\t{}\nCpus_allowed_list:\t{}\n", words.join(","), ranges.join(","))
}

fn status(task: &Arc<Task>) -> String {
    let process = &task.process;
    let creds = task.creds();
    let (letter, word) = state(task);
    let (ignored, caught) = process.actions().summary();
    let groups: String = creds.groups.iter().map(|group| format!("{group} ")).collect();
    let kib = process.mm().totals().mapped / 1024;
    let mut out = format!(
        "Name:\t{}\nUmask:\t{:04o}\nState:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n",
        comm(task),
        task.fs().umask(),
        process.pid,
        process.pid,
        super::family(process).0,
    );
    out.push_str(&format!(
        "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t64\nGroups:\t{groups}\nVmSize:\t{kib:8} kB\nVmRSS:\t{kib:8} kB\nThreads:\t{}\n",
        creds.uid,
        creds.euid,
        creds.suid,
        creds.fsuid,
        creds.gid,
        creds.egid,
        creds.sgid,
        creds.fsgid,
        process.thread_count(),
    ));
    out.push_str(&format!(
        "SigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
        task.signals.pending.set().0,
        process.pending.set().0,
        task.signals.mask().0,
        ignored.0,
        caught.0,
    ));
    out.push_str(&format!(
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\n",
        creds.inheritable,
        creds.permitted,
        creds.effective,
        creds.bounding,
        creds.ambient,
        u8::from(task.settings.lock().no_new_privs),
    ));
    out.push_str(&processors_allowed(&crate::syscall::sched::mask_of(task)));
    out
}

#[cfg(test)]
mod tests {
    use super::processors_allowed;

    #[test]
    fn masks_are_words_and_ranges() {
        assert_eq!(processors_allowed(&[0b111, 0]), "Cpus_allowed:\t00000007\nCpus_allowed_list:\t0-2\n");
        let two = processors_allowed(&[1 << 63 | 0b101, 1]);
        assert_eq!(two, "Cpus_allowed:\t00000001,80000000,00000005\nCpus_allowed_list:\t0,2,63-64\n");
    }
}
