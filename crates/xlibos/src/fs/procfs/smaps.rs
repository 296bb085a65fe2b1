//! /proc/PID/smaps and smaps_rollup: proc_pid_smaps(5). The host does not tell which pages are there: the figures are the
//! estimate of [`crate::mm`], and all pages count as the process's own where they can be written, as shared where not.

use super::maps;
use crate::mm::{Backing, Prot, Vma, VmaFlags};
use crate::process::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// Sums, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    resident: u64,
    shared: u64,
    private_clean: u64,
    private_dirty: u64,
    anonymous: u64,
    locked: u64,
}

impl Sums {
    fn of(vma: &Vma) -> Sums {
        let resident = vma.resident();
        let is_written = vma.prot.contains(Prot::WRITE);
        let is_anonymous = vma.is_anonymous();
        let (shared, dirty) = match (vma.is_shared(), is_written || is_anonymous) {
            (true, _) => (resident, 0),
            (false, true) => (0, resident),
            (false, false) => (0, 0),
        };
        Sums {
            resident,
            shared,
            private_clean: resident - shared - dirty,
            private_dirty: dirty,
            anonymous: dirty,
            locked: if vma.flags.contains(VmaFlags::LOCKED) { resident } else { 0 },
        }
    }

    fn plus(self, other: Sums) -> Sums {
        Sums {
            resident: self.resident + other.resident,
            shared: self.shared + other.shared,
            private_clean: self.private_clean + other.private_clean,
            private_dirty: self.private_dirty + other.private_dirty,
            anonymous: self.anonymous + other.anonymous,
            locked: self.locked + other.locked,
        }
    }

    /// The rows that both files have.
    fn rows(self) -> String {
        let rows = [
            ("Rss:", self.resident),
            ("Pss:", self.resident),
            ("Pss_Dirty:", self.private_dirty),
            ("Shared_Clean:", 0),
            ("Shared_Dirty:", self.shared),
            ("Private_Clean:", self.private_clean),
            ("Private_Dirty:", self.private_dirty),
            ("Referenced:", self.resident),
            ("Anonymous:", self.anonymous),
            ("KSM:", 0),
            ("LazyFree:", 0),
            ("AnonHugePages:", 0),
            ("ShmemPmdMapped:", 0),
            ("FilePmdMapped:", 0),
            ("Shared_Hugetlb:", 0),
            ("Private_Hugetlb:", 0),
            ("Swap:", 0),
            ("SwapPss:", 0),
            ("Locked:", self.locked),
        ];
        rows.iter().map(|(name, bytes)| row(name, *bytes)).collect()
    }
}

fn row(name: &str, bytes: u64) -> String {
    format!("{name:<16}{:>8} kB\n", bytes / 1024)
}

/// `rd`, `wr` and their like.
fn flags(vma: &Vma) -> String {
    let all = [
        (vma.prot.contains(Prot::READ), "rd "),
        (vma.prot.contains(Prot::WRITE), "wr "),
        (vma.prot.contains(Prot::EXEC), "ex "),
        (vma.is_shared(), "sh "),
        (vma.max_prot.contains(Prot::READ), "mr "),
        (vma.max_prot.contains(Prot::WRITE), "mw "),
        (vma.max_prot.contains(Prot::EXEC), "me "),
        (matches!(vma.backing, Backing::Stack) || vma.flags.contains(VmaFlags::GROWSDOWN), "gd "),
        (vma.flags.contains(VmaFlags::LOCKED), "lo "),
        (!vma.is_shared() && vma.prot.contains(Prot::WRITE), "ac "),
    ];
    all.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect()
}

/// /proc/PID/smaps.
pub(super) fn text(task: &Arc<Task>) -> String {
    let of = |vma: &Vma| {
        let size = [row("Size:", vma.len()), row("KernelPageSize:", 4096), row("MMUPageSize:", 4096)].concat();
        format!("{}{size}{}THPeligible:           0\nVmFlags: {}\n", maps::line(vma), Sums::of(vma).rows(), flags(vma))
    };
    task.mm().collect_vmas().iter().map(of).collect()
}

/// /proc/PID/smaps_rollup.
pub(super) fn rollup(task: &Arc<Task>) -> String {
    let vmas = task.mm().collect_vmas();
    let (Some(first), Some(last)) = (vmas.first(), vmas.last()) else { return String::new() };
    let sums = vmas.iter().map(Sums::of).fold(Sums::default(), Sums::plus);
    let head = maps::row((first.start, last.end), "---p", (0, 0, 0), "[rollup]");
    let of = |is_meant: fn(&Vma) -> bool| vmas.iter().filter(|vma| is_meant(vma)).map(|vma| vma.resident()).sum();
    let kinds = [
        row("Pss_Anon:", of(Vma::is_anonymous)),
        row("Pss_File:", of(|vma| matches!(vma.backing, Backing::File { .. } | Backing::Vdso))),
        row("Pss_Shmem:", of(|vma| matches!(vma.backing, Backing::SharedZero { .. }))),
    ];
    format!("{head}{}", sums.rows().replacen("Shared_Clean:", &format!("{}Shared_Clean:", kinds.concat()), 1))
}
