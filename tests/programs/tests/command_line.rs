//! `xc` itself: exit status, messages, report, options, with right and with wrong input.

use programs::caller::{Caller, callers, error_of, everyone_may};
use programs::host::{Container, comes_true, descendants};
use programs::{compile, in_container, on_host, run, xc};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

fn status_and_error(words: &[&str]) -> (Option<i32>, String) {
    let output = run(in_container(words));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_missing_program_is_127_and_named() {
    let (status, error) = status_and_error(&["no-such-program"]);
    assert_eq!(status, Some(127));
    assert!(error.contains("no-such-program"), "{error}");
}

#[test]
fn a_directory_and_a_plain_file_are_126() {
    assert_eq!(status_and_error(&["/etc"]).0, Some(126));
    assert_eq!(status_and_error(&["/etc/passwd"]).0, Some(126));
}

#[test]
fn what_is_no_program_is_126_or_127_and_named() {
    let binary = std::fs::read("/bin/true").unwrap_or_default();
    let mut foreign = binary.clone();
    foreign[18] = 0xb7; // EM_AARCH64
    for caller in callers() {
        let write = |name: &str, bytes: &[u8]| {
            let path = caller.path(name);
            std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
            everyone_may(path.as_ref(), 0o755);
        };
        write("foreign", &foreign);
        write("cut-off", &binary[..100]);
        write("empty", b"");
        write("no-interpreter", b"#!/no/such/interpreter\n");
        write("foreign-interpreter", format!("#!{}\n", caller.path("foreign")).as_bytes());
        symlink("circle", caller.path("circle")).unwrap_or_else(|error| panic!("{error}"));
        for (name, status) in [
            ("foreign", 126),
            ("cut-off", 126),
            ("empty", 126),
            ("foreign-interpreter", 126),
            ("circle", 126),
            ("empty/below", 126),
            ("no-interpreter", 127),
            ("missing", 127),
        ] {
            let output = caller.run(&["do", &caller.path(name)]);
            assert_eq!(output.status.code(), Some(status), "{name}: {}", error_of(&output));
            assert!(
                error_of(&output).contains(&format!("cannot start {}", caller.path(name))),
                "{}",
                error_of(&output)
            );
        }
    }
}

#[test]
fn a_program_killed_by_a_signal_is_128_plus_its_number() {
    assert_eq!(status_and_error(&["bash", "-c", "sh -c 'kill -9 $$'; exit $?"]).0, Some(137));
    // What `xc do` runs is no init.
    for (script, status) in [("kill -TERM $$; echo alive >&2", 143), ("kill -9 $$; echo alive >&2", 137)] {
        assert_eq!(status_and_error(&["sh", "-c", script]), (Some(status), String::new()));
    }
    assert_eq!(status_and_error(&["perl", "-e", "alarm 1; sleep"]), (Some(142), String::new()));
    assert_eq!(
        status_and_error(&["perl", "-e", "pipe R, W; close R; syswrite W, 1; exit 3"]),
        (Some(141), String::new())
    );
}

#[test]
fn the_first_program_of_a_root_is_an_init() {
    let mut command = Command::new(xc());
    command.args([
        "run",
        "--rootfs",
        &programs::debian("root"),
        "--read-only",
        "--",
        "sh",
        "-c",
        "kill -TERM $$; exit 3",
    ]);
    assert_eq!(run(command).status.code(), Some(3));
}

#[test]
fn bad_options_are_125() {
    let output = run({
        let mut command = Command::new(xc());
        command.args(["do", "--no-such-option", "true"]);
        command
    });
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn a_rootfs_that_is_no_directory_is_125_and_named() {
    for (root, why) in [("/no/such/root", "No such file"), ("/etc/passwd", "not a directory")] {
        let mut command = Command::new(xc());
        command.args(["run", "--rootfs", root, "true"]);
        let output = run(command);
        assert_eq!(output.status.code(), Some(125));
        let named = [&format!("--rootfs {root}: "), why];
        assert!(named.iter().all(|part| error_of(&output).contains(*part)), "{}", error_of(&output));
    }
}

#[test]
fn a_rootfs_that_is_no_root_is_127_and_named() {
    for caller in callers() {
        let empty = caller.path("empty");
        std::fs::create_dir(&empty).unwrap_or_else(|error| panic!("{empty}: {error}"));
        for program in ["sh", "/bin/sh"] {
            let output = caller.run(&["run", "--rootfs", &empty, program]);
            assert_eq!(output.status.code(), Some(127), "{}", error_of(&output));
            let named = [&format!("cannot start {program}: "), &format!("{empty} is no root file system")];
            assert!(named.iter().all(|part| error_of(&output).contains(*part)), "{}", error_of(&output));
        }
        let output = caller.run(&["run", "--rootfs", &caller.root(), "no-such-program"]);
        assert!(!error_of(&output).contains("root file system"), "{}", error_of(&output));
    }
}

#[test]
fn the_report_counts_calls() {
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "--", "/bin/true"]);
    let output = run(command);
    let report: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let calls = report["jumps"].as_u64().unwrap_or(0) + report["traps"].as_u64().unwrap_or(0);
    assert!(calls > 10, "{report}");
    assert!(report["hostCalls"]["mmap"].as_u64().unwrap_or(0) > 0, "{report}");
    assert!(report["minorFaults"].as_u64().unwrap_or(0) > 0, "{report}");
}

#[test]
fn the_report_tells_host_calls_by_the_guest_call_that_made_them() {
    let mut command = Command::new(xc());
    let program = "import time\nfor _ in range(30): time.sleep(0.001)";
    command.args(["do", "--stats=json", "--", "/usr/bin/python3", "-c", program]);
    let report: serde_json::Value = serde_json::from_slice(&run(command).stderr).unwrap_or_default();
    let by_guest = report["hostCallsByGuestCall"].as_object().expect("host calls by guest call");
    let count = |guest: &str, host: &str| by_guest.get(guest).and_then(|calls| calls[host].as_u64()).unwrap_or(0);
    assert!(count("clock_nanosleep", "futex") >= 30, "{report}");
    assert_eq!(count("clock_nanosleep", "preadv2"), 0, "{report}");
    // Every host call is one guest call's, or stands outside.
    let sum =
        |of: &serde_json::Value| of.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>();
    assert_eq!(by_guest.values().map(sum).sum::<u64>(), sum(&report["hostCalls"]));
    let times = report["brokerUs"].as_object().map(|times| times.keys().collect::<Vec<_>>());
    assert_eq!(times, report["brokerRequests"].as_object().map(|counts| counts.keys().collect()));
}

#[test]
fn a_profile_names_functions_of_the_guest_and_of_the_libos() {
    let directory = tempfile::tempdir().unwrap();
    let folded = directory.path().join("folded");
    let beside = directory.path().join("folded.perf");
    std::fs::write(&beside, "the caller's").unwrap();
    let program = compile("budget.c", &["-O0"], directory.path());
    let mut command = Command::new(xc());
    command.args(["do", "--profile"]).arg(&folded).arg("--").arg(program).args(["stat", "5000000"]);
    let output = run(command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = std::fs::read_to_string(&folded).unwrap();
    let is_one =
        |line: &str| line.rsplit_once(' ').is_some_and(|(stack, n)| stack.contains(';') && n.parse::<u64>().is_ok());
    assert!(text.lines().all(is_one), "{text}");
    let is_of_files = |line: &str| line.starts_with("libos;") && line.contains("xlibos::fs::");
    assert!(text.lines().any(is_of_files), "{text}");
    let is_named = |line: &str| line.starts_with("guest;budget;") && !line.contains(";0x");
    assert!(text.lines().any(is_named), "{text}");
    assert_eq!(std::fs::read_to_string(beside).unwrap(), "the caller's");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "these, the program, and nothing else");
}

#[test]
fn a_profile_that_is_killed_ends_the_container() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root samples.
    }
    let directory = tempfile::tempdir().unwrap();
    for signal in ["TERM", "KILL"] {
        let mut command = Command::new(xc());
        command.args(["do", "--profile"]).arg(directory.path().join("folded")).args(["--", "sh", "-c", "echo up; cat"]);
        command.env("TMPDIR", directory.path());
        let mut profiled = Container::start(command);
        assert_eq!(profiled.line(), "up");
        let all = descendants(profiled.xc.id());
        assert!(!all.is_empty());
        let kill = run(on_host(&["kill", &format!("-{signal}"), &profiled.xc.id().to_string()]));
        assert!(kill.status.success());
        profiled.xc.wait().unwrap();
        assert!(
            comes_true(|| all.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())),
            "{signal}"
        );
    }
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["folded"]);
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_unless_nobody_reads_it() {
    for words in [&["features"][..], &["version"], &["doctor"], &["--help"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = run_to(words, full.into());
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        assert!(error_of(&output).contains("standard output: No space left"), "{}", error_of(&output));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run_to(words, writer.into()).status.code(), Some(0), "{words:?}");
    }
}

fn run_to(words: &[&str], stdout: Stdio) -> std::process::Output {
    let mut command = Command::new(xc());
    command.args(words).stdout(stdout);
    run(command)
}

#[test]
fn a_trace_is_a_line_each_as_strace_writes_them() {
    let mut command = Command::new(xc());
    let script =
        "/bin/cat '/no such\n' 2>/dev/null; echo 'a\t1'; { sh -c 'kill -USR1 $$'; } 2>/dev/null; exec /bin/true x";
    command.args(["do", "--strace", "--", "sh", "-c", script]);
    command.stdout(Stdio::null());
    command.env_remove("LD_LIBRARY_PATH");
    let error = error_of(&run(command));
    let lines: Vec<&str> = error.lines().collect();
    let is_call = |line: &str| line.contains(") = ");
    let is_event = |line: &str| {
        [("] --- SIG", "} ---"), ("] +++ ", " +++")]
            .iter()
            .any(|(begin, end)| line.contains(begin) && line.ends_with(end))
    };
    assert!(lines.iter().all(|line| line.starts_with("[pid ") && (is_call(line) || is_event(line))), "{error}");
    let expected = [
        "[pid 1] openat(AT_FDCWD, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC) = 3",
        "[pid 1] read(3, \"\\177ELF\\2\\1\\1\\3\\0",
        "[pid 1] mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x",
        "] openat(AT_FDCWD, \"/dev/null\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3",
        "[pid 1] write(1, \"a\\t1\\n\", 4) = 4",
        "[pid 3] --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=3, si_uid=",
        "[pid 3] +++ killed by SIGUSR1 +++",
        "[pid 1] --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=3, si_uid=",
        "[pid 1] +++ exited with 0 +++",
        "[pid 2] execve(\"/bin/cat\", 0x",
        "[pid 1] execve(\"/bin/true\", 0x",
        "[pid 1] set_robust_list(0x",
        "openat(AT_FDCWD, \"/no such\\n\", O_RDONLY) = -1 ENOENT (No such file or directory)",
        "[pid 1] exit_group(0) = ?",
    ];
    for part in expected {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {error}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains("[pid 1] exit_group")).count(), 1);
}

#[test]
fn a_profile_that_cannot_be_written_is_named_before_the_program_runs() {
    let mut command = Command::new(xc());
    command.args(["do", "--profile", "/nowhere/profile", "--", "echo", "ran"]);
    let output = run(command);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), b"".as_slice()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/profile"), "{output:?}");
}

#[test]
fn features_lists_at_most_25_host_calls_and_24_requests() {
    let mut command = Command::new(xc());
    command.arg("features");
    let features: serde_json::Value = serde_json::from_slice(&run(command).stdout).unwrap_or_default();
    let count = |key: &str| features[key].as_array().map_or(usize::MAX, Vec::len);
    assert!(count("hostCalls") <= 25);
    assert!(count("brokerRequests") <= 24);
}

#[test]
fn the_first_process_is_pid_1_and_sees_its_own_host_name() {
    let mut command = Command::new(xc());
    command.args(["do", "--hostname", "elsewhere", "--", "bash", "-c", "echo $$; uname -n"]);
    assert_eq!(String::from_utf8_lossy(&run(command).stdout), "1\nelsewhere\n");
}

const IDS: &str = "id -u; id -g; id -G; echo $HOME";

#[test]
fn user_is_looked_up_in_the_containers_own_accounts() {
    for caller in callers() {
        assert_eq!(caller.shell_on_root(&[], IDS), "0\n0\n0\n/root\n");
        assert_eq!(caller.shell_on_root(&["-u", "ann"], IDS), "1234\n77\n77 88\n/home/ann\n");
        assert_eq!(caller.shell_on_root(&["--user", "1234"], IDS), "1234\n77\n77 88\n/home/ann\n");
        assert_eq!(caller.shell_on_root(&["-u", "ann:wheel"], IDS), "1234\n88\n88\n/home/ann\n");
        assert_eq!(caller.shell_on_root(&["-u", "ann:"], IDS), "1234\n77\n77 88\n/home/ann\n");
        assert_eq!(caller.shell_on_root(&["-u", ":wheel"], IDS), "0\n88\n88\n/root\n");
        assert_eq!(caller.shell_on_root(&["-u", "5:6"], IDS), "5\n6\n6\n/\n");
        assert_eq!(caller.shell_on_root(&["-u", "ann", "-e", "HOME=/x"], "echo $HOME"), "/x\n");
        assert_eq!(caller.shell_on_root(&["-u", "5:6"], "grep Groups: /proc/self/status"), "Groups:\t6 \n");
        assert_eq!(caller.shell(&["-u", "daemon:77"], IDS), "1\n77\n77\n/usr/sbin\n");
    }
}

#[test]
fn a_link_of_the_root_leads_to_no_account_of_the_host() {
    for caller in callers() {
        let root = caller.root();
        let passwd = format!("{root}/etc/passwd");
        std::fs::remove_file(&passwd).and_then(|()| symlink("/etc/passwd", &passwd)).unwrap_or_else(|e| panic!("{e}"));
        let output = caller.run(&["run", "--rootfs", &root, "-u", "daemon", "true"]);
        assert_eq!(output.status.code(), Some(125), "{}", error_of(&output));
    }
}

#[test]
fn a_user_that_is_not_there_is_named() {
    for caller in callers() {
        caller.refuses(&["-u", "no-such-user"], 125, &["--user", "no-such-user", "/etc/passwd"]);
        caller.refuses(&["-u", "root:no-such-group"], 125, &["no-such-group", "/etc/group"]);
        caller.refuses(&["-u", ""], 125, &["USER:GROUP"]);
        caller.refuses(&["-u", ":"], 125, &["USER:GROUP"]);
        caller.refuses(&["-u", "-1"], 125, &["\"-1\""]);
    }
}

#[test]
fn environment_comes_from_options_files_and_caller() {
    for caller in callers() {
        let file = caller.file("env", "# comment\n\nA=1\n  B=two words # and this\r\nXC_GIVEN\nXC_NOT_GIVEN\nC=x=y\n");
        let script = "echo $A,$B,$XC_GIVEN,${XC_NOT_GIVEN-unset},$C,$D";
        let mut command =
            caller.command(&["do", "--env-file", &file, "-e", "A=2", "-e", "D=", "--", "sh", "-c", script]);
        command.env("XC_GIVEN", "given");
        let output = run(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, "2,two words # and this,given,unset,x=y,\n", "{}", error_of(&output));
    }
}

#[test]
fn a_container_of_a_root_has_the_variables_of_podman() {
    let script = "env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL= | sort";
    for caller in callers() {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let expected = format!("HOME=/root\nHOSTNAME=elsewhere\n{path}\nTERM=xterm\ncontainer=xc\n");
        assert_eq!(caller.shell_on_root(&["--hostname", "elsewhere", "-e", "XC_NOT_GIVEN"], script), expected);
        assert_eq!(caller.shell_on_root(&["-e", "HOSTNAME=x"], "echo $HOSTNAME"), "x\n");
    }
}

#[test]
fn a_setting_that_is_none_is_named_with_its_file_and_line() {
    for caller in callers() {
        caller.refuses(&["-e", "=x"], 125, &["--env =x", "NAME=VALUE"]);
        caller.refuses(&["-e", ""], 125, &["--env"]);
        caller.refuses(&["-e", "A B=x"], 125, &["white space"]);
        let bad = caller.file("bad", "A=1\n\n=2\n");
        caller.refuses(&["--env-file", &bad], 125, &[&bad, "line 3"]);
        caller.refuses(&["--env-file", "/no/such/file"], 125, &["/no/such/file"]);
        caller.refuses(&["--env-file", "/etc"], 125, &["--env-file /etc"]);
    }
}

#[test]
fn working_directory_is_entered_or_named() {
    for caller in callers() {
        assert_eq!(caller.shell(&["-w", "/usr/bin"], "pwd"), "/usr/bin\n");
        caller.refuses(&["-w", "/no/such/place"], 126, &["working directory /no/such/place", "no such directory"]);
        caller.refuses(&["-w", "/etc/passwd"], 126, &["working directory /etc/passwd"]);
        caller.refuses(&["-w", "/root", "-u", "daemon"], 126, &["working directory /root", "ermission"]);
        caller.refuses(&["-w", "usr"], 125, &["--workdir usr", "absolute"]);
    }
}

#[test]
fn a_host_name_that_is_none_is_named() {
    let long = "x".repeat(65);
    for caller in callers() {
        for name in ["", "a b", "a/b", &long] {
            caller.refuses(&["--hostname", name], 125, &["--hostname", name]);
        }
    }
}

#[test]
fn a_memory_limit_that_is_none_is_named() {
    for caller in callers() {
        assert_eq!(caller.shell(&["-m", "64m"], "head -1 /proc/meminfo"), "MemTotal:          65536 kB\n");
        for size in ["", "much", "-1", "1m", "99999999999g"] {
            caller.refuses(&["--memory", size], 125, &["--memory", size]);
        }
    }
}

#[test]
fn limits_are_the_callers() {
    // Those that a shell may set, each other than any default; what the host keeps from every process is the same.
    let limits = "ulimit -S -n 777; ulimit -S -s 7000; ulimit -S -c 5; ulimit -H -q 4096; exec \"$@\"";
    for show in ["ulimit -S -a", "ulimit -H -a"] {
        let outside = run(on_host(&["bash", "-c", limits, "bash", "bash", "-c", show]));
        let mut command = Command::new("bash");
        command.args(["-c", limits, "bash"]).arg(xc()).args(["do", "--", "bash", "-c", show]);
        let inside = run(command);
        assert_eq!(String::from_utf8_lossy(&inside.stdout), String::from_utf8_lossy(&outside.stdout), "{inside:?}");
        assert!(outside.status.success() && inside.status.success());
    }
}

#[test]
fn umask_and_nice_value_are_the_callers() {
    let told = |command: Command| {
        let mut below = Command::new("sh");
        below
            .args(["-c", "umask 027; exec nice -n 3 \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        String::from_utf8_lossy(&run(below).stdout).into_owned()
    };
    let script = ["sh", "-c", "umask; nice; touch $0; stat -c %a $0; ps -o ni= -p $$"];
    for caller in callers() {
        let file = caller.path("made");
        let host = told(on_host(&[&script[..], &[&file]].concat()));
        let words = [&["do", "--"], &script[..], &["/tmp/made"]].concat();
        assert!(host.starts_with("0027\n"), "{host}");
        assert_eq!(told(caller.command(&words)), host);
        assert_eq!(caller.shell_on_root(&[], "umask"), "0022\n");
        std::fs::remove_file(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn a_name_is_host_name_and_title_and_nobody_else_has_it() {
    for caller in callers() {
        let name = format!("t{}-{}", std::process::id(), u8::from(caller.is_ordinary));
        let mut first = Container::start(caller.command(&["do", "--name", &name, "--", "sh", "-c", "uname -n; cat"]));
        assert_eq!(first.line(), name);
        let title = std::fs::read_to_string(format!("/proc/{}/comm", first.xc.id())).unwrap_or_default();
        assert!(title.starts_with("xc: t"), "{title}");
        caller.refuses(&["--name", &name], 125, &[&name, "is running", &first.xc.id().to_string()]);
        // Killed, it is free at once for the next, which waits for the rest of the container.
        first.xc.kill().and_then(|()| first.xc.wait()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(caller.shell(&["--name", &name], "uname -n"), format!("{name}\n"));
        assert!(comes_true(|| !names_in_use().contains(&name)));
    }
}

/// Abstract sockets.
fn names_in_use() -> String {
    std::fs::read_to_string("/proc/net/unix").unwrap_or_default()
}

#[test]
fn a_name_that_is_none_is_named() {
    let long = "x".repeat(65);
    for caller in callers() {
        for name in ["", "-x", "a b", ".a", "a/b", &long] {
            caller.refuses(&["--name", name], 125, &["--name", name, "letter"]);
        }
        // Messages say whose they are.
        let output = caller.run(&["do", "--name", "mine", "no-such-program"]);
        assert!(error_of(&output).starts_with("xc: mine: cannot start no-such-program"), "{}", error_of(&output));
    }
}

#[test]
fn doctor_says_that_containers_run_and_why() {
    for caller in callers() {
        let output = caller.run(&["doctor"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.ends_with("Containers can run on this host.\n"), "{text}");
        let output = caller.run(&["doctor", "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(report["containersCanRun"], true, "{report}");
        let names: Vec<&str> =
            report["checks"].as_array().into_iter().flatten().filter_map(|check| check["name"].as_str()).collect();
        for name in ["kernel", "FSGSBASE", "seccomp", "user namespaces", "cgroups", "open files", "a container"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
    }
}

#[test]
fn doctor_tries_a_container_and_says_what_lacks() {
    for (limit, check) in
        [("-n 100", "open files"), ("-f 1000", "file size"), ("-v 1000000", "address space"), ("-d 1000", "data")]
    {
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit $0; exec \"$1\" doctor --json", limit]).arg(xc());
        let output = run(command);
        assert_eq!(output.status.code(), Some(1), "{limit}: {}", error_of(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let lacks = |name: &str| {
            let mut found = report["checks"].as_array().into_iter().flatten().filter(|c| c["name"] == name);
            found.any(|c| c["state"] == "missing" && c["mend"].as_str().is_some_and(|mend| !mend.is_empty()))
        };
        assert!(lacks(check) && lacks("a container") && report["containersCanRun"] == false, "{limit}: {report:#}");
    }
}

#[test]
fn a_host_without_proc_is_told_so_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root takes it away.
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "umount -l /proc && exec \"$0\" doctor"]).arg(xc());
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("missing /proc ") && text.contains("mount -t proc"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

/// There a pid of ours is another process's, whose ids would be mapped.
#[test]
fn a_proc_of_another_pid_namespace_is_told() {
    for (words, status) in [(&["do", "true"][..], 125), (&["doctor"], 1)] {
        let mut command = Command::new("unshare");
        command.args(["-Urmpf"]).arg(xc()).args(words);
        let output = run(command);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), error_of(&output));
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains("another pid namespace") && said.contains("mount -t proc proc /proc"), "{said}");
    }
}

#[test]
fn a_user_namespace_without_ids_is_told() {
    let mut command = Command::new("unshare");
    command.arg("-U").arg(xc()).arg("doctor");
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("missing user namespaces         the caller has no ids"), "{text}");
}

/// Neither /dev/null, nor a place for `xc` that containers share, nor settings in /proc are needed.
#[test]
fn doctor_starts_a_container_wherever_it_lies() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root mounts.
    }
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /dev && cp \"$0\" /dev/xc && mount -t proc -o subset=pid none /proc && exec /dev/xc doctor";
    command.args(["-mpf", "--mount-proc", "sh", "-c", script]).arg(xc());
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", error_of(&output));
}

#[test]
fn too_few_open_files_are_told_and_those_that_can_be_raised_are_none() {
    let tried = |limit: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit $0; \"$1\" do true && \"$1\" doctor", limit]).arg(xc());
        let output = run(command);
        (output.status.code(), error_of(&output))
    };
    assert_eq!(tried("-S -n 100"), (Some(0), String::new()));
    let (status, error) = tried("-n 100");
    assert_eq!(status, Some(125), "{error}");
    assert!(error.contains("100 files") && error.contains("ulimit -n 1024") && error.lines().count() == 1, "{error}");
}

/// A user namespace has few ids, so there is none that nobody uses.
#[test]
fn root_of_a_user_namespace_has_containers_too() {
    for caller in callers() {
        let inner = caller.command(&["do", "-w", "/", "--", "sh", "-c", "id -u; cat /etc/passwd >/tmp/x && echo well"]);
        let script = "unshare -Ur -- \"$@\"";
        let mut command = Command::new("bash");
        if caller.is_ordinary {
            // The words of setpriv come first, then those of unshare.
            let words: Vec<_> = inner.get_args().map(|word| word.to_str().unwrap_or_default().to_owned()).collect();
            let at = words.iter().position(|word| word == "--clear-groups").unwrap_or(0) + 1;
            command = Command::new("setpriv");
            command.args(&words[..at]).args(["unshare", "-Ur", "--"]).args(&words[at..]).current_dir("/");
        } else {
            command.args(["-c", script, "bash"]).arg(inner.get_program()).args(inner.get_args());
        }
        let output = run(command);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\nwell\n", "{}", error_of(&output));
    }
}

#[test]
fn a_refusal_of_the_host_is_said_once_and_leads_to_the_doctor() {
    let mut command = Command::new("unshare");
    let script = "echo 0 >/proc/sys/user/max_net_namespaces; exec \"$0\" do true";
    command.args(["-Ur", "sh", "-c", script]).arg(xc());
    let output = run(command);
    assert_eq!(output.status.code(), Some(125), "{}", error_of(&output));
    assert_eq!(error_of(&output).matches("os error").count(), 1, "{}", error_of(&output));
    assert!(error_of(&output).contains("xc doctor"), "{}", error_of(&output));
}

/// The host counts descriptors that are on their way by that limit, for all processes of a user but root's.
#[test]
fn many_starts_at_once_get_by_with_few_open_files() {
    let caller = Caller { user: "65532", ..Caller::new(rustix::process::geteuid().is_root()) };
    let words = "ulimit -n 130; for i in $(seq 40); do \"$@\" & all+=($!); done; for one in ${all[@]}; do wait $one; echo $?; done";
    let mut command = Command::new("bash");
    let inner = caller.command(&["do", "true"]);
    command.args(["-c", words, "bash"]).arg(inner.get_program()).args(inner.get_args()).current_dir("/");
    let output = run(command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n".repeat(40), "{}", error_of(&output));
}

#[test]
fn a_host_without_room_for_threads_is_125() {
    // The limit counts all processes of the user: nobody else is this one.
    let caller = Caller { user: "65533", ..Caller::new(rustix::process::geteuid().is_root()) };
    let words = ["-c", "ulimit -u 1; exec \"$@\"", "bash"];
    let mut command = Command::new("bash");
    let inner = caller.command(&["do", "true"]);
    command.args(words).arg(inner.get_program()).args(inner.get_args()).current_dir("/");
    let output = run(command);
    assert_eq!(output.status.code(), Some(125), "{}", error_of(&output));
    assert!(error_of(&output).contains("xc: "), "{}", error_of(&output));
}
