//! What a container sees of files: `-v`, `--tmpfs`, mounts of the host, and a full disk.

use programs::caller::{Caller, callers, error_of, everyone_may};
use programs::{run, xc};
use std::process::Command;

#[test]
fn volumes_are_the_hosts_and_wrong_ones_are_named() {
    for caller in callers() {
        let file = caller.file("data", "old\n");
        everyone_may(file.as_ref(), 0o666);
        let (writable, read_only) = (format!("{file}:/mnt/a"), format!("{file}:/mnt/b:ro"));
        let script = "cat /mnt/b; echo new >/mnt/a; cat /mnt/b; echo x 2>/dev/null >/mnt/b || echo refused";
        assert_eq!(caller.shell(&["-v", &writable, "-v", &read_only], script), "old\nnew\nrefused\n");
        for (volume, why) in [
            ("/tmp", "SRC:DST"),
            ("/tmp:a", "absolute"),
            (":/a", "source"),
            ("/tmp:/a:rx", "rx"),
            ("/tmp:/", "--rootfs"),
            ("/no/such/dir:/a", "/no/such/dir"),
            ("/dev/null:/a", "/dev/null"),
            ("/proc:/a", "proc"),
        ] {
            caller.refuses(&["-v", volume], 125, &["--volume", volume, why]);
        }
        caller.refuses(&["-v", "/tmp:/a", "--tmpfs", "/a/"], 125, &["/a", "twice"]);
        let script = "/mnt/true 2>&1 | cut -d: -f3-; head -c0 /mnt/true && echo read";
        assert_eq!(caller.shell(&["-v", "/bin:/mnt:ro,noexec,z"], script), " /mnt/true: Permission denied\nread\n");
    }
}

#[test]
fn what_cannot_be_mounted_on_its_place_is_named() {
    for caller in callers() {
        for (options, place, why) in [
            (["-v", "/etc:/etc/passwd"], "/etc/passwd", "Not a directory"),
            (["-v", "/etc/passwd:/etc"], "/etc", "Not a directory"),
            (["-v", "/etc/passwd:/etc/passwd/x"], "/etc/passwd/x", "Not a directory"),
            (["--tmpfs", "/etc/passwd"], "/etc/passwd", "Not a directory"),
            (["-v", "/etc:/proc/x"], "/proc/x", "nothing can be mounted there"),
        ] {
            caller.refuses(&options, 125, &[&format!("cannot mount {place}: "), why]);
        }
    }
}

#[test]
fn a_mount_lies_in_another_whatever_their_order() {
    for caller in callers() {
        for name in ["outer", "inner"] {
            std::fs::create_dir(caller.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            caller.file(&format!("{name}/{name}"), "");
        }
        let outer = format!("{}:/mnt:ro", caller.path("outer"));
        let inner = format!("{}:/mnt/a:ro", caller.path("inner"));
        assert_eq!(
            caller.shell(&["-v", &inner, "-v", &outer], "ls /mnt/outer /mnt/a"),
            "/mnt/outer\n\n/mnt/a:\ninner\n"
        );
        assert_eq!(
            caller.shell(&["--tmpfs", "/mnt/a/b", "-v", &outer, "-v", &inner], "stat -f -c %T /mnt/a/b"),
            "tmpfs\n"
        );
    }
}

/// Runs a script as root in a mount namespace of its own: `$0` is a directory of the caller, the rest its words.
fn among_mounts(caller: &Caller, script: &str, words: &[&str]) -> String {
    let inner = caller.command(words);
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", script]).arg(caller.dir.path()).arg(inner.get_program()).args(inner.get_args());
    command.current_dir("/");
    let output = run(command);
    String::from_utf8_lossy(&output.stdout).into_owned() + &error_of(&output)
}

#[test]
fn what_is_mounted_below_a_volume_or_a_root_comes_with_it() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root mounts.
    }
    let script =
        "cd $0; mkdir -p v/a v/b; mount -t tmpfs none v/a; mkdir v/a/c; mount -t tmpfs none v/a/c; chmod 777 v/a/c
        echo deep >v/a/c/f; cd /; \"$@\"; cat $0/v/a/c/new";
    for caller in callers() {
        let volume = format!("{}:/mnt", caller.path("v"));
        let words = ["do", "-v", &volume, "--", "sh", "-c", "cat /mnt/a/c/f; echo new >/mnt/a/c/new"];
        assert_eq!(among_mounts(&caller, script, &words), "deep\nnew\n");
        let (read_only, hides) = (format!("{volume}:ro"), "/etc:/mnt/a");
        let words =
            ["do", "-v", hides, "-v", &read_only, "--", "sh", "-c", "ls -d /mnt/a/c /mnt/a/passwd; : >/mnt/b/x"];
        let said = among_mounts(&caller, script, &words);
        assert!(said.contains("\n/mnt/a/passwd\n") || said.starts_with("/mnt/a/passwd\n"), "{said}");
        assert!(said.contains("cannot access '/mnt/a/c'") && said.contains("Read-only file system"), "{said}");
        std::fs::remove_dir_all(caller.path("v")).unwrap_or_else(|error| panic!("{error}"));
        let root = caller.root();
        let script = "mkdir -p $0/root/data; mount -t tmpfs none $0/root/data; echo within >$0/root/data/f; \"$@\"";
        let words = ["run", "--rootfs", &root, "-v", "/usr:/usr:ro", "--", "cat", "/data/f"];
        assert_eq!(among_mounts(&caller, script, &words), "within\n");
    }
}

/// One such mount, /boot/efi often, stopped every container of ordinary users.
#[test]
fn a_mount_that_the_caller_may_not_enter_is_there_and_closed() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root mounts.
    }
    let script = "mkdir $0/closed; mount -t tmpfs -o mode=700 none $0/closed; : >$0/closed/f; \"$@\"";
    let caller = Caller::new(true);
    let look = format!("stat -c %a {0}; ls {0} 2>&1 | grep -o 'Permission denied'", caller.path("closed"));
    assert_eq!(among_mounts(&caller, script, &["do", "--", "sh", "-c", &look]), "700\nPermission denied\n");
}

#[test]
fn a_full_disk_below_a_root_is_enospc_and_the_container_goes_on() {
    let caller = Caller::new(false);
    if !rustix::process::geteuid().is_root() {
        return; // Only root mounts a small disk.
    }
    let (root, disk) = (caller.root(), caller.path("disk"));
    std::fs::create_dir(&disk).unwrap_or_else(|error| panic!("{disk}: {error}"));
    // What was written before is whole, and what was of the file that found no room.
    let inside = "seq 9999 >/kept; sync /kept; head -c 9000000 /dev/zero >/f; stat -c %s /f; cmp -n $(stat -c %s /f) /f /dev/zero && mv /f /full";
    let after = "seq 9999 | cmp - /kept; rm /full; echo goes on >/g; cat /g";
    let outside =
        "mount -t tmpfs -o size=2m none $0 && cp -a $1/. $0 && run=\"$2 run --rootfs $0 -v /usr:/usr:ro sh -c\"
        $run \"$3\"; seq 9999 | cmp - $0/kept && stat -c %s $0/full && exec $run \"$4\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", outside, &disk, &root]).arg(xc()).args([inside, after]);
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        matches!(lines.as_slice(), [inside, outside, "goes on"] if inside == outside && *inside != "0"),
        "{text}{}",
        error_of(&output)
    );
    assert!(error_of(&output).contains("No space left on device"), "{}", error_of(&output));
}

/// One such name stopped every container, another was not there.
#[test]
fn mounts_of_the_host_are_there_whatever_bytes_their_names_have() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root mounts.
    }
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory: {error}"));
    let outside = "cd $0; for name in $'a\\tb c' $'\\xff\\\\n'; do
        mkdir \"$name\" && mount -t tmpfs none \"$name\" && echo within >\"$name/file\"
        $1 do -- cat \"$PWD/$name/file\"; done";
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", outside]).arg(directory.path()).arg(xc());
    let output = run(command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "within\nwithin\n", "{}", error_of(&output));
}

/// The LibOS's own processes have ids of their own, in which a file that they hold would look like nobody's.
#[test]
fn a_written_file_of_the_host_keeps_its_owner() {
    for caller in callers() {
        let volume = format!("{}:/mnt", caller.dir.path().display());
        let script = "echo x >/mnt/new; [ $(stat -c %u /mnt/new) = $(id -u) ] && [ $(stat -c %g /mnt/new) = $(id -g) ] && echo own";
        assert_eq!(caller.shell(&["-v", &volume], script), "own\n");
    }
}

#[test]
fn tmpfs_has_its_size_and_mode() {
    for caller in callers() {
        let fill = "head -c 2000000 /dev/zero 2>/dev/null >/mnt/f || echo full; stat -c %a /mnt";
        // Files hold all of it, in whole pages.
        let exact =
            "for i in 1 2 3; do : >/mnt/$i; done; head -c 70000 /dev/zero 2>/dev/null >/mnt/f; stat -c %s /mnt/f";
        assert_eq!(caller.shell(&["--tmpfs", "/mnt:size=64k"], exact), "65536\n");
        assert_eq!(caller.shell(&["--tmpfs", "/mnt:size=1"], exact), "4096\n");
        assert_eq!(caller.shell(&["--tmpfs", "/mnt:size=1m,mode=777"], fill), "full\n777\n");
        let as_podman = caller.shell(&["--tmpfs", "/mnt"], "grep ' /mnt ' /proc/mounts");
        assert!(as_podman.starts_with("tmpfs /mnt tmpfs rw,nosuid,nodev,relatime"), "{as_podman}");
        assert_eq!(caller.shell(&["--tmpfs", "/mnt:ro"], "touch /mnt/f 2>/dev/null || echo refused"), "refused\n");
        caller.refuses(&["--tmpfs", "mnt"], 125, &["--tmpfs mnt", "absolute"]);
        caller.refuses(&["--tmpfs", "/mnt:size=much"], 125, &["--tmpfs", "much"]);
        caller.refuses(&["--tmpfs", "/mnt:fast"], 125, &["--tmpfs", "fast"]);
    }
}

#[test]
fn a_tmpfs_refuses_what_its_flags_say() {
    let as_another = "cp /usr/bin/id /mnt && chmod 4755 /mnt/id && setpriv --reuid 7 --clear-groups /mnt/id -u";
    for caller in callers() {
        let run =
            "grep ' /mnt ' /proc/mounts; cp /bin/true /mnt; test -x /mnt/true || echo no program; /mnt/true || echo $?
            exec 2>&1; /lib64/ld-linux-x86-64.so.2 /mnt/true || echo $?";
        let output = caller.shell(&["--tmpfs", "/mnt:noexec,nodev,nosuid"], run);
        assert!(output.starts_with("tmpfs /mnt tmpfs rw,nosuid,nodev,noexec,relatime"), "{output}");
        assert!(output.contains("\nno program\n126\n"), "{output}");
        assert!(output.ends_with("failed to map segment from shared object\n127\n"), "{output}");
        if !caller.is_ordinary && rustix::process::geteuid().is_root() {
            assert_eq!(caller.shell(&["--tmpfs", "/mnt:nosuid"], as_another), "7\n");
            assert_eq!(caller.shell(&["--tmpfs", "/mnt:suid"], as_another), "0\n");
        }
    }
}
