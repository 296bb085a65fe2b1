//! /proc/sysvipc: System V objects, those of all users. sysvipc(7).

use crate::ipc::{msg, sem, shm};
use alloc::format;
use alloc::string::String;

/// Its files.
pub(super) const FILES: [&str; 3] = ["msg", "sem", "shm"];

/// Key, mode and owners out of `struct ipc64_perm`.
struct Head {
    key: i32,
    mode: u32,
    owners: String,
}

fn halves(word: u64) -> (u32, u32) {
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    (half(word), half(word >> 32))
}

fn head(words: &[u64]) -> Head {
    let word = |n: usize| words.get(n).copied().unwrap_or(0);
    let ((key, uid), (gid, cuid), (cgid, mode)) = (halves(word(0)), halves(word(1)), halves(word(2)));
    Head { key: key.cast_signed(), mode, owners: format!("{uid:>5} {gid:>5} {cuid:>5} {cgid:>5}") }
}

/// A file's text.
pub(super) fn text(name: &str) -> String {
    match name {
        "msg" => {
            let rows = msg::list().into_iter().map(|(id, words)| queue(id, &words));
            core::iter::once(QUEUES.into()).chain(rows).collect()
        }
        "sem" => {
            let rows = sem::list().into_iter().map(|(id, words)| set(id, &words));
            core::iter::once(SETS.into()).chain(rows).collect()
        }
        _ => {
            let rows = shm::list().into_iter().map(|(id, words)| segment(id, &words));
            core::iter::once(SEGMENTS.into()).chain(rows).collect()
        }
    }
}

const QUEUES: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
const SETS: &str = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const SEGMENTS: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n";

fn queue(id: i32, words: &[u64; 15]) -> String {
    let Head { key, mode, owners } = head(words);
    let (sender, receiver) = halves(words[12]);
    format!(
        "{key:>10} {id:>10}  {mode:>4o}  {:>10} {:>10} {sender:>5} {receiver:>5} {owners} {:>10} {:>10} {:>10}\n",
        words[9], words[10], words[6], words[7], words[8],
    )
}

fn set(id: i32, words: &[u64; 13]) -> String {
    let Head { key, mode, owners } = head(words);
    format!("{key:>10} {id:>10}  {mode:>4o} {:>10} {owners} {:>10} {:>10}\n", words[10], words[6], words[8])
}

fn segment(id: i32, words: &[u64; 14]) -> String {
    let Head { key, mode, owners } = head(words);
    let (creator, last) = halves(words[10]);
    // How much of it was touched, the host does not tell.
    format!(
        "{key:>10} {id:>10}  {mode:>4o} {:>21} {creator:>5} {last:>5}  {:>5} {owners} {:>10} {:>10} {:>10} {:>21} {:>21}\n",
        words[6], words[11], words[7], words[8], words[9], words[6], 0,
    )
}

#[cfg(test)]
mod tests {
    use super::{SEGMENTS, SETS, head, segment, set};

    #[test]
    fn columns_end_below_their_headings() {
        let mut words = [0; 14];
        words[0] = 7 | 1000 << 32;
        words[2] = 0o600 << 32;
        let row = segment(3, &words);
        assert_eq!(row.len(), SEGMENTS.len());
        assert!(row.starts_with("         7          3   600                     0     0     0      0  1000"), "{row}");
        assert_eq!(set(0, &[0; 13]).len(), SETS.len());
        assert_eq!(head(&words).owners, " 1000     0     0     0");
    }
}
