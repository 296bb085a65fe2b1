//! The host side of one container: it builds the sandbox, loads the LibOS into it, serves the broker
//! and cleans up. Everything here is trusted by the host and trusts nothing the container says.

pub mod filter;
pub mod loader;

pub mod broker;
pub mod cgroup;
pub mod images;
pub mod mountinfo;
pub mod sandbox;
pub mod sys;
mod under_way;
