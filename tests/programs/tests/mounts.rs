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
        caller.refuses(&["-v", "/tmp:/a", "--tmpfs", "/a"], 125, &["/a", "twice"]);
    }
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
        assert_eq!(caller.shell(&["--tmpfs", "/mnt:size=1m,mode=777"], fill), "full\n777\n");
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
