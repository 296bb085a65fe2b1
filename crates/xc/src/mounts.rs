//! What a container sees of files: the host's mounts or a directory, and what `-v` and `--tmpfs` ask for.

use crate::args::Options;
use crate::size;
use abi::config::{Mount, MountFlags, MountSource};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
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
        let metadata = root.metadata();
        let refused = metadata.map_or_else(Some, |it| (!it.is_dir()).then(|| std::io::ErrorKind::NotADirectory.into()));
        if let Some(error) = refused {
            bail!("--rootfs {}: {error}: give a directory with a root file system", root.display());
        }
        let mut mounts = Self::default();
        let flags = if read_only { MountFlags::READ_ONLY } else { MountFlags::default() };
        let tree = mounts.tree(root, b"/", flags)?;
        let is_seen = |mount: &Mount| !lies_below_own(Path::new(OsStr::from_bytes(&mount.target)));
        mounts.list.extend(tree.into_iter().filter(is_seen));
        Ok(mounts)
    }

    /// The host's own root below a layer in memory, and its other mounts.
    ///
    /// # Errors
    /// Where the host's mounts cannot be read.
    pub fn of_host() -> Result<Self> {
        let table = host_mounts()?;
        let mut mounts = Self::default();
        let root = mounts.export(Path::new("/"), true).context("the host's root")?;
        mounts.add(b"/", mounts.host(root, true), MountFlags::default());
        for mountinfo::Mount { target, kind, .. } in table {
            let own = target == Path::new("/");
            if own || lies_below_own(&target) || HIDDEN.contains(&kind.as_str()) {
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

    /// /proc, /sys, /dev, what the options ask for, and layers in memory above `scratch`, directories of the root, where no
    /// option asks for something else there.
    ///
    /// # Errors
    /// Names the option.
    pub fn add_own(&mut self, options: &Options, scratch: &[&str]) -> Result<()> {
        for (target, source) in [("/proc", MountSource::Proc), ("/sys", MountSource::Sys), ("/dev", MountSource::Dev)] {
            self.add(target.as_bytes(), source, MountFlags::default());
        }
        let mut wanted = Vec::new();
        for text in &options.tmpfs {
            wanted.push(vec![tmpfs(text).with_context(|| format!("--tmpfs {}", text.display()))?]);
        }
        for text in &options.volume {
            wanted.push(self.volume(text).with_context(|| format!("--volume {}", text.display()))?);
        }
        for name in scratch {
            let target = [b"/", name.as_bytes()].concat();
            // The place itself, or what it lies in: that is the user's own.
            let covers =
                |mount: &Mount| Path::new(OsStr::from_bytes(&target)).starts_with(OsStr::from_bytes(&mount.target));
            let is_wanted = wanted.iter().flatten().any(covers);
            // One that is a link, or is not there, is no place to write to.
            if let Some(Ok(export)) = self.exports.first().filter(|_| !is_wanted).map(|root| root.below(name)) {
                let number = u16::try_from(self.exports.len()).context("too many mounts")?;
                self.exports.push(export);
                let flags = MountFlags { no_set_id: true, no_devices: true, ..MountFlags::default() };
                wanted.push(vec![Mount { target, source: self.host(number, true), flags }]);
            }
        }
        self.list.extend(in_order(wanted)?);
        Ok(())
    }

    fn add(&mut self, target: &[u8], source: MountSource, flags: MountFlags) {
        self.list.push(Mount { target: target.to_vec(), source, flags });
    }

    fn host(&self, export: u16, overlay: bool) -> MountSource {
        let of_export = self.exports.get(usize::from(export));
        let (watched, mappable) = of_export.map_or((false, false), |e| (e.is_watched(), e.is_mappable()));
        MountSource::Host { export, overlay, watched, mappable }
    }

    fn export(&mut self, path: &Path, read_only: bool) -> Result<u16> {
        let number = u16::try_from(self.exports.len()).context("too many mounts")?;
        self.exports.push(Export::open(path, read_only)?);
        Ok(number)
    }

    /// A directory or file of the host, and the mounts below it.
    fn tree(&mut self, source: &Path, target: &[u8], flags: MountFlags) -> Result<Vec<Mount>> {
        let export = self.export(source, flags.read_only)?;
        let mut tree = vec![Mount { target: target.to_vec(), source: self.host(export, false), flags }];
        let source = source.canonicalize().with_context(|| source.display().to_string())?;
        for below in host_mounts()? {
            let Ok(inner) = below.target.strip_prefix(&source) else { continue };
            if inner == Path::new("") || HIDDEN.contains(&below.kind.as_str()) {
                continue;
            }
            // As for the host's root.
            if let Ok(export) = self.export(&below.target, flags.read_only) {
                let target = Path::new(OsStr::from_bytes(target)).join(inner).into_os_string().into_vec();
                tree.push(Mount { target, source: self.host(export, false), flags });
            }
        }
        Ok(tree)
    }

    /// `SRC:DST[:ro]`.
    fn volume(&mut self, text: &OsStr) -> Result<Vec<Mount>> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
        let (source, target, options) = match parts.as_slice() {
            [source, target] => (*source, *target, &b""[..]),
            [source, target, options] => (*source, *target, *options),
            _ => bail!("write SRC:DST or SRC:DST:ro"),
        };
        if source.is_empty() {
            bail!("the source is empty: write SRC:DST or SRC:DST:ro");
        }
        let target = target_of(target)?;
        let flags = volume_flags(options)?;
        self.tree(Path::new(OsStr::from_bytes(source)), &target, flags)
    }
}

fn host_mounts() -> Result<Vec<mountinfo::Mount>> {
    mountinfo::of_host().context("cannot read the host's mounts in /proc/self/mountinfo: `xc doctor` says what lacks")
}

/// Places that containers have of their own.
fn lies_below_own(target: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|own| target.starts_with(own))
}

/// What options ask for, each with what comes with it, in the order in which it is mounted: what lies deeper comes later, or
/// it would be hidden.
fn in_order(mut wanted: Vec<Vec<Mount>>) -> Result<Vec<Mount>> {
    let place = |tree: &Vec<Mount>| {
        let target = tree.first().map_or(Vec::new(), |mount| mount.target.clone());
        (target.iter().filter(|&&b| b == b'/').count(), target)
    };
    wanted.sort_by_key(place);
    let places: Vec<_> = wanted.iter().map(place).collect();
    match places.windows(2).find_map(|pair| pair.first().filter(|one| pair.last() == Some(one))) {
        Some((_, target)) => bail!("{} is asked for twice by --volume or --tmpfs", shown(target)),
        None => Ok(wanted.into_iter().flatten().collect()),
    }
}

/// `DIR[:size=SIZE,nr_inodes=COUNT,mode=OCTAL,ro,noexec,nosuid,nodev]`.
fn tmpfs(text: &OsStr) -> Result<Mount> {
    let mut parts = text.as_bytes().splitn(2, |&b| b == b':');
    let target = target_of(parts.next().unwrap_or(&[]))?;
    let usual = MountFlags { no_set_id: true, no_devices: true, ..MountFlags::default() };
    let (mut bytes, mut inodes, mut permissions, mut flags) = (0, 0, 0o1777, usual);
    for option in parts.next().unwrap_or(&[]).split(|&b| b == b',').filter(|option| !option.is_empty()) {
        let option = str::from_utf8(option).context("an option is no text")?;
        match option.split_once('=') {
            None if set_flag(&mut flags, option) => {}
            Some(("size", value)) => bytes = size::parse(value).with_context(|| format!("{value} is no size"))?,
            Some(("nr_inodes", value)) => {
                inodes = size::parse(value).with_context(|| format!("{value} is no number"))?
            }
            Some(("mode", value)) => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                permissions = mode.with_context(|| format!("{value} is no mode"))?;
            }
            _ => bail!("unknown option {option}; size=, nr_inodes=, mode=, ro, noexec, nosuid and nodev are known"),
        }
    }
    Ok(Mount { target, source: MountSource::Tmpfs { size: bytes, inodes, mode: permissions }, flags })
}

/// `ro,noexec,…` of a volume, as podman spells them.
fn volume_flags(options: &[u8]) -> Result<MountFlags> {
    let mut flags = MountFlags::default();
    let mut access = None;
    for option in options.split(|&b| b == b',').filter(|option| !option.is_empty()) {
        match str::from_utf8(option).unwrap_or("") {
            word @ ("ro" | "rw") if access.is_some_and(|before| before != word) => bail!("it is both ro and rw"),
            word if set_flag(&mut flags, word) => access = ["ro", "rw"].into_iter().find(|it| *it == word).or(access),
            // What is so anyway: containers have the labels of their caller, and mounts below come along.
            "z" | "Z" | "rbind" | "rprivate" => {}
            _ => bail!("unknown option {}; ro, rw, noexec, nosuid, nodev, z and Z are known", shown(option)),
        }
    }
    Ok(flags)
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

/// A place in the container for a mount of the caller's, as it is written shortest: absolute, and not all of it.
fn target_of(path: &[u8]) -> Result<Vec<u8>> {
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
    Ok(names().flat_map(|name| [b"/", name].concat()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(add: impl FnOnce(&mut Mounts) -> Result<()>) -> String {
        add(&mut Mounts::default()).err().map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn what_is_wrong_with_a_volume_is_said() {
        let of = |text: &str| refusal(|mounts| mounts.volume(OsStr::new(text)).map(|_| ()));
        assert!(of("/tmp").contains("write SRC:DST"));
        assert!(of("/tmp:/a:ro:x").contains("write SRC:DST"));
        assert!(of(":/a").contains("source is empty"));
        assert!(of("/tmp:").contains("no absolute path") && of("/tmp:a").contains("\"a\""));
        assert!(of("/tmp:/a/../b").contains(".."));
        assert!(of("/tmp:/.").contains("--rootfs"));
        assert!(
            of("/tmp:/a:rx").contains("unknown option rx") && of("/tmp:/a:ro,\u{e9}").contains("unknown option \u{e9}")
        );
        assert!(of("/tmp:/a:rw,ro").contains("both ro and rw"));
        assert!(of("/no/such:/a").contains("/no/such"));
        assert_eq!(of("/tmp:/a:ro"), "");
    }

    #[test]
    fn options_of_a_volume_are_those_of_podman() {
        let read_only = MountFlags::READ_ONLY;
        for (options, flags) in [
            ("", MountFlags::default()),
            ("rw,Z", MountFlags::default()),
            ("z,ro,ro", read_only),
            ("ro,noexec,rbind", MountFlags { no_exec: true, ..read_only }),
            ("nosuid,nodev,rprivate", MountFlags { no_set_id: true, no_devices: true, ..MountFlags::default() }),
        ] {
            assert_eq!(volume_flags(options.as_bytes()).ok(), Some(flags), "{options}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_tmpfs_is_said() {
        let of = |text: &str| refusal(|_| tmpfs(OsStr::new(text)).map(|_| ()));
        assert!(of("a").contains("no absolute path"));
        assert!(of("/a:size=x").contains("x is no size") && of("/a:nr_inodes=x").contains("x is no number"));
        assert!(of("/a:mode=8").contains("8 is no mode") && of("/a:mode=17777").contains("17777"));
        assert!(of("/a:noxec").contains("unknown option noxec"));
        assert_eq!(of("/a:size=1m,nr_inodes=1k,mode=700,rw"), "");
    }

    #[test]
    fn what_lies_deeper_is_mounted_later_and_nothing_twice() {
        let of = |texts: &[&str]| in_order(texts.iter().map(|text| vec![tmpfs(OsStr::new(text)).unwrap()]).collect());
        let mounts = of(&["/a/b/c", "/d//e/", "/b", "/a/./b"]).unwrap();
        let targets: Vec<&[u8]> = mounts.iter().map(|mount| mount.target.as_slice()).collect();
        assert_eq!(targets, [&b"/b"[..], b"/a/b", b"/d/e", b"/a/b/c"]);
        for same in ["/a/b", "/a/b/", "//a/./b"] {
            let error = of(&["/a/b", "/c", same]).unwrap_err().to_string();
            assert!(error.contains("/a/b is asked for twice"), "{same}: {error}");
        }
    }

    #[test]
    fn flags_of_a_tmpfs_are_those_of_mount() {
        let flags = tmpfs(OsStr::new("/a:noexec,ro,rw,dev")).ok().map(|mount| mount.flags);
        assert_eq!(flags, Some(MountFlags { no_exec: true, no_set_id: true, ..MountFlags::default() }));
    }
}
