//! A cursor over hostile bytes that knows their address.

/// Reads little-endian values; `None` at the end.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    vaddr: u64,
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`, which lies at `vaddr`.
    pub(crate) fn new(bytes: &'a [u8], vaddr: u64) -> Self {
        Self { bytes, vaddr, pos: 0 }
    }

    /// Bytes consumed so far.
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Address of the next byte.
    pub(crate) fn vaddr(&self) -> u64 {
        self.vaddr.wrapping_add(self.pos as u64)
    }

    /// Continues `pos` bytes from the start.
    pub(crate) fn seek(&mut self, pos: usize) {
        self.pos = pos;
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.pos.checked_add(len)?;
        let bytes = self.bytes.get(self.pos..end)?;
        self.pos = end;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 value of at most 64 bits.
    pub(crate) fn uleb(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A zero-terminated string without its terminator, at most `limit` long.
    pub(crate) fn string(&mut self, limit: usize) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.pos..)?;
        let len = rest.iter().take(limit).position(|byte| *byte == 0)?;
        self.pos = self.pos.checked_add(len)?.checked_add(1)?;
        rest.get(..len)
    }
}
