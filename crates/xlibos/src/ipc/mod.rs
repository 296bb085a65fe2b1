//! What processes talk through, apart from sockets: the byte ring that pipes and stream sockets share, and System V
//! IPC.

pub mod msg;
pub mod ring;
pub mod sem;
pub mod shm;
pub mod table;
