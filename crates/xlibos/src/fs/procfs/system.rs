//! Files of /proc that are about the whole container.

use crate::fs::inode::split_dev;
use crate::fs::locks::{self, LockKind, Owner, Record};
use crate::mm::figures::{self, Figures};
use crate::process::run_state::RunState;
use crate::process::tree;
use crate::syscall::system::{RELEASE, VERSION};
use crate::time::clock::process_cpu_ns;
use alloc::format;
use alloc::string::{String, ToString as _};

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a clock tick: USER_HZ is 100.
pub(super) const TICK_NS: u64 = 10_000_000;

/// A file of the root directory.
pub(super) fn text(name: &str) -> String {
    let up = machine::clock::read_ns(7);
    match name {
        "cmdline" => "\n".into(),
        "cpuinfo" => cpuinfo(),
        "devices" => "Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n".into(),
        "filesystems" => {
            "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\toverlay\n".into()
        }
        "loadavg" => loadavg(),
        "locks" => locks::collect().iter().zip(1..).map(|(lock, number)| lock_line(lock, number)).collect(),
        "meminfo" => meminfo(&figures::now()),
        "partitions" => "major minor  #blocks  name\n\n".into(),
        "stat" => stat(up),
        "swaps" => format!("{:<40}{:<16}{:<16}{:<16}{}\n", "Filename", "Type", "Size", "Used", "Priority"),
        "uptime" => uptime(up),
        "version" => format!("Linux version {RELEASE} (xlibos) {VERSION}\n"),
        "vmstat" => format!("nr_free_pages {}\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\n", figures::now().free / 4096),
        _ => String::new(),
    }
}

fn cpus() -> u32 {
    crate::kernel::config().map_or(1, |config| config.cpus.max(1))
}

/// The host's lines for one processor, for each that the container may use.
fn cpuinfo() -> String {
    let config = crate::kernel::config();
    let lines = config.as_ref().map_or("", |config| config.machine.processor.as_str());
    let cpus = cpus();
    let of = |number: u32| {
        let own = format!(
            "physical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {number}\ncpu cores\t: {cpus}\napicid\t\t: {number}\ninitial apicid\t: {number}\n"
        );
        format!("processor\t: {number}\n{}\n", with_topology(lines, &own))
    };
    (0..cpus).map(of).collect()
}

/// Linux has the topology in front of the unit for floating point.
fn with_topology(lines: &str, own: &str) -> String {
    let at = lines.find("fpu\t").unwrap_or(lines.len());
    let (head, tail) = lines.split_at(at);
    format!("{head}{own}{tail}")
}

/// proc_locks(5).
fn lock_line(lock: &locks::Shown, number: u32) -> String {
    let Record { owner, pid, kind, start, end } = lock.record;
    let class = match owner {
        _ if lock.is_flock => "FLOCK ",
        Owner::Process(_) => "POSIX ",
        Owner::File(_) => "OFDLCK",
    };
    let kind = if kind == LockKind::Exclusive { "WRITE" } else { "READ" };
    let (major, minor) = split_dev(lock.id.dev);
    let end = if end == u64::MAX { "EOF".to_string() } else { end.to_string() };
    format!("{number}: {class} ADVISORY  {kind} {pid} {major:02x}:{minor:02x}:{} {start} {end}\n", lock.id.ino)
}

fn loadavg() -> String {
    let processes = tree::collect_processes();
    let threads: usize = processes.iter().map(|process| process.thread_count()).sum();
    let last = processes.iter().map(|process| process.pid).max().unwrap_or(0);
    format!("0.00 0.00 0.00 {}/{threads} {last}\n", running())
}

/// Threads that run or could.
fn running() -> usize {
    let processes = tree::collect_processes();
    let runs = processes.iter().filter(|process| process.run_state() == RunState::Running);
    runs.flat_map(|process| process.tasks()).filter(|task| !task.cpu().is_asleep()).count()
}

/// CPU time of the container's processes, those that ended too.
fn used_ns() -> u64 {
    let ended = tree::process(1).map_or(0, |init| init.children_cpu_ns.load(core::sync::atomic::Ordering::Relaxed));
    tree::collect_processes().iter().map(|process| process_cpu_ns(process).unwrap_or(0)).sum::<u64>() + ended
}

fn uptime(up: u64) -> String {
    let idle = (up * u64::from(cpus())).saturating_sub(used_ns());
    let seconds = |ns: u64| format!("{}.{:02}", ns / SECOND, ns % SECOND / TICK_NS);
    format!("{} {}\n", seconds(up), seconds(idle))
}

/// Which processor worked is not known: each has its share.
fn stat(up: u64) -> String {
    let (cpus, used) = (u64::from(cpus()), used_ns() / TICK_NS);
    let idle = (up / TICK_NS * cpus).saturating_sub(used);
    let row = |name: String, used: u64, idle: u64| format!("{name} {used} 0 0 {idle} 0 0 0 0 0 0\n");
    let each: String = (0..cpus).map(|n| row(format!("cpu{n}"), used / cpus, idle / cpus)).collect();
    let boot = machine::clock::realtime_ns().saturating_sub(up) / SECOND;
    let (all, forks, runs) = (row("cpu ".to_string(), used, idle), crate::stats::forks() + 1, running());
    format!(
        "{all}{each}intr 0\nctxt 0\nbtime {boot}\nprocesses {forks}\nprocs_running {runs}\nprocs_blocked 0\nsoftirq 0\n"
    )
}

fn meminfo(figures: &Figures) -> String {
    let Figures { total, free, available, files, committed } = *figures;
    // What the LibOS has for itself.
    let (own, _) = machine::heap::usage();
    let rows = [
        ("MemTotal:", total),
        ("MemFree:", free),
        ("MemAvailable:", available),
        ("Buffers:", 0),
        ("Cached:", files),
        ("SwapCached:", 0),
        ("Active:", committed),
        ("Inactive:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", 0),
        ("AnonPages:", committed),
        ("Mapped:", 0),
        ("Shmem:", files),
        ("Slab:", own),
        ("SReclaimable:", 0),
        ("SUnreclaim:", own),
        ("CommitLimit:", total),
        ("Committed_AS:", committed),
    ];
    let rows: String = rows.iter().map(|(name, bytes)| format!("{name:<16}{:>8} kB\n", bytes / 1024)).collect();
    rows + "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_stands_where_linux_has_it() {
        let lines = "vendor_id\t: X\nfpu\t\t: yes\nflags\t\t: fpu\n";
        assert_eq!(
            with_topology(lines, "core id\t\t: 0\n"),
            "vendor_id\t: X\ncore id\t\t: 0\nfpu\t\t: yes\nflags\t\t: fpu\n"
        );
        assert_eq!(with_topology("", "core id\t\t: 0\n"), "core id\t\t: 0\n");
    }

    #[test]
    fn meminfo_counts_in_kib() {
        let figures = Figures { total: 1 << 30, free: 1 << 29, available: 1 << 29, files: 4096, committed: 0 };
        let text = meminfo(&figures);
        assert!(text.starts_with("MemTotal:        1048576 kB\nMemFree:          524288 kB\n"), "{text}");
        assert!(text.contains("Shmem:                 4 kB\n"), "{text}");
    }
}
