//! System calls as jumps: a program that looks at its own sites, and the share of calls that jump.

use programs::{run, xc};
use std::path::Path;
use std::process::{Command, Output};

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
    let program = directory.path().join("sites");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/sites.c");
    let gcc = Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().expect("gcc");
    assert!(gcc.success());
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
    assert!(report["traps"].as_u64().is_some_and(|traps| (1..=2).contains(&traps)), "{report}");
    // A site that is left is named by file, function and bytes.
    let sites = report["trappedSites"].as_array().expect("sites");
    let site = sites.iter().find(|site| site["function"] == "tier1").unwrap_or_else(|| panic!("{report}"));
    assert_eq!(site["file"].as_str(), program.to_str());
    assert!(site["bytes"].as_str().is_some_and(|bytes| bytes.contains("| 0f 05 | 49 89 00")), "{report}");
    assert!(report["abomUsAnExec"].as_f64().is_some_and(|micros| micros > 0.0), "{report}");
}

#[test]
fn handlers_of_a_static_program_return_by_a_jump_and_unwind() {
    let directory = tempfile::tempdir().expect("directory");
    let program = directory.path().join("handlers");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/handlers.cc");
    let mut compiler = Command::new("g++");
    compiler.args(["-O2", "-static", "-fnon-call-exceptions", "-o"]).arg(&program).arg(source);
    assert!(compiler.status().expect("g++").success());
    let on_host = run(Command::new(&program));
    assert_eq!(String::from_utf8_lossy(&on_host.stdout), "1000 handled\n10 caught\n");
    let (output, report) = report(&[program.to_str().expect("name")]);
    assert_eq!(output.stdout, on_host.stdout, "{output:?}");
    assert_eq!(report["traps"], 0, "{report}");
}

#[test]
fn ninety_nine_of_a_hundred_calls_jump() {
    let compile = "echo 'int main(){return 0;}' > /tmp/a.c && gcc -O2 /tmp/a.c -o /tmp/a && /tmp/a";
    for words in [
        &["bash", "-c", "for i in 1 2 3; do ls /etc | sort | wc -l; done"][..],
        &["python3", "-c", "import subprocess, threading; print(subprocess.check_output(['echo', 'hi']))"],
        &["sh", "-c", compile],
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
