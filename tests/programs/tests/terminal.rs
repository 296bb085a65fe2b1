//! Terminals: what a user at a terminal sees of programs in a container. The user is rexpect, at a pseudo-terminal of the
//! host's; a time limit is the failure, never the measure.

use programs::{debian, run, xc};
use rexpect::session::{PtySession, spawn_command};
use rustix::termios::{Winsize, tcsetwinsize};
use std::process::Command;

/// Milliseconds until an expectation that does not come is a failure.
const LIMIT: Option<u64> = Some(60_000);

fn user_at(command: Command) -> PtySession {
    match spawn_command(command, LIMIT) {
        Ok(session) => session,
        Err(error) => panic!("cannot start at a terminal: {error}"),
    }
}

fn in_container(words: &[&str]) -> PtySession {
    let mut command = Command::new(xc());
    command.args(["do", "-e", "TERM=vt100", "-e", "PS1=ready> ", "--"]).args(words);
    user_at(command)
}

/// The same on the host's root and, where there is one, in a root of Debian 12.
fn everywhere(words: &[&str]) -> Vec<PtySession> {
    let mut users = vec![in_container(words)];
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new(xc());
        command.args(["run", "-it", "--rootfs", &debian("root"), "--read-only", "--tmpfs", "/tmp", "-e", "TERM=vt100"]);
        command.arg("--").args(words);
        users.push(user_at(command));
    }
    users
}

/// A shell of the host's, from which the container is started.
fn host_shell() -> PtySession {
    let mut command = Command::new("bash");
    command.args(["--norc", "-i"]).env("PS1", "host> ");
    let mut shell = user_at(command);
    shell.expect("host> ");
    shell
}

trait User {
    fn end(&mut self);
    fn expect(&mut self, text: &str);
    fn line(&mut self, text: &str);
    fn keys(&mut self, text: &str);
}

impl User for PtySession {
    fn end(&mut self) {
        if let Err(error) = self.exp_eof() {
            panic!("it does not end: {error}");
        }
    }

    fn expect(&mut self, text: &str) {
        if let Err(error) = self.exp_string(text) {
            panic!("{text:?} was not shown: {error}");
        }
    }

    fn line(&mut self, text: &str) {
        self.keys(&format!("{text}\r"));
    }

    fn keys(&mut self, text: &str) {
        let sent = self.send(text).and_then(|_| self.flush());
        assert!(sent.is_ok(), "cannot type {text:?}: {sent:?}");
    }
}

fn resize(user: &PtySession, rows: u16, cols: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = user.process().get_file_handle();
    let done = terminal.map(|terminal| tcsetwinsize(&terminal, size));
    assert!(matches!(done, Ok(Ok(()))), "cannot resize: {done:?}");
}

#[test]
fn a_shell_controls_jobs() {
    let mut user = in_container(&["bash", "--norc", "-i"]);
    user.expect("ready> ");
    user.line("tty; sleep 1000");
    user.expect("/dev/pts/0");
    user.keys("\x1a");
    user.expect("Stopped");
    user.expect("ready> ");
    user.line("fg");
    user.expect("sleep 1000");
    user.keys("\x03");
    user.expect("ready> ");
    user.line("echo status $?");
    user.expect("status 130");
    user.line("echo be\"gun\"; cat; echo read $?");
    user.expect("begun");
    user.line("echoed once");
    // The terminal's echo, then cat's output.
    user.expect("echoed once");
    user.expect("echoed once");
    user.keys("\x04");
    user.expect("read 0");
    user.line("cat & wait %1; echo waited $?");
    user.expect("waited 149");
    user.line("kill -9 %1; exec sh -c 'exit 7'");
    user.end();
    let status = user.process().wait();
    assert!(format!("{status:?}").contains(", 7)"), "{status:?}");
}

#[test]
fn the_size_is_the_callers_and_changes_with_it() {
    let mut user = in_container(&["bash", "--norc", "-i"]);
    user.expect("ready> ");
    resize(&user, 31, 97);
    user.line("trap 'stty size' WINCH; until stty size | grep '^31 97'; do :; done");
    user.expect("31 97\r\n");
    user.expect("ready> ");
    resize(&user, 40, 120);
    user.line("");
    user.expect("40 120");
    user.line("exit");
    user.end();
}

#[test]
fn vi_edits() {
    for mut user in everywhere(&["sh", "-c", "vi /tmp/text; echo; echo saved: $(cat /tmp/text)"]) {
        user.expect("/tmp/text");
        user.keys("ihello");
        user.keys("\x1b");
        user.keys("yyp:wq\r");
        user.expect("saved: hello hello");
        user.end();
    }
}

#[test]
fn less_pages() {
    for mut user in everywhere(&["sh", "-c", "seq 1000 2000 | less; echo left"]) {
        user.expect("1020");
        user.expect(":");
        user.keys("G");
        user.expect("2000");
        user.keys("q");
        user.expect("left");
        user.end();
    }
}

#[test]
fn top_shows_the_container() {
    for mut user in everywhere(&["top"]) {
        user.expect("Tasks:");
        user.expect("COMMAND");
        user.expect("top");
        user.keys("q");
        user.end();
    }
}

#[test]
fn python_talks() {
    let mut user = in_container(&["python3", "-q"]);
    user.expect(">>> ");
    user.line("6*7");
    user.expect("42");
    // The line before, by the up key, edited.
    user.keys("\x1b[A");
    user.keys("+1\r");
    user.expect("43");
    user.line("input('name? ')");
    user.expect("name? ");
    user.line("me");
    user.expect("'me'");
    user.keys("\x04");
    user.end();
}

#[test]
fn an_interrupt_ends_a_program_without_a_shell() {
    let mut user = in_container(&["sh", "-c", "echo up; exec sleep 1000"]);
    user.expect("up");
    user.keys("\x03");
    user.end();
    let status = user.process().wait();
    assert!(format!("{status:?}").contains(", 130)"), "{status:?}");
}

/// Whatever ends it, the caller's terminal is as before.
#[test]
fn the_callers_settings_come_back() {
    let xc = xc();
    let xc = xc.display();
    let mut shell = host_shell();
    shell.line("before=$(stty -g); same() { [ \"$before\" = \"$(stty -g)\" ] && echo sa\"me\" after $?; }");
    shell.expect("host> ");
    shell.line(&format!("{xc} do -- sh -c 'stty raw -echo; exit 3'; same"));
    shell.expect("same after 0");
    shell.line(&format!("{xc} do -- /nonexistent; same"));
    shell.expect("same after 0");
    shell.line(&format!("{xc} do -- sh -c 'echo u\"p\"; exec sleep 1000'; same"));
    shell.expect("up");
    let killed = Command::new("pkill").args(["-TERM", "-f", "do -- sh -c echo u\"p\"; exec"]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    shell.expect("same after 0");
    shell.line("exit");
    shell.end();
}

#[test]
fn a_container_in_the_background_leaves_the_terminal_alone() {
    let xc = xc();
    let mut shell = host_shell();
    shell.line(&format!("{} do -- sh -c 'seq 3; read line; echo got $line' &", xc.display()));
    shell.expect("3");
    shell.line("echo shell sti\"ll\" reads");
    shell.expect("shell still reads");
    shell.line("fg");
    shell.expect("seq 3");
    shell.line("typed");
    shell.expect("got typed");
    shell.expect("host> ");
    shell.line("exit");
    shell.end();
}

#[test]
fn each_stream_is_what_the_caller_gave() {
    let mut user = user_at({
        let mut command = Command::new("sh");
        let test = "for n in 0 1 2; do test -t $n && echo $n is a terminal >&2; done";
        command.args(["-c", &format!("echo x | {} do -- sh -c '{test}' | cat", xc().display())]);
        command
    });
    user.expect("2 is a terminal");
    assert!(user.exp_eof().is_ok_and(|rest| !rest.contains("terminal")));
}

#[test]
fn a_terminal_is_given_where_there_is_none() {
    let mut command = Command::new(xc());
    command.args(["do", "-t", "--", "sh", "-c", "tty; cat; echo ended"]);
    let output = run(command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/dev/pts/0\r\nended\r\n");
}
