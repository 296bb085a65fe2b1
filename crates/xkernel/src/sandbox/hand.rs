//! What the reaper is given for the runner: one datagram, whose descriptors come in a fixed order.

use crate::under_way::send_patiently;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What the runner is given.
pub(super) struct Hand {
    pub(super) runner: OwnedFd,
    pub(super) arena: OwnedFd,
    pub(super) text: OwnedFd,
    /// The container's end of the event channel.
    pub(super) events: OwnedFd,
    /// The supervisor's end, which the reaper has as well.
    pub(super) told: OwnedFd,
    pub(super) channels: Vec<OwnedFd>,
    /// Which of the caller's standard streams are passed.
    pub(super) streams: [bool; 3],
    /// The container's end of the terminal's byte stream.
    pub(super) console: Option<OwnedFd>,
    /// The way into the container's control group.
    pub(super) group: Option<OwnedFd>,
}

/// Descriptors that are always there, and most of all.
const FIXED: usize = 5;
const CHANNELS: usize = abi::boot::BROKER_CHANNELS.unsigned_abs() as usize;
const MOST: usize = FIXED + CHANNELS + 2;

impl Hand {
    /// Sends it to the reaper.
    ///
    /// # Errors
    /// The host's errno.
    pub(super) fn send(&self, to: &OwnedFd) -> io::Result<()> {
        let fixed = [&self.runner, &self.arena, &self.text, &self.events, &self.told];
        let all = fixed.into_iter().chain(&self.channels).chain(&self.console).chain(&self.group);
        let descriptors: Vec<BorrowedFd<'_>> = all.map(|fd| fd.as_fd()).collect();
        Ok(send_patiently(|| self.try_to_send(to, &descriptors))?)
    }

    fn try_to_send(&self, to: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::INVAL);
        }
        let [input, output, error] = self.streams;
        let present = [input, output, error, self.console.is_some(), self.group.is_some()].map(u8::from);
        sendmsg(to, &[IoSlice::new(&present)], &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// Fails where the supervisor has gone, or has sent something else.
    pub(super) fn receive(from: &OwnedFd) -> io::Result<Self> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut present = [0; 5];
        let message = recvmsg(from, &mut [IoSliceMut::new(&mut present)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let gone = || io::Error::other("the supervisor has gone");
        if message.bytes != present.len() {
            return Err(gone());
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("allow more (ulimit -n)"));
        }
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = rights.flatten();
        let mut next = || descriptors.next().ok_or_else(gone);
        let [input, output, error, has_console, has_group] = present.map(|byte| byte != 0);
        Ok(Self {
            runner: next()?,
            arena: next()?,
            text: next()?,
            events: next()?,
            told: next()?,
            channels: (0..CHANNELS).map(|_| next()).collect::<io::Result<_>>()?,
            streams: [input, output, error],
            console: has_console.then(&mut next).transpose()?,
            group: has_group.then(&mut next).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANNELS, Hand};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::OwnedFd;

    fn file(name: &str) -> OwnedFd {
        rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).expect("memfd")
    }

    fn inode(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).expect("fstat").st_ino
    }

    fn hand(group: Option<OwnedFd>) -> Hand {
        Hand {
            runner: file("runner"),
            arena: file("arena"),
            text: file("text"),
            events: file("events"),
            told: file("told"),
            channels: (0..CHANNELS).map(|_| file("channel")).collect(),
            streams: [true, false, true],
            console: None,
            group,
        }
    }

    fn inodes(hand: &Hand) -> Vec<u64> {
        let fixed = [&hand.runner, &hand.arena, &hand.text, &hand.events, &hand.told];
        fixed.into_iter().chain(&hand.channels).chain(&hand.console).chain(&hand.group).map(inode).collect()
    }

    #[test]
    fn each_descriptor_comes_to_its_place() {
        let (to, from) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socketpair");
        for group in [None, Some(file("group"))] {
            let sent = hand(group);
            sent.send(&to).expect("send");
            let received = Hand::receive(&from).expect("receive");
            assert_eq!(inodes(&received), inodes(&sent));
            assert_eq!((received.streams, received.console.is_some()), ([true, false, true], false));
            assert_eq!(received.group.is_some(), sent.group.is_some());
        }
        drop(to);
        assert!(Hand::receive(&from).is_err());
    }
}
