//! From registers to typed arguments, and from results to registers: the one place with casts.

use crate::fs::fd_table::Fd;
use crate::{Errno, Result};
use alloc::vec::Vec;
use machine::guest::{SHORT, UserPtr};

/// A type that a register can hold. Types that cannot refuse always give a value; those that can say EINVAL.
pub trait FromReg: Sized {
    /// Parses the register; an `int` is its low 32 bits, as Linux takes it.
    ///
    /// # Errors
    /// EINVAL for a value that Linux refuses before it looks at anything else.
    fn from_reg(reg: u64) -> Result<Self>;
}

/// A type that a call can return.
pub trait IntoReg {
    /// The value of rax.
    fn into_reg(self) -> u64;
}

impl FromReg for u64 {
    fn from_reg(reg: u64) -> Result<u64> {
        Ok(reg)
    }
}

impl FromReg for i64 {
    fn from_reg(reg: u64) -> Result<i64> {
        Ok(reg.cast_signed())
    }
}

impl FromReg for usize {
    fn from_reg(reg: u64) -> Result<usize> {
        Ok(reg as usize)
    }
}

impl FromReg for u32 {
    fn from_reg(reg: u64) -> Result<u32> {
        Ok(reg as u32)
    }
}

impl FromReg for i32 {
    fn from_reg(reg: u64) -> Result<i32> {
        Ok((reg as u32).cast_signed())
    }
}

impl FromReg for Fd {
    fn from_reg(reg: u64) -> Result<Fd> {
        Ok(Fd((reg as u32).cast_signed()))
    }
}

impl<T> FromReg for UserPtr<T> {
    fn from_reg(reg: u64) -> Result<UserPtr<T>> {
        Ok(UserPtr::new(reg))
    }
}

/// An address of a NUL-terminated string in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct UserPath(pub u64);

/// PATH_MAX, with its NUL.
const PATH_MAX: usize = 4096;

/// Where a path is read to: most are short, and need no memory of their own.
pub struct PathText {
    short: [u8; SHORT],
    long: Vec<u8>,
}

impl PathText {
    /// Without a path.
    #[must_use]
    pub const fn empty() -> PathText {
        PathText { short: [0; SHORT], long: Vec::new() }
    }
}

impl UserPath {
    /// As [`UserPath::read`], to a place of the caller's.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG.
    pub fn read_to(self, text: &mut PathText) -> Result<&[u8]> {
        match self.read_short_to(text).map(<[u8]>::len) {
            Some(len) => text.short.get(..len).ok_or(Errno::EFAULT),
            None => {
                text.long = self.read()?;
                Ok(&text.long)
            }
        }
    }

    /// Reads the path.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG.
    pub fn read(self) -> Result<Vec<u8>> {
        machine::guest::read_string(self.0, PATH_MAX)
    }

    /// The same of a path that is short; None for others, and where it cannot be read.
    #[inline]
    pub fn read_short_to(self, text: &mut PathText) -> Option<&[u8]> {
        machine::guest::read_short_string(self.0, &mut text.short)
    }
}

impl FromReg for UserPath {
    fn from_reg(reg: u64) -> Result<UserPath> {
        Ok(UserPath(reg))
    }
}

/// A buffer in guest memory: pointer and length are two arguments; this is the pointer.
#[derive(Clone, Copy, Debug)]
pub struct UserBuf(pub u64);

impl FromReg for UserBuf {
    fn from_reg(reg: u64) -> Result<UserBuf> {
        Ok(UserBuf(reg))
    }
}

impl IntoReg for () {
    fn into_reg(self) -> u64 {
        0
    }
}

impl IntoReg for u64 {
    fn into_reg(self) -> u64 {
        self
    }
}

impl IntoReg for u32 {
    fn into_reg(self) -> u64 {
        u64::from(self)
    }
}

impl IntoReg for i32 {
    fn into_reg(self) -> u64 {
        i64::from(self).cast_unsigned()
    }
}

impl IntoReg for usize {
    fn into_reg(self) -> u64 {
        self as u64
    }
}

impl IntoReg for Fd {
    fn into_reg(self) -> u64 {
        self.0.into_reg()
    }
}

/// Reads an iovec array of guest memory.
///
/// # Errors
/// EINVAL for a bad count or length, EFAULT.
pub fn read_iovecs(addr: u64, count: u64) -> Result<Vec<machine::host::IoVec>> {
    if count > crate::uio::IOV_MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let mut vectors = Vec::with_capacity(count as usize);
    let mut total = 0_u64;
    for i in 0..count {
        let [base, len]: [u64; 2] = machine::guest::read_value(addr.wrapping_add(i * 16))?;
        if len.cast_signed() < 0 {
            return Err(Errno::EINVAL);
        }
        let len = len.min(crate::uio::MAX_TRANSFER - total);
        total += len;
        vectors.push(machine::host::IoVec { base, len });
    }
    Ok(vectors)
}

/// A 64-bit offset passed in two halves (preadv, pwritev): the high half counts on 32-bit only.
pub fn signed_offset(offset: u64) -> Result<u64> {
    if offset.cast_signed() < 0 { Err(Errno::EINVAL) } else { Ok(offset) }
}
