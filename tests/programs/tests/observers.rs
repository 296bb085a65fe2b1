//! Programs that look at other processes, sockets and objects of the container.

use programs::script;

/// Another process that has begun its program, as `$!`.
const SLEEPER: &str = "KEY=value sleep 99 & until [[ $(readlink /proc/$!/exe) == *sleep ]]; do :; done;";

fn prints(text: &str, expected: &[&str]) {
    let (output, status) = script(text);
    assert_eq!(status, Some(0), "{text}: {output}");
    expected.iter().for_each(|part| assert!(output.contains(part), "{text}: {part:?} is not in {output}"));
}

#[test]
fn memory_of_another_process_is_shown() {
    prints(&format!("{SLEEPER} pmap -x $! && kill $!"), &["libc.so.6", "total kB"]);
    prints("cat /proc/$$/smaps_rollup; (cat /proc/$$/smaps) | grep -c ^Rss", &["[rollup]", "Pss_Anon:"]);
}

#[test]
fn titles_and_environments_are_those_of_the_process() {
    let titled = r#"perl -e '$0 = "a title of its own"; system("ps -o args= -p $$")'"#;
    prints(titled, &["a title of its own\n"]);
    prints(&format!("{SLEEPER} tr '\\0' '\\n' </proc/$!/environ | grep KEY && kill $!"), &["KEY=value\n"]);
}

#[test]
fn namespaces_have_the_processes_of_the_container() {
    let output = script("lsns -n -o TYPE,NPROCS").0;
    let mut kinds: Vec<&str> = output.lines().filter_map(|line| line.split_whitespace().next()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"], "{output}");
}

#[test]
fn system_v_objects_are_listed() {
    prints(
        "ipcmk -M 4096 >/dev/null && ipcmk -Q >/dev/null && ipcmk -S 2 >/dev/null && ipcs",
        &[" 644        4096 ", " 644        2 "],
    );
    prints("lsipc", &["MSGMNI", "4096"]);
}

#[test]
fn locks_are_listed() {
    prints("flock /tmp/lock lslocks -n", &["FLOCK", "/tmp/lock"]);
}

/// Where /proc/net alone tells of them.
#[test]
fn sockets_are_listed() {
    let listener = r#"perl -MIO::Socket::INET -e '
        $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 8080) or die;
        system("ss -tlnp; ss -xl; ss -uan") == 0 or die'"#;
    prints(&format!("{listener} 2>&1 | sed s/Cannot/FAILED/"), &["LISTEN", "127.0.0.1:8080", "perl"]);
    assert!(!script(&format!("{listener} 2>&1")).0.contains("Cannot"));
}
