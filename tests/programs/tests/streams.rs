//! The caller's standard streams and files: closed, idle, shared; volumes and root directories.

use programs::{in_container, run, xc};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// A shell on the host that starts `xc do -- bash -c TEXT` with redirections of its own.
fn redirected(text: &str, redirection: &str) -> (String, Option<i32>) {
    let script = format!("\"$XC\" do -- bash -c '{text}' {redirection}");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("XC", xc());
    let output = run(command);
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[test]
fn closed_streams_stay_closed() {
    assert_eq!(redirected("cat 2>/dev/null; echo $?", "<&-").0, "1\n");
    assert_eq!(redirected("/bin/echo x 2>/dev/null", ">&-").1, Some(1));
}

#[test]
fn a_file_of_the_caller_is_written_by_programs_that_copy_ranges() {
    let directory = Directory::new("copied");
    let target = directory.0.join("target");
    let redirection = format!(">{}", target.display());
    assert_eq!(redirected("cat /etc/passwd; cat /proc/version", &redirection).1, Some(0));
    let copied = std::fs::read_to_string(target).unwrap();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(copied.starts_with(&passwd) && copied[passwd.len()..].starts_with("Linux version"), "{copied}");
}

const SELECT: &str = "
import os, select
print(len(select.select([0], [], [], 0)[0]), flush=True)
select.select([0], [], [])
print(os.read(0, 9))
poll = select.epoll()
poll.register(0, select.EPOLLIN)
print(poll.poll())
";

#[test]
fn an_idle_pipe_of_the_host_is_not_ready_until_something_comes() {
    let mut command = in_container(&["python3", "-c", SELECT]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        line
    };
    assert_eq!(next(), "0\n");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(next(), "b'a\\n'\n");
    drop(stdin);
    assert_eq!(next(), "[(0, 16)]\n");
    assert!(child.wait().unwrap().success());
}

/// A fresh directory, removed at the end.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("xc-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_volume_is_written_unless_it_is_read_only() {
    let volume = Directory::new("volume");
    let with = |mode: &str, text: &str| {
        let mut command = Command::new(xc());
        command.args(["do", "-v", &format!("{}:/mnt{mode}", volume.0.display()), "--", "sh", "-c", text]);
        run(command).status.code()
    };
    assert_eq!(with("", "echo new > /mnt/f"), Some(0));
    assert_eq!(std::fs::read_to_string(volume.0.join("f")).unwrap(), "new\n");
    assert_eq!(with(":ro", "echo other > /mnt/f"), Some(2));
    assert_eq!(std::fs::read_to_string(volume.0.join("f")).unwrap(), "new\n");
}

#[test]
fn a_root_directory_is_written_unless_it_is_read_only() {
    let root = Directory::new("root");
    for name in ["bin", "tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.0.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.0.join("bin/busybox")).expect("the package busybox-static");
    let with = |option: &[&str]| {
        let mut command = Command::new(xc());
        command.args(["run", "--rootfs", &root.0.display().to_string()]).args(option);
        command.args(["--", "/bin/busybox", "sh", "-c", "echo x > /tmp/w && /bin/busybox cat /tmp/w"]);
        let output = run(command);
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    };
    // As with podman.
    assert_eq!(with(&["--read-only"]), ("x\n".into(), Some(0)));
    assert_eq!(with(&["--read-only", "--read-only-tmpfs=false"]), (String::new(), Some(1)));
    assert_eq!(with(&["--read-only", "--tmpfs", "/tmp:ro"]), (String::new(), Some(1)));
    assert!(!root.0.join("tmp/w").exists());
    // What lies in a volume is the volume's.
    std::fs::create_dir_all(root.0.join("var/tmp")).unwrap();
    let volume = Directory::new("over");
    std::fs::create_dir(volume.0.join("tmp")).unwrap();
    let mut command = Command::new(xc());
    command.args(["run", "--read-only", "-v", &format!("{}:/var", volume.0.display()), "--rootfs"]).arg(&root.0);
    command.args(["/bin/busybox", "touch", "/var/tmp/f"]);
    assert_eq!(run(command).status.code(), Some(0));
    assert!(volume.0.join("tmp/f").exists());
    std::fs::remove_dir(root.0.join("var/tmp")).unwrap();
    // A link of the root leads to no place of the host.
    std::os::unix::fs::symlink("/etc", root.0.join("var/tmp")).unwrap();
    let mut command = Command::new(xc());
    command.args([
        "run",
        "--read-only",
        "--rm",
        "--rootfs",
        &root.0.display().to_string(),
        "/bin/busybox",
        "ls",
        "/var/tmp/",
    ]);
    assert_eq!(run(command).status.code(), Some(1));
    assert_eq!(with(&[]), ("x\n".into(), Some(0)));
    assert_eq!(std::fs::read_to_string(root.0.join("tmp/w")).unwrap(), "x\n");
}

#[test]
fn a_report_that_nobody_reads_is_no_failure() {
    for options in [&["--stats"][..], &["--stats=json"]] {
        let mut command = Command::new(xc());
        command.arg("do").args(options).args(["--", "sh", "-c", "exit 3"]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(command.stderr(writer).status().unwrap().code(), Some(3), "{options:?}");
    }
    // Nor is a message.
    let mut command = Command::new(xc());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(command.args(["do", "--", "/no/such/program"]).stderr(writer).status().unwrap().code(), Some(127));
}

#[test]
fn a_write_past_the_callers_limit_meets_the_guest_as_on_linux() {
    let directory = tempfile::tempdir().unwrap();
    let volume = format!("{}:/mnt", directory.path().display());
    // Above the container's own memory file, which the limit counts too.
    let shell = r#"ulimit -f $((3 << 20)); exec "$0" do -v "$1" -- bash -c '
        dd if=/dev/zero of=/mnt/file bs=1k seek=$(((3 << 20) - 2)) count=9 2>/tmp/said; echo "dd: $?"
        trap "" XFSZ
        dd if=/dev/zero of=/mnt/file bs=1k seek=$(((3 << 20) - 2)) count=9 2>/tmp/said; echo "dd: $?"
        grep -o "File too large" /tmp/said
        echo goes on >/mnt/other; cat /mnt/other'"#;
    let mut command = Command::new("bash");
    command.args(["-c", shell]).arg(xc()).arg(volume);
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "dd: 153\ndd: 1\nFile too large\ngoes on\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(std::fs::metadata(directory.path().join("file")).unwrap().len(), 3 << 30);
}
