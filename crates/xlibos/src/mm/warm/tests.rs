//! Objects that are left, taken, and in the way, with the host's own mappings.

use super::super::{MapRequest, Mm, PAGE};
use super::{Attributes, Backing, File, Left, Loader, MapObject, Prot, Wanted, Warm};
use crate::Result;
use crate::fs::file::{FileOps, OpenFlags, Sharing};
use machine::guest;
use machine::host::HostFd;
use std::io::{Seek as _, Write as _};
use std::ops::Range;
use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

const PRIVATE: u32 = 2;
const FIXED_NOREPLACE: u32 = 0x10_0000;
const ANONYMOUS: u32 = 0x20;
const READ: u32 = 1;
const TEXT: u32 = 5;
const DATA: u32 = 3;
/// Pages of an object: constants, two of text, constants, data.
const PAGES: u64 = 5;
/// Above what other tests choose; each test has its own.
const AT: u64 = 0x7ff9_8000_0000;

/// A file of the host's whose pages hold one byte each, from `first` on.
struct Object(Arc<HostFd>);

impl FileOps for Object {
    fn map(&self, _file: &File, _sharing: Sharing) -> Result<MapObject> {
        Ok(MapObject::Handle(Arc::clone(&self.0)))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn file(first: u8) -> Arc<File> {
    let Ok(mut file) = tempfile() else { panic!("no file") };
    let bytes: Vec<u8> = (0..PAGES as usize * PAGE as usize).map(|at| first + (at / PAGE as usize) as u8).collect();
    assert!(file.write_all(&bytes).is_ok() && file.rewind().is_ok());
    File::new(Arc::new(Object(Arc::new(HostFd::from_raw(file.into_raw_fd())))), OpenFlags::empty())
}

fn tempfile() -> std::io::Result<std::fs::File> {
    let thread = std::thread::current().id();
    let path = std::env::temp_dir().join(std::format!("object-{}-{thread:?}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn version(inode: u64) -> Attributes {
    Attributes { device: 1, inode, ..Attributes::default() }
}

/// Maps a part of an object that begins at `start`, as a loader does.
fn map(mm: &Mm, file: &Arc<File>, start: u64, pages: Range<u64>, prot: u32) -> Result<u64> {
    let (addr, len) = (start + pages.start * PAGE, (pages.end - pages.start) * PAGE);
    let backing = Backing::file(Arc::clone(file), pages.start * PAGE);
    mm.map(MapRequest { addr, len, prot, flags: PRIVATE | FIXED_NOREPLACE, backing })
}

/// A program with one object.
fn loaded(file: &Arc<File>, inode: u64, start: u64) -> Arc<Mm> {
    let mm = Mm::new();
    for (pages, prot) in [(0..1, READ), (1..3, TEXT), (3..4, READ), (4..5, DATA)] {
        assert!(map(&mm, file, start, pages, prot).is_ok());
    }
    mm.state().note_object(file, version(inode), start..start + PAGES * PAGE, Loader::Guest);
    mm
}

/// What each page of the host's begins with, if it has the page.
fn bytes_at(start: u64) -> [Option<u8>; PAGES as usize] {
    let Ok(memory) = std::fs::File::open("/proc/self/mem") else { panic!("no memory") };
    [0, 1, 2, 3, 4].map(|page| {
        let mut byte = [0];
        (memory.read_at(&mut byte, start + page * PAGE).ok()? == 1).then_some(byte[0])
    })
}

fn take(mm: &Mm, file: &Arc<File>, inode: u64) -> Option<u64> {
    let wanted = Wanted { file, version: &version(inode), image: None, len: PAGES * PAGE, at: 0..u64::MAX };
    mm.state().take_warm(&wanted)
}

#[test]
fn what_nobody_could_write_stays_and_is_mapped_again_without_the_host() {
    let start = AT;
    let warm = loaded(&file(10), 1, start).unmap_all(Left::All);
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(12), Some(13), None]);
    let mm = Mm::after(warm);
    assert!(!mm.state().tree.is_free(start..start + PAGE) && mm.collect_vmas().is_empty());
    // Another version finds nothing.
    assert_eq!(take(&mm, &file(30), 2), None);
    // The same version of a file whose bytes tell which mapping it is.
    let again = file(50);
    assert_eq!(take(&mm, &again, 1), Some(start));
    assert!(map(&mm, &again, start, 1..3, TEXT).is_ok() && map(&mm, &again, start, 0..1, READ).is_ok());
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(12), Some(13), None]);
    // With another protection it is another mapping, and what is not mapped by then goes.
    assert!(map(&mm, &again, start, 3..4, DATA).is_ok());
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(12), Some(53), None]);
    assert!(mm.state().settle(&(0..u64::MAX)).is_ok() && mm.unmap(start, PAGES * PAGE).is_ok());
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn what_is_not_mapped_of_a_taken_object_goes() {
    let start = AT + 0x100_0000;
    let mm = Mm::after(loaded(&file(10), 1, start).unmap_all(Left::All));
    let again = file(50);
    assert_eq!(take(&mm, &again, 1), Some(start));
    assert!(map(&mm, &again, start, 1..3, TEXT).is_ok());
    assert!(mm.state().settle(&(0..u64::MAX)).is_ok());
    assert_eq!(bytes_at(start), [None, Some(11), Some(12), None, None]);
    // Once more for the next one, which it is left for as it is.
    mm.state().note_object(&again, version(1), start..start + PAGES * PAGE, Loader::Guest);
    let mm = Mm::after(mm.unmap_all(Left::All));
    assert_eq!(bytes_at(start), [None, Some(11), Some(12), None, None]);
    mm.state().cool(&(0..u64::MAX));
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn text_that_could_be_written_once_does_not_stay() {
    let start = AT + 0x200_0000;
    let mm = loaded(&file(10), 1, start);
    let page = start + PAGE;
    assert!(mm.protect(page, PAGE, DATA).is_ok() && guest::write_value(page, &99_u8).is_ok());
    assert!(mm.protect(page, PAGE, TEXT).is_ok());
    let warm = mm.unmap_all(Left::All);
    assert_eq!(bytes_at(start), [Some(10), None, Some(12), Some(13), None]);
    let mm = Mm::after(warm);
    mm.state().cool(&(start..start + 1));
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn who_wants_the_addresses_of_a_warm_object_gets_them() {
    let start = AT + 0x300_0000;
    let mm = Mm::after(loaded(&file(10), 1, start).unmap_all(Left::All));
    let flags = PRIVATE | ANONYMOUS | FIXED_NOREPLACE;
    let page = MapRequest { addr: start + 4 * PAGE, len: PAGE, prot: DATA, flags, backing: Backing::Zero };
    assert_eq!(mm.map(page), Ok(start + 4 * PAGE));
    assert_eq!(bytes_at(start), [None, None, None, None, Some(0)]);
    assert_eq!(take(&mm, &file(10), 1), None);
    assert!(mm.unmap(start + 4 * PAGE, PAGE).is_ok());
}

#[test]
fn a_child_has_no_warm_object() {
    let start = AT + 0x400_0000;
    let mm = Mm::after(loaded(&file(10), 1, start).unmap_all(Left::All));
    let child = mm.fork_copy(&mut mm.lock());
    assert!(child.is_ok_and(|child| child.state().warm.is_empty() && child.state().tree.kept().is_empty()));
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn text_that_a_loader_has_not_mapped_yet_gives_way_to_what_the_tree_says() {
    let start = AT + 0x500_0000;
    let mm = Mm::after(loaded(&file(10), 1, start).unmap_all(Left::All));
    let again = file(50);
    assert_eq!(take(&mm, &again, 1), Some(start));
    {
        // As after the mapping of the whole span, to be read.
        let mut state = mm.state();
        let span = start..start + PAGES * PAGE;
        let constants = [start..start + PAGE, start + 3 * PAGE..start + 4 * PAGE];
        assert_eq!(state.sort_constants(start), constants);
        let backing = Backing::file(Arc::clone(&again), 0);
        let (prot, max_prot, flags) = (Prot::READ, Prot::all(), super::super::VmaFlags::empty());
        state.tree.insert(super::Vma { start, end: span.end, prot, max_prot, flags, backing });
    }
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(12), Some(13), None]);
    assert!(mm.protect(start + PAGE, PAGE, READ | 4).is_ok());
    assert_eq!(bytes_at(start), [Some(10), Some(51), Some(52), Some(13), None]);
    assert!(mm.unmap(start, PAGES * PAGE).is_ok());
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn a_program_stays_for_itself_and_not_for_another() {
    // Where programs lie, unlike libraries.
    let start = 0x5600_1234_0000;
    let mm = loaded(&file(10), 1, start);
    let warm = mm.unmap_all(Left::For(Some(&version(2))));
    assert!(warm.is_empty());
    assert_eq!(bytes_at(start), [None; 5]);
    let warm = loaded(&file(10), 1, start).unmap_all(Left::For(Some(&version(1))));
    assert_eq!((warm.len(), bytes_at(start)[0]), (1, Some(10)));
    Mm::after(warm).state().cool(&(0..u64::MAX));
}

#[test]
fn only_a_file_that_the_program_was_loaded_from_stays() {
    let start = AT + 0x600_0000;
    let (own, other) = (file(10), file(50));
    let mm = loaded(&own, 1, start);
    assert!(mm.unmap(start + 3 * PAGE, PAGE).is_ok() && map(&mm, &other, start, 3..4, READ).is_ok());
    let warm: Vec<Warm> = mm.unmap_all(Left::All);
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(12), None, None]);
    Mm::after(warm).state().cool(&(0..u64::MAX));
    assert_eq!(bytes_at(start), [None; 5]);
}

/// A program of one page of text and three of data behind that, the first of which it has protected.
fn with_data(file: &Arc<File>, start: u64, loader: Loader) -> Arc<Mm> {
    let mm = Mm::new();
    for (pages, prot) in [(0..1, READ), (1..2, TEXT), (2..5, DATA)] {
        assert!(map(&mm, file, start, pages, prot).is_ok());
    }
    mm.state().note_object(file, version(1), start..start + PAGES * PAGE, loader);
    (2..5).for_each(|page| assert!(guest::write_value(start + page * PAGE, &99_u8).is_ok()));
    assert!(mm.protect(start + 2 * PAGE, PAGE, READ).is_ok());
    mm
}

/// An open file whose pages hold one byte each, but fewer pages or bytes.
fn shortened(first: u8, len: u64) -> Arc<File> {
    let file = file(first);
    let Ok(MapObject::Handle(handle)) = file.ops().map(&file, Sharing::Private) else { panic!("no handle") };
    let Ok(host) = std::fs::File::options().write(true).open(std::format!("/proc/self/fd/{}", handle.raw())) else {
        panic!("no file")
    };
    assert!(host.set_len(len).is_ok());
    file
}

#[test]
fn data_is_as_the_file_has_it_for_the_next_program() {
    let start = AT + 0x700_0000;
    let mm = Mm::after(with_data(&file(10), start, Loader::Exec).unmap_all(Left::All));
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(99), Some(99), Some(99)]);
    let again = file(50);
    assert_eq!(take(&mm, &again, 1), Some(start));
    assert_eq!(map(&mm, &again, start, 2..5, DATA), Ok(start + 2 * PAGE));
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(52), Some(53), Some(54)]);
    // All of it can be written, and is the program's own.
    (2..5).for_each(|page| assert!(guest::write_value(start + page * PAGE, &98_u8).is_ok()));
    let vmas = mm.collect_vmas();
    assert!(matches!(&vmas[..], [vma] if vma.prot.bits() == DATA && vma.flags == super::VmaFlags::WRITTEN));
    assert!(mm.state().settle(&(0..u64::MAX)).is_ok() && mm.unmap(start, PAGES * PAGE).is_ok());
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn data_goes_before_another_program_runs() {
    let start = AT + 0x800_0000;
    let mm = Mm::after(with_data(&file(10), start, Loader::Exec).unmap_all(Left::All));
    mm.forget_written();
    assert_eq!(bytes_at(start), [Some(10), Some(11), None, None, None]);
    // A program of that kind gets it from the file.
    let again = file(50);
    assert_eq!(take(&mm, &again, 1), Some(start));
    assert_eq!(map(&mm, &again, start, 2..5, DATA), Ok(start + 2 * PAGE));
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(52), Some(53), Some(54)]);
    assert!(mm.state().settle(&(0..u64::MAX)).is_ok() && mm.unmap(start, PAGES * PAGE).is_ok());
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn data_that_is_mapped_otherwise_is_mapped_anew() {
    let start = AT + 0x900_0000;
    for (pages, prot) in [(2..4, DATA), (3..5, DATA), (2..5, READ), (2..5, 7)] {
        let mm = Mm::after(with_data(&file(10), start, Loader::Exec).unmap_all(Left::All));
        let again = file(50);
        assert_eq!(take(&mm, &again, 1), Some(start));
        assert_eq!(map(&mm, &again, start, pages.clone(), prot), Ok(start + pages.start * PAGE));
        let bytes = bytes_at(start).into_iter().skip(2).flatten().collect::<Vec<_>>();
        assert_eq!(bytes, pages.map(|page| 50 + page as u8).collect::<Vec<_>>());
        assert!(mm.state().settle(&(0..u64::MAX)).is_ok());
        assert!(mm.unmap(start, PAGES * PAGE).is_ok());
    }
}

#[test]
fn data_stays_of_what_exec_loaded_in_the_same_memory_alone() {
    let start = AT + 0xa00_0000;
    let gone = [Some(10), Some(11), None, None, None];
    let by_guest = with_data(&file(10), start, Loader::Guest).unmap_all(Left::All);
    assert_eq!(bytes_at(start), gone);
    Mm::after(by_guest).state().cool(&(0..u64::MAX));
    // exec where the process is keeps none, for itself neither.
    let for_itself = with_data(&file(10), start, Loader::Exec).unmap_all(Left::For(Some(&version(1))));
    assert_eq!(bytes_at(start), gone);
    Mm::after(for_itself).state().cool(&(0..u64::MAX));
    // What a child has are its parent's pages.
    let parent = with_data(&file(10), start, Loader::Exec);
    let child = parent.fork_copy(&mut parent.lock());
    let of_child = child.map(|child| child.unmap_all(Left::All)).unwrap_or_default();
    assert_eq!((of_child.len(), bytes_at(start)), (1, gone));
    Mm::after(of_child).state().cool(&(0..u64::MAX));
    assert_eq!(bytes_at(start), [None; 5]);
}

#[test]
fn data_of_a_file_that_became_shorter_is_not_made_up() {
    let start = AT + 0xb00_0000;
    // The last page ends amid: zeros follow.
    let mm = Mm::after(with_data(&file(10), start, Loader::Exec).unmap_all(Left::All));
    assert!(guest::write_value(start + 5 * PAGE - 1, &99_u8).is_ok());
    let again = shortened(50, 4 * PAGE + 7);
    assert_eq!(take(&mm, &again, 1), Some(start));
    assert!(map(&mm, &again, start, 2..5, DATA).is_ok());
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(52), Some(53), Some(54)]);
    let ends = [6, 7, PAGE - 1].map(|at| guest::read_value::<u8>(start + 4 * PAGE + at));
    assert_eq!(ends, [Ok(54), Ok(0), Ok(0)]);
    assert!(mm.state().settle(&(0..u64::MAX)).is_ok() && mm.unmap(start, PAGES * PAGE).is_ok());
    // A page that the file has no more is none.
    let mm = Mm::after(with_data(&file(10), start, Loader::Exec).unmap_all(Left::All));
    let again = shortened(50, 4 * PAGE);
    assert_eq!(take(&mm, &again, 1), Some(start));
    assert!(map(&mm, &again, start, 2..5, DATA).is_ok());
    assert_eq!(bytes_at(start), [Some(10), Some(11), Some(52), Some(53), None]);
    assert!(mm.state().settle(&(0..u64::MAX)).is_ok() && mm.unmap(start, PAGES * PAGE).is_ok());
    assert_eq!(bytes_at(start), [None; 5]);
}
