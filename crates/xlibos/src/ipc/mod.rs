//! What processes talk through, apart from sockets: the byte ring that pipes and stream sockets share, System V IPC
//! and POSIX message queues.

pub mod futex_set;
pub mod info;
pub mod mqueue;
pub mod msg;
pub mod ring;
pub mod sem;
pub mod shm;
pub mod table;
