//! Files: names, mounts, file systems, open file descriptions and descriptor tables.
//!
//! A [`path::Path`] is a mount and a dentry; a dentry names an [`inode::Inode`]; opening gives a [`File`] over a
//! [`FileOps`]. File systems: tmpfs (memory), hostfs (a directory of the host, by the broker), overlay (memory above
//! another).
//!
//! Locks: sleeping locks (a directory's, an overlay file's copy-up) > a file's position > leaves (dentry maps, inode
//! state, the mount table, descriptor tables). Only sleeping locks are held across broker requests.

pub mod access;
pub mod acl;
mod attributes;
pub mod broker;
mod budget;
pub mod change;
mod channels;
pub mod context;
mod data;
pub mod dentry;
pub mod devfs;
mod dir_map;
pub mod epoll;
mod epoll_item;
pub mod eventfd;
mod exec_open;
pub mod fd_table;
pub mod fifo;
pub mod file;
pub mod glance;
mod host_ahead;
mod host_attributes;
mod host_file;
mod host_names;
mod host_place;
mod host_watch;
mod host_ways;
pub mod hostfs;
pub mod hostpoll;
mod init;
pub mod inode;
pub mod inotify;
pub mod locks;
pub mod memfd;
pub mod mount;
pub mod namei;
mod object;
pub mod open;
mod order;
pub mod overlay;
mod overlay_names;
pub mod own_attributes;
mod pages;
pub mod path;
pub mod pidfd;
pub mod pipe;
mod pipe_state;
pub mod procfs;
pub mod pseudo;
pub mod sigio;
pub mod signalfd;
pub mod size_limit;
pub mod sleep_lock;
pub mod special;
mod stamp;
pub mod stdio;
pub mod sysfs;
pub mod text_busy;
pub mod timerfd;
pub mod tmpfs;

/// Bytes that files in memory use.
#[must_use]
pub fn memory_used() -> u64 {
    budget::used_by_all()
}

pub(crate) use data::image_of_memory;
pub use exec_open::{change_directory, open_for_exec, open_standard_streams};
pub use fd_table::FdTable;
pub use file::{Closed, File, FileOps, OpenFlags};
pub use init::{init, tmpfs_root};
pub use namei::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Follow, Resolve, resolve, resolve_at, resolve_parent};
pub use open::{How, open, open_how, open_place};
pub use path::Path;
