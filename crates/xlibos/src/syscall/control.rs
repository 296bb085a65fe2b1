//! What travels beside a message: cmsg(3).

use crate::fs::fd_table::{Fd, OnExec};
use crate::net::channel::{Control, Ucred};
use crate::net::socket::{Incoming, SOL_SOCKET, Socket, family, msg};
use crate::process::creds::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN};
use crate::{Errno, Result, Task};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::guest;

const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Bytes of `struct cmsghdr`.
const HEADER: usize = 16;
/// Most descriptors in one message: SCM_MAX_FD.
const MAX_FILES: usize = 253;
/// Most bytes of control data: net.core.optmem_max.
const MAX_CONTROL: u64 = 20_480;

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
    u32::from_ne_bytes(raw)
}

/// Reads what the guest sends beside a message.
///
/// # Errors
/// ENOBUFS where it is too long, EINVAL, EBADF, EPERM for credentials of others, EFAULT.
pub(super) fn read(task: &Task, socket: &dyn Socket, at: u64, len: u64) -> Result<Control> {
    let mut control = Control::default();
    if at == 0 || len == 0 {
        return Ok(control);
    }
    if len > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Errno::EINVAL)?];
    guest::read(at, &mut bytes)?;
    let mut rest = bytes.as_slice();
    while rest.len() >= HEADER {
        let size = usize::try_from(u64::from(word(rest, 0)) | u64::from(word(rest, 4)) << 32).unwrap_or(usize::MAX);
        let body = rest.get(HEADER..size).ok_or(Errno::EINVAL)?;
        if word(rest, 8) == SOL_SOCKET && socket.identity().family == family::UNIX {
            read_one(task, word(rest, 12), body, &mut control)?;
        }
        rest = rest.get(size.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(control)
}

fn read_one(task: &Task, kind: u32, body: &[u8], control: &mut Control) -> Result<()> {
    match kind {
        SCM_RIGHTS => {
            let files = task.files();
            for raw in body.chunks_exact(4) {
                if control.files.len() >= MAX_FILES {
                    return Err(Errno::EINVAL);
                }
                control.files.push(files.get(Fd(word(raw, 0).cast_signed()))?);
            }
        }
        SCM_CREDENTIALS => {
            if body.len() < 12 {
                return Err(Errno::EINVAL);
            }
            let creds = Ucred { pid: word(body, 0).cast_signed(), uid: word(body, 4), gid: word(body, 8) };
            check_creds(task, creds)?;
            control.creds = Some(creds);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// A task may give its own identities; others with the capability.
fn check_creds(task: &Task, given: Ucred) -> Result<()> {
    let own = task.creds();
    let pid_ok = given.pid == task.process.pid || own.has(CAP_SYS_ADMIN);
    let uid_ok = [own.uid, own.euid, own.suid].contains(&given.uid) || own.has(CAP_SETUID);
    let gid_ok = [own.gid, own.egid, own.sgid].contains(&given.gid) || own.has(CAP_SETGID);
    if pid_ok && uid_ok && gid_ok { Ok(()) } else { Err(Errno::EPERM) }
}

/// Writes what came beside a message; how long it is, and whether some was lost.
///
/// # Errors
/// EFAULT.
pub(super) fn write(
    task: &Task,
    socket: &dyn Socket,
    incoming: &Incoming,
    (at, room): (u64, u64),
    flags: u32,
) -> Result<(u64, bool)> {
    let mut out = Writer { at, room: if at == 0 { 0 } else { room }, used: 0, is_cut: false };
    if let (true, Some(creds)) = (socket.options().pass_creds.load(Ordering::Relaxed), incoming.control.creds) {
        let mut body = creds.pid.to_ne_bytes().to_vec();
        body.extend(creds.uid.to_ne_bytes());
        body.extend(creds.gid.to_ne_bytes());
        out.put(SOL_SOCKET, SCM_CREDENTIALS, &body)?;
    }
    for (level, kind, body) in socket.beside(incoming) {
        out.put(level, kind, &body)?;
    }
    if !incoming.control.files.is_empty() {
        write_files(task, incoming, &mut out, flags)?;
    }
    Ok((out.used, out.is_cut))
}

fn write_files(task: &Task, incoming: &Incoming, out: &mut Writer, flags: u32) -> Result<()> {
    let left = usize::try_from(out.room - out.used).unwrap_or(0);
    let fit = left.saturating_sub(HEADER) / 4;
    let on_exec = OnExec::from_flag(flags & msg::CMSG_CLOEXEC != 0);
    let mut body = Vec::new();
    for file in incoming.control.files.iter().take(fit) {
        match task.insert_file(file.clone(), on_exec) {
            Ok(fd) => body.extend(fd.0.to_ne_bytes()),
            Err(_) => break,
        }
    }
    out.is_cut |= body.len() / 4 < incoming.control.files.len();
    if body.is_empty() { Ok(()) } else { out.put(SOL_SOCKET, SCM_RIGHTS, &body) }
}

struct Writer {
    at: u64,
    room: u64,
    used: u64,
    is_cut: bool,
}

impl Writer {
    fn put(&mut self, level: u32, kind: u32, body: &[u8]) -> Result<()> {
        let size = HEADER + body.len();
        let left = usize::try_from(self.room - self.used).unwrap_or(0);
        if left < HEADER {
            self.is_cut = true;
            return Ok(());
        }
        let fits = size.min(left);
        self.is_cut |= fits < size;
        let mut bytes = (fits as u64).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(body);
        bytes.truncate(fits);
        guest::write(self.at.wrapping_add(self.used), &bytes)?;
        // The last one need not be padded where there is no room for it.
        let padded = fits.next_multiple_of(8).min(left);
        self.used += padded as u64;
        Ok(())
    }
}
