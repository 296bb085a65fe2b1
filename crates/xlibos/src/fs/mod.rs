//! Files: names, mounts, file systems, open file descriptions and descriptor tables.
//!
//! A [`path::Path`] is a mount and a dentry; a dentry names an [`inode::Inode`]; opening gives a [`File`] over a
//! [`FileOps`]. File systems: tmpfs (memory), hostfs (a directory of the host, by the broker), overlay (memory above
//! another).
//!
//! Locks: sleeping locks (a directory's, an overlay file's copy-up) > a file's position > leaves (dentry maps, inode
//! state, the mount table, descriptor tables). Only sleeping locks are held across broker requests.

pub mod context;
pub mod dentry;
mod dir_map;
pub mod eventfd;
pub mod fd_table;
pub mod fifo;
pub mod file;
pub mod hostpoll;
pub mod inode;
pub mod mount;
pub mod path;
pub mod pipe;
mod pipe_state;
pub mod sleep_lock;
pub mod special;
pub mod stdio;

pub use fd_table::FdTable;
pub use file::{File, FileOps, OpenFlags};
