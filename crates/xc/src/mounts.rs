//! What a container sees of files: the host's mounts or a directory, and what `-v` and `--tmpfs` ask for.

use crate::args::Options;
use crate::size;
use abi::config::{Mount, MountFlags, MountSource};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use xkernel::broker::Export;
use xkernel::mountinfo;

/// File systems of the host that are never shown: they act, or the LibOS has its own.
const HIDDEN: [&str; 15] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "bpf",
    "tracefs",
    "debugfs",
    "securityfs",
    "mqueue",
    "hugetlbfs",
    "autofs",
    "configfs",
    "fusectl",
];

/// Mounts, and what of the host they show.
#[derive(Debug, Default)]
pub struct Mounts {
    /// In the order in which they are made.
    pub list: Vec<Mount>,
    /// By number.
    pub exports: Vec<Export>,
}

impl Mounts {
    /// A directory as the root.
    ///
    /// # Errors
    /// Names the directory.
    pub fn of_directory(root: &Path, read_only: bool) -> Result<Self> {
        if !root.is_dir() {
            bail!("{}: not a directory; --rootfs takes a directory with a root file system", root.display());
        }
        let mut mounts = Self::default();
        let export = mounts.export(root, read_only)?;
        mounts.add(b"/", mounts.host(export, false), writes_refused(read_only));
        Ok(mounts)
    }

    /// The host's own root below a layer in memory, and its other mounts.
    ///
    /// # Errors
    /// Where the host's mounts cannot be read.
    pub fn of_host() -> Result<Self> {
        let table = mountinfo::of_host().context("cannot read the host's mounts")?;
        let mut mounts = Self::default();
        let root = mounts.export(Path::new("/"), true).context("the host's root")?;
        mounts.add(b"/", mounts.host(root, true), MountFlags::default());
        for mountinfo::Mount { target, kind, .. } in table {
            let own = target == Path::new("/");
            let below_own = ["/proc", "/sys", "/dev"].iter().any(|own| target.starts_with(own));
            if own || below_own || HIDDEN.contains(&kind.as_str()) {
                continue;
            }
            // A mount that cannot be opened, or is hidden by another, is not shown.
            if let Ok(export) = mounts.export(&target, true) {
                let source = mounts.host(export, true);
                mounts.add(target.as_os_str().as_bytes(), source, MountFlags::default());
            }
        }
        Ok(mounts)
    }

    /// /proc, /sys, /dev, and what the options ask for.
    ///
    /// # Errors
    /// Names the option.
    pub fn add_own(&mut self, options: &Options) -> Result<()> {
        for (target, source) in [("/proc", MountSource::Proc), ("/sys", MountSource::Sys), ("/dev", MountSource::Dev)] {
            self.add(target.as_bytes(), source, MountFlags::default());
        }
        let mut wanted: Vec<&[u8]> = Vec::new();
        for text in &options.tmpfs {
            wanted.push(self.add_tmpfs(text).with_context(|| format!("--tmpfs {}", text.display()))?);
        }
        for text in &options.volume {
            wanted.push(self.add_volume(text).with_context(|| format!("--volume {}", text.display()))?);
        }
        wanted.sort_unstable();
        match wanted.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => {
                bail!("{} is asked for twice by --volume or --tmpfs", shown(pair.first().unwrap_or(&&b""[..])))
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, target: &[u8], source: MountSource, flags: MountFlags) {
        self.list.push(Mount { target: target.to_vec(), source, flags });
    }

    fn host(&self, export: u16, overlay: bool) -> MountSource {
        let watched = self.exports.get(usize::from(export)).is_some_and(Export::is_watched);
        MountSource::Host { export, overlay, watched }
    }

    fn export(&mut self, path: &Path, read_only: bool) -> Result<u16> {
        let number = u16::try_from(self.exports.len()).context("too many mounts")?;
        self.exports.push(Export::open(path, read_only)?);
        Ok(number)
    }

    /// `DIR[:size=SIZE,mode=OCTAL,ro,noexec,nosuid,nodev]`; returns the directory.
    fn add_tmpfs<'a>(&mut self, text: &'a OsStr) -> Result<&'a [u8]> {
        let mut parts = text.as_bytes().splitn(2, |&b| b == b':');
        let target = target_of(parts.next().unwrap_or(&[]))?;
        let (mut bytes, mut permissions, mut flags) = (0, 0o1777, MountFlags::default());
        for option in parts.next().unwrap_or(&[]).split(|&b| b == b',').filter(|option| !option.is_empty()) {
            let option = str::from_utf8(option).context("an option is no text")?;
            match option.split_once('=') {
                None if set_flag(&mut flags, option) => {}
                Some(("size", value)) => bytes = size::parse(value).with_context(|| format!("{value} is no size"))?,
                Some(("mode", value)) => {
                    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                    permissions = mode.with_context(|| format!("{value} is no mode"))?;
                }
                _ => bail!("unknown option {option}; size=, mode=, ro, noexec, nosuid and nodev are known"),
            }
        }
        self.add(target, MountSource::Tmpfs { size: bytes, mode: permissions }, flags);
        Ok(target)
    }

    /// `SRC:DST[:ro]`; returns the destination.
    fn add_volume<'a>(&mut self, text: &'a OsStr) -> Result<&'a [u8]> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
        let (source, target, mode) = match parts.as_slice() {
            [source, target] => (*source, *target, &b"rw"[..]),
            [source, target, mode] => (*source, *target, *mode),
            _ => bail!("write SRC:DST or SRC:DST:ro"),
        };
        if source.is_empty() {
            bail!("the source is empty: write SRC:DST or SRC:DST:ro");
        }
        let target = target_of(target)?;
        let read_only = match mode {
            b"rw" => false,
            b"ro" => true,
            other => bail!("unknown option {}; only ro and rw are known", shown(other)),
        };
        let export = self.export(Path::new(OsStr::from_bytes(source)), read_only)?;
        self.add(target, self.host(export, false), writes_refused(read_only));
        Ok(target)
    }
}

fn writes_refused(read_only: bool) -> MountFlags {
    if read_only { MountFlags::READ_ONLY } else { MountFlags::default() }
}

/// `noexec`, `exec` and their like, as mount(8) spells them; false for other words.
fn set_flag(flags: &mut MountFlags, option: &str) -> bool {
    let (place, refuses) = match option {
        "rw" | "ro" => (&mut flags.read_only, option == "ro"),
        "exec" | "noexec" => (&mut flags.no_exec, option == "noexec"),
        "suid" | "nosuid" => (&mut flags.no_set_id, option == "nosuid"),
        "dev" | "nodev" => (&mut flags.no_devices, option == "nodev"),
        _ => return false,
    };
    *place = refuses;
    true
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A place in the container for a mount of the caller's: absolute, and not all of it.
fn target_of(path: &[u8]) -> Result<&[u8]> {
    if !path.starts_with(b"/") {
        bail!("the place in the container is {:?}, which is no absolute path", shown(path));
    }
    let names = || path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".");
    if names().any(|name| name == b"..") {
        bail!("the place in the container, {}, has .. in it", shown(path));
    }
    if names().next().is_none() {
        bail!("the place in the container is /, which --rootfs gives");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(add: impl FnOnce(&mut Mounts) -> Result<()>) -> String {
        add(&mut Mounts::default()).err().map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn what_is_wrong_with_a_volume_is_said() {
        let of = |text: &str| refusal(|mounts| mounts.add_volume(OsStr::new(text)).map(|_| ()));
        assert!(of("/tmp").contains("write SRC:DST"));
        assert!(of("/tmp:/a:ro:x").contains("write SRC:DST"));
        assert!(of(":/a").contains("source is empty"));
        assert!(of("/tmp:").contains("no absolute path") && of("/tmp:a").contains("\"a\""));
        assert!(of("/tmp:/a/../b").contains(".."));
        assert!(of("/tmp:/.").contains("--rootfs"));
        assert!(of("/tmp:/a:rx").contains("unknown option rx"));
        assert!(of("/no/such:/a").contains("/no/such"));
        assert_eq!(of("/tmp:/a:ro"), "");
    }

    #[test]
    fn what_is_wrong_with_a_tmpfs_is_said() {
        let of = |text: &str| refusal(|mounts| mounts.add_tmpfs(OsStr::new(text)).map(|_| ()));
        assert!(of("a").contains("no absolute path"));
        assert!(of("/a:size=x").contains("x is no size"));
        assert!(of("/a:mode=8").contains("8 is no mode") && of("/a:mode=17777").contains("17777"));
        assert!(of("/a:noxec").contains("unknown option noxec"));
        assert_eq!(of("/a:size=1m,mode=700,rw"), "");
    }

    #[test]
    fn flags_of_a_tmpfs_are_those_of_mount() {
        let mut mounts = Mounts::default();
        assert!(mounts.add_tmpfs(OsStr::new("/a:noexec,ro,nosuid,rw,nodev,dev")).is_ok());
        let flags = mounts.list.first().map(|mount| mount.flags);
        assert_eq!(flags, Some(MountFlags { no_exec: true, no_set_id: true, ..MountFlags::default() }));
    }
}
