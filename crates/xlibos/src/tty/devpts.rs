//! /dev/pts: a node for each terminal.

use super::devices::{PTMX, PTS_MAJOR};
use super::{Tty, find, numbers};
use crate::fs::inode::{
    Caching, Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, LONGEST_OF_32_BITS, Nodev, PERMISSIONS, Stat,
    make_dev, now,
};
use crate::{Errno, Result};
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
const DEV: u64 = 0x17;
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;

static DEVPTS: Nodev = Nodev { name: "devpts", dev: DEV, kind: DEVPTS_SUPER_MAGIC, longest: LONGEST_OF_32_BITS };

enum Node {
    Root,
    Ptmx,
    Terminal(Arc<Tty>),
}

struct PtsInode {
    node: Node,
}

/// Its root.
#[must_use]
pub fn new_root() -> Arc<dyn Inode> {
    Arc::new(PtsInode { node: Node::Root })
}

impl PtsInode {
    fn ino(&self) -> u64 {
        match &self.node {
            Node::Root => ROOT_INO,
            Node::Ptmx => PTMX_INO,
            Node::Terminal(tty) => u64::from(tty.index) + 3,
        }
    }
}

fn device(mode: u32, rdev: u64, ino: u64) -> Stat {
    let mode = mode | Kind::CharDevice.mode_bits();
    Stat { dev: DEV, ino, mode, nlink: 1, rdev, blksize: 1024, ..Stat::default() }
}

impl Inode for PtsInode {
    fn kind(&self) -> Kind {
        if matches!(self.node, Node::Root) { Kind::Directory } else { Kind::CharDevice }
    }

    fn id(&self) -> InodeId {
        InodeId { dev: DEV, ino: self.ino() }
    }

    fn stat(&self) -> Result<Stat> {
        let ino = self.ino();
        Ok(match &self.node {
            Node::Root => {
                let mode = Kind::Directory.mode_bits() | 0o755;
                Stat { dev: DEV, ino, mode, nlink: 2, blksize: 1024, ..Stat::default() }
            }
            Node::Ptmx => device(0o666, make_dev(PTMX.0, PTMX.1), ino),
            Node::Terminal(tty) => {
                let known = tty.state.lock().attributes;
                Stat {
                    uid: known.uid,
                    gid: known.gid,
                    atime: known.atime,
                    mtime: known.mtime,
                    ctime: known.ctime,
                    ..device(known.mode, make_dev(PTS_MAJOR, tty.index), ino)
                }
            }
        })
    }

    fn file_system(&self) -> &dyn FileSystem {
        &DEVPTS
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        let Node::Terminal(tty) = &self.node else { return Err(Errno::EPERM) };
        let mut state = tty.state.lock();
        let known = &mut state.attributes;
        known.uid = change.uid.unwrap_or(known.uid);
        known.gid = change.gid.unwrap_or(known.gid);
        known.mode = change.mode.unwrap_or(known.mode) & PERMISSIONS;
        known.atime = change.atime.unwrap_or(known.atime);
        known.mtime = change.mtime.unwrap_or(known.mtime);
        known.ctime = now();
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !matches!(self.node, Node::Root) {
            return Err(Errno::ENOTDIR);
        }
        if name == b"ptmx" {
            return Ok(Arc::new(PtsInode { node: Node::Ptmx }));
        }
        let index: u32 = core::str::from_utf8(name).ok().and_then(|text| text.parse().ok()).ok_or(Errno::ENOENT)?;
        let tty = find(index).filter(|tty| tty.index.to_string().as_bytes() == name).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(PtsInode { node: Node::Terminal(tty) }))
    }

    fn caching(&self) -> Caching {
        Caching::Never
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        if !matches!(self.node, Node::Root) {
            return Err(Errno::ENOTDIR);
        }
        let terminals = numbers().into_iter().map(|index| (index.to_string().into_bytes(), u64::from(index) + 3));
        let all: Vec<_> = core::iter::once((b"ptmx".to_vec(), PTMX_INO)).chain(terminals).collect();
        // An entry's cookie is its inode number: listings go on behind what is gone by then.
        for (name, ino) in all.iter().filter(|(_, ino)| *ino > from) {
            if !emit(&DirEntry { name, ino: *ino, kind: Kind::CharDevice, next: *ino }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
