//! Extended attributes.
//!
//! A guest writes `user.*` and POSIX ACLs. It reads file capabilities too, but never sets what gives a
//! program rights on the host (`security.*`, `trusted.*`).

use super::export::{Export, magic_path};
use abi::broker::{FileAt, Reply, XattrOperation};
use abi::xattr::{is_own, is_shown};
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

/// Longest value and longest list of names, as Linux has them.
const LIMIT: usize = 64 * 1024;
/// Longest name.
const NAME_LIMIT: usize = 255;

/// Reads, lists, sets or removes.
///
/// # Errors
/// `ESTALE` for another node than that with the inode number, `EPERM` for names that a guest may not change, `ENODATA` for those that it may not see, `EROFS`, and
/// what the host says.
pub(super) fn perform(export: &Export, file: FileAt<'_>, operation: XattrOperation<'_>) -> Result<Reply, Errno> {
    if matches!(operation, XattrOperation::Set(..) | XattrOperation::Remove(_)) {
        export.check_writable()?;
    }
    let node = export.node_of(file)?;
    // The calls by descriptor refuse O_PATH; through its name they act on just this node, even a link.
    let node_path = magic_path(&node);
    match operation {
        XattrOperation::Get(name) => {
            check_name(name, is_shown, Errno::NODATA)?;
            let mut value = Vec::with_capacity(LIMIT);
            getxattr(node_path, name, spare_capacity(&mut value))?;
            Ok(Reply::Bytes(value))
        }
        XattrOperation::List => {
            let mut names = Vec::with_capacity(LIMIT);
            listxattr(node_path, spare_capacity(&mut names))?;
            Ok(Reply::Bytes(visible(&names)))
        }
        XattrOperation::Set(name, value, flags) => {
            check_name(name, is_own, Errno::PERM)?;
            let flags = XattrFlags::from_bits(flags)
                .filter(|flags| (XattrFlags::CREATE | XattrFlags::REPLACE).contains(*flags))
                .ok_or(Errno::INVAL)?;
            setxattr(node_path, name, value, flags)?;
            Ok(Reply::Done)
        }
        XattrOperation::Remove(name) => {
            check_name(name, is_own, Errno::PERM)?;
            removexattr(node_path, name)?;
            Ok(Reply::Done)
        }
    }
}

fn check_name(name: &[u8], is_allowed: fn(&[u8]) -> bool, refusal: Errno) -> Result<(), Errno> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return Err(Errno::RANGE);
    }
    if name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if is_allowed(name) { Ok(()) } else { Err(refusal) }
}

/// The readable ones of a list of names, each with its NUL.
fn visible(names: &[u8]) -> Vec<u8> {
    let names = names.split_inclusive(|&byte| byte == 0);
    names.filter(|name| is_shown(name.strip_suffix(b"\0").unwrap_or(name))).flatten().copied().collect()
}
