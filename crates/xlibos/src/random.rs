//! Random numbers: getrandom(2), AT_RANDOM, address draws. ChaCha20 over a key that each refill replaces, so that
//! what was given out cannot be computed from what the memory holds now.

use machine::sync::Mutex;

const BLOCK: usize = 64;
/// Bytes made at once; the first 32 become the next key.
const BATCH: usize = 4 * BLOCK;
const KEY: usize = 32;

struct Generator {
    key: [u32; 8],
    counter: u64,
    bytes: [u8; BATCH],
    /// First byte of `bytes` not given out.
    next: usize,
}

static GENERATOR: Mutex<Generator> = Mutex::new(Generator { key: [0; 8], counter: 0, bytes: [0; BATCH], next: BATCH });

/// Starts the generator from the seed of the boot block; later seeds are mixed in.
pub fn seed(bytes: &[u8; 64]) {
    let mut generator = GENERATOR.lock();
    let words = bytes
        .chunks_exact(4)
        .map(|chunk| u32::from_le_bytes([byte(chunk, 0), byte(chunk, 1), byte(chunk, 2), byte(chunk, 3)]));
    for (i, word) in words.enumerate() {
        if let Some(slot) = generator.key.get_mut(i % 8) {
            *slot = slot.rotate_left(7) ^ word;
        }
    }
    generator.next = BATCH;
}

/// Fills a buffer.
pub fn fill(buffer: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    buffer.iter_mut().for_each(|slot| *slot = generator.next_byte());
}

/// A number.
#[must_use]
pub fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

impl Generator {
    fn next_byte(&mut self) -> u8 {
        if self.next >= BATCH {
            self.refill();
        }
        let value = self.bytes.get_mut(self.next).map_or(0, core::mem::take);
        self.next += 1;
        value
    }

    fn refill(&mut self) {
        for chunk in self.bytes.chunks_exact_mut(BLOCK) {
            chunk.copy_from_slice(&block(&self.key, self.counter));
            self.counter = self.counter.wrapping_add(1);
        }
        let bytes = self.bytes;
        for (slot, chunk) in self.key.iter_mut().zip(bytes.chunks_exact(4)) {
            *slot = u32::from_le_bytes([byte(chunk, 0), byte(chunk, 1), byte(chunk, 2), byte(chunk, 3)]);
        }
        self.bytes.iter_mut().take(KEY).for_each(|b| *b = 0);
        self.next = KEY;
    }
}

/// One block of ChaCha20 (RFC 8439) with a zero nonce and a 64-bit counter.
fn block(key: &[u32; 8], counter: u64) -> [u8; BLOCK] {
    let mut start = [0_u32; 16];
    let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    let counter = [(counter & 0xffff_ffff), counter >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let words = constants.iter().chain(key).chain(&counter);
    start.iter_mut().zip(words).for_each(|(slot, word)| *slot = *word);
    let mut state = start;
    for _ in 0..10 {
        for column in 0..4 {
            quarter(&mut state, [column, column + 4, column + 8, column + 12]);
        }
        for diagonal in 0..4 {
            let turned = |row: usize| row * 4 + (diagonal + row) % 4;
            quarter(&mut state, [turned(0), turned(1), turned(2), turned(3)]);
        }
    }
    let mut out = [0; BLOCK];
    let sums = state.iter().zip(&start).map(|(a, b)| a.wrapping_add(*b));
    out.chunks_exact_mut(4).zip(sums).for_each(|(slot, word)| slot.copy_from_slice(&word.to_le_bytes()));
    out
}

fn quarter(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, turn) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x & 15] = state[x & 15].wrapping_add(state[y & 15]);
        state[z & 15] = (state[z & 15] ^ state[x & 15]).rotate_left(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::{block, fill, next_u64, seed};

    #[test]
    fn chacha20_gives_the_first_words_of_the_zero_key() {
        // RFC 8439, appendix A.1, test vector 1.
        let seen = block(&[0; 8], 0);
        assert_eq!(seen[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
    }

    #[test]
    fn numbers_differ_and_buffers_are_filled() {
        seed(&[7; 64]);
        assert_ne!(next_u64(), next_u64());
        let mut buffer = [0; 1000];
        fill(&mut buffer);
        assert!(buffer.iter().filter(|b| **b == 0).count() < 50);
    }
}
