//! Patched code really runs: a static C program is compiled here, patched, given a small entry that makes the call
//! after all, and must print what the original prints.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use abom::{Kind, Limits, PAGE, Plan};
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long sum;
static void *work(void *arg) {
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&mutex);
        sum += syscall(SYS_getppid) == getppid();
        pthread_mutex_unlock(&mutex);
        if (i % 100 == 0) usleep(1);
    }
    return arg;
}
int main(void) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, (void *)i);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    printf("sum %ld\n", sum);
    int ends[2], status;
    char buf[64] = {0};
    printf("pipe %d\n", pipe(ends));
    fflush(stdout);
    if (fork() == 0) {
        dup2(ends[1], 1);
        printf("from the child");
        fflush(stdout);
        _exit(7);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], buf, sizeof buf);
    wait(&status);
    printf("%zd %s %d\n", n, buf, WEXITSTATUS(status));
    printf("open %d %s\n", open("/nonexistent", O_RDONLY), strerror(errno));
    printf("bad %ld %d\n", syscall(9999), errno);
    struct timespec now = {0};
    printf("clock %ld %d\n", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now), now.tv_sec > 0);
    return 0;
}
"#;

/// Keeps the return address below the red zone, in the new stack too when a thread starts; no signals, no vfork.
#[rustfmt::skip]
const SYSCALL_ENTRY: [u8; 50] = [
    0x48, 0x89, 0x8c, 0x24, 0x70, 0xff, 0xff, 0xff, // mov %rcx,-0x90(%rsp)
    0x3d, 0xb3, 0x01, 0x00, 0x00,                   // cmp $435,%eax         clone3: not here
    0x75, 0x09,                                     // jne 1f
    0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff,       // mov $-38,%rax
    0xff, 0xe1,                                     // jmp *%rcx
    0x83, 0xf8, 0x38,                               // 1: cmp $56,%eax       clone
    0x75, 0x0c,                                     // jne 2f
    0x48, 0x85, 0xf6,                               // test %rsi,%rsi
    0x74, 0x07,                                     // je 2f
    0x48, 0x89, 0x8e, 0x70, 0xff, 0xff, 0xff,       // mov %rcx,-0x90(%rsi)
    0x0f, 0x05,                                     // 2: syscall
    0xff, 0xa4, 0x24, 0x70, 0xff, 0xff, 0xff,       // jmp *-0x90(%rsp)
];

#[rustfmt::skip]
const CPUID_ENTRY: [u8; 17] = [
    0x48, 0x89, 0x94, 0x24, 0x70, 0xff, 0xff, 0xff, // mov %rdx,-0x90(%rsp)
    0x0f, 0xa2,                                     // cpuid
    0xff, 0xa4, 0x24, 0x70, 0xff, 0xff, 0xff,       // jmp *-0x90(%rsp)
];

#[derive(Clone, Copy, PartialEq)]
enum Entries {
    Present,
    /// Jumps through the slots fault.
    Missing,
}

/// The whole patched program, its note segment turned into one for slot page, stubs and entries.
fn patched_program(file: &[u8], plan: &Plan, entries: Entries) -> Vec<u8> {
    let image = plan.apply(file).expect("image");
    let mut out = file.to_vec();
    for page in &image.pages {
        let start = usize::try_from(page.offset).expect("offset");
        out[start..start + page.bytes.len()].copy_from_slice(&page.bytes);
    }
    let area_offset = image.stub_file_offset;
    out.resize(usize::try_from(area_offset + PAGE).expect("len"), 0);
    out.extend_from_slice(image.stubs);
    let entry = plan.slot_vaddr + out.len() as u64 - area_offset;
    out.extend_from_slice(&SYSCALL_ENTRY);
    let cpuid_entry = entry + SYSCALL_ENTRY.len() as u64;
    out.extend_from_slice(&CPUID_ENTRY);
    let slots = usize::try_from(area_offset).expect("offset");
    if entries == Entries::Present {
        out[slots..slots + 8].copy_from_slice(&entry.to_le_bytes());
        out[slots + 8..slots + 16].copy_from_slice(&cpuid_entry.to_le_bytes());
    }
    let len = out.len() as u64 - area_offset;
    let header = (0..usize::from(file[56])).map(|index| 64 + index * 56);
    let note = header.into_iter().find(|at| file[*at..*at + 4] == [4, 0, 0, 0]).expect("a note to replace");
    let fields = [area_offset, plan.slot_vaddr, plan.slot_vaddr, len, len, PAGE];
    out[note..note + 8].copy_from_slice(&[1, 0, 0, 0, 7, 0, 0, 0]);
    for (index, field) in fields.iter().enumerate() {
        out[note + 8 + index * 8..note + 16 + index * 8].copy_from_slice(&field.to_le_bytes());
    }
    out
}

fn output(program: &Path) -> (String, Option<i32>) {
    let output = Command::new(program).output().expect("run");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[test]
fn patched_program_prints_what_the_original_prints() {
    let dir = std::env::temp_dir().join(format!("abom-run-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("directory");
    let [source, original, patched] = ["p.c", "original", "patched"].map(|name| dir.join(name));
    std::fs::write(&source, PROGRAM).expect("source");
    let compiled =
        Command::new("cc").args(["-O2", "-static", "-no-pie", "-pthread", "-o"]).arg(&original).arg(&source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no compiler for static programs here");
        return;
    }
    let file = std::fs::read(&original).expect("program");
    let plan = abom::plan(&file, &Limits::default()).expect("plan");
    let total = plan.sites.iter().filter(|site| site.kind == Kind::Syscall).count();
    assert!(total > 100 && plan.stats.syscall[3] == 0, "{:?}", plan.stats);
    std::fs::copy(&original, &patched).expect("mode");
    std::fs::write(&patched, patched_program(&file, &plan, Entries::Present)).expect("patched");
    let expected = output(&original);
    assert!(expected.0.contains("sum 8000\n"), "{expected:?}");
    assert_eq!(output(&patched), expected);
    std::fs::write(&patched, patched_program(&file, &plan, Entries::Missing)).expect("patched");
    assert_eq!(output(&patched), (String::new(), None), "it jumps, and nowhere");
    std::fs::remove_dir_all(&dir).expect("clean up");
}
