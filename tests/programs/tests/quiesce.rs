//! Quiesce: a container whose threads are all stopped, and go on, many times while it works prints what the host prints, and
//! nothing in it moves meanwhile.

use programs::host::{comes_true, descendants, runs_libos};
use programs::{compile, on_host, run};
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// A supervisor of the program `standing`.
struct Standing {
    supervisor: Child,
    told: BufReader<ChildStderr>,
    output: Option<std::thread::JoinHandle<String>>,
    rounds: usize,
}

impl Standing {
    fn start(directory: &Path, shell: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_standing"));
        command.args(["sh", "-c", shell]).current_dir(directory);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut supervisor = streams.spawn().expect("standing");
        let mut stdout = supervisor.stdout.take().unwrap();
        let told = BufReader::new(supervisor.stderr.take().unwrap());
        let output = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Self { supervisor, told, output: Some(output), rounds: 0 }
    }

    /// Gives a command; false once the supervisor has gone.
    fn tell(&mut self, command: &str) -> bool {
        match self.supervisor.stdin.as_mut().unwrap().write_all(command.as_bytes()) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Stops everybody; how many stand, None at the container's end.
    fn quiesce(&mut self) -> Option<usize> {
        let mut line = String::new();
        if !self.tell("quiesce\n") || self.told.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        self.rounds += 1;
        let count = line.trim().strip_prefix("standing ");
        Some(count.unwrap_or_else(|| panic!("{line}")).parse().unwrap())
    }

    /// Everything in the container: threads with their time on the processor, and a hash of the arena; None once it has ended.
    fn look(&self) -> (Vec<Thread>, Option<u64>) {
        let guests = descendants(self.supervisor.id()).into_iter().filter(|pid| runs_libos(*pid));
        let threads = guests.flat_map(threads_of).collect();
        (threads, arena(self.supervisor.id()).as_ref().map(hash_of_data))
    }

    /// Whether nothing moves while `count` guest threads stand.
    fn check_still(&self, count: usize) {
        let sleeps = |thread: &Thread| thread.state == "S" && (thread.is_service || thread.is_at_futex());
        let at_rest = || {
            let (threads, arena) = self.look();
            arena.is_none()
                || threads.iter().all(sleeps) && threads.iter().filter(|thread| !thread.is_service).count() == count
        };
        assert!(comes_true(at_rest), "{count} stand: {:#?}", self.look().0);
        let (first, second) = (self.look(), self.look());
        if first.1.is_none() || second.1.is_none() {
            // Its last process was about to end, and the round came behind that.
            assert!(comes_true(|| descendants(self.supervisor.id()).is_empty()), "no arena");
            return;
        }
        assert_eq!(first, second);
    }

    fn finish(mut self) -> (String, ExitStatus, usize) {
        let status = self.supervisor.wait().unwrap();
        (self.output.take().unwrap().join().unwrap(), status, self.rounds)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // Where the test failed: the container dies with it.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Thread {
    tid: u32,
    /// The service process's, which waits for events.
    is_service: bool,
    state: String,
    /// Nanoseconds on a processor, nanoseconds that it waited for one, and how often it ran.
    times: String,
    /// Number and arguments of the host call in which it sleeps; None where we may not know.
    call: Option<String>,
}

impl Thread {
    fn is_at_futex(&self) -> bool {
        self.call.as_ref().is_none_or(|call| call.starts_with("202 "))
    }
}

fn threads_of(pid: u32) -> Vec<Thread> {
    let text = |path: PathBuf| std::fs::read_to_string(path);
    let status = text(format!("/proc/{pid}/status").into()).unwrap_or_default();
    let is_service = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t2"));
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads = entries.filter_map(|entry| {
        let stat = text(entry.path().join("stat")).ok()?;
        Some(Thread {
            tid: entry.file_name().to_str()?.parse().ok()?,
            is_service,
            state: stat.rsplit_once(") ")?.1.split(' ').next()?.to_owned(),
            times: text(entry.path().join("schedstat")).ok()?,
            call: text(entry.path().join("syscall")).ok(),
        })
    });
    threads.collect()
}

/// The arena, as its supervisor holds it.
fn arena(supervisor: u32) -> Option<File> {
    let held = programs::host::descriptors(supervisor);
    let (number, _) = held.iter().find(|(_, what)| what.to_string_lossy().contains("memfd:arena"))?;
    File::open(format!("/proc/{supervisor}/fd/{number}")).ok()
}

/// A hash of what is not a hole.
fn hash_of_data(file: &File) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut end = 0;
    while let Ok(mut at) = seek(file, SeekFrom::Data(end)) {
        end = seek(file, SeekFrom::Hole(at)).unwrap();
        while at < end {
            let count = usize::try_from(end - at).unwrap().min(buffer.len());
            file.read_exact_at(&mut buffer[..count], at).unwrap();
            (at, &buffer[..count]).hash(&mut hasher);
            at += count as u64;
        }
    }
    hasher.finish()
}

/// Stops the container that runs `shell` again and again until it ends: it prints what the host prints.
fn assert_undisturbed(shell: &str, programs: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    for name in programs {
        let _ = compile(&format!("{name}.c"), &["-O2", "-w", "-pthread"], directory.path());
    }
    let mut host = on_host(&["sh", "-c", shell]);
    host.current_dir(directory.path());
    let expected = run(host);
    let mut container = Standing::start(directory.path(), shell);
    while let Some(count) = container.quiesce() {
        if container.rounds.is_multiple_of(8) {
            container.check_still(count);
        }
        if !container.tell("resume\n") {
            break;
        }
    }
    let (output, status, rounds) = container.finish();
    assert_eq!(output, String::from_utf8_lossy(&expected.stdout), "after {rounds} rounds");
    assert_eq!(status.code(), expected.status.code());
    assert!(rounds >= 24, "only {rounds} rounds");
}

#[test]
fn threads_and_processes_that_are_busy_notice_nothing() {
    assert_undisturbed("./busy | sort", &["busy"]);
}

#[test]
fn sleeps_of_every_kind_go_on() {
    assert_undisturbed("(sleep 1; echo) | ./sleeps; exit 3", &["sleeps"]);
}

#[test]
fn pipelines_and_scripts_notice_nothing() {
    let shell = r#"exec 2>&1
        for i in 1 2 3 4; do seq $((i * 20000)) | sort -r | tac | md5sum >out.$i & done
        dd if=/dev/zero bs=1M count=40 2>/dev/null | cat | wc -c
        perl -e 'for (1..40) { fork or exec "true" } $n++ while wait > 0; print "$n ended\n"; print select(undef, undef, undef, 0.5), "\n"'
        python3 -c '
import queue, subprocess, threading
jobs, sums = queue.Queue(), []
def work():
    while (job := jobs.get()) is not None: sums.append(int(subprocess.run(["expr", str(job), "*", "2"], stdout=-1).stdout))
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[jobs.put(n) for n in range(1, 41)]
[jobs.put(None) for _ in threads]
[thread.join() for thread in threads]
print(sum(sums))'
        wait
        cat out.?"#;
    assert_undisturbed(shell, &[]);
}
