//! The filter that is installed in running guests, read out of the kernel and compared with the table.

use programs::host::{Container, mappings};
use programs::in_container;
use std::mem::offset_of;
use std::os::unix::fs::FileExt as _;
use xkernel::filter::{Instruction, first_difference};

const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;

fn ptrace(request: u32, pid: u32, address: usize, data: *mut u8) -> Result<usize, std::io::Error> {
    // SAFETY: the requests used here write no more than the filter, for which the caller has made room.
    let ret = unsafe { libc::ptrace(request, pid, address, data) };
    usize::try_from(ret).map_err(|_| std::io::Error::last_os_error())
}

/// A process that is traced and stopped; goes on when dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        ptrace(PTRACE_SEIZE, pid, 0, std::ptr::null_mut()).expect("PTRACE_SEIZE");
        ptrace(PTRACE_INTERRUPT, pid, 0, std::ptr::null_mut()).expect("PTRACE_INTERRUPT");
        // SAFETY: no status is asked for.
        let stopped = unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(stopped, pid.cast_signed());
        Self(pid)
    }

    /// The filter's program, the most recent first (0).
    fn filter(&self, index: usize) -> Result<Vec<Instruction>, std::io::Error> {
        let count = ptrace(PTRACE_SECCOMP_GET_FILTER, self.0, index, std::ptr::null_mut())?;
        let mut bytes = vec![0u8; count * 8];
        ptrace(PTRACE_SECCOMP_GET_FILTER, self.0, index, bytes.as_mut_ptr())?;
        Ok(bytes.chunks_exact(8).map(|chunk| Instruction::from_bytes(chunk.try_into().unwrap())).collect())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = ptrace(libc::PTRACE_DETACH, self.0, 0, std::ptr::null_mut());
    }
}

/// The LibOS text of a process, from its boot block.
fn text(pid: u32) -> (u64, u64) {
    let arena = mappings(pid, "/memfd:arena")[0].0;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let word = |offset: usize| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, arena + offset as u64).expect("the boot block");
        u64::from_le_bytes(bytes)
    };
    assert_eq!(word(offset_of!(abi::boot::BootBlock, magic)), abi::boot::MAGIC);
    (word(offset_of!(abi::boot::BootBlock, text_start)), word(offset_of!(abi::boot::BootBlock, text_end)))
}

#[test]
fn installed_filter_answers_as_the_table_says() {
    // A shell, a child of fork, a program of exec: each a way in which a guest comes to its filter.
    let script = "exec 3<&0; (read -u 3 line; :) & cat <&3 & echo started; wait";
    let mut container = Container::start(in_container(&["bash", "-c", script]));
    assert_eq!(container.line(), "started");
    let processes = container.libos_processes();
    // Service process, shell, and its children.
    assert!(processes.len() >= 4, "{processes:?}");
    for pid in processes {
        let stopped = Stopped::new(pid);
        let program = stopped.filter(0).unwrap_or_else(|error| {
            panic!("cannot read the filter of {pid}: {error}; the test needs CAP_SYS_ADMIN in the first user namespace")
        });
        // Nothing beside it, and the executable mapping of the LibOS is what it lets through.
        assert_eq!(stopped.filter(1).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let text = text(pid);
        let executable =
            mappings(pid, "/memfd:xlibos").into_iter().find(|(_, _, how)| how == "r-xp").expect("its text");
        assert!(executable.0 <= text.0 && text.1 <= executable.1, "{text:x?} {executable:x?}");
        assert_eq!(first_difference(&program, text), None, "process {pid}");
    }
    drop(container.stdin.take());
    assert_eq!(container.xc.wait().expect("xc").code(), Some(0));
}

/// What the table says in figures, and that the document of `xc features` says the same.
#[test]
fn closed_lists_are_closed() {
    let mut command = std::process::Command::new(programs::xc());
    command.arg("features");
    let text = String::from_utf8(programs::run(command).stdout).expect("JSON");
    assert!(abi::hostcall::HOST_CALLS.len() <= 25 && abi::broker::REQUEST_KINDS <= 24);
    let names = abi::hostcall::HOST_CALLS.iter().map(|call| call.name).chain(abi::broker::REQUEST_NAMES);
    for name in names {
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
    }
}
