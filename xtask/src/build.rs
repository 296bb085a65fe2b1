//! `cargo xtask build`: the LibOS image, then the executables that carry it.

use crate::command;
use crate::setup::{self, IMAGE_TARGET, Needs};
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds and says where the executables are.
///
/// # Errors
/// When something is missing or does not compile.
pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(Needs::Build)?;
    println!("{}", all()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything; the result is the path of `xc`.
///
/// # Errors
/// When something does not compile.
pub(crate) fn all() -> Result<PathBuf> {
    let tree = Tree { root: command::root().to_owned(), target: release_dir() };
    install(&tree.executables()?, "xc")
}

/// Release builds have a directory of their own, so that they and `cargo test` do not undo each other's work.
fn release_dir() -> PathBuf {
    command::target_dir().join("release-build")
}

/// Where [`all`] leaves the LibOS image.
pub(crate) fn image() -> PathBuf {
    image_in(&release_dir())
}

fn image_in(target: &Path) -> PathBuf {
    target.join(IMAGE_TARGET).join("release/xlibos-image")
}

/// Sources, and where they are built.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Tree {
    /// Builds everything; the result is the path of `xc`, which the next build writes over.
    ///
    /// # Errors
    /// When something does not compile.
    pub(crate) fn executables(&self) -> Result<PathBuf> {
        let image = self.libos_image()?;
        self.static_executable("xc", &image)
    }

    fn libos_image(&self) -> Result<PathBuf> {
        command::run(&mut self.cargo("xlibos-image", IMAGE_TARGET))?;
        Ok(image_in(&self.target))
    }

    /// Static, so that it starts in any root file system, and at any address.
    fn static_executable(&self, package: &str, image: &Path) -> Result<PathBuf> {
        let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
        flags.push(OsString::from(" -C target-feature=+crt-static -C relocation-model=pie"));
        let mut cargo = self.cargo(package, HOST_TARGET);
        command::run(cargo.env("RUSTFLAGS", flags).env("XLIBOS_IMAGE", image))?;
        Ok(self.target.join(HOST_TARGET).join("release").join(package))
    }

    fn cargo(&self, package: &str, target: &str) -> Command {
        let mut cargo = command::cargo();
        cargo.current_dir(&self.root).args(["build", "--release", "--package", package, "--target", target]);
        cargo.arg("--target-dir").arg(&self.target);
        cargo
    }
}

/// Copies beside the old file and renames: a running `xc` is never written over.
fn install(built: &Path, name: &str) -> Result<PathBuf> {
    let dist = command::root().join("target/dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let (new, path) = (dist.join(format!(".{name}.new-{}", std::process::id())), dist.join(name));
    std::fs::copy(built, &new).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&new, &path).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(path)
}
