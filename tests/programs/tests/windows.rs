//! Files of the host that a program reads again and again are read in its own memory: what it reads is the host's file as it
//! is at that moment, whoever changes it.

use programs::host::{Container, mappings};
use programs::xc;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Answers "OFFSET LENGTH" with what a hundred reads gave: length and bytes at both ends of each that was another one.
const READER: &str = "import os, sys
name = sys.argv[1]
fd = os.open(name, os.O_RDONLY)
print('ready', flush=True)
for line in sys.stdin:
    if line == 'reopen\\n':
        os.close(fd)
        fd = os.open(name, os.O_RDONLY)
        line = '0 1024'
    if line == 'maps\\n':
        print('file' in open('/proc/self/maps').read(), flush=True)
        continue
    offset, length = map(int, line.split())
    seen = {os.pread(fd, length, offset) for _ in range(100)}
    print(*sorted(f'{len(s)}:{s[:2].hex()}..{s[-2:].hex()}' for s in seen), flush=True)";

/// A container with a reader of a file, and the file.
struct Reader {
    container: Container,
    directory: TempDir,
}

impl Reader {
    /// The file is below the root, or in a volume.
    fn start(is_volume: bool) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("file"), [b'a'; 12288]).expect("file");
        let mut command = Command::new(xc());
        command.arg("do");
        let mut inside = directory.path().to_path_buf();
        if is_volume {
            command.arg("-v").arg(format!("{}:/mnt", inside.display()));
            inside = PathBuf::from("/mnt");
        }
        command.args(["--", "python3", "-c", READER]).arg(inside.join("file"));
        let mut container = Container::start(command);
        assert_eq!(container.line(), "ready");
        Self { container, directory }
    }

    fn host(&self) -> File {
        File::options().write(true).open(self.directory.path().join("file")).expect("file")
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.container.stdin.as_mut().expect("stdin"), "{question}").expect("a container that listens");
        self.container.line()
    }

    /// Whether a process of the container has mapped the file.
    fn is_mapped(&self) -> bool {
        let name = self.directory.path().join("file").display().to_string();
        self.container.processes().iter().any(|pid| !mappings(*pid, &name).is_empty())
    }
}

fn both(check: impl Fn(Reader)) {
    check(Reader::start(false));
    check(Reader::start(true));
}

#[test]
fn what_the_host_writes_is_read_at_once() {
    both(|mut reader| {
        assert_eq!(reader.ask("0 1024"), "1024:6161..6161");
        assert!(reader.is_mapped());
        let host = reader.host();
        host.write_all_at(b"bb", 0).unwrap();
        assert_eq!(reader.ask("0 1024"), "1024:6262..6161");
        host.write_all_at(&[0; 12288], 0).unwrap();
        assert_eq!(reader.ask("4096 1024"), "1024:0000..0000");
        assert_eq!(reader.ask("11000 1024"), "1024:0000..0000");
        host.write_all_at(&[b'c'; 20000], 0).unwrap();
        assert_eq!(reader.ask("11776 1024"), "1024:6363..6363");
        assert_eq!(reader.ask("19000 1024"), "1000:6363..6363");
    });
}

#[test]
fn a_file_that_the_host_cuts_ends_there_at_once() {
    both(|mut reader| {
        for (len, question, answer) in [
            (12000, "11264 1024", "736:6161..6161"),
            (8192, "8192 1024", "0:.."),
            (5000, "4096 1024", "904:6161..6161"),
            (512, "0 1024", "512:6161..6161"),
            (0, "0 1024", "0:.."),
        ] {
            assert_eq!(reader.ask("0 256"), "256:6161..6161");
            reader.host().set_len(len).unwrap();
            assert_eq!(reader.ask(question), answer, "{len}");
        }
        // Made anew, shorter and with zeros, as a shell's `>` does.
        reader.host().write_all_at(&[b'd'; 9000], 0).unwrap();
        assert_eq!(reader.ask("4096 1024"), "1024:6464..6464");
        let host = reader.host();
        host.set_len(0).unwrap();
        host.write_all_at(b"ee", 4096).unwrap();
        assert_eq!(reader.ask("4096 1024"), "2:6565..6565");
        assert_eq!(reader.ask("0 1024"), "1024:0000..0000");
    });
}

#[test]
fn a_file_that_is_replaced_stays_what_it_was_where_it_is_open() {
    both(|mut reader| {
        assert_eq!(reader.ask("0 1024"), "1024:6161..6161");
        std::fs::write(reader.directory.path().join("new"), [b'n'; 2048]).unwrap();
        std::fs::rename(reader.directory.path().join("new"), reader.directory.path().join("file")).unwrap();
        assert_eq!(reader.ask("0 1024"), "1024:6161..6161");
        let becomes = |reader: &mut Reader| (0..2000).any(|_| reader.ask("reopen") == "1024:6e6e..6e6e");
        assert!(becomes(&mut reader));
    });
}

#[test]
fn a_program_is_not_shown_what_it_reads_that_way() {
    both(|mut reader| {
        assert_eq!(reader.ask("0 1024"), "1024:6161..6161");
        assert!(reader.is_mapped());
        assert_eq!(reader.ask("maps"), "False");
    });
}

/// More files than a process has windows, by several threads, children and programs: each reads the file that it asked for.
#[test]
fn many_files_and_readers_take_each_others_windows() {
    let program = "import os, sys, threading
files = [os.open(f'{sys.argv[1]}/{i}', os.O_RDONLY) for i in range(200)]
def read(step):
    for i in range(0, 60000, step):
        at = i * i // 7 % 200 if i % 3 else i // 64 % 3
        if os.pread(files[at], 1000, i % 3000) != bytes([at + 1]) * 1000: os._exit(9)
def all():
    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 5, 7)]
    [t.start() for t in threads]
    [t.join() for t in threads]
if len(sys.argv) > 2: read(7), os._exit(0)
all()
for _ in range(3):
    child = os.fork()
    if child == 0: read(7), os._exit(0)
    if os.waitpid(child, 0)[1]: os._exit(8)
    read(7)
    if os.spawnv(os.P_WAIT, sys.executable, [sys.executable, *sys.orig_argv[1:], 'child']): os._exit(7)
os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], 'again'])";
    let directory = tempfile::tempdir().expect("directory");
    for i in 0..200_u8 {
        std::fs::write(directory.path().join(i.to_string()), [i + 1; 4100]).expect("file");
    }
    let mut command = Command::new(xc());
    command.args(["do", "--", "python3", "-c", program]).arg(directory.path());
    let output = programs::run(command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
