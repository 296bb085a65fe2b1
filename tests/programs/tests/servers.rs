//! Servers outside of their root file system: under `xc do` as on the host, as root and as an ordinary user, and in the root
//! as an ordinary user. They are those of the Debian root, since installed packages would start them on this machine.

use programs::{debian, run, xc};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// The user that is ordinary.
const NOBODY: &str = "65534";

/// Programs of the root, by the directory that they look for their data from.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("usr/bin", &["curl", "redis-benchmark", "redis-cli", "redis-server"]),
    ("usr/sbin", &["nginx"]),
    ("usr/lib/postgresql/15/bin", &["initdb", "pg_ctl", "pg_dump", "pgbench", "postgres", "psql"]),
];

/// Data that PostgreSQL finds by the place of its programs.
const DATA: [&str; 2] = ["usr/share/postgresql", "usr/lib/postgresql/15/lib"];

/// Runs a program of the root by the root's own loader and libraries, whatever the machine's are.
const BY_LOADER: &str = "#!/bin/sh
exec ROOT/lib64/ld-linux-x86-64.so.2 --argv0 \"$0\" --library-path ROOT/usr/lib/x86_64-linux-gnu ROOT/PROGRAM \"$@\"
";

/// What everyone sees of the root, `xc` and the scripts, wherever those lie: a directory with mounts.
const MOUNTED: &str = "cd $1; mount --bind $2 root && mount --bind $3 scripts && cp $4 xc && shift 4 && exec \"$@\"";

/// A place for one server: programs that start those of the root, and directories to mount on.
fn place() -> TempDir {
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| directory.path().join(name);
    everyone_reads(directory.path());
    for name in ["root", "scripts"] {
        std::fs::create_dir(at(name)).expect(name);
    }
    for (below, names) in PROGRAMS {
        std::fs::create_dir_all(at("own").join(below)).expect(below);
        for name in names {
            let program = at("own").join(below).join(name);
            let text = BY_LOADER.replace("ROOT", &at("root").display().to_string());
            std::fs::write(&program, text.replace("PROGRAM", &format!("{below}/{name}"))).expect(name);
            everyone_reads(&program);
        }
    }
    for name in DATA {
        let link = at("own").join(name);
        std::fs::create_dir_all(link.parent().expect("a directory")).expect(name);
        symlink(at("root").join(name), link).expect(name);
    }
    directory
}

fn everyone_reads(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// Output and status of words in a mount namespace that has all in `place`.
fn mounted(place: &Path, user: Option<&str>, words: &[&str]) -> (String, String, Option<i32>) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let path = PROGRAMS.map(|(below, _)| place.join("own").join(below).display().to_string()).join(":");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MOUNTED, "sh"]).arg(place).arg(debian("root")).arg(scripts).arg(xc());
    if let Some(user) = user {
        command.args(["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.args(["env", "-i", "HOME=/", "LC_ALL=C"]).arg(format!("PATH={path}:/usr/bin:/usr/sbin:/bin:/sbin"));
    command.args(words).current_dir(place);
    said(run(command))
}

fn said(output: Output) -> (String, String, Option<i32>) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// The script prints and ends everywhere as on the host.
fn serves(name: &str) {
    if !rustix::process::geteuid().is_root() {
        return; // Only root has such a root.
    }
    let place = place();
    let script = format!("scripts/{name}");
    for user in [None, Some(NOBODY)] {
        let host = mounted(place.path(), user, &["bash", &script]);
        assert!(!host.0.is_empty(), "{name} says nothing: {}", host.1);
        let guest = mounted(place.path(), user, &["./xc", "do", "--", "bash", &script]);
        assert_eq!(guest, host, "{name} under xc do, user {user:?}");
    }
    let root = place.path().join("root").display().to_string();
    let options = ["--rootfs", &root, "--read-only", "--tmpfs", "/tmp", "-v", "scripts:/mnt:ro"];
    let script = format!("/mnt/{name}");
    let words = [&["./xc", "run"][..], &options, &["--", "bash", &script]].concat();
    let as_root = mounted(place.path(), None, &words);
    assert_eq!(mounted(place.path(), Some(NOBODY), &words), as_root, "{name} in the root, as an ordinary user");
}

#[test]
fn redis_serves_under_xc_do_and_for_an_ordinary_user() {
    serves("redis.sh");
}

#[test]
fn nginx_serves_under_xc_do_and_for_an_ordinary_user() {
    serves("nginx.sh");
}

#[test]
fn postgres_serves_under_xc_do_and_for_an_ordinary_user() {
    serves("postgres.sh");
}
