//! What the LibOS and its host side agree on: memory layout, boot block, configuration, broker
//! protocol, events and the list of host calls. Types and data only, no logic.
#![no_std]

extern crate alloc;

pub mod boot;
pub mod broker;
pub mod config;
pub mod event;
pub mod hostcall;
pub mod stats;

/// Encodes a protocol value for a channel or the boot region.
///
/// # Errors
/// Fails only when memory runs out.
pub fn encode<T: serde::Serialize>(value: &T) -> Result<alloc::vec::Vec<u8>, postcard::Error> {
    postcard::to_allocvec(value)
}

/// Decodes a protocol value; borrows from `bytes`.
///
/// # Errors
/// Fails on truncated or malformed input; never panics.
pub fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(bytes)
}
