//! Warm objects: what the host has mapped of a program and its libraries stays, text and constants that nobody could write, when
//! the program ends or executes another one, for the next program of the same host process: see `docs/design/0023-warm-objects.md`.
//!
//! An object is *noted* when a loader maps it. When the program goes, its pristine pieces stay on the host, and the address space that
//! comes next has it as *warm*: its addresses are kept from the guest. Where the same version of the same file is mapped as an object
//! again it is *taken*: it goes where it lies, and its pieces are *ready*, on the host and not in the tree, until each is mapped.
//! Whatever else is done to their addresses first makes the host agree with the tree.
//!
//! No file is asked here: all of it is part of the address space's state, below its lock.

use super::image::{Image, Placed};
use super::place::{self, HOST_FIXED};
use super::space::{Mm, State, unmap_on_host};
use super::vma::{Backing, Form, Prot, Vma};
use crate::Result;
use crate::fs::File;
use crate::fs::file::MapObject;
use abi::broker::Attributes;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;

/// Most objects that are noted of a program.
const MOST_OBJECTS: usize = 64;

/// An object of the program as its loader mapped it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Keeps the allocation, so that no other file can be taken for it, and not the file.
    file: Weak<File>,
    version: Attributes,
    span: Range<u64>,
}

/// A part of an object that the host has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    range: Range<u64>,
    offset: u64,
    prot: Prot,
    form: Form,
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
    /// Its image, and where that has slot page and stubs.
    image: Option<(Arc<Image>, Range<u64>)>,
}

/// A warm object that is being mapped.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    file: Weak<File>,
    pieces: Vec<Piece>,
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
        self.pieces.iter().map(|piece| &piece.range).chain(self.image.as_ref().map(|(_, area)| area))
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

    /// Notes an object that a program was loaded from; what was ready of it and is not mapped by now goes.
    pub fn note_object(&self, file: &Arc<File>, span: Range<u64>) {
        let version = super::image::host_version(file);
        let mut state = self.state();
        // What the host does not take back stays ready.
        let _ = state.settle(&(0..u64::MAX));
        if let Some(version) = version {
            state.note_object(file, version, span);
        }
    }
}

impl State {
    pub(super) fn note_object(&mut self, file: &Arc<File>, version: Attributes, span: Range<u64>) {
        let objects = Arc::make_mut(&mut self.objects);
        objects.retain(|other| other.file.strong_count() > 0 && !touch(&other.span, &span));
        if objects.len() < MOST_OBJECTS {
            objects.push(Object { file: Arc::downgrade(file), version, span });
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
        objects.filter_map(|object| self.left_of(object, placed)).collect()
    }

    fn left_of(&self, object: &Object, placed: &[Placed]) -> Option<Warm> {
        let Object { file, version, span } = object;
        let image = placed.iter().find(|placed| placed.is_at(span)).map(Placed::with_area);
        let vmas = self.tree.overlapping(span.clone());
        let pieces: Vec<_> = vmas.filter_map(|vma| Piece::of(vma, file, span, image.is_some())).collect();
        // An image lies where its file's headers say; without one, text is where such files have it, in one piece behind the headers.
        let mut texts = pieces.iter().filter(|piece| piece.is_text());
        let first = texts.next()?;
        let is_usual = image.is_some() || texts.next().is_none() && first.range.start > span.start;
        is_usual.then(|| Warm { version: *version, span: span.clone(), pieces, image })
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
        let Warm { span, pieces, image, .. } = self.give_addresses_back(at);
        self.ready.push(Ready { file: Arc::downgrade(wanted.file), pieces, image });
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
        self.ready_pieces().map(|piece| piece.range.clone()).chain(areas)
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
        let is_area = |(_, area): &mut (Arc<Image>, Range<u64>)| touch(area, range);
        for (_, area) in self.ready.iter_mut().filter_map(|ready| ready.image.take_if(is_area)) {
            unmap_on_host(&area);
        }
        self.ready.retain(|ready| !ready.pieces.is_empty() || ready.image.is_some());
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
