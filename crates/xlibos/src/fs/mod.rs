//! Files: open file descriptions and descriptor tables here; names, mounts and file systems below.
//!
//! Locks: a descriptor table's lock and a file's position lock are leaves; neither is held while sleeping.

pub mod context;
pub mod fd_table;
pub mod file;
pub mod path;

pub use fd_table::FdTable;
pub use file::{File, FileOps, OpenFlags};
