//! The host's table of mounts: proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Number, as statx(2) tells it.
    pub id: u64,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Type of the file system.
    pub kind: String,
    /// Options of the file system, comma-separated.
    pub options: String,
}

/// The mounts that the calling process sees.
///
/// # Errors
/// Where /proc is not there.
pub fn of_host() -> std::io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mounts of a table. Lines that are none are left out.
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (root, target) = (path(fields.nth(2)?), path(fields.next()?));
    // Fields whose number differs end with a dash.
    fields.find(|field| *field == b"-")?;
    let (kind, options) = (text(fields.next()?), text(fields.nth(1)?));
    Some(Mount { id, root, target, kind, options })
}

/// A name whose bytes may be any: the kernel writes blanks and backslashes as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = (first == b'\\').then(|| octal(behind)).flatten();
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { behind.get(3..).unwrap_or(&[]) } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(digits.get(..3)?).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_mount_with_its_place_and_type() {
        let table = b"36 35 98:0 /sub /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n36 35\n\n";
        let [mount] = &parse(table)[..] else { panic!("not one mount") };
        assert_eq!((mount.id, mount.kind.as_str(), mount.options.as_str()), (36, "ext3", "rw,errors=continue"));
        assert_eq!((mount.root.as_path(), mount.target.as_path()), ("/sub".as_ref(), "/mnt".as_ref()));
    }

    #[test]
    fn names_have_whatever_bytes_they_have() {
        let target = |name: &[u8]| {
            let line = [b"1 2 0:3 / /", name, b" rw - tmpfs none rw"].concat();
            parse(&line).pop().map(|mount| mount.target.into_os_string().into_vec())
        };
        assert_eq!(target(b"a\\040b\\011\\012\\134n").as_deref(), Some(&b"/a b\t\n\\n"[..]));
        assert_eq!(target(b"\xff\\9").as_deref(), Some(&b"/\xff\\9"[..]));
    }
}
