//! What the LibOS and its host side agree on: memory layout, boot block, configuration, broker
//! protocol, events and the list of host calls. Types and data only, no logic.
#![no_std]

extern crate alloc;

pub mod boot;
pub mod broker;
pub mod config;
pub mod event;
pub mod hostcall;
pub mod name;
pub mod stats;
pub mod xattr;

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

/// Number of an encoded [`broker::Envelope`], which is its first field; None where there is none.
#[must_use]
pub fn sequence_of(envelope: &[u8]) -> Option<u32> {
    postcard::take_from_bytes(envelope).ok().map(|(sequence, _)| sequence)
}

#[cfg(test)]
mod tests {
    use super::{broker::Envelope, encode, sequence_of};

    #[test]
    fn the_number_of_an_envelope_is_told_without_the_rest() {
        for sequence in [0, 1, 127, 128, 1 << 20, u32::MAX] {
            let encoded = encode(&Envelope { sequence, runs_on: 3, body: "body" }).unwrap_or_default();
            assert_eq!(sequence_of(&encoded), Some(sequence));
        }
        assert_eq!([sequence_of(&[]), sequence_of(&[0x80]), sequence_of(&[0xff; 9])], [None; 3]);
    }
}
