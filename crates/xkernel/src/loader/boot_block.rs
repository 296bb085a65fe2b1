//! The boot block as bytes.

use abi::boot::BootBlock;
use std::mem::offset_of;

/// Bytes of the block: no padding, every field but the seed has eight.
pub(super) const LEN: usize = size_of::<BootBlock>();

const _: () = assert!(LEN as u64 <= abi::boot::CHANGES_OFFSET, "the change words lie behind the block");

/// As the block lies in memory.
pub(super) fn to_bytes(block: &BootBlock) -> [u8; LEN] {
    let BootBlock {
        magic,
        base,
        text_start,
        text_end,
        arena_start,
        arena_len,
        far_start,
        far_len,
        heap_start,
        heap_end,
        threads_start,
        thread_count,
        filter_addr,
        filter_len,
        config_addr,
        config_len,
        started_ns,
        seed,
        vdso,
        panic_addr,
        panic_len,
    } = *block;
    let fields = [
        (offset_of!(BootBlock, magic), magic),
        (offset_of!(BootBlock, base), base),
        (offset_of!(BootBlock, text_start), text_start),
        (offset_of!(BootBlock, text_end), text_end),
        (offset_of!(BootBlock, arena_start), arena_start),
        (offset_of!(BootBlock, arena_len), arena_len),
        (offset_of!(BootBlock, far_start), far_start),
        (offset_of!(BootBlock, far_len), far_len),
        (offset_of!(BootBlock, heap_start), heap_start),
        (offset_of!(BootBlock, heap_end), heap_end),
        (offset_of!(BootBlock, threads_start), threads_start),
        (offset_of!(BootBlock, thread_count), thread_count),
        (offset_of!(BootBlock, filter_addr), filter_addr),
        (offset_of!(BootBlock, filter_len), filter_len),
        (offset_of!(BootBlock, config_addr), config_addr),
        (offset_of!(BootBlock, config_len), config_len),
        (offset_of!(BootBlock, started_ns), started_ns),
        (offset_of!(BootBlock, vdso), vdso),
        (offset_of!(BootBlock, panic_addr), panic_addr),
        (offset_of!(BootBlock, panic_len), panic_len),
    ];
    let mut bytes = [0u8; LEN];
    for (offset, value) in fields {
        put(&mut bytes, offset, &value.to_le_bytes());
    }
    put(&mut bytes, offset_of!(BootBlock, seed), &seed);
    bytes
}

/// Address and length of the panic record in a block read back.
pub(super) fn panic_record(bytes: &[u8; LEN]) -> (u64, u64) {
    (word(bytes, offset_of!(BootBlock, panic_addr)), word(bytes, offset_of!(BootBlock, panic_len)))
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(offset..offset + value.len()) {
        slot.copy_from_slice(value);
    }
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0u8; 8];
    if let Some(slot) = bytes.get(offset..offset + 8) {
        value.copy_from_slice(slot);
    }
    u64::from_le_bytes(value)
}
