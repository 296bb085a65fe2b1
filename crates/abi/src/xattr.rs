//! Which extended attributes of host files a container has to do with, by their names.

/// Whether the broker reads it for a container. Any other is not there (`ENODATA`), whatever the host has: nobody needs to ask.
#[must_use]
pub fn is_shown(name: &[u8]) -> bool {
    is_own(name) || name == b"security.capability"
}

/// Whether a container may also change it.
#[must_use]
pub fn is_own(name: &[u8]) -> bool {
    name.starts_with(b"user.") || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}
