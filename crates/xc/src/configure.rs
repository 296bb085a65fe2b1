//! The LibOS's configuration, from the command line.

use crate::args::{Command, Options};
use crate::environment::Environment;
use crate::mounts::Mounts;
use crate::user::{Accounts, User};
use crate::{size, streams, terminal};
use abi::config::{Config, Machine, Stdio};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use xkernel::broker::Export;

/// Bytes of the arena; sparse.
pub const ARENA: u64 = 2 << 30;

/// That of a podman container, whoever starts it.
const PODMAN_UMASK: u32 = 0o022;

/// The caller's, which Linux tells only who sets another: there is one thread yet.
fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    mask.bits()
}

/// The caller's resource limits, in the order of their numbers: [`raise_descriptors`] changes one.
pub fn limits() -> Vec<(u64, u64)> {
    use rustix::process::Resource::{
        As, Core, Cpu, Data, Fsize, Locks, Memlock, Msgqueue, Nice, Nofile, Nproc, Rss, Rtprio, Rttime, Sigpending,
        Stack,
    };
    let all = [
        Cpu, Fsize, Data, Stack, Core, Rss, Nproc, Nofile, Memlock, As, Locks, Sigpending, Msgqueue, Nice, Rtprio,
        Rttime,
    ];
    let values = all.map(rustix::process::getrlimit);
    values.iter().map(|limit| (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))).collect()
}

/// Fewer start no container.
pub const LEAST_DESCRIPTORS: u64 = 128;

/// How many descriptors a process may have at most; [`raise_descriptors`] lets it.
fn descriptors() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// The container's host processes keep the files of the host that are in use open: the caller's own limit, which is for its
/// programs, would soon be reached.
///
/// # Errors
/// Where so few are allowed that no container starts.
pub fn raise_descriptors() -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Who may not keeps what there is, and the container notices when it has no more.
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    match limit.maximum {
        Some(most) if most < LEAST_DESCRIPTORS => {
            bail!("a process may open {most} files, and {LEAST_DESCRIPTORS} are needed: ulimit -n 1024 or more")
        }
        _ => Ok(()),
    }
}

/// Makes the LibOS's configuration, without what it tells of the machine, and opens the exports. `limits` are the caller's.
///
/// # Errors
/// Names the option at fault.
pub fn configure(command: &Command, limits: Vec<(u64, u64)>) -> Result<(Config, Vec<Export>)> {
    let options = options_of(command)?;
    let rootfs = rootfs_of(command);
    let mut mounts = match command {
        Command::Run(run) => Mounts::of_directory(&run.rootfs, run.read_only)?,
        _ => Mounts::of_host()?,
    };
    mounts.add_own(options, scratch(command))?;
    let user = user(options, rootfs)?;
    let hostname = host_name(options)?;
    let memory_limit = memory(options)?;
    let stdin = if rootfs.is_none() || options.interactive { streams::classify(0) } else { Stdio::Null };
    let stdio = if options.tty { [Stdio::Terminal; 3] } else { [stdin, streams::classify(1), streams::classify(2)] };
    let config = Config {
        argv: options.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: environment(options, rootfs, user.home.as_deref(), &hostname)?,
        cwd: directory(options, rootfs)?,
        hostname,
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        umask: if rootfs.is_none() { umask() } else { PODMAN_UMASK },
        // What `xc do` runs is a program like others of this machine.
        is_init: rootfs.is_some(),
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        limits: if rootfs.is_none() { limits } else { Vec::new() },
        descriptors: descriptors(),
        mounts: mounts.list,
        stdio,
        terminal: stdio.contains(&Stdio::Terminal).then(terminal::size),
        memory_files_limit: if memory_limit == 0 { ARENA / 2 } else { memory_limit.min(ARENA / 2) },
        memory_limit,
        strace: options.strace,
        stats: options.stats.is_some(),
        machine: Machine::default(),
        cpus: 1,
    };
    Ok((config, mounts.exports))
}

/// Where writes stay in memory though the root is read-only, as podman has it.
fn scratch(command: &Command) -> &'static [&'static str] {
    match command {
        Command::Run(run) if run.read_only && run.read_only_tmpfs => &["run", "tmp", "var/tmp"],
        _ => &[],
    }
}

/// The options of both commands.
///
/// # Errors
/// For a command without a container.
pub fn options_of(command: &Command) -> Result<&Options> {
    match command {
        Command::Do(options) => Ok(options),
        Command::Run(run) => Ok(&run.options),
        Command::Doctor(_) | Command::Features | Command::Version => bail!("no container is meant"),
    }
}

/// The directory of `xc run`.
fn rootfs_of(command: &Command) -> Option<&PathBuf> {
    match command {
        Command::Run(run) => Some(&run.rootfs),
        _ => None,
    }
}

/// `-u`, else the caller for `xc do` and root for `xc run`. The caller keeps its own HOME.
fn user(options: &Options, rootfs: Option<&PathBuf>) -> Result<User> {
    let usual = if rootfs.is_none() { rustix::process::geteuid().as_raw() } else { 0 };
    let wanted = match (&options.user, rootfs) {
        (None, None) => return Ok(caller()),
        (None, Some(_)) => "0".to_owned(),
        (Some(group), _) if group.len() > 1 && group.starts_with(':') => format!("{usual}{group}"),
        (Some(user), _) => user.clone(),
    };
    let root = rootfs.map_or(Path::new("/"), PathBuf::as_path);
    let root = std::fs::File::open(root).with_context(|| format!("cannot open {}", root.display()))?;
    let user = Accounts::read(root)?.find(&wanted).with_context(|| format!("--user {wanted}"))?;
    let fallback: &[u8] = if user.uid == 0 { b"/root" } else { b"/" };
    Ok(User { home: Some(user.home.unwrap_or(fallback.to_vec())), ..user })
}

fn caller() -> User {
    let groups = rustix::process::getgroups().unwrap_or_default();
    User {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: groups.iter().map(|group| group.as_raw()).collect(),
        home: None,
    }
}

fn environment(
    options: &Options,
    rootfs: Option<&PathBuf>,
    home: Option<&[u8]>,
    hostname: &str,
) -> Result<Vec<Vec<u8>>> {
    let mut environment = match rootfs {
        Some(_) => Environment::of_container(hostname),
        None => Environment::of_caller(),
    };
    if let Some(home) = home {
        environment.set(b"HOME", home);
    }
    options.env_file.iter().try_for_each(|path| environment.apply_file(path))?;
    for setting in &options.env {
        environment.apply(setting.as_bytes()).with_context(|| format!("--env {}", setting.display()))?;
    }
    Ok(environment.into_variables())
}

fn directory(options: &Options, rootfs: Option<&PathBuf>) -> Result<Vec<u8>> {
    match (&options.workdir, rootfs) {
        (Some(dir), _) if !dir.as_bytes().starts_with(b"/") => {
            bail!("--workdir {}: give an absolute path of the container", dir.display())
        }
        (Some(dir), _) => Ok(dir.as_bytes().to_vec()),
        (None, None) => {
            Ok(std::env::current_dir().map_or_else(|_| b"/".to_vec(), |dir| dir.as_os_str().as_bytes().to_vec()))
        }
        (None, Some(_)) => Ok(b"/".to_vec()),
    }
}

/// `--memory`; 0 is no limit.
fn memory(options: &Options) -> Result<u64> {
    /// Less holds no program.
    const LEAST: u64 = 6 << 20;
    let Some(text) = &options.memory else { return Ok(0) };
    match size::parse(text) {
        Some(bytes) if bytes == 0 || bytes >= LEAST => Ok(bytes),
        Some(_) => bail!("--memory {text}: at least 6m are needed"),
        None => bail!("--memory {text}: write a whole number and b, k, m, g or t; less than 2^64 bytes in all"),
    }
}

/// `--hostname`, else the container's name, else the host's.
fn host_name(options: &Options) -> Result<String> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    match (&options.hostname, &options.name) {
        (Some(name), _) if name.is_empty() || name.len() > 64 || !name.bytes().all(is_part) => {
            bail!("--hostname {name}: a host name is 1 to 64 letters, digits, - . and _")
        }
        (Some(name), _) | (None, Some(name)) => Ok(name.clone()),
        (None, None) => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
    }
}
