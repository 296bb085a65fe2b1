//! The broker: the only way in which a container asks the host for anything with a name.
//!
//! It serves [`abi::broker::Request`] datagrams on SOCK_SEQPACKET channels whose other ends belong to
//! a hostile guest. [`Broker`] holds what all threads share; [`Export`] is one mount of the host that
//! the container may see; [`Control`] carries what concerns the supervisor.
//!
//! Locks: each channel, the open listings, the memory table, the watches and the flood limit have
//! a mutex of their own. They are leaves except for the channel's, which is held while its request is
//! answered; nobody else waits for it.
#![forbid(unsafe_code)]

mod activity;
mod attributes;
mod bucket;
mod change;
mod channel;
mod create;
mod dispatch;
mod export;
mod listing;
mod memory;
mod name;
mod walk;
mod watch;
mod xattr;

#[cfg(test)]
mod tests;

pub(crate) use attributes::of_descriptor as attributes_of;
pub use dispatch::Answer;
pub use export::Export;

use crate::images::{self, Images};
use abi::stats::Stats;
use activity::Activity;
use bucket::Bucket;
use listing::Listings;
use memory::Memories;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use watch::Watches;

/// Why the broker could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The path of an export cannot be opened.
    #[error("cannot open {path}: {errno}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        errno: rustix::io::Errno,
    },
    /// The path is neither a directory nor a regular file.
    #[error("{path} is neither a directory nor a regular file")]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// The path lies in a file system that acts on the host when it is used.
    #[error("{path} lies in {filesystem}, which is never given to a container")]
    Forbidden {
        /// The path.
        path: PathBuf,
        /// Type of the file system.
        filesystem: &'static str,
    },
    /// A host call that serves the channels failed.
    #[error("cannot serve the container: {step}: {errno}")]
    Serve {
        /// Which call.
        step: &'static str,
        /// Why.
        errno: rustix::io::Errno,
    },
    /// A broker thread could not be made.
    #[error("cannot start a broker thread")]
    Thread(#[from] std::io::Error),
}

/// What a container says to its supervisor, unchecked: every field is the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The first guest process ended.
    Exit {
        /// Wait status as wait4(2) gives it.
        status: i32,
        /// The report.
        stats: Box<Stats>,
    },
    /// The first program could not be started.
    StartFailed {
        /// What was being done.
        step: abi::broker::StartStep,
        /// errno of the failed step.
        errno: i32,
        /// What was at fault.
        what: Vec<u8>,
    },
    /// Text for the caller's standard error.
    Log(Vec<u8>),
    /// Every thread stands at its entry frame.
    Quiesced {
        /// How many.
        threads: u32,
    },
}

/// Policy of one container's broker.
pub struct Options {
    /// Called on a broker thread with each control message; must not block for long.
    pub control: Box<dyn Fn(Control) + Send + Sync>,
    /// Bytes that all memfds of the container may have together.
    pub memory_limit: u64,
    /// Directory where patched images outlive the container; `None` keeps them in memory alone.
    pub images: Option<PathBuf>,
    /// Requests a second that pass without delay.
    pub requests_per_second: u32,
    /// The container's arena, in which it is told of changes on the host; `None` where it is not told.
    pub arena: Option<OwnedFd>,
    /// Called on a broker thread with the request that ends a rest; must not block for long.
    pub awake: Box<dyn Fn() + Send + Sync>,
}

impl Options {
    /// Usual limits around a receiver of control messages.
    pub fn new(control: impl Fn(Control) + Send + Sync + 'static) -> Self {
        Self {
            control: Box::new(control),
            memory_limit: 64 << 30,
            images: images::default_directory(),
            requests_per_second: 200_000,
            arena: None,
            awake: Box::new(|| ()),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("memory_limit", &self.memory_limit)
            .field("requests_per_second", &self.requests_per_second)
            .finish_non_exhaustive()
    }
}

/// One container's broker, shared by its threads.
#[derive(Debug)]
pub struct Broker {
    activity: Activity,
    exports: Vec<Export>,
    options: Options,
    bucket: Bucket,
    listings: Listings,
    memories: Memories,
    images: Images,
    watches: Watches,
}

impl Broker {
    /// Makes a broker over its exports; an export's number is its index.
    pub fn new(exports: Vec<Export>, mut options: Options) -> Self {
        Self {
            activity: Activity::default(),
            watches: Watches::new(options.arena.take()),
            bucket: Bucket::new(options.requests_per_second),
            memories: Memories::new(options.memory_limit),
            listings: Listings::default(),
            images: Images::new(options.images.clone()),
            exports,
            options,
        }
    }

    /// Whether the container asked for nothing since the last call. Then it is at rest: [`Options::awake`] is called with the
    /// next request.
    pub fn rest(&self) -> bool {
        self.activity.rest()
    }
}
