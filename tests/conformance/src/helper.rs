//! Small programs inside this one, for the cases that execute a program.

use crate::kit;
use crate::sys::{self, signal, sys};
use std::process::ExitCode;

/// Runs the helper `args[0]`.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("args") => print(&rest.join("|")),
        Some("env") => print(&std::env::vars().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("|")),
        Some("status") => return ExitCode::from(rest.first().and_then(|s| s.parse().ok()).unwrap_or(255)),
        Some("fds") => print(&open_fds().join(",")),
        Some("signals") => print(&signals()),
        Some("ids") => print(&ids()),
        Some("auxv") => print(&auxv()),
        Some("path") => print(&std::env::current_exe().map_or(String::new(), |p| p.display().to_string())),
        Some("comm") => print(kit::text(c"/proc/self/comm").unwrap_or_default().trim()),
        Some("name") => print(&std::env::args().next().unwrap_or_default()),
        Some("pid") => print(&std::process::id().to_string()),
        Some("cat") => return cat(),
        Some("compute") => compute(),
        Some("used") => print(&kit::now(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(-1).to_string()),
        Some("memory") => print(&ranges().join(",")),
        Some("wait") => return wait_forever(),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn print(text: &str) {
    println!("{text}");
}

/// Uses 50 ms of the processor.
fn compute() {
    kit::until(|| kit::now(libc::CLOCK_PROCESS_CPUTIME_ID).is_ok_and(|used| used > 50_000_000));
}

/// What lies in memory, by name; without one, only that it is there.
fn ranges() -> Vec<String> {
    let maps = kit::text(c"/proc/self/maps").unwrap_or_default();
    let mut names: Vec<_> =
        maps.lines().map(|line| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ")).collect();
    // Where the kernel puts what is chance.
    names.sort();
    names
}

fn open_fds() -> Vec<String> {
    (0..1000).filter(|fd| sys!(fcntl, *fd, libc::F_GETFD).is_ok()).map(|fd| fd.to_string()).collect()
}

/// Ignored signals among the first 31 except those that Rust's runtime changes, then the mask.
fn signals() -> String {
    let ignored: Vec<String> = (1..32)
        .filter(|&s| s != libc::SIGPIPE && matches!(signal::action(s), Ok((libc::SIG_IGN, _))))
        .map(|s| s.to_string())
        .collect();
    let handled = (1..32).filter(|&s| matches!(signal::action(s), Ok((handler, _)) if handler > 1)).count();
    let mask = signal::mask(libc::SIG_BLOCK, 0).unwrap_or(u64::MAX);
    // Rust's runtime handles SIGSEGV and SIGBUS.
    format!("ignored {} handled {} blocked {mask:x}", ignored.join(","), handled.saturating_sub(2))
}

fn ids() -> String {
    let (mut u, mut g) = ([0u32; 3], [0u32; 3]);
    let [a, b, c] = &mut u;
    let [d, e, f] = &mut g;
    let _ = sys!(getresuid, a, b, c);
    let _ = sys!(getresgid, d, e, f);
    format!("{u:?} {g:?}")
}

fn auxv() -> String {
    let random = usize::try_from(sys::auxv(libc::AT_RANDOM)).unwrap_or(0);
    let random_is_set = random != 0 && (0..16).any(|i| sys::memory::peek::<u8>(random + i) != 0);
    format!(
        "page {} random {random_is_set} entry {} phdr {} secure {} clock {}",
        sys::auxv(libc::AT_PAGESZ),
        sys::auxv(libc::AT_ENTRY) != 0,
        sys::auxv(libc::AT_PHDR) != 0,
        sys::auxv(libc::AT_SECURE),
        sys::auxv(libc::AT_CLKTCK),
    )
}

fn cat() -> ExitCode {
    match kit::read_all(0).and_then(|all| kit::write(1, &all)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn wait_forever() -> ExitCode {
    print("waiting");
    loop {
        let _ = sys!(pause);
    }
}
