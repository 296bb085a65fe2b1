//! A second mount of an export's file system, which nobody else sees and on which no device can be opened.
//!
//! To open a device acts on the host, so a name is looked at first, without opening what it stands for, and only then opened as the
//! node that was looked at: two steps, for nobody may put a device there in between. On a mount without devices one step does, and
//! what was opened is looked at. A FIFO that takes the place of a file which the directory has just shown is opened and closed again,
//! which never waits; who can put it there can open it, too.
//!
//! The host's other mounts are not on it: a directory has to be the one that the export leads to, and names on which something is
//! mounted anywhere are left out.

use super::attributes;
use super::export::below;
use crate::mountinfo;
use abi::broker::{Attributes, SMALL_FILE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Last components of the places where something is mounted.
type Names = BTreeSet<Vec<u8>>;

#[derive(Debug)]
pub(super) struct Twin {
    root: OwnedFd,
    /// The host's table of mounts, which tells when it has changed.
    table: OwnedFd,
    mounted: Mutex<Arc<Names>>,
}

/// A directory on it.
#[derive(Debug)]
pub(super) struct TwinDirectory {
    directory: OwnedFd,
    mounted: Arc<Names>,
}

impl Twin {
    /// None where the host lets us make no mount, or does not show the export's.
    pub(super) fn of(root: &OwnedFd) -> Option<Twin> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let twin = open_tree(root, c"", flags).ok()?;
        crate::sys::close_off(twin.as_fd()).ok()?;
        let table = openat(CWD, "/proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let id = statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?.stx_mnt_id;
        let (names, ids) = mounted().ok()?;
        ids.contains(&id).then(|| Twin { root: twin, table, mounted: Mutex::new(Arc::new(names)) })
    }

    /// The directory of a path, where it is the one with these attributes.
    pub(super) fn directory(&self, path: &[u8], attributes: &Attributes) -> Option<TwinDirectory> {
        let mounted = self.mounted()?;
        let path = if path.is_empty() { b"." } else { path };
        let directory = below(self.root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let own = attributes::of_descriptor(&directory).ok()?;
        let is_same = (own.device, own.inode) == (attributes.device, attributes.inode);
        is_same.then_some(TwinDirectory { directory, mounted })
    }

    fn mounted(&self) -> Option<Arc<Names>> {
        let mut known = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = [PollFd::new(&self.table, PollFlags::PRI)];
        if poll(&mut table, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0) {
            *known = Arc::new(mounted().ok()?.0);
        }
        Some(Arc::clone(&known))
    }
}

impl TwinDirectory {
    /// Attributes of an entry, which the host says is a regular file, and the file opened for reading where it is small.
    pub(super) fn look_and_open_small(&self, name: &[u8]) -> Result<(Attributes, Option<OwnedFd>), Errno> {
        if self.mounted.contains(name) {
            return Err(Errno::XDEV);
        }
        let file = below(self.directory.as_fd(), name, OFlags::RDONLY)?;
        let attributes = attributes::of_descriptor(&file)?;
        match attributes::kind(&attributes) {
            FileType::RegularFile => Ok((attributes, (attributes.size <= SMALL_FILE).then_some(file))),
            _ => Err(Errno::ACCESS),
        }
    }
}

fn mounted() -> std::io::Result<(Names, BTreeSet<u64>)> {
    let mounts = mountinfo::of_host()?;
    let name = |mount: &mountinfo::Mount| Some(mount.target.file_name()?.as_bytes().to_vec());
    Ok((mounts.iter().filter_map(name).collect(), mounts.iter().map(|mount| mount.id).collect()))
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Errno, OFlags, OwnedFd, Twin, TwinDirectory, attributes, below};
    use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat, open};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn look_at(path: &Path) -> (OwnedFd, Attributes) {
        let node = open(path, OFlags::PATH, Mode::empty()).expect("directory");
        let attributes = attributes::of_descriptor(&node).expect("attributes");
        (node, attributes)
    }

    /// None where no mount can be made, which the test then says.
    fn twin_of(path: &Path) -> Option<(Twin, TwinDirectory)> {
        let (root, own) = look_at(path);
        let Some(twin) = Twin::of(&root) else {
            eprintln!("skipped: no right to make mounts");
            return None;
        };
        let directory = twin.directory(b"", &own).expect("the root");
        Some((twin, directory))
    }

    #[test]
    fn regular_files_alone_are_opened_and_no_device() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("small"), "text").expect("write");
        std::fs::write(path("large"), vec![0; 1 << 20]).expect("write");
        symlink("small", path("link")).expect("link");
        std::fs::create_dir(path("dir")).expect("mkdir");
        mkfifoat(CWD, path("fifo"), Mode::RWXU).expect("fifo");
        let Some((_twin, on_twin)) = twin_of(directory.path()) else { return };
        let device = rustix::fs::makedev(1, 3);
        mknodat(CWD, path("null"), FileType::CharacterDevice, Mode::RWXU, device).expect("device");
        assert!(std::fs::File::open(path("null")).is_ok(), "the host's own mount has devices");
        let look = |name: &str| {
            let looked = on_twin.look_and_open_small(name.as_bytes());
            looked.map(|(attributes, file)| (attributes.size, file.is_some()))
        };
        let opened = below(on_twin.directory.as_fd(), b"null", OFlags::RDONLY);
        assert_eq!(opened.map(drop), Err(Errno::ACCESS), "not even opened");
        assert_eq!(look("small"), Ok((4, true)));
        assert_eq!(look("large"), Ok((1 << 20, false)));
        for (name, errno) in [
            ("null", Errno::ACCESS),
            ("fifo", Errno::ACCESS),
            ("dir", Errno::ACCESS),
            ("link", Errno::LOOP),
            ("..", Errno::XDEV),
        ] {
            assert_eq!(look(name), Err(errno), "{name}");
        }
    }

    #[test]
    fn a_directory_is_the_one_that_is_expected_or_none() {
        let directory = tempfile::tempdir().expect("directory");
        ["one", "other"].iter().for_each(|name| std::fs::create_dir(directory.path().join(name)).expect("mkdir"));
        let Some((twin, _)) = twin_of(directory.path()) else { return };
        let (_, other) = look_at(&directory.path().join("other"));
        assert!(twin.directory(b"other", &other).is_some());
        assert!(twin.directory(b"one", &other).is_none() && twin.directory(b"missing", &other).is_none());
    }

    #[test]
    fn what_another_mount_covers_is_not_shown() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name);
        ["above", "covered", "plain"].iter().for_each(|name| std::fs::write(path(name), name).expect("write"));
        let Some((twin, _)) = twin_of(directory.path()) else { return };
        if rustix::mount::mount_bind(path("above"), path("covered")).is_err() {
            eprintln!("skipped: no right to mount");
            return;
        }
        let (_, own) = look_at(directory.path());
        let on_twin = twin.directory(b"", &own).expect("the root");
        let covered = on_twin.look_and_open_small(b"covered").map(|_| ());
        rustix::mount::unmount(path("covered"), rustix::mount::UnmountFlags::empty()).expect("unmount");
        assert_eq!(covered, Err(Errno::XDEV));
        assert!(on_twin.look_and_open_small(b"plain").is_ok());
        let later = twin.directory(b"", &own).expect("the root");
        assert!(later.look_and_open_small(b"covered").is_ok(), "nothing covers it any more");
    }
}
