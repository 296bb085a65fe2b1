//! Files of a process's directory, or a thread's.

use super::subject::Subject;
use super::system::TICK_NS;
use super::{limits, maps, mounts, smaps};
use crate::fs::file::File;
use crate::fs::inode::make_dev;
use crate::process::{Task, visit};
use crate::syscall::sched;
use crate::time::clock::{process_cpu_ns, thread_cpu_ns};
use crate::tty::devices::PTS_MAJOR;
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Longest command line or environment that is shown.
const LONGEST: u64 = 1 << 20;
/// Longest title.
const LONGEST_TITLE: u64 = 4096;

/// The file of this name.
///
/// # Errors
/// EIO for memory of a process that does not answer; INTERRUPTED.
pub(super) fn of_subject(subject: &Subject, name: &str) -> Result<Vec<u8>> {
    let task = subject.task.as_ref();
    let of_task = |make: fn(&Arc<Task>) -> String| task.map(make).unwrap_or_default().into_bytes();
    Ok(match name {
        "auxv" => task.map(|task| task.mm().info().auxv.clone()).unwrap_or_default(),
        "cgroup" => b"0::/\n".to_vec(),
        "cmdline" => command_line(subject)?,
        "comm" => [subject.comm().as_bytes(), b"\n"].concat(),
        "coredump_filter" => of_task(|task| format!("{:08x}\n", task.process.limits.core_filter())),
        "environ" => environment(subject)?,
        "limits" => limits::text(&subject.process.limits).into_bytes(),
        "maps" => of_task(maps::text),
        "mountinfo" => of_task(|task| mounts::mountinfo(&task.root())),
        "mounts" => of_task(|task| mounts::mounts(&task.root())),
        "oom_score" | "wchan" => b"0\n".to_vec(),
        "oom_score_adj" => format!("{}\n", subject.process.limits.oom_adjustment()).into_bytes(),
        "personality" => of_task(|task| format!("{:08x}\n", task.settings.lock().personality)),
        "setgroups" => b"allow\n".to_vec(),
        "smaps" => of_task(smaps::text),
        "smaps_rollup" => of_task(smaps::rollup),
        "stat" => stat(subject).into_bytes(),
        "statm" => statm(subject).into_bytes(),
        "status" => status(subject).into_bytes(),
        "timerslack_ns" => format!("{}\n", subject.with_timer_slack(|settings| settings.timer_slack_ns)?).into_bytes(),
        "uid_map" | "gid_map" => b"         0          0 4294967295\n".to_vec(),
        _ => Vec::new(),
    })
}

/// From the process's memory, where it may have changed it; as it was at exec where the process does not answer.
fn command_line(subject: &Subject) -> Result<Vec<u8>> {
    let Some(task) = &subject.task else { return Ok(Vec::new()) };
    let (arguments, environment, at_exec) = {
        let mm = task.mm();
        let info = mm.info();
        (info.arguments, info.environment, Arc::clone(&info.command))
    };
    let mut bytes = match strings(subject, arguments) {
        Err(Errno::INTERRUPTED) => return Err(Errno::INTERRUPTED),
        Err(_) => return Ok(at_exec.to_vec()),
        Ok(bytes) => bytes,
    };
    if bytes.last().is_some_and(|last| *last != 0) {
        // A title that the process wrote over its arguments, into its environment.
        bytes = strings(subject, (arguments.0, environment.1.min(arguments.0 + LONGEST_TITLE)))?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn environment(subject: &Subject) -> Result<Vec<u8>> {
    let Some(task) = &subject.task else { return Ok(Vec::new()) };
    let range = task.mm().info().environment;
    strings(subject, range)
}

fn strings(subject: &Subject, range: (u64, u64)) -> Result<Vec<u8>> {
    let len = range.1.saturating_sub(range.0).min(LONGEST);
    let mut bytes = alloc::vec![0; usize::try_from(len).unwrap_or(0)];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match visit::read(&subject.process, range.0 + done as u64, rest) {
            Ok(count) if count > 0 => done += count,
            Ok(_) | Err(Errno::EFAULT | Errno::ESRCH) => break,
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// /proc/PID/fdinfo/N.
pub(super) fn descriptor(file: &File) -> String {
    let mount = file.path().map_or(15, |path| path.mount.id);
    let ino = file.path().map_or_else(|| file.ops().stat().map_or(0, |stat| stat.ino), |path| path.inode().id().ino);
    let (position, flags) = (file.current_position(), file.flags().bits());
    let more = String::from_utf8_lossy(&file.ops().describe_more()).into_owned();
    format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n{more}")
}

/// Where a program's parts lie, for stat.
#[derive(Default)]
struct Places {
    code: (u64, u64),
    data: (u64, u64),
    heap: u64,
    stack: u64,
    arguments: (u64, u64),
    environment: (u64, u64),
}

/// Zeros for who may not look.
fn places(subject: &Subject) -> Places {
    let Some(task) = subject.task.as_ref().filter(|_| subject.check_inspection().is_ok()) else {
        return Places::default();
    };
    let mm = task.mm();
    let heap = mm.heap().start;
    let info = mm.info();
    Places {
        code: info.code,
        data: info.data,
        heap,
        stack: info.stack_start,
        arguments: info.arguments,
        environment: info.environment,
    }
}

fn stat(subject: &Subject) -> String {
    let process = &subject.process;
    let (pgid, sid) = process.links_of_other();
    let session = process.session();
    let terminal = session.tty().map_or(0, |tty| make_dev(PTS_MAJOR, tty.index));
    let foreground = if terminal == 0 { -1 } else { session.foreground() };
    let cpu = match &subject.task {
        Some(task) if subject.id != process.pid => thread_cpu_ns(task),
        Some(_) => process_cpu_ns(process),
        None => Ok(process.ended_cpu_ns.load(Ordering::Relaxed)),
    };
    let ticks = cpu.unwrap_or(0) / TICK_NS;
    let children = process.children_cpu_ns.load(Ordering::Relaxed) / TICK_NS;
    let nice = subject.task.as_ref().map_or(0, |task| task.settings.lock().nice);
    let started = process.started_ns / TICK_NS;
    let resident = subject.task.as_ref().map_or(0, |task| task.mm().resident()) / 4096;
    let at = places(subject);
    let head = format!(
        "{} ({}) {} {} {pgid} {sid} {terminal} {foreground} 0 0 0 0 0 {ticks} 0 {children} 0 {} {nice} {} 0 {started}",
        subject.id,
        subject.comm(),
        subject.state().0,
        process.parent(),
        20 + nice,
        process.thread_count().max(1),
    );
    let memory = format!("{} {resident} {}", process.mm().totals().mapped, u64::MAX);
    let code = format!("{} {} {} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0", at.code.0, at.code.1, at.stack);
    let (arguments, environment) = (at.arguments, at.environment);
    format!(
        "{head} {memory} {code} {} {} {} {} {} {} {} 0\n",
        at.data.0, at.data.1, at.heap, arguments.0, arguments.1, environment.0, environment.1,
    )
}

fn statm(subject: &Subject) -> String {
    let totals = subject.process.mm().totals();
    let resident = subject.task.as_ref().map_or(0, |task| task.mm().resident());
    let [mapped, resident, exec, data] = [totals.mapped, resident, totals.exec, totals.data].map(|n| n / 4096);
    format!("{mapped} {resident} 0 {exec} 0 {data} 0\n")
}

fn status(subject: &Subject) -> String {
    let memory = subject.task.as_ref().map(memory_lines).unwrap_or_default();
    [identity_lines(subject), memory, signal_lines(subject), privilege_lines(subject)].concat()
}

fn identity_lines(subject: &Subject) -> String {
    let (process, creds) = (&subject.process, &subject.creds);
    let groups: String = creds.groups.iter().map(|group| format!("{group} ")).collect();
    let umask = subject.task.as_ref().map_or(0, |task| task.fs().umask());
    let (letter, word) = subject.state();
    let (id, pid) = (subject.id, process.pid);
    let (pgid, sid) = process.links_of_other();
    let slots = subject.task.as_ref().map_or(0, |task| task.files().collect().len().next_multiple_of(64));
    let tracer = subject.task.as_ref().map_or(0, |task| task.trace.tracer());
    let head = format!(
        "Name:\t{}\nUmask:\t{umask:04o}\nState:\t{letter} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t{tracer}\n",
        subject.comm(),
        process.parent(),
    );
    let users = format!("Uid:\t{}\t{}\t{}\t{}\n", creds.uid, creds.euid, creds.suid, creds.fsuid);
    let gids = format!("Gid:\t{}\t{}\t{}\t{}\n", creds.gid, creds.egid, creds.sgid, creds.fsgid);
    let spaces = format!("NStgid:\t{pid}\nNSpid:\t{id}\nNSpgid:\t{pgid}\nNSsid:\t{sid}\n");
    format!("{head}{users}{gids}FDSize:\t{slots}\nGroups:\t{groups}\n{spaces}")
}

fn memory_lines(task: &Arc<Task>) -> String {
    let mm = task.mm();
    let totals = mm.totals();
    let (peak, resident) = (mm.peak_pages() * 4096, mm.resident());
    let rows = [
        ("VmPeak:", peak),
        ("VmSize:", totals.mapped),
        ("VmLck:", totals.locked),
        ("VmPin:", 0),
        ("VmHWM:", resident),
        ("VmRSS:", resident),
        ("VmData:", totals.data),
        ("VmStk:", totals.stack),
        ("VmExe:", totals.exec),
        ("VmSwap:", 0),
    ];
    rows.iter().map(|(name, bytes)| format!("{name}\t{:8} kB\n", bytes / 1024)).collect()
}

fn signal_lines(subject: &Subject) -> String {
    let process = &subject.process;
    let (ignored, caught) = process.actions().summary();
    let (pending, mask) =
        subject.task.as_ref().map_or((0, 0), |task| (task.signals.pending.set().0, task.signals.mask().0));
    format!(
        "Threads:\t{}\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{mask:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
        process.thread_count().max(1),
        process.pending.set().0,
        ignored.0,
        caught.0,
    )
}

fn privilege_lines(subject: &Subject) -> String {
    let creds = &subject.creds;
    let sets = [
        ("CapInh:", creds.inheritable),
        ("CapPrm:", creds.permitted),
        ("CapEff:", creds.effective),
        ("CapBnd:", creds.bounding),
        ("CapAmb:", creds.ambient),
    ];
    let sets: String = sets.iter().map(|(name, set)| format!("{name}\t{set:016x}\n")).collect();
    let locked = subject.task.as_ref().is_some_and(|task| task.settings.lock().no_new_privs);
    let cpus = subject.task.as_ref().map(|task| {
        let mask = sched::mask_of(task);
        format!("Cpus_allowed:\t{}\nCpus_allowed_list:\t{}\n", sched::hexadecimal(&mask), sched::ranges(&mask))
    });
    format!("{sets}NoNewPrivs:\t{}\nSeccomp:\t0\n{}", u8::from(locked), cpus.unwrap_or_default())
}
