//! /dev: a tmpfs with the usual nodes, and the driver of the memory devices (major 1): null(4), random(4).

use super::file::{File, FileOps, MapObject, OpenFlags, Sharing};
use super::inode::{Inode, NewKind, NewNode, make_dev, split_dev};
use super::path::Path;
use super::special::{CharDriver, register_char_driver};
use crate::uio::{Sink, Source};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use core::any::Any;

use crate::tty::devices::TTY_MAJOR;

const MEM_MAJOR: u32 = 1;

/// The memory devices and their minor numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Null,
    Zero,
    Full,
    Random,
}

struct MemDriver;

impl CharDriver for MemDriver {
    fn open(&self, _task: &Task, rdev: u64, _flags: OpenFlags, _path: &Path) -> Result<Arc<dyn FileOps>> {
        let device = match split_dev(rdev).1 {
            3 => Device::Null,
            5 => Device::Zero,
            7 => Device::Full,
            8 | 9 => Device::Random,
            _ => return Err(Errno::ENXIO),
        };
        Ok(Arc::new(MemFile { device }))
    }
}

struct MemFile {
    device: Device,
}

impl FileOps for MemFile {
    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        match self.device {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => to.put_zeros(to.remaining()),
            Device::Random => read_random(to),
        }
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        if self.device == Device::Full {
            return Err(Errno::ENOSPC);
        }
        Ok(from.skip_rest())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn map(&self, _file: &File, _sharing: Sharing) -> Result<MapObject> {
        if self.device == Device::Zero { Ok(MapObject::Zero) } else { Err(Errno::ENODEV) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn read_random(to: &mut Sink<'_>) -> Result<usize> {
    let mut total = 0;
    let mut chunk = [0; 256];
    while to.remaining() > 0 {
        let step = to.remaining().min(chunk.len());
        let piece = chunk.get_mut(..step).ok_or(Errno::EFAULT)?;
        crate::random::fill(piece);
        match to.put(piece) {
            Ok(count) => total += count,
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(total)
}

/// Its root.
///
/// # Errors
/// ENOSPC.
pub fn new_root() -> Result<Arc<dyn Inode>> {
    register_char_driver(MEM_MAJOR, Arc::new(MemDriver));
    crate::tty::register_drivers();
    let root = super::init::tmpfs_root(0, 0, 0o755)?;
    let make = |name: &str, kind: NewKind<'_>, mode: u32| {
        root.create(name.as_bytes(), &NewNode { kind, mode, uid: 0, gid: 0 }).map(|_| ())
    };
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        make(name, NewKind::CharDevice(make_dev(MEM_MAJOR, minor)), 0o666)?;
    }
    for (name, minor, mode) in [("tty", 0, 0o666), ("console", 1, 0o600), ("ptmx", 2, 0o666)] {
        make(name, NewKind::CharDevice(make_dev(TTY_MAJOR, minor)), mode)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        make(name, NewKind::Symlink(target.as_bytes()), 0o777)?;
    }
    make("shm", NewKind::Directory, 0o1777)?;
    make("pts", NewKind::Directory, 0o755)?;
    Ok(root)
}
