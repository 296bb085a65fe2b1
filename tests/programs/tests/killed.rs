//! `xc` killed from outside: nothing of the container is left. Alone in its program: it reaps every orphan.

use programs::in_container;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use std::io::Read as _;
use std::process::Stdio;

#[test]
fn kill_9_of_xc_ends_every_process_of_the_container() {
    set_child_subreaper(Some(getpid())).unwrap();
    let mut command = in_container(&["bash", "-c", "sleep 1000 & echo started; wait"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut started = [0; 8];
    child.stdout.take().unwrap().read_exact(&mut started).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Reaper, init, service process, bash and sleep; the wait ends with ECHILD only when all have.
    let mut ended = 0;
    while wait(WaitOptions::empty()).is_ok() {
        ended += 1;
    }
    assert_eq!(ended, 5);
}
