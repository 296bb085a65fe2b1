//! The mappings of one address space. A forked child has those of its parent until either changes its own: most children end, or
//! execute a program, before.

use super::vma::{Totals, Vma, VmaFlags, VmaTree};
use alloc::sync::Arc;
use core::ops::{Deref, DerefMut};

/// A tree of more is copied at once, in fork, which is refused where memory is short: calls that give memory back are not, and would make
/// the copy.
const MOST_IN_COMMON: usize = 1000;

/// A tree of its own, or one in common.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    own: VmaTree,
    /// In place of its own.
    common: Option<Arc<VmaTree>>,
}

impl Deref for Mappings {
    type Target = VmaTree;

    #[inline]
    fn deref(&self) -> &VmaTree {
        self.common.as_deref().unwrap_or(&self.own)
    }
}

impl DerefMut for Mappings {
    #[inline]
    fn deref_mut(&mut self) -> &mut VmaTree {
        if let Some(common) = self.common.take() {
            self.own = own_copy(common);
        }
        &mut self.own
    }
}

/// Files that the others leave meanwhile are held by the copy: none ends here.
#[cold]
fn own_copy(common: Arc<VmaTree>) -> VmaTree {
    Arc::try_unwrap(common).unwrap_or_else(|common| VmaTree::clone(&common))
}

impl Mappings {
    /// Those of a forked child. Locks are not inherited; what the host does not copy is not there; a file may count its shared
    /// mappings, each by itself, as a segment of shmget(2) does.
    pub(super) fn fork(&mut self) -> Mappings {
        let Totals { locked, shared_files, .. } = self.totals();
        let is_left_out = |vma: &Vma| vma.flags.contains(VmaFlags::DONTFORK);
        let differs = locked > 0 || shared_files > 0 || self.iter().any(is_left_out);
        if differs || self.count() > MOST_IN_COMMON {
            return Mappings { own: self.inherited(), common: None };
        }
        let own = &mut self.own;
        let common = self.common.get_or_insert_with(|| Arc::new(core::mem::take(own)));
        Mappings { own: VmaTree::new(), common: Some(Arc::clone(common)) }
    }

    fn inherited(&self) -> VmaTree {
        let mut tree = VmaTree::new();
        for vma in self.iter().filter(|vma| !vma.flags.contains(VmaFlags::DONTFORK)) {
            tree.insert(Vma { flags: vma.flags.difference(VmaFlags::LOCKED), ..vma.clone() });
        }
        self.kept().iter().for_each(|kept| tree.keep(kept.clone()));
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::super::vma::Prot;
    use super::super::{Backing, PAGE, Vma, VmaFlags};
    use super::{MOST_IN_COMMON, Mappings};

    fn vma(page: u64, flags: VmaFlags) -> Vma {
        let (start, end) = (page * PAGE, (page + 1) * PAGE);
        Vma { start, end, prot: Prot::READ, max_prot: Prot::all(), flags, backing: Backing::Zero }
    }

    fn starts(of: &Mappings) -> Vec<u64> {
        of.iter().map(|vma| vma.start / PAGE).collect()
    }

    #[test]
    fn what_one_changes_the_other_does_not_see() {
        let mut parent = Mappings::default();
        [1, 3].into_iter().for_each(|page| parent.insert(vma(page, VmaFlags::empty())));
        parent.keep(8 * PAGE..9 * PAGE);
        let (mut child, other) = (parent.fork(), parent.fork());
        parent.remove(PAGE..2 * PAGE);
        child.insert(vma(5, VmaFlags::empty()));
        assert_eq!([&parent, &child, &other].map(starts), [vec![3], vec![1, 3, 5], vec![1, 3]]);
        assert_eq!([&parent, &child, &other].map(|of| of.totals().mapped / PAGE), [1, 3, 2]);
        assert_eq!(other.kept(), child.kept());
    }

    #[test]
    fn only_a_small_tree_is_had_in_common() {
        let mut parent = Mappings::default();
        (0..MOST_IN_COMMON as u64).for_each(|i| parent.insert(vma(1 + 2 * i, VmaFlags::empty())));
        assert!(parent.fork().common.is_some());
        parent.insert(vma(0x10_0000, VmaFlags::empty()));
        let child = parent.fork();
        assert!(child.common.is_none() && starts(&child) == starts(&parent));
    }

    #[test]
    fn a_child_has_no_locks_and_not_what_the_host_does_not_copy() {
        let mut parent = Mappings::default();
        parent.insert(vma(1, VmaFlags::LOCKED));
        parent.insert(vma(3, VmaFlags::DONTFORK));
        let child = parent.fork();
        assert_eq!([&parent, &child].map(starts), [vec![1, 3], vec![1]]);
        assert_eq!([&parent, &child].map(|of| of.totals().locked), [PAGE, 0]);
    }
}
