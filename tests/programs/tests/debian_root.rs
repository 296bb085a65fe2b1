//! The families of programs in a root of Debian 12 that debootstrap made: `xc run --rootfs` behaves as `chroot` into the same root.

use programs::picked::assert_forty_say_the_same;
use programs::{debian, run, xc};
use std::path::Path;
use std::process::Command;

/// What podman sets.
const ENVIRONMENT: [&str; 4] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm", "container=xc"];

/// chroot(1), with mounts that go with it.
const CHROOT: &str =
    "root=$1; shift; mount --bind $1 $root/mnt; shift; mount --rbind /dev $root/dev; mount -t proc none $root/proc
    exec chroot $root \"$@\"";

fn chroot(root: &str, scripts: &str, words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount", "--uts", "--ipc", "--pid", "--fork", "bash", "-ec", CHROOT, "bash", root, scripts, "env", "-i",
    ]);
    command.args(ENVIRONMENT).args(words);
    command
}

fn container(root: &str, scripts: &str, words: &[&str]) -> Command {
    let mut command = Command::new(xc());
    command.args(["run", "--rootfs", root, "-v", &format!("{scripts}:/mnt:ro"), "--"]).args(words);
    command
}

/// The root, and where the scripts are. Only root makes such a root, and enters it.
fn places() -> Option<(String, String)> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").display().to_string();
    rustix::process::geteuid().is_root().then(|| (debian("root"), scripts))
}

/// Each script prints and ends the same in both.
fn same(names: &[&str]) {
    let Some((root, scripts)) = places() else { return };
    for name in names {
        let interpreter = match name.rsplit_once('.') {
            Some((_, "py")) => "python3",
            Some((_, "js")) => "node",
            _ => "bash",
        };
        let words = [interpreter, &format!("/mnt/{name}")];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (host, guest) = (run(chroot(&root, &scripts, &words)), run(container(&root, &scripts, &words)));
        assert_eq!(text(&guest.stdout), text(&host.stdout), "output of {name}; stderr {}", text(&guest.stderr));
        assert_eq!(text(&guest.stderr), text(&host.stderr), "errors of {name}");
        assert_eq!(guest.status.code(), host.status.code(), "status of {name}");
        assert!(!host.stdout.is_empty(), "{name} says nothing: {}", text(&host.stderr));
    }
}

#[test]
fn shells_and_utilities_in_a_debian_root() {
    same(&["jobs.sh", "utilities.sh", "archives.sh", "busybox.sh"]);
}

#[test]
fn builds_and_histories_in_a_debian_root() {
    same(&["make.sh", "static.sh", "git.sh"]);
}

/// Files that are made, renamed and read again at once, while the processors are busy: what is known of the host's files has to be true.
#[test]
fn histories_made_beside_each_other_are_whole() {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| same(&["git.sh"]))).collect();
        for one in all {
            assert!(one.join().is_ok(), "a history differs");
        }
    });
}

#[test]
fn perl_and_openssl_in_a_debian_root() {
    same(&["perl.sh", "openssl.sh"]);
}

#[test]
fn python_in_a_debian_root() {
    same(&["python_processes.py", "python_sqlite.py", "python_asyncio.py", "python_files.py"]);
}

#[test]
fn go_java_and_node_in_a_debian_root() {
    same(&["go.sh", "java.sh", "node.js"]);
}

#[test]
fn redis_serves_saves_and_replicates() {
    same(&["redis.sh"]);
}

#[test]
fn nginx_serves_files_and_reloads() {
    same(&["nginx.sh"]);
}

#[test]
fn postgres_serves_and_recovers() {
    same(&["postgres.sh"]);
}

#[test]
fn forty_picked_programs_of_a_debian_root_say_the_same() {
    let Some((root, scripts)) = places() else { return };
    let (host, guest) =
        (|words: &[&str]| chroot(&root, &scripts, words), |words: &[&str]| container(&root, &scripts, words));
    assert_forty_say_the_same(Path::new(&root), host, guest);
}

#[test]
fn packages_and_accounts_of_a_debian_root() {
    same(&["accounts.sh"]);
}
