//! `xc do` and `xc run`: one container from start to end.

use crate::args::{Command, Options};
use crate::configure::{ARENA, configure, limits, options_of, raise_descriptors};
use crate::news::News;
use crate::report::{self, Report};
use crate::terminal::{self, Terminal};
use crate::usage::Usage;
use crate::{image, machine, name, profile};
use abi::broker::StartStep;
use abi::config::{Config, Stdio};
use abi::event::Event;
use abi::stats::Stats;
use anyhow::{Context as _, Result, bail};
use rustix::event::Timespec;
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use xkernel::broker::{Broker, Control, Export, Options as BrokerOptions};
use xkernel::cgroup::Group;
use xkernel::sandbox::Sent;
use xkernel::{loader, sandbox, sys};

/// How a container ended.
enum End {
    Exit {
        status: i32,
        stats: Box<Stats>,
    },
    StartFailed {
        step: StartStep,
        errno: i32,
        what: Vec<u8>,
    },
    Died,
    /// We cannot serve it.
    Failed(anyhow::Error),
}

/// What the supervisor's first thread waits for.
enum Told {
    End(End),
    /// The container asks for something after a rest.
    Awake,
}

/// A container that is no more.
struct Ended {
    end: End,
    broker: Arc<Broker>,
    /// Of all its processes.
    usage: Usage,
}

/// Runs a container; returns the exit status for the caller.
///
/// # Errors
/// Our own failures: exit status 125.
pub fn run(command: &Command) -> Result<u8> {
    let started_ns = monotonic_ns();
    if let Options { profile: Some(file), command: words, .. } = options_of(command)? {
        return profile::run(file, words.len());
    }
    // A write past the caller's own limit answers EFBIG, to us and, who inherit this, to the container's processes.
    sys::ignore(libc::SIGXFSZ);
    // A caller that ignores it would have our children and the container's vanish before anybody hears of their end.
    sys::reset(libc::SIGCHLD);
    let options = options_of(command)?;
    match options.name.as_deref() {
        None => run_as(command, options, started_ns),
        Some(name) => {
            let _claim = name::claim(name)?;
            run_as(command, options, started_ns).with_context(|| name.to_owned())
        }
    }
}

fn run_as(command: &Command, options: &Options, started_ns: u64) -> Result<u8> {
    let limits = limits();
    raise_descriptors()?;
    // The reaper has much to do: what follows is done meanwhile.
    let begun = sandbox::begin();
    let (mut config, exports) = configure(command, limits)?;
    // What the host refuses comes after what the caller got wrong.
    let begun = begun?;
    config.machine = machine::read();
    config.cpus = machine::processors();
    let streams = config.stdio.map(|stdio| matches!(stdio, Stdio::Host { .. }));
    let (memory, layout) = loader::load(image::embedded()?, &config, ARENA, started_ns)?;
    let arena = memory.arena.try_clone().context("cannot keep the arena")?;
    let (terminal, console) = open_terminal(command, options, &config)?;
    let group = memory_group(config.memory_limit);
    let entrance = group.as_ref().map(Group::entrance).transpose().context("cannot enter the control group")?;
    let running = begun.start(memory, streams, console, entrance)?;
    // From here on there are threads.
    let Ended { end, broker, usage } =
        supervise(running, exports, terminal, config.memory_limit, options.stats.is_some())?;
    match end {
        End::Exit { status, stats } => {
            if let Some(form) = options.stats {
                let functions = broker.function_names(&stats.trapped_sites);
                report::print(&Report { stats: *stats, functions, usage }, form);
            }
            Ok(exit_code(status))
        }
        End::StartFailed { step, errno, what } => Ok(report_start_failure(command, options, step, errno, &what)),
        End::Failed(error) => Err(error),
        End::Died if group.is_some_and(|group| group.ran_out()) => {
            bail!(
                "the container ran out of memory, and the host ended a process that it could not do without: raise --memory"
            )
        }
        End::Died => match loader::panic_record(&arena, &layout) {
            Some(record) => bail!("the LibOS stopped, which is a bug of ours: {record}"),
            None => bail!(
                "the container ended without a word: killed from outside, by a program that broke it, or by a limit that `xc doctor` names"
            ),
        },
    }
}

/// A control group that bounds what a limited container really has, where the host lets us make one: the LibOS's own
/// limit is on what programs reserve.
fn memory_group(limit: u64) -> Option<Group> {
    /// The LibOS's own memory, as much as it has under any limit.
    const OWN: u64 = 64 << 20;
    // Page tables and the like take no more than an eighth.
    let bytes = limit.saturating_add(limit / 8).saturating_add(OWN);
    if limit == 0 { None } else { Group::create(bytes).ok() }
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
fn supervise(
    running: sandbox::Running,
    exports: Vec<Export>,
    mut terminal: Option<Terminal>,
    memory_limit: u64,
    counts: bool,
) -> Result<Ended> {
    let sandbox::Running { reaper, channels, events, arena, start } = running;
    sys::share_heap();
    let ends = sys::handle_of(reaper).context("cannot open a handle of the reaper")?;
    // Before any thread: the mask is inherited.
    let mut signals = Signals::new(&events, terminal.as_ref().map(Terminal::handle))?;
    if let Some(terminal) = &mut terminal {
        terminal.start(&events)?;
    }
    let news = Arc::new(News::new().context("cannot make a descriptor: allow more (ulimit -n)")?);
    let (from_broker, from_rest) = (Arc::clone(&news), Arc::clone(&news));
    let mut options = BrokerOptions::new(move |control| match control {
        Control::Log(text) => {
            terminal::print_error(&text);
        }
        Control::Exit { status, stats } => {
            from_broker.tell(Told::End(End::Exit { status, stats }));
        }
        Control::StartFailed { step, errno, what } => {
            from_broker.tell(Told::End(End::StartFailed { step, errno, what }));
        }
        Control::Quiesced { .. } => {}
    });
    options.arena = Some(arena);
    options.awake = Box::new(move || from_rest.tell(Told::Awake));
    if memory_limit != 0 {
        options.memory_limit = memory_limit;
    }
    let broker = Arc::new(Broker::new(exports, options));
    let from_channels = Arc::clone(&news);
    let kept = Arc::clone(&broker);
    let server = thread("broker", move || {
        // Without a channel the container cannot even say that it ends.
        let end = broker.serve(channels).map_or_else(|error| End::Failed(error.into()), |()| End::Died);
        from_channels.tell(Told::End(end));
        drop(broker);
    })?;
    let end = await_end(&news, &kept, (reaper, &ends), &mut signals);
    // While they are there.
    let usage = if counts { Usage::below(reaper) } else { Usage::default() };
    sys::kill(reaper, libc::SIGKILL);
    let _ = sys::reap(reaper);
    // Nobody has the other ends of the channels any more. The broker ends in order, not with us.
    let _ = server.join();
    if let Some(terminal) = terminal {
        terminal.finish();
    }
    let end = match (end, start.failure()) {
        (End::Died, Some(failure)) => End::Failed(failure.into()),
        (end, _) => end,
    };
    Ok(Ended { end, broker: kept, usage })
}

/// How long a container asks for nothing before its supervisor gives back what it does not need meanwhile, at least; twice as
/// long at most.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// When a signal for which there was no room is tried again.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

fn await_end(news: &News<Told>, broker: &Broker, (reaper, ends): (i32, &OwnedFd), signals: &mut Signals) -> End {
    loop {
        let others = [ends.as_fd(), signals.source.as_fd()];
        match news.wait(others, if signals.kept.is_empty() { &QUIET } else { &MOMENT }) {
            Some(Told::End(end)) => return end,
            Some(Told::Awake) => continue,
            None => {}
        }
        if sys::has_ended(ends) {
            // It may have said so just before.
            let told = std::iter::from_fn(|| news.wait(others, &Timespec::default()));
            let end = told.into_iter().find_map(|told| if let Told::End(end) = told { Some(end) } else { None });
            return end.unwrap_or(End::Died);
        }
        if signals.pass_on() == Passed::Nothing && broker.rest() {
            sandbox::rest(reaper);
            news.rest([ends.as_fd(), signals.source.as_fd()]);
        }
    }
}

/// A thread of ours. Where there can be none, the container ends with us.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.into()).spawn(work);
    started.context("cannot start a thread: allow more processes (ulimit -u)")
}

/// Signals that go to the container's first process.
const FORWARDED: [i32; 6] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Signals to `xc`, which go to the container; those of its terminal are its own business.
struct Signals {
    /// Can be read while there are some.
    source: OwnedFd,
    events: OwnedFd,
    terminal: Option<terminal::Handle>,
    /// For which the event channel had no room.
    kept: BTreeSet<i32>,
}

/// What was passed on.
#[derive(PartialEq, Eq)]
enum Passed {
    Nothing,
    /// Something, or it waits for room.
    Something,
}

impl Signals {
    fn new(events: &OwnedFd, terminal: Option<terminal::Handle>) -> Result<Self> {
        let events = events.try_clone().context("cannot keep the event channel")?;
        let own: &[i32] = if terminal.is_some() { &[libc::SIGWINCH, libc::SIGCONT] } else { &[] };
        let source = sys::signals_to_read(&[&FORWARDED, own].concat()).context("cannot take signals")?;
        Ok(Self { source, events, terminal, kept: BTreeSet::new() })
    }

    /// Passes on what has come. Who is told may have been wedged by a guest: a signal for which there is no room is kept.
    fn pass_on(&mut self) -> Passed {
        while let Some(signal) = sys::next_signal(&self.source) {
            if let (libc::SIGCONT, Some(terminal)) = (signal, &self.terminal) {
                terminal.attach();
            }
            self.kept.insert(signal);
        }
        if self.kept.is_empty() {
            return Passed::Nothing;
        }
        let event = |signal| match signal {
            libc::SIGWINCH | libc::SIGCONT => Event::Resized(terminal::size()),
            _ => Event::Signal(signal),
        };
        self.kept.retain(|&signal| sandbox::try_send_event(&self.events, &event(signal)) == Sent::Full);
        Passed::Something
    }
}

fn exit_code(status: i32) -> u8 {
    let code = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
    u8::try_from(code).unwrap_or(125)
}

/// The message names what was at fault; 127 not found, 126 not usable, 125 ours.
fn report_start_failure(command: &Command, options: &Options, step: StartStep, errno: i32, what: &[u8]) -> u8 {
    let missing = missing_program(command);
    let (code, hint) = match (step, errno) {
        (StartStep::Container, _) => (125, "the container could not be set up: `xc doctor` says what this host lacks"),
        (StartStep::Mount, libc::ENOTDIR) => (125, "directories are mounted on directories, and files on files"),
        (StartStep::Mount, libc::ENOENT) => (125, "nothing can be mounted there"),
        (StartStep::Mount, libc::EACCES) => {
            (125, "the caller may not read what is mounted there, or what it is mounted on")
        }
        (StartStep::Mount, _) => (125, "the container could not be set up"),
        (StartStep::Directory, libc::ENOENT) => (126, "no such directory in the container: name another with -w"),
        (StartStep::Directory, _) => (126, "name another working directory with -w"),
        (StartStep::Program, libc::ENOENT) => (127, missing.as_str()),
        (StartStep::Program, libc::EACCES) => (126, "it is a directory, or lacks the execute permission"),
        (StartStep::Program, libc::ENOEXEC) => (126, "it is no x86-64 program and no script"),
        (StartStep::Program, libc::ELIBBAD) => (126, "its ELF interpreter is damaged"),
        (StartStep::Program, libc::ENOTDIR) => (126, "a part of its path is no directory"),
        (StartStep::Program, libc::ELOOP) => (126, "its path leads through too many links"),
        (StartStep::Program, libc::E2BIG) => (126, "arguments and environment are too long together"),
        (StartStep::Program, _) => (126, "it could not be loaded"),
    };
    let deed = match step {
        StartStep::Directory => "enter the working directory",
        StartStep::Mount => "mount",
        StartStep::Container | StartStep::Program => "start",
    };
    let of = options.name.as_deref().map_or_else(String::new, |name| format!("{name}: "));
    let what = if what.is_empty() { "\"\"".to_owned() } else { loader::printable(what) };
    eprintln!("xc: {of}cannot {deed} {what}: {}: {hint}", std::io::Error::from_raw_os_error(errno));
    code
}

/// What may be wrong where a program is not there.
fn missing_program(command: &Command) -> String {
    let missing = "no such program in the container, or its interpreter is missing";
    match command {
        Command::Run(run) if !["bin", "usr"].iter().any(|name| run.rootfs.join(name).symlink_metadata().is_ok()) => {
            let root = run.rootfs.display();
            format!(
                "{missing}; {root} is no root file system, with neither bin nor usr: make one, as debootstrap does, or name its top directory"
            )
        }
        _ => missing.to_owned(),
    }
}

fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
