//! System calls as jumps: a program that looks at its own sites, and the share of calls that jump.

use programs::{compile, host, run, xc};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn report(words: &[&str]) -> (Output, serde_json::Value) {
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "--"]).args(words);
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = error.find("{\n").unwrap_or(0);
    let report = serde_json::from_str(&error[start..]).unwrap_or_else(|_| panic!("no report: {error}"));
    (output, report)
}

#[test]
fn a_program_cannot_tell_its_sites_from_those_of_linux() {
    let directory = tempfile::tempdir().expect("directory");
    let program = compile("sites.c", &["-O2", "-pthread"], directory.path());
    let on_host = run(Command::new(&program));
    let expected = String::from_utf8_lossy(&on_host.stdout).into_owned();
    assert!(expected.lines().count() > 10 && !expected.contains("FAIL"), "on the host: {expected}");
    let (output, report) = report(&[program.to_str().expect("name")]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
    for tier in 0..3 {
        assert!(report["jumpsByTier"][tier].as_u64().unwrap_or(0) > 0, "tier {}: {report}", tier + 1);
    }
    // Those that jump straight at a `syscall` which was left.
    assert!(report["traps"].as_u64().is_some_and(|traps| (2..=3).contains(&traps)), "{report}");
    // A site that is left is named by file, function and bytes.
    let sites = report["trappedSites"].as_array().expect("sites");
    let site = sites.iter().find(|site| site["function"] == "tier1").unwrap_or_else(|| panic!("{report}"));
    assert_eq!(site["file"].as_str(), program.to_str());
    assert!(site["bytes"].as_str().is_some_and(|bytes| bytes.contains("| 0f 05 | 49 89 00")), "{report}");
    assert!(report["abomUsAnExec"].as_f64().is_some_and(|micros| micros > 0.0), "{report}");
}

/// A guest of the tests, linked statically.
fn build_static(source: &str, directory: &Path) -> PathBuf {
    compile(source, &["-O2", "-static", "-pthread", "-fnon-call-exceptions"], directory)
}

#[test]
fn a_program_that_was_written_in_the_container_comes_to_jump() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    let name = program.to_str().expect("name");
    let on_host = |mode: &str| run(programs::on_host(&[name, mode])).stdout;
    let in_container = |script: &str| {
        let (output, report) = report(&["sh", "-c", script, name]);
        assert!(output.status.success(), "{script}: {output:?}");
        (output.stdout, report["traps"].as_u64().unwrap_or(u64::MAX), report["jumps"].as_u64().unwrap_or(0))
    };
    let once = on_host("jumps");
    assert!(!String::from_utf8_lossy(&once).contains("FAIL"), "{once:?}");
    // The child that traps first, its parent, and a few at the start of each.
    let (output, traps, jumps) = in_container("cp $0 /tmp/p && /tmp/p jumps");
    assert_eq!(output, once);
    assert!(jumps > 4 * traps, "{traps} traps, {jumps} jumps");
    let (output, more, _) = in_container("cp $0 /tmp/p && /tmp/p jumps && /tmp/p jumps");
    assert_eq!(output, [once.as_slice(), &once].concat());
    assert!(more < traps + 400, "{traps} traps, then {more}");
    // Another file under the name, and the same after a write, are not taken for what they were.
    let (output, ..) = in_container("cp $0 /tmp/p; /tmp/p jumps; printf '\\0' >>/tmp/p; cp $0 /tmp/p; /tmp/p jumps");
    assert_eq!(output, [once.as_slice(), &once].concat());
}

#[test]
fn threads_call_on_while_their_text_comes_to_jump() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    let name = program.to_str().expect("name");
    let once = run(programs::on_host(&[name, "threads"])).stdout;
    assert!(!String::from_utf8_lossy(&once).contains("FAIL"), "{once:?}");
    let (output, report) = report(&["sh", "-c", "cp $0 /tmp/p; /tmp/p threads; /tmp/p threads", name]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&[once.clone(), once].concat()));
    assert!(report["jumps"].as_u64() > report["traps"].as_u64(), "{report}");
}

#[test]
fn threads_that_are_never_alone_come_to_jump() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    let name = program.to_str().expect("name");
    let once = run(programs::on_host(&[name, "crowd"])).stdout;
    assert!(!String::from_utf8_lossy(&once).contains("FAIL"), "{once:?}");
    let (output, report) = report(&["sh", "-c", "cp $0 /tmp/p; exec /tmp/p crowd", name]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&once), "{output:?}");
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    assert!(count("jumps") > 4 * count("traps"), "{report}");
}

#[test]
fn a_program_that_changes_its_text_runs_what_it_wrote() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    let name = program.to_str().expect("name");
    let (jumps, modified) = (run(programs::on_host(&[name, "jumps"])), run(programs::on_host(&[name, "modified"])));
    // Its text without an image, with one from the start, and with that of a file of the host.
    for (script, runs) in [
        ("cp $0 /tmp/p; /tmp/p modified", vec![&modified]),
        ("cp $0 /tmp/p; /tmp/p jumps; /tmp/p modified", vec![&jumps, &modified]),
        ("$0 modified", vec![&modified]),
    ] {
        let (output, _) = report(&["sh", "-c", script, name]);
        let expected: Vec<u8> = runs.iter().flat_map(|run| run.stdout.clone()).collect();
        assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&expected), "{script}: {output:?}");
    }
}

#[test]
fn code_that_a_program_makes_runs_as_it_is_at_the_time() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    programs::assert_same(&[program.to_str().expect("name"), "made"]);
}

#[test]
fn an_object_that_a_program_loads_itself_comes_to_jump() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    let alone = ["-O2", "-fcf-protection=none", "-nostdlib", "-static-pie", "-Wl,-e,run", "-Wl,--eh-frame-hdr"];
    let object = compile("object.c", &alone, directory.path());
    let words = [program.to_str().expect("name"), "loaded", object.to_str().expect("name")];
    let on_host = run(programs::on_host(&words)).stdout;
    let expected = String::from_utf8_lossy(&on_host).into_owned();
    assert!(expected.contains("its place is free") && !expected.contains("FAIL"), "on the host: {expected}");
    let (output, report) = report(&words);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    // Most traps are those of code that is rewritten again and again.
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    assert!(count("jumps") > 2 * count("traps"), "{report}");
}

#[test]
fn texts_without_a_file_are_what_they_were_beside_others_in_children_and_in_part() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("texts.c", directory.path());
    // Its headers lie in the segment that is executed.
    let alone = ["-O2", "-nostdlib", "-static-pie", "-Wl,-e,run", "-Wl,--eh-frame-hdr", "-Wl,-z,noseparate-code"];
    let object = compile("object.c", &alone, directory.path());
    let words = [program.to_str().expect("name"), object.to_str().expect("name")];
    let on_host = run(programs::on_host(&words)).stdout;
    let expected = String::from_utf8_lossy(&on_host).into_owned();
    assert!(expected.contains("all of it moved") && !expected.contains("FAIL"), "on the host: {expected}");
    let (output, report) = report(&words);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    assert!(report["jumps"].as_u64().is_some_and(|jumps| jumps > 10_000), "{report}");
}

#[test]
fn handlers_of_a_static_program_return_by_a_jump_and_unwind() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("handlers.cc", directory.path());
    let on_host = run(Command::new(&program));
    assert_eq!(String::from_utf8_lossy(&on_host.stdout), "1000 handled\n10 caught\n");
    let (output, report) = report(&[program.to_str().expect("name")]);
    assert_eq!(output.stdout, on_host.stdout, "{output:?}");
    assert_eq!(report["traps"], 0, "{report}");
    // The same with text that comes to its image while it runs, and that has it from the start.
    let copied =
        run(programs::in_container(&["sh", "-c", "cp $0 /tmp/p; /tmp/p; /tmp/p", program.to_str().expect("name")]));
    assert_eq!(copied.stdout, [on_host.stdout.as_slice(), &on_host.stdout].concat(), "{copied:?}");
}

/// Each instruction of a stub, and the two jumps that lead to one of tier 2: with as many signals as meet the thread
/// between those some times.
#[test]
fn handlers_unwind_out_of_what_they_interrupt_at_sites_of_each_tier() {
    let directory = tempfile::tempdir().expect("directory");
    let program = compile("unwinds.cc", &["-O2", "-pthread", "-fnon-call-exceptions"], directory.path());
    let name = program.to_str().expect("name");
    for tier in 1..=3 {
        let number = tier.to_string();
        let on_host = run(programs::on_host(&[name, &number, "300"])).stdout;
        let expected = String::from_utf8_lossy(&on_host).into_owned();
        assert!(expected.contains("many calls") && !expected.contains("FAIL"), "on the host: {expected}");
        let (output, report) = report(&[name, &number, "12000"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "tier {tier}: {output:?}");
        assert!(report["jumpsByTier"][tier - 1].as_u64().is_some_and(|jumps| jumps > 200_000), "{tier}: {report}");
        // As text that comes to its image while it runs, and that has it from the start.
        let script = "cp $0 /tmp/p; /tmp/p $1 300; /tmp/p $1 300";
        let copied = run(programs::in_container(&["sh", "-c", script, name, &number]));
        assert_eq!(String::from_utf8_lossy(&copied.stdout), expected.repeat(2), "tier {tier}: {copied:?}");
    }
}

#[test]
fn ninety_nine_of_a_hundred_calls_jump() {
    let build = "echo 'int main(){return 0;}' > /tmp/a.c && gcc -O2 /tmp/a.c -o /tmp/a && /tmp/a";
    for words in [
        &["bash", "-c", "for i in 1 2 3; do ls /etc | sort | wc -l; done"][..],
        &["python3", "-c", "import subprocess, threading; print(subprocess.check_output(['echo', 'hi']))"],
        &["sh", "-c", build],
        &[
            "sh",
            "-c",
            "cd /tmp && git init -q r && cd r && echo a > a && git add a && git -c user.name=a -c user.email=a@b commit -qm a && git log",
        ],
    ] {
        let (output, report) = report(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        let count = |key: &str| report[key].as_u64().unwrap_or(0);
        let (jumps, traps) = (count("jumps"), count("traps"));
        assert!(jumps > 50 && traps * 99 <= jumps, "{words:?}: {report}");
    }
}

/// KiB of private memory that a process of the host has of patched images, and how many mappings it has of them.
fn private_kib(pid: u32) -> (u64, usize) {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut kib, mut mappings, mut is_image) = (0, 0, false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            is_image = line.contains("xc-image") || line.ends_with(".img");
            mappings += usize::from(is_image);
        } else if is_image && first == "Private_Dirty:" {
            kib += words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    (kib, mappings)
}

#[test]
fn patching_costs_a_process_no_memory_of_its_own() {
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "--", "bash", "-c", "echo ready; read"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut container = command.spawn().expect("xc");
    let mut line = String::new();
    BufReader::new(container.stdout.take().expect("output")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let guests = host::descendants(container.id());
    let found = guests.into_iter().map(private_kib).filter(|(_, mappings)| *mappings > 0);
    let found: Vec<_> = found.collect();
    drop(container.stdin.take());
    let output = container.wait_with_output().expect("end");
    assert!(!found.is_empty() && found.iter().all(|(kib, _)| *kib == 0), "KiB and mappings: {found:?}");
    // The report says the same.
    let report: serde_json::Value = serde_json::from_slice(&output.stderr).expect("a report");
    let kib = |key: &str| report[key].as_u64();
    assert!(kib("patchedKib").is_some_and(|kib| kib > 100) && kib("patchedPrivateKib") == Some(0), "{report}");
}

/// Text that a program may write is the file's own, which costs nothing that patching could have made.
#[test]
fn text_that_is_written_is_not_counted_as_patched() {
    let directory = tempfile::tempdir().expect("directory");
    let program = build_static("live.c", directory.path());
    let (output, report) = report(&[program.to_str().expect("name"), "modified"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report["patchedPrivateKib"], 0, "{report}");
}
