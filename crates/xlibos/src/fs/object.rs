//! The object of an open file description, and what is known of it without asking it.

use super::file::FileOps;
use super::open::PathOnly;
use super::path::Path;
use alloc::sync::Arc;

/// The object of a description.
#[derive(Clone)]
pub(super) enum Ops {
    /// One of its own, or that others have too.
    Held(Arc<dyn FileOps>),
    /// One that all share.
    Shared(&'static dyn FileOps),
    /// The inode of its place, which says so by [`super::inode::Inode::as_file`], and is held by that place already.
    OfPlace,
}

impl Ops {
    #[inline]
    pub(super) fn get<'a>(&'a self, path: Option<&'a Path>) -> &'a dyn FileOps {
        match self {
            Ops::Held(ops) => &**ops,
            Ops::Shared(ops) => *ops,
            Ops::OfPlace => path.and_then(|path| path.inode().as_file()).unwrap_or(&PathOnly),
        }
    }
}

/// What a transfer does with the position: as the object says of itself, whose answer never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seeking {
    /// There is none, and pread(2) is refused.
    Stream,
    /// Nothing.
    Ignored,
    /// It begins there, and moves it.
    Moves,
}

impl Seeking {
    pub(super) fn of(ops: &dyn FileOps) -> Seeking {
        match (ops.is_seekable(), ops.ignores_seek()) {
            (false, _) => Seeking::Stream,
            (true, true) => Seeking::Ignored,
            (true, false) => Seeking::Moves,
        }
    }
}
