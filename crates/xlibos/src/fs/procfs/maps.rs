//! /proc/PID/maps.

use crate::fs::inode::split_dev;
use crate::mm::{Backing, PAGE, Prot, Vma};
use crate::process::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::guest;

/// The mappings of a task's memory, those of the guest and the host's vDSO.
pub(super) fn text(task: &Arc<Task>) -> String {
    let mut lines: Vec<(u64, String)> = task.mm().collect_vmas().iter().map(|vma| (vma.start, line(vma))).collect();
    if let Some((start, end)) = vdso() {
        lines.push((start, row((start, end), "r-xp", (0, 0, 0), "[vdso]")));
        lines.sort_by_key(|(start, _)| *start);
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The vDSO is the host's, at the same place in every process: its ELF header tells where it ends.
fn vdso() -> Option<(u64, u64)> {
    let start = crate::kernel::vdso();
    if start == 0 {
        return None;
    }
    let sections: u64 = guest::read_value(start + 0x28).ok()?;
    let sizes: [u16; 2] = [guest::read_value(start + 0x3a).ok()?, guest::read_value(start + 0x3c).ok()?];
    let len = sections.checked_add(u64::from(sizes[0]) * u64::from(sizes[1]))?;
    Some((start, start + len.min(1 << 20).next_multiple_of(PAGE)))
}

/// The line of one mapping.
pub(super) fn line(vma: &Vma) -> String {
    let bit = |flag: Prot, letter: char| if vma.prot.contains(flag) { letter } else { '-' };
    let sharing = if vma.is_shared() { 's' } else { 'p' };
    let (offset, dev, ino, name) = match &vma.backing {
        Backing::File { file, offset, .. } => {
            let id = file.path().map(|path| path.inode().id());
            let root = Task::current().map(|current| current.fs().root());
            let name = match (file.path(), root) {
                (Some(path), Some(root)) => String::from_utf8_lossy(&path.display(&root)).into_owned(),
                _ => String::new(),
            };
            (*offset, id.map_or(0, |id| id.dev), id.map_or(0, |id| id.ino), name)
        }
        Backing::SharedZero { id, offset } => (*offset, 1, *id, String::from("/dev/zero (deleted)")),
        Backing::Stack => (0, 0, 0, String::from("[stack]")),
        Backing::Heap => (0, 0, 0, String::from("[heap]")),
        Backing::Vdso => (0, 0, 0, String::from("[vdso]")),
        Backing::Zero => (0, 0, 0, String::new()),
    };
    let permissions: String =
        [bit(Prot::READ, 'r'), bit(Prot::WRITE, 'w'), bit(Prot::EXEC, 'x'), sharing].iter().collect();
    row((vma.start, vma.end), &permissions, (offset, dev, ino), &name)
}

/// A line: range, permissions, offset with device and inode, name.
pub(super) fn row(
    (start, end): (u64, u64),
    permissions: &str,
    (offset, dev, ino): (u64, u64, u64),
    name: &str,
) -> String {
    let (major, minor) = split_dev(dev);
    let head = format!("{start:08x}-{end:08x} {permissions} {offset:08x} {major:02x}:{minor:02x} {ino}");
    if name.is_empty() { format!("{head} \n") } else { format!("{head:<73}{}\n", name.replace('\n', "\\012")) }
}
