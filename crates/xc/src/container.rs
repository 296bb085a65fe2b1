//! `xc do` and `xc run`: one container from start to end.

use crate::args::{Command, Options};
use crate::terminal::{self, Terminal};
use crate::{report, streams};
use abi::broker::StartStep;
use abi::config::{Config, Mount, MountSource, Stdio};
use abi::event::Event;
use abi::stats::Stats;
use anyhow::{Context as _, Result, bail};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use xkernel::broker::{Broker, Control, Export, Options as BrokerOptions};
use xkernel::{loader, sandbox, sys};

static IMAGE: &[u8] = include_bytes!(env!("XLIBOS_IMAGE"));

/// Bytes of the arena; sparse.
const ARENA: u64 = 2 << 30;
/// PATH that podman gives.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// File systems of the host that are never shown: they act, or the LibOS has its own.
const HIDDEN: [&str; 15] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "bpf",
    "tracefs",
    "debugfs",
    "securityfs",
    "mqueue",
    "hugetlbfs",
    "autofs",
    "configfs",
    "fusectl",
];

/// How a container ended.
enum End {
    Exit { status: i32, stats: Box<Stats> },
    StartFailed { step: StartStep, errno: i32, what: Vec<u8> },
    Died,
}

/// Runs a container; returns the exit status for the caller.
///
/// # Errors
/// Our own failures: exit status 125.
pub fn run(command: &Command) -> Result<u8> {
    let started_ns = monotonic_ns();
    let (mut config, exports) = configure(command)?;
    let options = options_of(command)?;
    let streams = config.stdio.map(|stdio| matches!(stdio, Stdio::Host { .. }));
    if config.hostname.is_empty() {
        config.hostname = host_name();
    }
    let memory = loader::Memory::create()?;
    let arena = memory.arena.try_clone().context("cannot keep the arena")?;
    let layout = loader::load(&memory, IMAGE, &config, ARENA, started_ns)?;
    let (terminal, console) = open_terminal(command, options, &config)?;
    let running = sandbox::start(memory, streams, console)?;
    // From here on there are threads.
    match supervise(running, exports, terminal)? {
        End::Exit { status, stats } => {
            if let Some(form) = options.stats {
                report::print(&stats, form);
            }
            Ok(exit_code(status))
        }
        End::StartFailed { step, errno, what } => Ok(report_start_failure(step, errno, &what)),
        End::Died => match loader::panic_record(&arena, &layout) {
            Some(record) => bail!("the LibOS stopped, which is a bug of ours: {record}"),
            None => bail!("the container ended without a word: killed from outside, or by a program that broke it"),
        },
    }
}

fn options_of(command: &Command) -> Result<&Options> {
    match command {
        Command::Do(options) => Ok(options),
        Command::Run(run) => Ok(&run.options),
        Command::Features | Command::Version => bail!("no container is meant"),
    }
}

/// The front end of the container's terminal, where it has one, and the container's end.
fn open_terminal(command: &Command, options: &Options, config: &Config) -> Result<(Option<Terminal>, Option<OwnedFd>)> {
    if config.terminal.is_none() {
        return Ok((None, None));
    }
    let keeps_input = options.interactive || matches!(command, Command::Do(_));
    let (front, console) = Terminal::open(keeps_input && config.stdio.first() == Some(&Stdio::Terminal))?;
    Ok((Some(front), Some(console)))
}

/// Serves the container until it ends, then ends all of it.
fn supervise(running: sandbox::Running, exports: Vec<Export>, mut terminal: Option<Terminal>) -> Result<End> {
    let sandbox::Running { reaper, channels, events } = running;
    // Before any thread: the mask is inherited.
    forward_signals(&events, terminal.as_ref().map(Terminal::handle))?;
    if let Some(terminal) = &mut terminal {
        terminal.start(&events)?;
    }
    let (sender, receiver) = mpsc::channel();
    let from_broker = sender.clone();
    let options = BrokerOptions::new(move |control| match control {
        Control::Log(text) => {
            terminal::print_error(&text);
        }
        Control::Exit { status, stats } => {
            let _ = from_broker.send(End::Exit { status, stats: Box::new(stats) });
        }
        Control::StartFailed { step, errno, what } => {
            let _ = from_broker.send(End::StartFailed { step, errno, what });
        }
        Control::Quiesced { .. } => {}
    });
    let broker = Arc::new(Broker::new(exports, options));
    let from_channels = sender.clone();
    std::thread::spawn(move || {
        // Without a channel the container cannot even say that it ends.
        let _ = broker.serve(channels);
        let _ = from_channels.send(End::Died);
    });
    let waiter = std::thread::spawn(move || {
        let _ = sys::reap(reaper);
        let _ = sender.send(End::Died);
    });
    let end = receiver.recv().unwrap_or(End::Died);
    if !waiter.is_finished() {
        sys::kill(reaper, libc::SIGTERM);
    }
    let _ = waiter.join();
    if let Some(terminal) = terminal {
        terminal.finish();
    }
    Ok(end)
}

/// Signals that go to the container's first process.
const FORWARDED: [i32; 6] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Signals to `xc` go to the container; those of its terminal are its own business.
fn forward_signals(events: &OwnedFd, terminal: Option<terminal::Handle>) -> Result<()> {
    let events = events.try_clone().context("cannot keep the event channel")?;
    let own: &[i32] = if terminal.is_some() { &[libc::SIGWINCH, libc::SIGCONT] } else { &[] };
    let deliver = move |signal| match (signal, &terminal) {
        (libc::SIGWINCH, _) => sandbox::send_event(&events, &Event::Resized(terminal::size())),
        (libc::SIGCONT, Some(terminal)) => {
            terminal.attach();
            sandbox::send_event(&events, &Event::Resized(terminal::size()));
        }
        _ => sandbox::send_event(&events, &Event::Signal(signal)),
    };
    sys::on_signals(&[&FORWARDED, own].concat(), deliver).context("cannot forward signals")
}

fn exit_code(status: i32) -> u8 {
    let code = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
    u8::try_from(code).unwrap_or(125)
}

/// The message names what was at fault; 127 not found, 126 not executable, 125 ours.
fn report_start_failure(step: StartStep, errno: i32, what: &[u8]) -> u8 {
    let what = loader::printable(what);
    let reason = std::io::Error::from_raw_os_error(errno);
    let (code, hint) = match (step, errno) {
        (StartStep::Directory, _) => {
            eprintln!("xc: cannot enter the working directory {what}: {reason}: name another with -w");
            return 127;
        }
        (StartStep::Container, _) => (125, "the container could not be set up"),
        (StartStep::Program, libc::ENOENT) => (127, "no such program in the container, or its interpreter is missing"),
        (StartStep::Program, libc::EACCES) => (126, "it is a directory, or lacks the execute permission"),
        (StartStep::Program, libc::ENOEXEC) => (126, "it is no x86-64 program and no script"),
        (StartStep::Program, libc::ELIBBAD) => (126, "its ELF interpreter is damaged"),
        (StartStep::Program, _) => (125, "see the errno"),
    };
    eprintln!("xc: cannot start {what}: {reason}: {hint}");
    code
}

/// Makes the LibOS's configuration and opens the exports.
fn configure(command: &Command) -> Result<(Config, Vec<Export>)> {
    let options = options_of(command)?;
    let mut exports = Vec::new();
    let mut mounts = Vec::new();
    let (env, stdin_kept) = match command {
        Command::Run(run) => {
            let kept = run.options.interactive;
            root_directory(&run.rootfs, run.read_only, &mut exports, &mut mounts)?;
            (vec![PATH.into(), "HOME=/root".into(), "TERM=xterm".into(), "container=xc".into()], kept)
        }
        _ => {
            host_mounts(&mut exports, &mut mounts)?;
            (
                std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect(),
                true,
            )
        }
    };
    let is_do = matches!(command, Command::Do(_));
    own_mounts(options, &mut exports, &mut mounts)?;
    let cwd = match (&options.workdir, is_do) {
        (Some(dir), _) => dir.clone().into_bytes(),
        (None, true) => std::env::current_dir().map_or_else(|_| b"/".to_vec(), |d| d.as_os_str().as_bytes().to_vec()),
        (None, false) => b"/".to_vec(),
    };
    let stdin = if stdin_kept { streams::classify(0) } else { Stdio::Null };
    let stdio = if options.tty { [Stdio::Terminal; 3] } else { [stdin, streams::classify(1), streams::classify(2)] };
    let (uid, gid, groups) = if is_do { caller() } else { (0, 0, Vec::new()) };
    let config = Config {
        argv: options.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: environment(env, options),
        cwd,
        hostname: options.hostname.clone().unwrap_or_default(),
        uid,
        gid,
        groups,
        umask: 0o022,
        mounts,
        stdio,
        terminal: stdio.contains(&Stdio::Terminal).then(terminal::size),
        memory_files_limit: ARENA / 2,
        memory_limit: 0,
        strace: options.strace,
        stats: options.stats.is_some(),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
    };
    Ok((config, exports))
}

fn caller() -> (u32, u32, Vec<u32>) {
    let groups = rustix::process::getgroups().unwrap_or_default();
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
        groups.iter().map(|group| group.as_raw()).collect(),
    )
}

fn environment(mut env: Vec<Vec<u8>>, options: &Options) -> Vec<Vec<u8>> {
    for setting in &options.env {
        let (name, value) = match setting.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (setting.as_str(), std::env::var(setting).ok()),
        };
        let prefix = [name.as_bytes(), b"="].concat();
        env.retain(|old| !old.starts_with(&prefix));
        if let Some(value) = value {
            env.push([&prefix, value.as_bytes()].concat());
        }
    }
    env
}

fn add_export(path: &Path, read_only: bool, exports: &mut Vec<Export>) -> Result<u16> {
    let number = u16::try_from(exports.len()).context("too many mounts")?;
    exports.push(Export::open(path, read_only)?);
    Ok(number)
}

fn root_directory(root: &Path, read_only: bool, exports: &mut Vec<Export>, mounts: &mut Vec<Mount>) -> Result<()> {
    if !root.is_dir() {
        bail!("{}: not a directory; --rootfs takes a directory with a root file system", root.display());
    }
    let export = add_export(root, read_only, exports)?;
    let source = MountSource::Host { export, overlay: false };
    mounts.push(Mount { target: b"/".to_vec(), source, read_only });
    Ok(())
}

/// The host's own root below a layer in memory, and its other mounts.
fn host_mounts(exports: &mut Vec<Export>, mounts: &mut Vec<Mount>) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the host's mounts")?;
    let root = add_export(Path::new("/"), true, exports).context("the host's root")?;
    let source = MountSource::Host { export: root, overlay: true };
    mounts.push(Mount { target: b"/".to_vec(), source, read_only: false });
    for line in table.lines() {
        let Some((target, kind)) = mount_of(line) else { continue };
        let own = ["/", "/proc", "/sys", "/dev"].iter().any(|own| target == Path::new(own));
        let below_own = ["/proc", "/sys", "/dev"].iter().any(|own| target.starts_with(own));
        if own || below_own || HIDDEN.contains(&kind) {
            continue;
        }
        // A mount that cannot be opened, or is hidden by another, is not shown.
        if let Ok(export) = add_export(&target, true, exports) {
            let target = target.as_os_str().as_bytes().to_vec();
            mounts.push(Mount { target, source: MountSource::Host { export, overlay: true }, read_only: false });
        }
    }
    Ok(())
}

/// Mount point and type of a line of mountinfo: proc_pid_mountinfo(5).
fn mount_of(line: &str) -> Option<(PathBuf, &str)> {
    let (fields, rest) = line.split_once(" - ")?;
    let target = fields.split(' ').nth(4)?;
    let kind = rest.split(' ').next()?;
    Some((PathBuf::from(target.replace("\\040", " ")), kind))
}

/// /proc, /sys, /dev, and what the options ask for.
fn own_mounts(options: &Options, exports: &mut Vec<Export>, mounts: &mut Vec<Mount>) -> Result<()> {
    for (target, source) in [("/proc", MountSource::Proc), ("/sys", MountSource::Sys), ("/dev", MountSource::Dev)] {
        mounts.push(Mount { target: target.into(), source, read_only: false });
    }
    for target in &options.tmpfs {
        let source = MountSource::Tmpfs { size: 0, mode: 0o1777 };
        mounts.push(Mount { target: target.clone().into_bytes(), source, read_only: false });
    }
    for volume in &options.volume {
        let mut parts = volume.split(':');
        let (Some(source), Some(target), mode) = (parts.next(), parts.next(), parts.next()) else {
            bail!("--volume {volume}: write SRC:DST or SRC:DST:ro");
        };
        let read_only = match mode {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(other) => bail!("--volume {volume}: unknown option {other}; only ro and rw are known"),
        };
        let export = add_export(Path::new(source), read_only, exports).with_context(|| format!("--volume {volume}"))?;
        let source = MountSource::Host { export, overlay: false };
        mounts.push(Mount { target: target.as_bytes().to_vec(), source, read_only });
    }
    Ok(())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
