//! Warm objects: what the host has mapped of a program and its libraries stays, text and constants that nobody could write, when
//! the program ends or executes another one, for the next program of the same host process: see `docs/design/0023-warm-objects.md`.
//!
//! An object is *noted* when a loader maps it. When the program goes, its pristine pieces stay on the host, and the address space that
//! comes next has it as *warm*: its addresses are kept from the guest. Where the same version of the same file is mapped as an object
//! again it is *taken*: it goes where it lies, and its pieces are *ready*, on the host and not in the tree, until each is mapped.
//! Whatever else is done to their addresses first makes the host agree with the tree.
//!
//! Data that the program of an exec wrote stays, too, but for the same program alone, and before any of its instructions runs each page
//! is written over with what the file has.
//!
//! All of it is part of the address space's state, below its lock.

use super::image::{Image, Placed};
use super::place::{self, HOST_FIXED};
use super::space::{Mm, State, unmap_on_host};
use super::vma::{Backing, Form, Prot, Vma, VmaFlags};
use super::{PAGE, charge};
use crate::fs::File;
use crate::fs::file::{MapObject, Sharing};
use crate::{Errno, Result};
use abi::broker::Attributes;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use machine::guest;
use machine::host::{self, HostFd, IoVec};

/// Most objects that are noted of a program.
const MOST_OBJECTS: usize = 64;
/// Most bytes of data that stay of a program, and of all of them, roughly.
const MOST_WRITTEN: u64 = 2 << 20;
const ALL_WRITTEN: u64 = 8 * MOST_WRITTEN;

/// An object of the program as its loader mapped it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Keeps the allocation, so that no other file can be taken for it, and not the file.
    file: Weak<File>,
    version: Attributes,
    span: Range<u64>,
    loader: Loader,
}

/// Who mapped an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loader {
    /// exec, before the guest runs.
    Exec,
    /// The guest.
    Guest,
}

/// A part of an object that the host has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    range: Range<u64>,
    offset: u64,
    prot: Prot,
    form: Form,
}

/// Data of an object that the host has mapped, with whatever its program has written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    range: Range<u64>,
    offset: u64,
    /// Parts that can no longer be written.
    protected: Vec<Range<u64>>,
}

/// What is left of a program's objects.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a> {
    /// All: whatever comes next may want them.
    All,
    /// For a program of this version, if it is a file of the host's, at once: another program is not wanted, and has tables of its own.
    For(Option<&'a Attributes>),
}

/// An object without a program.
#[derive(Clone, Debug)]
pub struct Warm {
    version: Attributes,
    span: Range<u64>,
    /// From low to high.
    pieces: Vec<Piece>,
    /// Nobody's until it is written over: goes before the guest runs.
    written: Vec<Written>,
    /// Its image, and where that has slot page and stubs.
    image: Option<(Arc<Image>, Range<u64>)>,
}

/// A warm object that is being mapped.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    file: Weak<File>,
    pieces: Vec<Piece>,
    written: Vec<Written>,
    image: Option<(Arc<Image>, Range<u64>)>,
}

fn touch(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn is_file(weak: &Weak<File>, file: &Arc<File>) -> bool {
    core::ptr::eq(weak.as_ptr(), Arc::as_ptr(file))
}

impl Piece {
    /// What the host has of a mapping of `file` that lies within `span`. Text of a file that has an image is no piece but as that.
    fn of(vma: &Vma, file: &Weak<File>, span: &Range<u64>, has_image: bool) -> Option<Piece> {
        let Backing::File { file: its, offset, form, .. } = &vma.backing else { return None };
        let is_within = span.start <= vma.start && vma.end <= span.end;
        let is_text = vma.prot == Prot::READ | Prot::EXEC && has_image == (*form == Form::Image);
        let is_constant = vma.prot == Prot::READ && *form == Form::Handle;
        let is_kept = is_within && (is_text || is_constant) && vma.is_pristine() && is_file(file, its);
        is_kept.then_some(Piece { range: vma.start..vma.end, offset: *offset, prot: vma.prot, form: *form })
    }

    fn is_text(&self) -> bool {
        self.prot.contains(Prot::EXEC)
    }
}

impl Written {
    /// What the host has of a mapping of `file`'s data: memory of the process's own, and no more than that.
    fn of(vma: &Vma, file: &Weak<File>, span: &Range<u64>) -> Option<Written> {
        let Backing::File { file: its, offset, form: Form::Handle, sharing: Sharing::Private, .. } = &vma.backing
        else {
            return None;
        };
        let is_within = span.start <= vma.start && vma.end <= span.end;
        let is_writable = vma.prot == Prot::READ | Prot::WRITE;
        let is_data = (is_writable || vma.prot == Prot::READ) && vma.flags == VmaFlags::WRITTEN;
        let range = vma.start..vma.end;
        let protected = if is_writable { Vec::new() } else { Vec::from([range.clone()]) };
        (is_within && is_data && is_file(file, its)).then_some(Written { range, offset: *offset, protected })
    }

    /// Takes what goes on where it ends, as when its beginning was protected after it was relocated.
    fn extend(&mut self, next: Written) -> Option<Written> {
        if self.range.end != next.range.start || self.offset + self.len() != next.offset {
            return Some(next);
        }
        self.range.end = next.range.end;
        self.protected.extend(next.protected);
        None
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Has there what a fresh mapping of the file would have.
    ///
    /// # Errors
    /// Those of the host; EIO where the file has become shorter.
    fn reset(&self, handle: &HostFd) -> Result<()> {
        let Written { range, offset, protected } = self;
        for part in protected {
            host::mprotect(part.start, part.end - part.start, (Prot::READ | Prot::WRITE).bits())?;
        }
        let mut done = 0;
        while done < self.len() {
            let rest = IoVec { base: range.start + done, len: self.len() - done };
            let count = host::read_file_guest(handle.raw(), &[rest], offset.wrapping_add(done), 0)?;
            if count == 0 {
                break;
            }
            done += count as u64;
        }
        // The last page goes on with zeros behind the file's end; pages behind that are none.
        let rest = self.len().saturating_sub(done);
        if rest >= PAGE { Err(Errno::EIO) } else { guest::zero(range.end - rest, rest) }
    }
}

impl Warm {
    /// Whether it is of that version of a file.
    #[must_use]
    pub fn is_of(&self, version: &Attributes) -> bool {
        super::image::is_same_version(&self.version, version)
    }

    /// All of its addresses, those between its pieces included.
    fn extent(&self) -> Range<u64> {
        let end = self.image.as_ref().map_or(self.span.end, |(_, area)| area.end.max(self.span.end));
        self.span.start..end
    }

    /// What the host has mapped of it.
    pub(super) fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        let written = self.written.iter().map(|written| &written.range);
        self.pieces.iter().map(|piece| &piece.range).chain(written).chain(self.image.as_ref().map(|(_, area)| area))
    }

    fn has_image(&self, image: Option<&Arc<Image>>) -> bool {
        match (&self.image, image) {
            (Some((own, _)), Some(image)) => Arc::ptr_eq(own, image),
            (None, None) => true,
            _ => false,
        }
    }
}

/// An object that is to be mapped.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) file: &'a Arc<File>,
    pub(super) version: &'a Attributes,
    pub(super) image: Option<&'a Arc<Image>>,
    /// Bytes from its first address to its last.
    pub(super) len: u64,
    /// Where it may begin.
    pub(super) at: Range<u64>,
}

impl Mm {
    /// Takes the warm object of a file for its program: it is to be mapped where it lies, which is returned.
    pub fn take_warm(&self, file: &Arc<File>, image: Option<&Arc<Image>>, len: u64, at: Range<u64>) -> Option<u64> {
        if self.state().warm.is_empty() {
            return None;
        }
        let version = super::image::host_version(file)?;
        self.state().take_warm(&Wanted { file, version: &version, image, len, at })
    }

    /// Notes an object that exec has loaded; what was ready of it and is not mapped by now goes.
    pub fn note_object(&self, file: &Arc<File>, span: Range<u64>) {
        let version = super::image::host_version(file);
        let mut state = self.state();
        // What the host does not take back stays ready.
        let _ = state.settle(&(0..u64::MAX));
        if let Some(version) = version {
            state.note_object(file, version, span, Loader::Exec);
        }
    }

    /// Unmaps what earlier programs have written: exec has taken what it wants of it, and the guest is to run.
    pub fn forget_written(&self) {
        let mut state = self.state();
        let written = state.warm.iter_mut().flat_map(|warm| warm.written.drain(..));
        written.for_each(|written| unmap_on_host(&written.range));
    }
}

impl State {
    pub(super) fn note_object(&mut self, file: &Arc<File>, version: Attributes, span: Range<u64>, loader: Loader) {
        let objects = Arc::make_mut(&mut self.objects);
        objects.retain(|other| other.file.strong_count() > 0 && !touch(&other.span, &span));
        if objects.len() < MOST_OBJECTS {
            objects.push(Object { file: Arc::downgrade(file), version, span, loader });
        }
    }

    /// The objects of the program as they are left for the next one.
    pub(super) fn left_warm(&self, placed: &[Placed], left: Left<'_>) -> Vec<Warm> {
        let is_wanted = |object: &&Object| match left {
            Left::All => true,
            Left::For(next) => {
                let is_same = next.is_some_and(|next| super::image::is_same_version(&object.version, next));
                is_same || object.span.start >= place::LIBRARIES.start
            }
        };
        let is_ready = |object: &Object| self.ready_pieces().any(|piece| touch(&piece.range, &object.span));
        let objects = self.objects.iter().filter(is_wanted).filter(|object| !is_ready(object));
        let mut warm: Vec<_> = objects.filter_map(|object| self.left_of(object, placed)).collect();
        // Pages that were a parent's are its own and the child's in turn: each would be copied twice.
        if matches!(left, Left::All) && !self.is_forked && charge::has_room(ALL_WRITTEN) {
            let mut room = MOST_WRITTEN;
            warm.iter_mut().for_each(|warm| warm.written = self.written_of(&warm.span, &mut room));
        }
        warm
    }

    /// The data of an object that exec has loaded, as much as there is room for.
    fn written_of(&self, span: &Range<u64>, room: &mut u64) -> Vec<Written> {
        let mut all: Vec<Written> = Vec::new();
        let is_it = |object: &&Object| object.span == *span && object.loader == Loader::Exec;
        let Some(Object { file, .. }) = self.objects.iter().find(is_it) else { return all };
        for written in self.tree.overlapping(span.clone()).filter_map(|vma| Written::of(vma, file, span)) {
            let next = match all.last_mut() {
                Some(last) => last.extend(written),
                None => Some(written),
            };
            all.extend(next);
        }
        all.retain(|written| {
            let fits = written.len() <= *room;
            *room -= if fits { written.len() } else { 0 };
            fits
        });
        all
    }

    fn left_of(&self, object: &Object, placed: &[Placed]) -> Option<Warm> {
        let Object { file, version, span, .. } = object;
        let image = placed.iter().find(|placed| placed.is_at(span)).map(Placed::with_area);
        let vmas = self.tree.overlapping(span.clone());
        let pieces: Vec<_> = vmas.filter_map(|vma| Piece::of(vma, file, span, image.is_some())).collect();
        // An image lies where its file's headers say; without one, text is where such files have it, in one piece behind the headers.
        let mut texts = pieces.iter().filter(|piece| piece.is_text());
        let first = texts.next()?;
        let is_usual = image.is_some() || texts.next().is_none() && first.range.start > span.start;
        is_usual.then(|| Warm { version: *version, span: span.clone(), pieces, written: Vec::new(), image })
    }

    /// Has the objects of the host process's program before.
    pub(super) fn keep_warm(&mut self, warm: Vec<Warm>) {
        warm.iter().for_each(|warm| self.tree.keep(warm.extent()));
        self.warm = warm;
    }

    /// Makes a warm object ready, and its addresses free; returns where it lies.
    pub(super) fn take_warm(&mut self, wanted: &Wanted) -> Option<u64> {
        let fits = |warm: &Warm| {
            warm.is_of(wanted.version)
                && warm.has_image(wanted.image)
                && warm.span.end - warm.span.start == wanted.len
                && wanted.at.contains(&warm.span.start)
        };
        let at = self.warm.iter().position(fits)?;
        let Warm { span, pieces, written, image, .. } = self.give_addresses_back(at);
        self.ready.push(Ready { file: Arc::downgrade(wanted.file), pieces, written, image });
        Some(span.start)
    }

    fn give_addresses_back(&mut self, at: usize) -> Warm {
        let warm = self.warm.swap_remove(at);
        self.tree.unkeep(&warm.extent());
        warm
    }

    /// Unmaps the warm objects whose addresses a range touches: they are wanted for something else.
    #[inline]
    pub(super) fn cool(&mut self, range: &Range<u64>) {
        while let Some(at) = self.warm.iter().position(|warm| touch(&warm.extent(), range)) {
            self.give_addresses_back(at).ranges().for_each(unmap_on_host);
        }
    }

    fn ready_pieces(&self) -> impl Iterator<Item = &Piece> {
        self.ready.iter().flat_map(|ready| &ready.pieces)
    }

    /// What the host has mapped beside the tree.
    pub(super) fn ready_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let areas = self.ready.iter().filter_map(|ready| ready.image.as_ref().map(|(_, area)| area.clone()));
        let written = self.ready.iter().flat_map(|ready| &ready.written).map(|written| written.range.clone());
        self.ready_pieces().map(|piece| piece.range.clone()).chain(written).chain(areas)
    }

    /// Whether the host has data of `file` there already, which is as the file has it now: what is ready is so no more.
    pub(super) fn claim_written(&mut self, file: &Arc<File>, range: &Range<u64>, offset: u64, handle: &HostFd) -> bool {
        let is_it = |written: &mut Written| written.range == *range && written.offset == offset;
        let mut its = self.ready.iter_mut().filter(|ready| is_file(&ready.file, file));
        let Some(written) = its.find_map(|ready| ready.written.extract_if(.., is_it).next()) else { return false };
        let is_reset = written.reset(handle).is_ok();
        if !is_reset {
            unmap_on_host(range);
        }
        is_reset
    }

    /// Whether the host has a mapping of `file` already: what is ready is so no more.
    pub(super) fn claim(&mut self, file: &Arc<File>, range: &Range<u64>, offset: u64, prot: Prot, form: Form) -> bool {
        let is_it =
            |piece: &Piece| piece.range == *range && piece.offset == offset && piece.prot == prot && piece.form == form;
        for ready in self.ready.iter_mut().filter(|ready| is_file(&ready.file, file)) {
            if let Some(at) = ready.pieces.iter().position(is_it) {
                ready.pieces.remove(at);
                return true;
            }
        }
        false
    }

    /// Whether the host has an image's slot page and stubs there already.
    pub(super) fn claim_area(&mut self, image: &Arc<Image>, area: &Range<u64>) -> bool {
        let is_it = |(its, its_area): &mut (Arc<Image>, Range<u64>)| Arc::ptr_eq(its, image) && its_area == area;
        self.ready.iter_mut().any(|ready| ready.image.take_if(is_it).is_some())
    }

    /// The constants of the object that was taken last, whose whole span is about to be mapped from `start` on, to be read: those that
    /// such a mapping has there stay, the others go.
    pub(super) fn sort_constants(&mut self, start: u64) -> Vec<Range<u64>> {
        let Some(ready) = self.ready.last_mut() else { return Vec::new() };
        let mut constants: Vec<_> = ready.pieces.extract_if(.., |piece| !piece.is_text()).collect();
        let is_elsewhere = |piece: &mut Piece| piece.range.start - start != piece.offset;
        constants.extract_if(.., is_elsewhere).for_each(|piece| unmap_on_host(&piece.range));
        constants.into_iter().map(|piece| piece.range).collect()
    }

    /// Whether nothing is ready in a range.
    pub(super) fn is_settled(&self, range: &Range<u64>) -> bool {
        !self.ready_pieces().any(|piece| touch(&piece.range, range))
    }

    /// Has the host agree with the tree about what is ready in a range: it was not mapped as expected.
    ///
    /// # Errors
    /// Those of the host: it has too many mappings.
    #[inline]
    pub(super) fn settle(&mut self, range: &Range<u64>) -> Result<()> {
        if self.ready.is_empty() { Ok(()) } else { self.settle_ready(range) }
    }

    #[cold]
    fn settle_ready(&mut self, range: &Range<u64>) -> Result<()> {
        let touched: Vec<_> = self.ready_pieces().filter(|piece| touch(&piece.range, range)).cloned().collect();
        for piece in touched {
            self.settle_piece(&piece)?;
            self.ready.iter_mut().for_each(|ready| ready.pieces.retain(|other| *other != piece));
        }
        // Only while exec loads: the tree has nothing there.
        let is_touched = |written: &mut Written| touch(&written.range, range);
        let written = self.ready.iter_mut().flat_map(|ready| ready.written.extract_if(.., is_touched));
        written.for_each(|written| unmap_on_host(&written.range));
        let is_area = |(_, area): &mut (Arc<Image>, Range<u64>)| touch(area, range);
        for (_, area) in self.ready.iter_mut().filter_map(|ready| ready.image.take_if(is_area)) {
            unmap_on_host(&area);
        }
        self.ready.retain(|ready| !ready.pieces.is_empty() || !ready.written.is_empty() || ready.image.is_some());
        Ok(())
    }

    fn settle_piece(&self, piece: &Piece) -> Result<()> {
        // All of it is in the tree, or nothing: it is settled before that changes.
        if self.tree.is_free(piece.range.clone()) {
            unmap_on_host(&piece.range);
        }
        for vma in self.tree.overlapping(piece.range.clone()) {
            let vma = vma.clipped(&piece.range);
            let Backing::File { file, offset, sharing, .. } = &vma.backing else { continue };
            let MapObject::Handle(handle) = file.ops().map(file, *sharing)? else { continue };
            place::map_file(&(vma.start..vma.end), vma.prot, HOST_FIXED, &handle, *offset)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
