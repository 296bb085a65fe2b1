//! What the host changes below a container's volumes and its root is seen in the container, whatever it knew before.

use programs::host::Container;
use programs::xc;
use std::fs::Permissions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Answers each line, a shell command, with its output in one line and a mark.
const SHELL: &str =
    "echo ready; while read -r line; do eval \"$line\" >/dev/shm/out 2>&1; echo $(cat /dev/shm/out); done";

/// A container that looks at a directory of the host, and the directory.
struct Seen {
    container: Container,
    host: TempDir,
    /// Where the container has it.
    inside: String,
}

impl Seen {
    /// As a volume.
    fn volume() -> Self {
        let host = tempfile::tempdir().expect("directory");
        let volume = format!("{}:/mnt", host.path().display());
        Self::start(host, &["-v", &volume], "/mnt")
    }

    /// Below the root.
    fn root() -> Self {
        let host = tempfile::tempdir().expect("directory");
        let inside = host.path().display().to_string();
        Self::start(host, &[], &inside)
    }

    fn start(host: TempDir, options: &[&str], inside: &str) -> Self {
        let mut command = Command::new(xc());
        command.arg("do").args(options).args(["--", "bash", "-c", SHELL]);
        let mut container = Container::start(command);
        assert_eq!(container.line(), "ready");
        Self { container, host, inside: inside.to_owned() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.host.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text.to_owned() + "\n").expect("write");
    }

    /// What a command prints in the container; `@` is the directory.
    fn ask(&mut self, command: &str) -> String {
        let command = command.replace('@', &self.inside);
        writeln!(self.container.stdin.as_mut().expect("stdin"), "{command}").expect("a container that listens");
        self.container.line()
    }

    /// Asks until the answer is this one.
    fn becomes(&mut self, command: &str, answer: &str) {
        for _ in 0..2000 {
            if self.ask(command) == answer {
                return;
            }
        }
        panic!("{command}: {:?} and not {answer:?}", self.ask(command));
    }
}

fn both(check: impl Fn(Seen)) {
    check(Seen::volume());
    check(Seen::root());
}

#[test]
fn contents_and_size_that_the_host_changes_are_seen() {
    both(|mut seen| {
        seen.write("file", "one");
        assert_eq!(seen.ask("cat @/file; stat -c %s @/file"), "one 4");
        seen.write("file", "longer than before");
        seen.becomes("stat -c %s @/file; cat @/file", "19 longer than before");
        std::fs::OpenOptions::new().append(true).open(seen.path("file")).unwrap().write_all(b"!\n").unwrap();
        seen.becomes("stat -c %s @/file; cat @/file", "21 longer than before !");
        std::fs::File::options().write(true).open(seen.path("file")).unwrap().set_len(4).unwrap();
        seen.becomes("stat -c %s @/file; cat @/file", "4 long");
    });
}

#[test]
fn a_name_that_was_absent_is_found_once_the_host_has_made_it() {
    both(|mut seen| {
        assert_eq!(seen.ask("test -e @/new || echo absent; test -e @/dir/below || echo absent"), "absent absent");
        seen.write("new", "text");
        seen.becomes("cat @/new", "text");
        std::fs::create_dir(seen.path("dir")).unwrap();
        seen.write("dir/below", "deeper");
        seen.becomes("cat @/dir/below", "deeper");
        // Known to be absent in a directory that was listed whole.
        assert_eq!(seen.ask("ls @/dir; cat @/dir/late 2>/dev/null || echo absent"), "below absent");
        seen.write("dir/late", "late");
        seen.becomes("cat @/dir/late; ls @/dir", "late below late");
    });
}

#[test]
fn what_the_host_removes_is_gone_and_what_it_makes_again_is_another_file() {
    both(|mut seen| {
        seen.write("file", "first");
        std::fs::create_dir(seen.path("dir")).unwrap();
        assert_eq!(seen.ask("cat @/file; ls @"), "first dir file");
        std::fs::remove_file(seen.path("file")).unwrap();
        std::fs::remove_dir(seen.path("dir")).unwrap();
        seen.becomes("test -e @/file || echo gone; test -e @/dir || echo gone", "gone gone");
        seen.write("file", "other");
        seen.becomes("cat @/file", "other");
        std::fs::remove_file(seen.path("file")).unwrap();
        std::fs::create_dir(seen.path("file")).unwrap();
        seen.becomes("stat -c %F @/file", "directory");
    });
}

#[test]
fn a_file_that_the_host_renames_has_its_new_name_and_a_replaced_one_its_new_contents() {
    both(|mut seen| {
        seen.write("file", "old");
        assert_eq!(seen.ask("cat @/file; cat @/moved 2>/dev/null || echo absent"), "old absent");
        std::fs::rename(seen.path("file"), seen.path("moved")).unwrap();
        seen.becomes("cat @/moved; test -e @/file || echo gone; ls @", "old gone moved");
        // As editors save.
        for text in ["saved", "saved again", "and again"] {
            seen.write(".moved.tmp", text);
            std::fs::rename(seen.path(".moved.tmp"), seen.path("moved")).unwrap();
            seen.becomes("cat @/moved; ls -A @", &format!("{text} moved"));
        }
    });
}

#[test]
fn files_that_were_opened_in_advance_are_what_the_host_has_made_of_them() {
    both(|mut seen| {
        for directory in ["a", "b"] {
            std::fs::create_dir(seen.path(directory)).unwrap();
            (10..40).for_each(|i| seen.write(&format!("{directory}/{i}"), "old"));
        }
        // Those behind are opened with the first ones.
        let read = |directory: &str, files: &str| {
            format!("for i in {files}; do read -r x <@/{directory}/$i && echo $x || echo none; done 2>/dev/null")
        };
        let all = "old ".repeat(30);
        assert_eq!(seen.ask(&format!("ls @/a @/b >/dev/null; {}", read("a", "{10..39}"))), all.trim_end());
        assert_eq!(seen.ask(&read("b", "{10..13}")), "old old old old");
        for i in (14..40).step_by(3) {
            seen.write("b/.new", "replaced");
            std::fs::rename(seen.path("b/.new"), seen.path(&format!("b/{i}"))).unwrap();
            seen.write(&format!("b/{}", i + 1), "written");
            if i + 2 < 40 {
                std::fs::remove_file(seen.path(&format!("b/{}", i + 2))).unwrap();
            }
        }
        let changed = "replaced written none ".repeat(9);
        seen.becomes(&read("b", "{14..39}"), changed.trim_end().trim_end_matches(" none"));
    });
}

#[test]
fn a_directory_that_was_listed_in_advance_is_what_the_host_and_the_container_have_made_of_it() {
    both(|mut seen| {
        for directory in 10..40 {
            std::fs::create_dir(seen.path(&format!("{directory}"))).unwrap();
            seen.write(&format!("{directory}/old"), "old");
        }
        let list =
            |directories: &str| format!("for i in {directories}; do cat @/$i/old; echo @/$i/*; done 2>/dev/null");
        let inside = seen.inside.clone();
        let names = |directory: u32, names: &str| {
            let names = names.split(' ').map(|name| format!("{inside}/{directory}/{name}"));
            names.collect::<Vec<_>>().join(" ")
        };
        let first: Vec<_> = (10..20).map(|directory| format!("old {}", names(directory, "old"))).collect();
        assert_eq!(seen.ask(&list("{10..19}")), first.join(" "));
        // The next one is another directory of that name, with a file of the same name.
        std::fs::rename(seen.path("20"), seen.path("20-before")).unwrap();
        std::fs::create_dir(seen.path("20")).unwrap();
        seen.write("20/old", "new");
        seen.write("20/new", "new");
        seen.becomes(&list("20"), &format!("new {}", names(20, "new old")));
        let more: Vec<_> = (21..27).map(|directory| format!("old {}", names(directory, "old"))).collect();
        assert_eq!(seen.ask(&list("{21..26}")), more.join(" "));
        // Here it is still the same directory.
        seen.write("27/.new", "new");
        std::fs::rename(seen.path("27/.new"), seen.path("27/old")).unwrap();
        seen.write("27/new", "new");
        seen.becomes(&list("27"), &format!("new {}", names(27, "new old")));
        let more: Vec<_> = (28..34).map(|directory| format!("old {}", names(directory, "old"))).collect();
        assert_eq!(seen.ask(&list("{28..33}")), more.join(" "));
        // What the container itself does is there at once.
        assert_eq!(seen.ask(&format!("echo own >@/34/own; {}", list("34"))), format!("old {}", names(34, "old own")));
        assert_eq!(seen.ask(&list("{35..37}")).matches("old").count(), 6);
        assert_eq!(seen.ask("rm @/38/old; echo @/38/*; test -e @/38/old || echo gone"), names(38, "*") + " gone");
    });
}

/// Without another program, and so fast that three directories are asked for ahead.
#[test]
fn what_the_container_makes_in_the_next_directories_of_a_row_is_there_when_it_comes_to_them() {
    both(|mut seen| {
        for directory in 10..40 {
            std::fs::create_dir(seen.path(&format!("{directory}"))).unwrap();
            seen.write(&format!("{directory}/old"), "old");
        }
        let make = "if ((i % 6 == 3 && i < 37)); then for n in 1 2 3; do echo $i >@/$((i + n))/own; done; fi";
        let look = "set -- @/$i/*; echo ${*##*/}; [ ! -e @/$i/own ] || { read -r x <@/$i/own; echo $x; }";
        let names = |directory: u32| match directory % 6 {
            0 | 4 | 5 if directory > 15 => format!("old own {}", (directory - 4) / 6 * 6 + 3),
            _ => "old".to_owned(),
        };
        let all: Vec<_> = (10..40).map(names).collect();
        assert_eq!(seen.ask(&format!("for i in {{10..39}}; do {make}; {look}; done")), all.join(" "));
    });
}

/// More than there are channels to the supervisor: what one asks for in advance, another's answer is waited for on.
#[test]
fn rows_of_directories_that_many_go_through_at_once_are_seen_by_all() {
    both(|mut seen| {
        for directory in 100..300 {
            std::fs::create_dir(seen.path(&format!("{directory}"))).unwrap();
            (0..4).for_each(|i| seen.write(&format!("{directory}/{i}"), &format!("{directory} {i}")));
        }
        let walk = "for d in @/*/; do for f in $d*; do read -r x <$f; echo $f $x; done; done | md5sum";
        let sums = seen.ask(&format!("for i in {{1..12}}; do ({walk}) & done; wait"));
        assert_eq!(sums, [seen.ask(walk).as_str(); 12].join(" "));
    });
}

#[test]
fn a_file_that_is_opened_again_and_again_is_what_the_host_and_the_container_have_made_of_it() {
    both(|mut seen| {
        let read = "for i in {1..9}; do read -r x <@/file; done 2>/dev/null && echo $x || echo none";
        seen.write("file", "one");
        assert_eq!(seen.ask(read), "one");
        seen.write("file", "longer than before");
        seen.becomes(read, "longer than before");
        seen.write(".new", "saved");
        std::fs::rename(seen.path(".new"), seen.path("file")).unwrap();
        seen.becomes(read, "saved");
        assert_eq!(seen.ask(&format!("echo ours >@/file; {read}")), "ours");
        assert_eq!(seen.ask(&format!("mv @/file @/moved; {read}; read -r x <@/moved; echo $x")), "none ours");
        assert_eq!(seen.ask(&format!("echo again >@/file; {read}; rm @/file; {read}")), "again none");
    });
}

#[test]
fn attributes_that_the_host_changes_are_seen() {
    both(|mut seen| {
        seen.write("file", "");
        std::fs::create_dir(seen.path("dir")).unwrap();
        assert_eq!(seen.ask("stat -c %a @/file @/dir"), "644 755");
        let chmod = |name, mode| std::fs::set_permissions(seen.path(name), Permissions::from_mode(mode));
        chmod("file", 0o600).unwrap();
        chmod("dir", 0o711).unwrap();
        seen.becomes("stat -c %a @/file @/dir", "600 711");
        // Another name for it, and that taken away.
        assert_eq!(seen.ask("stat -c %h @/file"), "1");
        std::fs::hard_link(seen.path("file"), seen.path("twin")).unwrap();
        seen.becomes("stat -c %h @/file", "2");
        std::fs::remove_file(seen.path("twin")).unwrap();
        seen.becomes("stat -c %h @/file", "1");
        // Nobody has looked into it yet: a second later at the latest.
        let before = seen.ask("stat -c %Y.%h @/dir");
        std::fs::create_dir(seen.path("dir/below")).unwrap();
        let same = format!("[ $(stat -c %Y.%h @/dir) = {before} ]");
        assert_eq!(seen.ask(&format!("for i in {{1..9999}}; do {same} || break; done; {same} || echo other")), "other");
    });
}

#[test]
fn an_open_file_tells_of_what_the_host_appends() {
    both(|mut seen| {
        seen.write("log", "1");
        assert_eq!(seen.ask("exec 5<@/log; cat <&5; stat -L -c %s /dev/fd/5"), "1 2");
        std::fs::OpenOptions::new().append(true).open(seen.path("log")).unwrap().write_all(b"22\n").unwrap();
        seen.becomes("stat -L -c %s /dev/fd/5", "5");
        assert_eq!(seen.ask("cat <&5"), "22");
    });
}

#[test]
fn a_container_and_its_host_may_write_the_same_file() {
    let mut seen = Seen::volume();
    assert_eq!(seen.ask("exec 5>>@/both; echo guest >&5; stat -c %s @/both; cat @/both"), "6 guest");
    std::fs::OpenOptions::new().append(true).open(seen.path("both")).unwrap().write_all(b"host\n").unwrap();
    seen.becomes("stat -c %s @/both; cat @/both", "11 guest host");
    assert_eq!(seen.ask("echo guest >&5; stat -c %s @/both; cat @/both"), "17 guest host guest");
    // Replaced by another of that name.
    seen.write("other", "new");
    std::fs::rename(seen.path("other"), seen.path("both")).unwrap();
    seen.becomes("stat -c %s @/both; cat @/both", "4 new");
    assert_eq!(seen.ask("echo lost >&5; stat -c %s @/both; stat -L -c %s.%h /dev/fd/5"), "4 22.0");
    std::fs::OpenOptions::new().append(true).open(seen.path("both")).unwrap().write_all(b"er\n").unwrap();
    seen.becomes("stat -c %s @/both; cat @/both", "7 new er");
}

#[test]
fn a_file_that_the_container_gives_another_name_is_reached_by_the_one_that_is_left() {
    let mut seen = Seen::volume();
    assert_eq!(
        seen.ask("echo text >@/a; ln @/a @/b; rm @/a; chmod 600 @/b; stat -c %a.%h.%s @/b; cat @/b"),
        "600.1.5 text"
    );
    assert_eq!(
        seen.ask("ln @/b @/c; mv @/b @/d; rm @/d; chmod 640 @/c; stat -c %a.%h.%s @/c; cat @/c"),
        "640.1.5 text"
    );
    assert_eq!(std::fs::read_dir(seen.host.path()).expect("names").count(), 1);
}

#[test]
fn a_file_of_two_names_stays_itself_where_the_host_replaces_or_removes_one() {
    let mut seen = Seen::volume();
    seen.write("a", "text");
    for name in ["b", "c"] {
        std::fs::hard_link(seen.path("a"), seen.path(name)).unwrap();
    }
    assert_eq!(seen.ask("cat @/a; ls -l @ | grep -c text; cat @/b"), "text 0 text");
    seen.write("new", "replaced");
    std::fs::rename(seen.path("new"), seen.path("a")).unwrap();
    seen.becomes("cat @/a", "replaced");
    assert_eq!(seen.ask("cat @/b; echo more >>@/b; chmod 600 @/b; cat @/c; stat -c %a @/a"), "text text more 644");
    assert_eq!(seen.ask("echo other >@/b; cat @/a @/b @/c"), "replaced other other");
    assert_eq!(std::fs::read_to_string(seen.path("a")).unwrap(), "replaced\n");
    std::fs::remove_file(seen.path("b")).unwrap();
    seen.becomes("test -e @/b || echo gone", "gone");
    assert_eq!(seen.ask("cat @/c; echo once >@/c; stat -c %h.%s @/c"), "other 1.5");
    assert_eq!(std::fs::read_to_string(seen.path("c")).unwrap(), "once\n");
}

#[test]
fn what_was_written_in_the_layer_outlives_what_the_host_does_below() {
    let mut seen = Seen::root();
    for name in ["kept", "kept-dir/file", "lost"] {
        std::fs::create_dir_all(seen.path("kept-dir")).unwrap();
        seen.write(name, "host");
    }
    assert_eq!(seen.ask("echo guest >>@/kept; echo guest >@/kept-dir/own; rm @/lost; ls @"), "kept kept-dir");
    seen.write("kept", "changed on the host");
    seen.write("lost", "made again");
    std::fs::remove_dir_all(seen.path("kept-dir")).unwrap();
    seen.write("sign", "");
    seen.becomes("ls @", "kept kept-dir sign");
    assert_eq!(seen.ask("cat @/kept @/kept-dir/own; ls @/kept-dir"), "host guest guest own");
    std::fs::remove_file(seen.path("kept")).unwrap();
    std::fs::remove_file(seen.path("sign")).unwrap();
    seen.becomes("cat @/kept; ls @", "host guest kept kept-dir");
}

#[test]
fn a_name_that_the_container_removes_is_gone_where_the_host_has_made_it_meanwhile() {
    let mut seen = Seen::root();
    assert_eq!(seen.ask("for i in 1 2 3; do echo own > @/f; rm @/f; done; echo own > @/f; cat @/f"), "own");
    seen.write("f", "host");
    // The supervisor has told of it by then.
    seen.write("later", "host");
    seen.becomes("cat @/later", "host");
    assert_eq!(seen.ask("rm @/f; ls @"), "later");
}

#[test]
fn a_working_directory_stays_itself_while_the_host_changes_names_around_it() {
    both(|mut seen| {
        std::fs::create_dir(seen.path("dir")).unwrap();
        assert_eq!(seen.ask("cd @/dir; pwd -P"), seen.inside.clone() + "/dir");
        seen.write("beside", "");
        seen.becomes("ls @", "beside dir");
        // Known to be absent by the path, then made by the working directory.
        assert_eq!(
            seen.ask("test -e @/dir/x || echo absent; mkdir x; ls -d @/dir/x"),
            format!("absent {}/dir/x", seen.inside)
        );
    });
}

/// Names that a listing gives, which the host changes half way through, each once.
#[test]
fn a_listing_that_the_host_disturbs_has_each_name_once() {
    let program = "import os,sys
it = os.scandir(sys.argv[1])
names = [next(it).name for _ in range(10)]
print('half', flush=True)
sys.stdin.readline()
for _ in range(1000000):
    if os.path.exists(sys.argv[1] + '/sign'): break
names += [entry.name for entry in it]
old = [n for n in names if n != 'sign']
print(len(old), len(set(old)))";
    let host = tempfile::tempdir().expect("directory");
    for i in 0..3000 {
        std::fs::write(host.path().join(format!("a-rather-long-name-of-a-file-{i:04}")), "").unwrap();
    }
    let mut command = Command::new(xc());
    command.args(["do", "--", "python3", "-c", program]).arg(host.path());
    let mut container = Container::start(command);
    assert_eq!(container.line(), "half");
    std::fs::write(host.path().join("sign"), "").unwrap();
    container.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(container.line(), "3000 3000");
}

/// One change of the host's among few names in two directories; what cannot be is left.
fn change_something(directory: &Path, random: u64) {
    let name = |bits: u64| directory.join(format!("{}f{}", ["", "d/"][(bits % 2) as usize], bits / 2 % 12));
    let (one, other) = (name(random >> 8), name(random >> 16));
    let _ = match random % 6 {
        0 => std::fs::write(one, "x".repeat((random >> 24) as usize % 50)),
        1 => std::fs::remove_file(one),
        2 => std::fs::rename(one, other),
        3 => std::fs::hard_link(one, other),
        4 => std::fs::create_dir(directory.join("d")),
        _ => std::fs::rename(directory.join("d"), directory.join("away"))
            .and_then(|()| std::fs::remove_dir_all(directory.join("away"))),
    };
}

#[test]
fn what_a_container_has_seen_of_many_changes_is_the_hosts_in_the_end() {
    both(|mut seen| {
        // The layer counts links itself.
        let links = if seen.inside == "/mnt" { "%n" } else { "" };
        let entries = format!("find . -printf '%p.%i.{links}.%s ' | tr ' ' '\\n' | grep f | sort");
        let look = &format!("cd @; {entries}; find . -type f | sort | xargs cat");
        // xorshift, from a seed that is the same in each run.
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..30 {
            for _ in 0..20 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                change_something(seen.host.path(), random);
            }
            let _ = seen.ask(look);
        }
        let host = programs::run(programs::on_host(&[
            "bash",
            "-c",
            &look.replace('@', &seen.host.path().display().to_string()),
        ]));
        let words = String::from_utf8_lossy(&host.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.len() > 20, "{words}");
        seen.becomes(look, &words);
    });
}

/// The requests of a command in a volume.
fn requests(volume: &Path, command: &str) -> serde_json::Value {
    let mut run = Command::new(xc());
    let volume = format!("{}:/mnt", volume.display());
    run.args(["do", "--stats=json", "-w", "/mnt", "-v", &volume, "--", "bash", "-c", command]);
    let output = programs::run(run);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stderr).expect("a report");
    report["brokerRequests"].clone()
}

#[test]
fn own_changes_of_a_volume_are_not_asked_for_again() {
    let count = |changes: u32| {
        let volume = tempfile::tempdir().expect("directory");
        (0..50).for_each(|i| std::fs::write(volume.path().join(format!("f{i}")), "x").unwrap());
        let each =
            "echo x >>own; : >f0; echo y >f0; chmod 600 f1; mkdir d; rmdir d; ln -s f1 l; mv l m; rm m; echo y >n; rm n
            test -f f2 -a -f f3 -a ! -e f50 -a -s own -a -f f49 || exit 9";
        let asked = requests(volume.path(), &format!("ls >/dev/null; for i in {{1..{changes}}}; do {each}; done"));
        asked["walk"].as_u64().unwrap_or(0) + asked["readdir"].as_u64().unwrap_or(0)
    };
    let (few, many) = (count(2), count(42));
    assert!(many <= few + 2 * 40, "{few} looks for 2 rounds, {many} for 42");
}

/// Whether the host can execute a file of a volume now: not while anybody has it open for writing.
fn runs(seen: &Seen, name: &str) -> bool {
    match Command::new(seen.path(name)).status() {
        Ok(status) => status.success(),
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => false,
        Err(error) => panic!("{name}: {error}"),
    }
}

#[test]
fn what_a_living_container_has_written_the_host_executes() {
    let mut seen = Seen::volume();
    assert_eq!(seen.ask("cp /bin/true @/copied; echo done"), "done");
    assert!(runs(&seen, "copied"));
    assert_eq!(seen.ask("cat /bin/true >@/made; chmod +x @/made; echo done"), "done");
    assert!(runs(&seen, "made"));
    assert_eq!(seen.ask("cat /bin/true >>@/copied; @/copied && echo done"), "done");
    assert!(runs(&seen, "copied"));
    // Who only reads the program keeps nobody from it.
    assert_eq!(seen.ask("exec 3>@/read; cat /bin/true >&3; chmod +x @/read; exec 4<@/read 3>&-; echo done"), "done");
    assert!(runs(&seen, "read"));
    // Nor does who has read and written it again and again, once he is done.
    let often = "for i in {1..40}; do read -r -N 64 -u 6 _; done 2>/dev/null";
    let again = format!("seq 9999 >@/often; stat @/often >/dev/null; exec 6<@/often; {often}; exec 6<&-");
    assert_eq!(seen.ask(&format!("{again}; cat /bin/true >@/often; chmod +x @/often; echo done")), "done");
    assert!(runs(&seen, "often"));
    // Nor does who has read it before it was one, once he is done.
    assert_eq!(seen.ask("cat /bin/true >@/late; exec 5<@/late; chmod +x @/late; exec 5<&-; echo done"), "done");
    assert!(runs(&seen, "late"));
}

#[test]
fn what_the_container_still_writes_the_host_does_not_execute() {
    let mut seen = Seen::volume();
    assert_eq!(seen.ask("cp /bin/true @/open; exec 3>>@/open; echo done"), "done");
    assert!(!runs(&seen, "open"));
    assert_eq!(seen.ask("chmod 700 @/open; echo x >>@/open; echo done"), "done");
    assert!(!runs(&seen, "open"));
    assert_eq!(seen.ask("exec 3>&-; echo done"), "done");
    assert!(runs(&seen, "open"));
}
