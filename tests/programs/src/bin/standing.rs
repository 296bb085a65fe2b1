//! `standing PROGRAM ARGUMENT…`: a supervisor that stops its container's threads and lets them go on.
//!
//! The program runs in a copy of this directory over the host's root, its output is this one's. Each line of standard input is a
//! command: `quiesce`, answered on standard error by `standing N`, or `resume`. Ends with the program's status.
//! `XLIBOS_BIN` names the LibOS image.

use abi::config::{Config, HostKind, Mount, MountFlags, MountSource, Stdio};
use abi::event::Event;
use std::error::Error;
use std::io::BufRead as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use xkernel::broker::{Broker, Control, Export, Options};
use xkernel::{loader, sandbox, sys};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let path = std::env::var_os("XLIBOS_BIN").ok_or("XLIBOS_BIN is not set")?;
    let bytes = std::fs::read(&path)?;
    let image = loader::Image { bytes: &bytes, file: std::fs::File::open(path)?.into(), offset: 0 };
    let exports = vec![Export::open(Path::new("/"), true)?, Export::open(Path::new("."), true)?];
    let (memory, layout) = loader::load(image, &config(), loader::DEFAULT_ARENA, 0)?;
    let arena = memory.arena.try_clone()?;
    let begun = sandbox::begin()?;
    let sandbox::Running { reaper, channels, events, .. } = begun.start(memory, [false, true, true], None, None)?;
    let (sender, receiver) = mpsc::channel();
    let from_broker = sender.clone();
    let options = Options::new(move |control| match control {
        Control::Quiesced { threads } => eprintln!("standing {threads}"),
        Control::Exit { status, .. } => drop(from_broker.send(Some(status))),
        other => eprintln!("{other:?}"),
    });
    let broker = Arc::new(Broker::new(exports, options));
    std::thread::spawn(move || broker.serve(channels));
    std::thread::spawn(move || obey(&events));
    std::thread::spawn(move || {
        let _ = sys::reap(reaper);
        sender.send(None)
    });
    let status = receiver.recv()?;
    sys::kill(reaper, 9);
    if status.is_none() {
        eprintln!("died: {:?}", loader::panic_record(&arena, &layout));
    }
    let code = status.map_or(125, |status| if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) });
    Ok(ExitCode::from(u8::try_from(code)?))
}

fn obey(events: &OwnedFd) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let event = if line == "quiesce" { Event::Quiesce } else { Event::Resume };
        sandbox::send_event(events, &event);
    }
}

fn config() -> Config {
    let mount = |target: &str, source| Mount { target: target.into(), source, flags: MountFlags::default() };
    let pipe = Stdio::Host { kind: HostKind::Pipe, readable: false, writable: true, append: false };
    Config {
        argv: std::env::args().skip(1).map(String::into_bytes).collect(),
        env: vec![b"PATH=/usr/bin:/bin".into()],
        cwd: b"/mnt".into(),
        hostname: "standing".into(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        umask: 0o022,
        is_init: true,
        nice: 0,
        limits: Vec::new(),
        descriptors: 1024,
        mounts: vec![
            mount("/", MountSource::Host { export: 0, overlay: true, watched: true, mappable: true }),
            mount("/proc", MountSource::Proc),
            mount("/dev", MountSource::Dev),
            mount("/tmp", MountSource::Tmpfs { size: 0, inodes: 0, mode: 0o1777 }),
            mount("/mnt", MountSource::Host { export: 1, overlay: true, watched: true, mappable: true }),
        ],
        stdio: [Stdio::Null, pipe, pipe],
        terminal: None,
        memory_files_limit: loader::DEFAULT_ARENA / 2,
        memory_limit: 0,
        strace: false,
        stats: false,
        cpus: 2,
        machine: abi::config::Machine::default(),
    }
}
