//! What processes talk through, apart from sockets: the byte ring that pipes and stream sockets share, System V
//! IPC and POSIX message queues.

pub mod ring;
