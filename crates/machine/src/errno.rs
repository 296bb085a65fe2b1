//! Error numbers of Linux: errno(3).

/// A result whose error is an [`Errno`].
pub type Result<T, E = Errno> = core::result::Result<T, E>;

/// An error number, or one of the kernel-internal codes from 512 on that dispatch never shows a guest. A whole word, so that a
/// result that is a count or an error comes back in two registers; through memory, half words read as words wait for their store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u64);

macro_rules! errnos {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`.")] pub const $name: Errno = Errno($number);)*

            /// The name, as errno(3) spells it; `"?"` for a number without one.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "?",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, ENOEXEC = 8, EBADF = 9,
    ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EFAULT = 14, ENOTBLK = 15, EBUSY = 16, EEXIST = 17,
    EXDEV = 18, ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, ENFILE = 23, EMFILE = 24, ENOTTY = 25,
    ETXTBSY = 26, EFBIG = 27, ENOSPC = 28, ESPIPE = 29, EROFS = 30, EMLINK = 31, EPIPE = 32, EDOM = 33,
    ERANGE = 34, EDEADLK = 35, ENAMETOOLONG = 36, ENOLCK = 37, ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40,
    ENOMSG = 42, EIDRM = 43, ENODATA = 61, ETIME = 62, EPROTO = 71, EOVERFLOW = 75, EILSEQ = 84, EUSERS = 87,
    ENOTSOCK = 88, EDESTADDRREQ = 89, EMSGSIZE = 90, EPROTOTYPE = 91, ENOPROTOOPT = 92,
    EPROTONOSUPPORT = 93, ESOCKTNOSUPPORT = 94, EOPNOTSUPP = 95, EPFNOSUPPORT = 96, EAFNOSUPPORT = 97,
    EADDRINUSE = 98, EADDRNOTAVAIL = 99, ENETDOWN = 100, ENETUNREACH = 101, ECONNABORTED = 103,
    ECONNRESET = 104, ENOBUFS = 105, EISCONN = 106, ENOTCONN = 107, ESHUTDOWN = 108, ETOOMANYREFS = 109,
    ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTUNREACH = 113, EALREADY = 114, EINPROGRESS = 115, ESTALE = 116,
    EDQUOT = 122, ECANCELED = 125, EOWNERDEAD = 130, ENOTRECOVERABLE = 131,
    INTERRUPTED = 512, INTERRUPTED_UNTOLD = 513, INTERRUPTED_TIMED = 516,
}

impl Errno {
    /// An error number from outside (the host, the broker); 0 and numbers out of range become EIO.
    #[must_use]
    pub fn from_raw(number: i32) -> Errno {
        match u64::try_from(number) {
            Ok(n @ 1..=4095) => Errno(n),
            _ => Errno::EIO,
        }
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0 as u16
    }

    /// Whether it is one of those that say that a call was interrupted.
    #[must_use]
    pub fn is_interruption(self) -> bool {
        matches!(self, Errno::INTERRUPTED | Errno::INTERRUPTED_UNTOLD | Errno::INTERRUPTED_TIMED)
    }

    /// The value that a system call returns for it.
    #[must_use]
    pub fn as_return(self) -> u64 {
        self.0.wrapping_neg()
    }
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
