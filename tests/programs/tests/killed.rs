//! `xc` killed from outside: nothing of the container is left. Alone in its program: it reaps every orphan.

use programs::host::{descendants, processes};
use programs::in_container;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use std::io::Read as _;
use std::process::Stdio;

#[test]
fn kill_9_of_xc_ends_every_process_of_the_container() {
    set_child_subreaper(Some(getpid())).unwrap();
    // Once it says so, every process is there, and none that was needed to get there is left.
    let mut command = in_container(&["bash", "-c", "exec 3<&0; (echo started; read -r -u 3 line) & wait"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let open_end = child.stdin.take();
    let mut started = [0; 8];
    child.stdout.take().unwrap().read_exact(&mut started).unwrap();
    let container = descendants(child.id());
    // Reaper, service process, bash and its subshell.
    assert_eq!(container.len(), 4);
    child.kill().unwrap();
    child.wait().unwrap();
    // Ends with ECHILD only when all have: what the reaper does not reap any more comes to us.
    while wait(WaitOptions::empty()).is_ok() {}
    let left: Vec<u32> = processes().into_iter().map(|(pid, _)| pid).filter(|pid| container.contains(pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(open_end);
}
