//! The filter that is installed in running guests, read out of the kernel and compared with the table.

use hostile::Stopped;
use programs::host::{Container, libos_text, mappings};
use programs::in_container;
use std::mem::offset_of;
use std::os::unix::fs::FileExt as _;
use xkernel::filter::{Instruction, first_difference};

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
        let needed = "the test needs CAP_SYS_PTRACE, and CAP_SYS_ADMIN in the first user namespace";
        let stopped = Stopped::new(pid).unwrap_or_else(|error| panic!("cannot trace {pid}: {error}; {needed}"));
        let program = stopped.filter(0).unwrap_or_else(|error| panic!("no filter of {pid}: {error}; {needed}"));
        let program: Vec<_> = program.into_iter().map(Instruction::from_bytes).collect();
        // Nothing beside it, and the executable mapping of the LibOS is what it lets through.
        assert_eq!(stopped.filter(1).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let text = text(pid);
        let executable = libos_text(pid).expect("its text");
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
    let told: serde_json::Value = serde_json::from_slice(&programs::run(command).stdout).expect("JSON");
    assert!(abi::hostcall::HOST_CALLS.len() <= 25 && abi::broker::REQUEST_KINDS <= 24);
    let list = |key: &str| told[key].as_array().expect("a list").clone();
    let calls: Vec<_> = list("hostCalls")
        .iter()
        .map(|call| {
            (call["number"].as_u64(), call["name"].as_str().map(str::to_owned), call["checks"].as_array().map(Vec::len))
        })
        .collect();
    let table = abi::hostcall::HOST_CALLS.iter();
    let expected: Vec<_> =
        table.map(|call| (Some(u64::from(call.number)), Some(call.name.to_owned()), Some(call.checks.len()))).collect();
    assert_eq!(calls, expected);
    assert!(list("hostCalls").iter().all(|call| call["why"].as_str().is_some_and(|why| !why.is_empty())));
    assert_eq!(list("brokerRequests"), abi::broker::REQUEST_NAMES);
}
