//! What tests need of Debian besides installed packages, kept below the target directory: made once.

use super::apt_get;
use crate::command;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;

/// The source package that a test builds.
const SOURCE: &str = "lua5.4";

/// Fetches the source package from where the machine's packages come from, with lists of our own: the machine's stay as they are.
///
/// # Errors
/// When apt cannot fetch it.
pub(super) fn source() -> Result<()> {
    once(SOURCE, |directory| {
        let lists = directory.join("lists");
        std::fs::create_dir_all(lists.join("partial"))?;
        let archives_file = directory.join("sources.list");
        std::fs::write(&archives_file, archives()?)?;
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

/// The machine's archives of Debian as lines of a list of sources: sources.list(5).
fn archives() -> Result<String> {
    let format = "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let query = ["indextargets", "--format", format, "Created-By: Packages", "Origin: Debian"];
    let known = || command::output(Command::new("apt-get").args(query));
    // Origins are known only behind an update.
    if known()?.is_empty() {
        command::run(&mut apt_get(&["update"]))?;
    }
    match known()? {
        none if none.is_empty() => bail!("apt knows no archive of Debian: see sources.list(5)"),
        archives => Ok(archives),
    }
}

/// Makes a directory below `target/debian`, unless it is there. One half made, where that failed, is begun anew.
fn once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let kept = command::target_dir().join("debian").join(name);
    if kept.exists() {
        return Ok(());
    }
    eprintln!("setup: {}", kept.display());
    let unfinished = kept.with_file_name(format!("{name}.unfinished"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    std::fs::create_dir_all(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
    make(&unfinished)?;
    std::fs::rename(&unfinished, &kept).with_context(|| format!("cannot make {}", kept.display()))
}
