//! Options that every socket has: socket(7), SOL_SOCKET.

use crate::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::Mutex;

/// Default of SO_SNDBUF and SO_RCVBUF.
pub const DEFAULT_BUFFER: usize = 212_992;
/// net.core.wmem_max and rmem_max: larger requests are cut.
const MAX_BUFFER: usize = 212_992;
/// Linux doubles what is asked for, and has a floor.
const MIN_BUFFER: usize = 2304;

/// Numbers of the options.
#[expect(missing_docs, reason = "names of socket(7)")]
pub mod name {
    pub const DEBUG: u32 = 1;
    pub const REUSEADDR: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const ERROR: u32 = 4;
    pub const DONTROUTE: u32 = 5;
    pub const BROADCAST: u32 = 6;
    pub const SNDBUF: u32 = 7;
    pub const RCVBUF: u32 = 8;
    pub const KEEPALIVE: u32 = 9;
    pub const OOBINLINE: u32 = 10;
    pub const NO_CHECK: u32 = 11;
    pub const PRIORITY: u32 = 12;
    pub const LINGER: u32 = 13;
    pub const REUSEPORT: u32 = 15;
    pub const PASSCRED: u32 = 16;
    pub const PEERCRED: u32 = 17;
    pub const RCVLOWAT: u32 = 18;
    pub const SNDLOWAT: u32 = 19;
    pub const RCVTIMEO: u32 = 20;
    pub const SNDTIMEO: u32 = 21;
    pub const BINDTODEVICE: u32 = 25;
    pub const TIMESTAMP: u32 = 29;
    pub const ACCEPTCONN: u32 = 30;
    pub const PEERSEC: u32 = 31;
    pub const SNDBUFFORCE: u32 = 32;
    pub const RCVBUFFORCE: u32 = 33;
    pub const MARK: u32 = 36;
    pub const PROTOCOL: u32 = 38;
    pub const DOMAIN: u32 = 39;
    pub const PEERGROUPS: u32 = 59;
    pub const BUSY_POLL: u32 = 46;
    pub const INCOMING_CPU: u32 = 49;
    pub const COOKIE: u32 = 57;
}

/// SO_LINGER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Linger {
    /// l_onoff.
    pub is_on: bool,
    /// l_linger.
    pub seconds: i32,
}

/// Options of a socket.
#[derive(Debug)]
#[expect(missing_docs, reason = "names of socket(7)")]
pub struct Options {
    pub reuse_address: AtomicBool,
    pub reuse_port: AtomicBool,
    pub broadcast: AtomicBool,
    pub keep_alive: AtomicBool,
    pub oob_inline: AtomicBool,
    pub dont_route: AtomicBool,
    pub debug: AtomicBool,
    pub pass_creds: AtomicBool,
    pub timestamp: AtomicBool,
    pub priority: AtomicI32,
    pub receive_low_water: AtomicI32,
    pub mark: AtomicI32,
    pub send_buffer: AtomicUsize,
    pub receive_buffer: AtomicUsize,
    /// Nanoseconds, 0 for none.
    pub receive_timeout: AtomicU64,
    /// Nanoseconds, 0 for none.
    pub send_timeout: AtomicU64,
    pub linger: Mutex<Linger>,
    /// An error to be told once; 0 for none.
    error: AtomicI32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            reuse_address: AtomicBool::new(false),
            reuse_port: AtomicBool::new(false),
            broadcast: AtomicBool::new(false),
            keep_alive: AtomicBool::new(false),
            oob_inline: AtomicBool::new(false),
            dont_route: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            pass_creds: AtomicBool::new(false),
            timestamp: AtomicBool::new(false),
            priority: AtomicI32::new(0),
            receive_low_water: AtomicI32::new(1),
            mark: AtomicI32::new(0),
            send_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            receive_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            receive_timeout: AtomicU64::new(0),
            send_timeout: AtomicU64::new(0),
            linger: Mutex::new(Linger::default()),
            error: AtomicI32::new(0),
        }
    }
}

/// An option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An int.
    Int(i32),
    /// Anything else, as its bytes.
    Bytes(Vec<u8>),
}

fn read_int(value: &[u8]) -> Result<i32> {
    let bytes = value.first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(*bytes))
}

impl Options {
    /// Notes an error to be told by the next call.
    pub fn set_error(&self, errno: Errno) {
        self.error.store(i32::from(errno.number()), Ordering::SeqCst);
    }

    /// Takes the noted error.
    pub fn take_error(&self) -> Option<Errno> {
        let number = self.error.swap(0, Ordering::SeqCst);
        (number != 0).then(|| Errno::from_raw(number))
    }

    /// Whether an error is noted.
    #[must_use]
    pub fn has_error(&self) -> bool {
        self.error.load(Ordering::SeqCst) != 0
    }

    /// Timeout of receives or sends, in nanoseconds.
    #[must_use]
    pub fn timeout(&self, is_receive: bool) -> Option<u64> {
        let cell = if is_receive { &self.receive_timeout } else { &self.send_timeout };
        Some(cell.load(Ordering::Relaxed)).filter(|ns| *ns != 0)
    }

    fn flag(&self, option: u32) -> Option<&AtomicBool> {
        Some(match option {
            name::DEBUG => &self.debug,
            name::REUSEADDR => &self.reuse_address,
            name::REUSEPORT => &self.reuse_port,
            name::BROADCAST => &self.broadcast,
            name::KEEPALIVE => &self.keep_alive,
            name::OOBINLINE => &self.oob_inline,
            name::DONTROUTE => &self.dont_route,
            name::PASSCRED => &self.pass_creds,
            name::TIMESTAMP => &self.timestamp,
            _ => return None,
        })
    }

    fn number(&self, option: u32) -> Option<&AtomicI32> {
        Some(match option {
            name::PRIORITY => &self.priority,
            name::RCVLOWAT => &self.receive_low_water,
            name::MARK => &self.mark,
            _ => return None,
        })
    }

    /// setsockopt(2) at SOL_SOCKET.
    ///
    /// # Errors
    /// EINVAL, EDOM, ENOPROTOOPT.
    pub fn set(&self, option: u32, value: &[u8]) -> Result<()> {
        match option {
            name::LINGER => return self.set_linger(value),
            name::RCVTIMEO => return set_timeout(&self.receive_timeout, value),
            name::SNDTIMEO => return set_timeout(&self.send_timeout, value),
            name::BINDTODEVICE => return Ok(()),
            _ => {}
        }
        let number = read_int(value)?;
        if let Some(flag) = self.flag(option) {
            flag.store(number != 0, Ordering::Relaxed);
            return Ok(());
        }
        if let Some(cell) = self.number(option) {
            cell.store(number, Ordering::Relaxed);
            return Ok(());
        }
        match option {
            name::SNDBUF | name::SNDBUFFORCE => set_buffer(&self.send_buffer, number),
            name::RCVBUF | name::RCVBUFFORCE => set_buffer(&self.receive_buffer, number),
            name::NO_CHECK | name::BUSY_POLL | name::INCOMING_CPU => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn set_linger(&self, value: &[u8]) -> Result<()> {
        let bytes = value.first_chunk::<8>().ok_or(Errno::EINVAL)?;
        let [a, b, c, d, e, f, g, h] = *bytes;
        let linger = Linger { is_on: i32::from_ne_bytes([a, b, c, d]) != 0, seconds: i32::from_ne_bytes([e, f, g, h]) };
        *self.linger.lock() = linger;
        Ok(())
    }

    /// getsockopt(2) at SOL_SOCKET, for what does not depend on the kind of socket.
    ///
    /// # Errors
    /// ENOPROTOOPT.
    pub fn get(&self, option: u32) -> Result<Value> {
        if let Some(flag) = self.flag(option) {
            return Ok(Value::Int(i32::from(flag.load(Ordering::Relaxed))));
        }
        if let Some(cell) = self.number(option) {
            return Ok(Value::Int(cell.load(Ordering::Relaxed)));
        }
        Ok(match option {
            name::SNDBUF => int(self.send_buffer.load(Ordering::Relaxed)),
            name::RCVBUF => int(self.receive_buffer.load(Ordering::Relaxed)),
            name::SNDLOWAT => Value::Int(1),
            name::NO_CHECK | name::BUSY_POLL | name::INCOMING_CPU => Value::Int(0),
            name::BINDTODEVICE => Value::Bytes(Vec::new()),
            name::RCVTIMEO => Value::Bytes(timeval(self.receive_timeout.load(Ordering::Relaxed))),
            name::SNDTIMEO => Value::Bytes(timeval(self.send_timeout.load(Ordering::Relaxed))),
            name::LINGER => {
                let linger = *self.linger.lock();
                let mut bytes = i32::from(linger.is_on).to_ne_bytes().to_vec();
                bytes.extend(linger.seconds.to_ne_bytes());
                Value::Bytes(bytes)
            }
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }
}

fn int(value: usize) -> Value {
    Value::Int(i32::try_from(value).unwrap_or(i32::MAX))
}

fn set_buffer(cell: &AtomicUsize, asked: i32) {
    let asked = usize::try_from(asked).unwrap_or(MAX_BUFFER).min(MAX_BUFFER);
    cell.store((asked * 2).max(MIN_BUFFER), Ordering::Relaxed);
}

fn set_timeout(cell: &AtomicU64, value: &[u8]) -> Result<()> {
    let bytes = value.first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let half = |at: usize| {
        let mut raw = [0; 8];
        raw.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
        i64::from_ne_bytes(raw)
    };
    let (sec, usec) = (half(0), half(8));
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    let ns = match u64::try_from(sec) {
        // A negative time does not wait at all.
        Err(_) => 1,
        Ok(sec) => sec.saturating_mul(1_000_000_000).saturating_add(usec.unsigned_abs() * 1000),
    };
    cell.store(ns, Ordering::Relaxed);
    Ok(())
}

fn timeval(ns: u64) -> Vec<u8> {
    let mut bytes = (ns / 1_000_000_000).to_ne_bytes().to_vec();
    bytes.extend((ns % 1_000_000_000 / 1000).to_ne_bytes());
    bytes
}
