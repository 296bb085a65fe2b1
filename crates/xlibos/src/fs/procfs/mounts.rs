//! /proc/PID/mounts and mountinfo: proc_pid_mountinfo(5).

use crate::fs::inode::split_dev;
use crate::fs::mount::{self, Mount};
use crate::fs::path::Path;
use alloc::format;
use alloc::string::String;

/// A mount as a process with this root sees it.
struct Seen {
    mount: &'static Mount,
    point: String,
    kind: &'static str,
    source: String,
    options: String,
}

/// Those that the root reaches, in the order in which they were made.
fn seen_from(root: &Path) -> impl Iterator<Item = Seen> {
    mount::list().into_iter().filter_map(move |mount| {
        let (point, is_reached) = mount.root_path().names_below(root);
        // /dev is in memory, and known by its own name.
        let is_dev = mount.source[..] == *b"devtmpfs";
        let kind = if is_dev { "devtmpfs" } else { mount.root.inode().file_system().name() };
        let source = escaped(&mount.source);
        let options = options_of(mount);
        is_reached.then(|| Seen { mount, point: escaped(&point), kind, source, options })
    })
}

fn options_of(mount: &Mount) -> String {
    let access = if mount.is_read_only() { "ro" } else { "rw" };
    let flags = mount.flags;
    let refused = [(flags.no_set_id, ",nosuid"), (flags.no_devices, ",nodev"), (flags.no_exec, ",noexec")];
    let refused: String = refused.iter().filter(|(refuses, _)| *refuses).map(|(_, name)| *name).collect();
    format!("{access}{refused},relatime")
}

/// What separates fields is written as octal numbers.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for part in String::from_utf8_lossy(bytes).chars() {
        match part {
            ' ' | '\t' | '\n' | '\\' | '#' => out.push_str(&format!("\\{:03o}", u32::from(part))),
            _ => out.push(part),
        }
    }
    out
}

/// /proc/PID/mounts.
pub(super) fn mounts(root: &Path) -> String {
    seen_from(root).map(|m| format!("{} {} {} {} 0 0\n", m.source, m.point, m.kind, m.options)).collect()
}

/// /proc/PID/mountinfo.
pub(super) fn mountinfo(root: &Path) -> String {
    let line = |seen: Seen| {
        let (major, minor) = split_dev(seen.mount.root.inode().id().dev);
        let parent = seen.mount.place().map_or(1, |place| place.mount.id);
        let Seen { mount, point, kind, source, options } = seen;
        let (own, _) = options.split_once(',').unwrap_or((&options, ""));
        format!("{} {parent} {major}:{minor} / {point} {options} - {kind} {source} {own}\n", mount.id)
    };
    seen_from(root).map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn separators_are_written_as_numbers() {
        assert_eq!(super::escaped(b"/a b\\c\td"), "/a\\040b\\134c\\011d");
    }
}
