//! Who calls `xc` in tests: root, and an ordinary user.

use crate::{run, xc};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// The user that is ordinary.
const NOBODY: &str = "65534";

/// Who calls `xc`. Everyone can read the directory, and what lies in it.
#[derive(Debug)]
pub struct Caller {
    /// Whether it is another user than the tests' own.
    pub is_ordinary: bool,
    /// The user, where it is an ordinary one.
    pub user: &'static str,
    /// Its directory.
    pub dir: TempDir,
}

/// The tests' own user, and an ordinary one where that is another.
#[must_use]
pub fn callers() -> Vec<Caller> {
    let is_root = rustix::process::geteuid().is_root();
    let kinds: &[bool] = if is_root { &[false, true] } else { &[false] };
    kinds.iter().map(|is_ordinary| Caller::new(*is_ordinary)).collect()
}

/// Sets permissions.
pub fn everyone_may(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap_or_else(|e| panic!("{path:?}: {e}"));
}

impl Caller {
    /// A caller with a fresh directory.
    #[must_use]
    pub fn new(is_ordinary: bool) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory: {error}"));
        everyone_may(dir.path(), 0o777);
        let caller = Self { is_ordinary, user: NOBODY, dir };
        if is_ordinary {
            std::fs::copy(xc(), caller.path("xc")).unwrap_or_else(|error| panic!("cannot copy xc: {error}"));
            everyone_may(caller.path("xc").as_ref(), 0o755);
        }
        caller
    }

    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A file that the caller has.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        everyone_may(path.as_ref(), 0o644);
        path
    }

    /// A root file system with the host's programs and accounts of its own.
    #[must_use]
    pub fn root(&self) -> String {
        let root = self.path("root");
        let within = |name: &str| format!("{root}/{name}");
        std::fs::create_dir_all(within("etc")).unwrap_or_else(|error| panic!("{root}: {error}"));
        for link in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), within(link)).unwrap_or_else(|error| panic!("{link}: {error}"));
        }
        self.file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1234:77::/home/ann:/bin/sh\n");
        self.file("root/etc/group", "root:x:0:\nstaff:x:77:\nwheel:x:88:bob,ann\n");
        root
    }

    /// A command line of `xc`.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        if !self.is_ordinary {
            let mut command = Command::new(xc());
            command.args(words);
            return command;
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", self.user, "--regid", self.user, "--clear-groups"]).arg(self.path("xc")).args(words);
        command.current_dir("/");
        command
    }

    /// Runs it.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Output {
        run(self.command(words))
    }

    /// What a shell in `xc do` with these options prints.
    #[must_use]
    pub fn shell(&self, options: &[&str], script: &str) -> String {
        let output = self.run(&[&["do"], options, &["--", "sh", "-c", script]].concat());
        assert!(output.status.success(), "{options:?}: {}", error_of(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Self::shell`], in `xc run` on a root with accounts of its own.
    #[must_use]
    pub fn shell_on_root(&self, options: &[&str], script: &str) -> String {
        let root = self.root();
        let start = ["run", "--rootfs", &root, "-v", "/usr:/usr:ro"];
        let output = self.run(&[&start, options, &["--", "sh", "-c", script]].concat());
        assert!(output.status.success(), "{options:?}: {}", error_of(&output));
        std::fs::remove_dir_all(&root).unwrap_or_else(|error| panic!("{root}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `xc do` with these options fails so, and its message has all of these.
    pub fn refuses(&self, options: &[&str], status: i32, named: &[&str]) {
        let output = self.run(&[&["do"], options, &["--", "true"]].concat());
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(status), "{options:?}: {error}");
        assert!(named.iter().all(|name| error.contains(name)), "{options:?}: {error}");
        assert!(error.starts_with("xc: ") || error.starts_with("error: "), "{error}");
    }
}

/// What a command said on standard error.
#[must_use]
pub fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
