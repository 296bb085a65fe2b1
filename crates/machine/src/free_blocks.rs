//! Small blocks of the heap that a thread has freed and keeps: it gets them again without the heap's lock.
//!
//! They belong to the thread area, and to its next owner after the thread's end. A thread may be killed at any instruction:
//! the blocks that it is just getting are then lost at worst, because each list is changed by one store of its head.

use core::alloc::Layout;
use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A size class has blocks of so many bytes more than the one before: the heap rounds up to that, with a word of its own. What is in
/// a block shares no cache line with other blocks, which other processors may write to.
pub(crate) const STEP: usize = 64;
pub(crate) const WORD: usize = 8;
const CLASSES: usize = 32;
/// The class above: pages, of files in memory.
const PAGES: usize = CLASSES;
const PAGE: usize = 4096;
/// Classes below have small blocks.
const SMALL: usize = 8;
/// How many blocks of a class are kept, of small ones, of others, and of pages.
pub(crate) const KEPT: u32 = 16;
const KEPT_LARGE: u32 = 4;
const KEPT_PAGES: u32 = 2;
/// After each so many times that there was no small block of a class here, one more is got at a time: who makes many things has them
/// next to each other, whatever larger ones he makes between them.
const EACH: u16 = 8;
/// All blocks begin at one.
const ALIGN: usize = STEP;

/// A thread's free blocks. Touched by the thread only.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct FreeBlocks {
    heads: [AtomicPtr<u8>; CLASSES + 1],
    counts: [Cell<u32>; CLASSES + 1],
    /// How often there was no small block.
    misses: [Cell<u16>; SMALL],
}

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(usize);

impl Class {
    /// The class that blocks of a layout belong to; None for large ones.
    #[inline]
    pub(crate) fn of(layout: Layout) -> Option<Class> {
        let index = (layout.size() + WORD - 1) / STEP;
        let class = if index < CLASSES { Some(index) } else { (layout.size() == PAGE).then_some(PAGES) };
        class.filter(|_| layout.align() <= ALIGN).map(Class)
    }

    #[inline]
    fn kept(self) -> u32 {
        match self.0 {
            0..SMALL => KEPT,
            PAGES => KEPT_PAGES,
            _ => KEPT_LARGE,
        }
    }

    /// What the heap is asked for, for any block of the class.
    #[inline]
    pub(crate) fn layout(self) -> Layout {
        let size = if self.0 == PAGES { PAGE } else { (self.0 + 1) * STEP - WORD };
        // SAFETY: the alignment is a power of two, and the size small.
        unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
    }
}

impl FreeBlocks {
    #[cfg(test)]
    pub(crate) const fn new() -> FreeBlocks {
        FreeBlocks {
            heads: [const { AtomicPtr::new(core::ptr::null_mut()) }; CLASSES + 1],
            counts: [const { Cell::new(0) }; CLASSES + 1],
            misses: [const { Cell::new(0) }; SMALL],
        }
    }

    /// Takes a block; null where there is none.
    #[inline]
    pub(crate) fn take(&self, class: Class) -> *mut u8 {
        let head = self.heads[class.0].load(Ordering::Relaxed);
        if !head.is_null() {
            // SAFETY: a block in the list is ours, and begins with the address of the next.
            let next = unsafe { head.cast::<*mut u8>().read() };
            self.heads[class.0].store(next, Ordering::Release);
            self.counts[class.0].set(self.counts[class.0].get().saturating_sub(1));
        } else {
            // Who was killed between the two changes of a list left too many.
            self.counts[class.0].set(0);
        }
        head
    }

    /// Keeps a block; false where there are enough.
    ///
    /// # Safety
    /// Nobody uses the block, which has the class's layout and is writable.
    #[inline]
    pub(crate) unsafe fn keep(&self, class: Class, block: *mut u8) -> bool {
        let count = &self.counts[class.0];
        if count.get() >= class.kept() {
            return false;
        }
        let head = &self.heads[class.0];
        // SAFETY: by the caller's promise; a block has room for an address and is aligned for it.
        unsafe { block.cast::<*mut u8>().write(head.load(Ordering::Relaxed)) };
        head.store(block, Ordering::Release);
        count.set(count.get() + 1);
        true
    }

    /// Where there is no block of a class: how many are to be got.
    pub(crate) fn count_wanted(&self, class: Class) -> usize {
        let Some(misses) = self.misses.get(class.0) else { return 1 };
        let before = misses.replace(misses.get().saturating_add(1));
        usize::from(before / EACH + 1).min(KEPT as usize)
    }

    /// Takes all that are not small, for what begins anew.
    pub(crate) fn take_larger(&self) -> impl Iterator<Item = (Class, *mut u8)> {
        self.misses.iter().for_each(|misses| misses.set(0));
        (SMALL..=PAGES).map(Class).flat_map(move |class| {
            core::iter::repeat_with(move || self.take(class))
                .take_while(|block| !block.is_null())
                .map(move |block| (class, block))
        })
    }

    /// Takes the lists of an area that nobody uses, where they are longer, for its own. What a child frees its parent has allocated:
    /// so the child has room, and the parent gets for the next child what the last one freed.
    pub(crate) fn trade(&self, unused: &FreeBlocks) {
        for (index, count) in self.counts.iter().enumerate() {
            let (more, less) = (unused.counts[index].get(), count.get());
            if more <= less {
                continue;
            }
            // At no point are blocks in both.
            let [longer, shorter] = [unused, self].map(|blocks| blocks.heads[index].load(Ordering::Relaxed));
            unused.heads[index].store(core::ptr::null_mut(), Ordering::Relaxed);
            unused.counts[index].set(0);
            self.heads[index].store(longer, Ordering::Release);
            count.set(more);
            unused.heads[index].store(shorter, Ordering::Release);
            unused.counts[index].set(less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, EACH, FreeBlocks, KEPT};
    use std::alloc::Layout;

    fn class_of(size: usize) -> Option<Class> {
        Class::of(Layout::from_size_align(size, 8).ok()?)
    }

    #[test]
    fn a_class_has_room_for_all_its_sizes() {
        for size in 1..=2040 {
            let class = class_of(size);
            assert!(class.is_some_and(|class| class.layout().size() >= size && class.layout().size() < size + 64));
        }
        assert_eq!(class_of(2041), None);
        assert!(class_of(4096).is_some_and(|class| class.layout().size() == 4096));
        assert_eq!([4095, 4097].map(class_of), [None, None]);
    }

    #[test]
    fn what_was_kept_comes_back_once() {
        let (blocks, Some(class)) = (FreeBlocks::new(), class_of(24)) else { return };
        let mut memory = [[0_u64; 3]; KEPT as usize + 1];
        let all: Vec<_> = memory.iter_mut().map(|block| block.as_mut_ptr().cast::<u8>()).collect();
        // SAFETY: blocks of 24 bytes, which nothing else uses.
        let kept = all.iter().filter(|block| unsafe { blocks.keep(class, **block) }).count();
        assert_eq!(kept, KEPT as usize);
        let back: Vec<_> =
            core::iter::repeat_with(|| blocks.take(class)).take_while(|block| !block.is_null()).collect();
        assert!(back.iter().eq(all.iter().take(kept).rev()));
    }

    #[test]
    fn who_goes_on_asking_gets_more_at_a_time() {
        let blocks = FreeBlocks::new();
        let (Some(small), Some(larger)) = (class_of(24), class_of(600)) else { return };
        let wanted = || blocks.count_wanted(small);
        assert!((0..EACH).all(|_| wanted() == 1) && (0..EACH).all(|_| wanted() == 2) && wanted() == 3);
        (0..1000).for_each(|_| _ = wanted());
        assert_eq!([small, larger].map(|class| blocks.count_wanted(class)), [KEPT as usize, 1]);
        assert_eq!((blocks.take_larger().count(), wanted()), (0, 1));
    }

    #[test]
    fn the_larger_ones_are_taken_and_small_ones_stay() {
        let blocks = FreeBlocks::new();
        let (Some(small), Some(larger), Some(page)) = (class_of(500), class_of(510), class_of(4096)) else { return };
        let mut memory = [[0_u64; 512]; 4];
        let all: Vec<_> = memory.iter_mut().map(|block| block.as_mut_ptr().cast::<u8>()).collect();
        for (class, block) in [small, larger, page, page].into_iter().zip(&all) {
            // SAFETY: blocks of a page, which nothing else uses.
            assert!(unsafe { blocks.keep(class, *block) });
        }
        let taken: Vec<_> = blocks.take_larger().collect();
        assert_eq!(taken, [(larger, all[1]), (page, all[3]), (page, all[2])]);
        assert_eq!([larger, page].map(|class| blocks.take(class)), [core::ptr::null_mut(); 2]);
        assert_eq!(blocks.take(small), all[0]);
    }

    #[test]
    fn the_longer_list_is_taken_and_the_other_left() {
        let (own, unused) = (FreeBlocks::new(), FreeBlocks::new());
        let (Some(one), Some(other)) = (class_of(24), class_of(600)) else { return };
        let mut memory = [[0_u64; 75]; 4];
        let all: Vec<_> = memory.iter_mut().map(|block| block.as_mut_ptr().cast::<u8>()).collect();
        let [a, b, c, d] = all.as_slice() else { return };
        for (blocks, class, block) in [(&unused, one, a), (&unused, one, b), (&own, one, c), (&own, other, d)] {
            // SAFETY: blocks of 600 bytes, which nothing else uses.
            assert!(unsafe { blocks.keep(class, *block) });
        }
        own.trade(&unused);
        assert_eq!([own.take(one), own.take(one), own.take(one)], [*b, *a, core::ptr::null_mut()]);
        assert_eq!([unused.take(one), unused.take(one)], [*c, core::ptr::null_mut()]);
        assert_eq!([own.take(other), unused.take(other)], [*d, core::ptr::null_mut()]);
    }
}
