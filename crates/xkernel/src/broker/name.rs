//! Names that a guest sends, checked before any host call sees them.

use rustix::io::Errno;

/// Longest path in bytes, as the host's own.
const PATH_LIMIT: usize = 4095;
/// Longest component in bytes.
const NAME_LIMIT: usize = 255;
/// Most components of one path.
const DEPTH_LIMIT: usize = 256;

/// Checks a relative path; the empty path is the export's root.
///
/// # Errors
/// `EINVAL` for a leading, trailing or doubled slash, `.`, `..` and NUL; `ENAMETOOLONG` beyond the
/// limits.
pub(super) fn check_path(path: &[u8]) -> Result<(), Errno> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > PATH_LIMIT {
        return Err(Errno::NAMETOOLONG);
    }
    let mut depth = 0;
    for component in path.split(|&byte| byte == b'/') {
        check_name(component)?;
        depth += 1;
    }
    if depth > DEPTH_LIMIT { Err(Errno::NAMETOOLONG) } else { Ok(()) }
}

/// Splits a path into its parent's path and its last component.
///
/// # Errors
/// As [`check_path`], and `EBUSY` for the root, which has no name.
pub(super) fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    check_path(path)?;
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (parent, rest) = path.split_at(slash);
            Ok((parent, rest.get(1..).unwrap_or_default()))
        }
        None if path.is_empty() => Err(Errno::BUSY),
        None => Ok((b"", path)),
    }
}

/// Checks a single name.
///
/// # Errors
/// As [`check_path`].
pub(super) fn check_component(name: &[u8]) -> Result<(), Errno> {
    if name.contains(&b'/') { Err(Errno::INVAL) } else { check_name(name) }
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > NAME_LIMIT {
        return Err(Errno::NAMETOOLONG);
    }
    if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
        return Err(Errno::INVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for path in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "\0"] {
            assert_eq!(check_path(path.as_bytes()), Err(Errno::INVAL), "{path:?}");
        }
        assert_eq!(check_path(&[b'a'; 256]), Err(Errno::NAMETOOLONG));
        assert_eq!(check_path("a/".repeat(300).trim_end_matches('/').as_bytes()), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn plain_names_pass() {
        for path in ["", "a", "a/b", "...", "..a", "a b", "\u{e4}", "-"] {
            assert_eq!(check_path(path.as_bytes()), Ok(()), "{path:?}");
        }
        assert_eq!(check_path(&[0xff, 0xfe, b'\n']), Ok(()));
    }

    #[test]
    fn split_separates_the_last_component() {
        assert_eq!(split(b"a/b/c"), Ok((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(b"a"), Ok((&b""[..], &b"a"[..])));
        assert_eq!(split(b""), Err(Errno::BUSY));
    }
}
