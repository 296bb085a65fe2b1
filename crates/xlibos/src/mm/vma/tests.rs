//! The tree against a model: an array of pages.

use super::{Backing, Prot, Vma, VmaFlags, VmaTree};
use crate::mm::PAGE;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::prop_assert_eq;

const PAGES: usize = 64;

/// What the model knows of a page: protection, object, offset.
type Page = Option<(Prot, u64, u64)>;

#[derive(Clone, Debug)]
enum Step {
    Map { start: usize, len: usize, prot: u32, object: u64 },
    Unmap { start: usize, len: usize },
    Protect { start: usize, len: usize, prot: u32 },
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    (0..PAGES - 1).prop_flat_map(|start| (Just(start), 1..PAGES - start))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (range(), 0_u32..8, 0_u64..3).prop_map(|((start, len), prot, object)| Step::Map { start, len, prot, object }),
        range().prop_map(|(start, len)| Step::Unmap { start, len }),
        (range(), 0_u32..8).prop_map(|((start, len), prot)| Step::Protect { start, len, prot }),
    ]
}

fn bytes(start: usize, len: usize) -> std::ops::Range<u64> {
    start as u64 * PAGE..(start + len) as u64 * PAGE
}

fn backing(object: u64, offset: u64) -> Backing {
    if object == 0 { Backing::Zero } else { Backing::SharedZero { id: object, offset } }
}

fn apply(tree: &mut VmaTree, model: &mut [Page], step: &Step) {
    match *step {
        Step::Map { start, len, prot, object } => {
            let range = bytes(start, len);
            drop(tree.remove(range.clone()));
            let prot = Prot::from_bits_truncate(prot);
            tree.insert(Vma {
                start: range.start,
                end: range.end,
                prot,
                max_prot: Prot::all(),
                flags: VmaFlags::empty(),
                backing: backing(object, range.start),
            });
            for (page, slot) in model.iter_mut().enumerate().skip(start).take(len) {
                *slot = Some((prot, object, if object == 0 { 0 } else { page as u64 * PAGE }));
            }
        }
        Step::Unmap { start, len } => {
            drop(tree.remove(bytes(start, len)));
            model[start..start + len].fill(None);
        }
        Step::Protect { start, len, prot } => {
            let prot = Prot::from_bits_truncate(prot);
            tree.update(bytes(start, len), |vma| vma.prot = prot);
            model[start..start + len].iter_mut().flatten().for_each(|page| page.0 = prot);
        }
    }
}

fn page_of(tree: &VmaTree, page: usize) -> Page {
    let addr = page as u64 * PAGE;
    let vma = tree.find(addr)?;
    match vma.clipped(&(addr..addr + PAGE)).backing {
        Backing::SharedZero { id, offset } => Some((vma.prot, id, offset)),
        _ => Some((vma.prot, 0, 0)),
    }
}

proptest! {
    #[test]
    fn the_tree_says_what_an_array_of_pages_says(steps in proptest::collection::vec(step(), 1..40)) {
        let mut tree = VmaTree::new();
        let mut model = vec![None; PAGES];
        for step in &steps {
            apply(&mut tree, &mut model, step);
            let seen: Vec<Page> = (0..PAGES).map(|page| page_of(&tree, page)).collect();
            prop_assert_eq!(&seen, &model);
            let mapped = model.iter().flatten().count() as u64 * PAGE;
            prop_assert_eq!(tree.totals().mapped, mapped);
            let exec = model.iter().flatten().filter(|p| p.0.contains(Prot::EXEC)).count() as u64 * PAGE;
            prop_assert_eq!(tree.totals().exec, exec);
            // Neighbours that can be one are one.
            let all: Vec<&Vma> = tree.iter().collect();
            prop_assert_eq!(all.windows(2).filter(|pair| pair[0].merges_with(pair[1])).count(), 0);
        }
    }

    #[test]
    fn gaps_are_the_first_that_fit(
        steps in proptest::collection::vec(step(), 1..20),
        len in 1..12_usize,
        bounds in range(),
        from_top in any::<bool>(),
    ) {
        let mut tree = VmaTree::new();
        let mut model = vec![None; PAGES];
        steps.iter().for_each(|step| apply(&mut tree, &mut model, step));
        let fits = |start: &usize| {
            start + len <= bounds.0 + bounds.1 && model[*start..start + len].iter().all(Option::is_none)
        };
        let mut starts = bounds.0..bounds.0 + bounds.1;
        let expected = if from_top { starts.rev().find(fits) } else { starts.find(fits) };
        let within = bytes(bounds.0, bounds.1);
        let len = len as u64 * PAGE;
        let seen = if from_top { tree.find_gap_below(within, len) } else { tree.find_gap_above(within, len) };
        prop_assert_eq!(seen, expected.map(|page| page as u64 * PAGE));
    }
}

#[test]
fn a_kept_range_is_taken_without_being_mapped() {
    let mut tree = VmaTree::new();
    tree.keep(bytes(10, 4));
    assert!(!tree.is_free(bytes(13, 1)) && tree.is_free(bytes(14, 1)) && tree.find(bytes(10, 1).start).is_none());
    assert_eq!(tree.find_gap_below(bytes(0, 16), 3 * PAGE), Some(7 * PAGE));
    assert_eq!(tree.find_gap_above(bytes(8, 16), 3 * PAGE), Some(14 * PAGE));
    assert!(tree.remove(bytes(0, PAGES)).is_empty() && !tree.is_free(bytes(10, 1)));
    tree.unkeep(&bytes(10, 4));
    assert!(tree.is_free(bytes(0, PAGES)));
}
