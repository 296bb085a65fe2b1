//! What tests need of Debian besides installed packages, kept below the target directory: made once.

use super::{apt_get, is_root};
use crate::command;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The source package that a test builds.
const SOURCE: &str = "lua5.4";

/// Fetches the source package from where the machine's packages come from, with lists of our own: the machine's stay as they are.
///
/// # Errors
/// When apt cannot fetch it.
pub(super) fn source() -> Result<()> {
    once(&kept(SOURCE), SOURCE, |directory| {
        let lists = directory.join("lists");
        std::fs::create_dir_all(lists.join("partial"))?;
        let archives_file = directory.join("sources.list");
        std::fs::write(&archives_file, archives("deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)", &[])?)?;
        let options = [
            format!("--option=Dir::Etc::SourceList={}", archives_file.display()),
            "--option=Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("--option=Dir::State::Lists={}", lists.display()),
            // The user that apt takes for downloads cannot write here.
            "--option=APT::Sandbox::User=root".to_owned(),
        ];
        command::run(apt_get(&["update"]).args(&options))?;
        command::run(apt_get(&["source", "--download-only", SOURCE]).args(&options).current_dir(directory))?;
        Ok(std::fs::remove_dir_all(lists)?)
    })
}

/// What the root of Debian 12 holds besides its minimum. Servers are here, since on the machine their packages would start them.
const ROOT: &[&str] = &[
    "busybox-static",
    "curl",
    "gawk",
    "gcc",
    "git",
    "golang-go",
    "less",
    "libc6-dev",
    "make",
    "musl-tools",
    "nginx",
    "nodejs",
    "openjdk-17-jdk-headless",
    "openssl",
    "perl",
    "postgresql-15",
    "procps",
    "python3",
    "redis-server",
    "vim-tiny",
    "xz-utils",
];

/// Makes a root file system of Debian 12 by debootstrap. Only root can, and run tests on it.
///
/// # Errors
/// When debootstrap fails.
pub(super) fn root() -> Result<()> {
    if !is_root()? {
        return Ok(());
    }
    let include = format!("--include={}", ROOT.join(","));
    once(&kept("root"), &include, |directory| {
        let archive = archives("$(REPO_URI)", &["Codename: bookworm", "Component: main"])?;
        let archive = archive.lines().next().context("apt knows no archive of Debian 12: see sources.list(5)")?;
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &include, "bookworm"]).arg(directory).arg(archive);
        command::run(debootstrap.stdout(Stdio::null())).context("its log is debootstrap/debootstrap.log in that root")
    })
}

/// The machine's archives of Debian, a line each, as apt formats them.
fn archives(format: &str, which: &[&str]) -> Result<String> {
    let query = ["indextargets", "--format", format, "Created-By: Packages", "Origin: Debian"];
    let known = || command::output(Command::new("apt-get").args(query).args(which));
    // Origins are known only behind an update.
    if known()?.is_empty() {
        command::run(&mut apt_get(&["update"]))?;
    }
    match known()? {
        none if none.is_empty() => bail!("apt knows no archive of Debian: see sources.list(5)"),
        archives => Ok(archives),
    }
}

/// Makes a directory of what is kept, unless it is there by this recipe. One half made, where that failed, is begun anew.
fn once(kept: &Path, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let made_by = recipe_of(kept);
    if kept.exists() && std::fs::read_to_string(&made_by).is_ok_and(|made_by| made_by == recipe) {
        return Ok(());
    }
    eprintln!("setup: {}", kept.display());
    let begin = || {
        if made_by.exists() {
            std::fs::remove_file(&made_by)?;
        }
        if kept.exists() {
            std::fs::remove_dir_all(kept)?;
        }
        std::fs::create_dir_all(kept)
    };
    begin().with_context(|| format!("cannot begin {} anew", kept.display()))?;
    make(kept)?;
    std::fs::write(&made_by, recipe).with_context(|| format!("cannot write {}", made_by.display()))
}

/// The file beside it that says by what it was made.
fn recipe_of(kept: &Path) -> PathBuf {
    kept.with_file_name(format!("{}.recipe", kept.file_name().unwrap_or_default().display()))
}

fn kept(name: &str) -> PathBuf {
    command::target_dir().join("debian").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_made_once_a_recipe_and_again_where_it_failed() {
        let kept = std::env::temp_dir().join(format!("xtask-kept-{}", std::process::id()));
        let mut made = 0;
        let mut make = |recipe: &str, fails: bool| {
            let done = once(&kept, recipe, |directory| {
                made += 1;
                std::fs::write(directory.join(recipe), "")?;
                if fails { bail!("interrupted") } else { Ok(()) }
            });
            assert_eq!(done.is_err(), fails);
        };
        make("a", true);
        make("a", false);
        make("a", false);
        make("b", true);
        make("a", false);
        assert_eq!(made, 4);
        let names: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a"]);
        std::fs::remove_dir_all(&kept).unwrap();
        std::fs::remove_file(recipe_of(&kept)).unwrap();
    }
}
