//! What a plan says, and how program counters translate between text and stubs.

use crate::select::JUMP_LEN;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, Range};

/// Size of a page.
pub const PAGE: u64 = 4096;

/// Bounds on what [`crate::plan`] does with a file. Time and memory are linear in the file's size below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file, in bytes.
    pub max_file_len: u64,
    /// Most functions that the file may describe.
    pub max_functions: usize,
    /// Most occurrences of the two byte pairs in executable segments.
    pub max_occurrences: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_file_len: 1 << 30, max_functions: 1 << 21, max_occurrences: 1 << 16 }
    }
}

/// Why a file gets no plan. Such a file runs unpatched: every call traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Not a 64-bit little-endian x86-64 executable or shared object.
    NotX86Elf,
    /// Program headers that no loader accepts, or that map one file page at two places of text.
    Layout,
    /// A bound of [`Limits`] is exceeded.
    TooLarge,
    /// The serialised plan is damaged or of another version.
    Encoding,
    /// The plan does not do to this file what it says.
    Verify(VerifyError),
}

/// What [`crate::verify`] found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// Span, slot page and stub area are not laid out as documented.
    Layout,
    /// A patch lies outside read-only text, overlaps another, or belongs to no site.
    Patch(u64),
    /// The site is not the instruction that it should be, or its record is inconsistent.
    Site(u64),
    /// What the patched code executes differs from the original; the address of the site.
    Behaviour(u64),
    /// The table of moved instructions does not describe the stub; the address of the site.
    Moved(u64),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotX86Elf => f.write_str("not an x86-64 ELF executable or shared object"),
            Self::Layout => f.write_str("program headers overlap or exceed the file"),
            Self::TooLarge => f.write_str("a bound of the analysis is exceeded"),
            Self::Encoding => f.write_str("serialised plan is damaged or of another version"),
            Self::Verify(error) => write!(f, "plan failed verification: {error}"),
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("bad layout"),
            Self::Patch(vaddr) => write!(f, "bad patch at {vaddr:#x}"),
            Self::Site(vaddr) => write!(f, "bad site at {vaddr:#x}"),
            Self::Behaviour(vaddr) => write!(f, "site at {vaddr:#x} would behave differently"),
            Self::Moved(vaddr) => write!(f, "moved instructions of the site at {vaddr:#x} are wrong"),
        }
    }
}

impl core::error::Error for PlanError {}
impl core::error::Error for VerifyError {}

/// The two instructions that become jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `syscall`: the stub leaves the return address in rcx and jumps through slot 0.
    Syscall,
    /// `cpuid`: the stub leaves the return address in rdx and jumps through slot 1. The entry reads eax and ecx,
    /// has no scratch register but rbx, keeps the flags, and ends with a jump to what rdx held.
    Cpuid,
}

impl Kind {
    /// Offset of the kind's pointer in the slot page.
    pub const fn slot_offset(self) -> u64 {
        match self {
            Self::Syscall => 0,
            Self::Cpuid => 8,
        }
    }

    /// The instruction's bytes.
    pub const fn bytes(self) -> [u8; 2] {
        match self {
            Self::Syscall => [0x0f, 0x05],
            Self::Cpuid => [0x0f, 0xa2],
        }
    }
}

/// Up to 16 bytes of code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Code {
    /// Longest patch, in bytes.
    pub const MAX: usize = 16;

    /// Takes `bytes`, if they are few enough.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut code = Self { bytes: [0; Self::MAX], len: u8::try_from(bytes.len()).ok()? };
        code.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(code)
    }
}

impl Deref for Code {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Bytes to overwrite in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where, in the file.
    pub offset: u64,
    /// Where, in the object's address space.
    pub vaddr: u64,
    /// What is written there.
    pub bytes: Code,
}

impl Patch {
    /// The overwritten addresses.
    pub fn range(&self) -> Range<u64> {
        self.vaddr..self.vaddr.saturating_add(self.bytes.len() as u64)
    }
}

/// What a piece of a stub stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovedKind {
    /// A relocated copy of the instruction at `original`.
    Copy,
    /// Sets the return address and jumps to the entry: stands for the site itself.
    Enter,
    /// Right after the call: puts the address that the hardware would have left into rcx. A context captured here
    /// should show rcx = `original`.
    Restore,
    /// Jumps back into the text at `original`.
    Leave,
}

/// A piece of a stub and the program counter to report for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// First address in the stub area.
    pub stub_start: u64,
    /// First address after it.
    pub stub_end: u64,
    /// Program counter that the guest sees instead.
    pub original: u64,
    /// What the piece is.
    pub kind: MovedKind,
}

/// Who says where the function that holds a site starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An entry of `.eh_frame`.
    Frame,
    /// A function symbol with a size.
    Symbol,
    /// Go's table of functions.
    Pclntab,
    /// A function symbol without size (hand-written assembly): it reaches to the next known start.
    OpenSymbol,
    /// A direct call from another function. It reaches to the next known start.
    Call,
}

/// Why a proven site keeps trapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing near the site may be overwritten.
    NoRoom,
    /// A branch of the function lands inside an instruction at the site: two readings of the same bytes.
    Overlap,
    /// The bytes are how unwinders without unwind information recognise a signal frame.
    SignalReturn,
    /// The instruction carries prefixes.
    Prefixed,
    /// A patched neighbour took the room.
    Taken,
}

/// A name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// File offset of the first byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u16,
}

/// One proven `syscall` or `cpuid` instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Address of the instruction.
    pub vaddr: u64,
    /// Which instruction.
    pub kind: Kind,
    /// 1 to 4 as DESIGN.md numbers them; 4 keeps trapping.
    pub tier: u8,
    /// Who vouches for the function's start.
    pub source: Source,
    /// Start of the function.
    pub function: u64,
    /// The function's name, if the file has it.
    pub name: Option<Name>,
    /// Why the site is of tier 4.
    pub obstacle: Option<Obstacle>,
    /// First address whose instruction has a copy in the stub; the patch starts here.
    pub window_start: u64,
    /// First address after the patch and the site.
    pub window_end: u64,
    /// Where the stub starts, 0 for tier 4.
    pub stub_start: u64,
    /// Where the stub ends.
    pub stub_end: u64,
}

impl Site {
    /// A `syscall` that is left as it is.
    pub(crate) fn unpatched(vaddr: u64, function: u64, source: Source) -> Self {
        Self {
            vaddr,
            kind: Kind::Syscall,
            tier: 4,
            source,
            function,
            name: None,
            obstacle: Some(Obstacle::NoRoom),
            window_start: vaddr,
            window_end: vaddr,
            stub_start: 0,
            stub_end: 0,
        }
    }

    /// The function's name.
    pub fn name<'a>(&self, file: &'a [u8]) -> Option<&'a str> {
        let name = self.name?;
        let start = usize::try_from(name.offset).ok()?;
        let bytes = file.get(start..start.checked_add(usize::from(name.len))?)?;
        core::str::from_utf8(bytes).ok()
    }
}

/// Counts over a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Proven `syscall` sites by tier, tier 1 first.
    pub syscall: [u32; 4],
    /// Proven `cpuid` sites by tier.
    pub cpuid: [u32; 4],
    /// Occurrences of the bytes proven to be inside another instruction.
    pub embedded: u32,
    /// Occurrences about which nothing is known: data, or code of no known function.
    pub unproven: u32,
}

/// The object's plan: what to write where.
///
/// ```text
///  span (the object itself)      | slot page            | stubs, R-X
///  span.start .. span.end        | slot_vaddr, 4096     | stub_vaddr .. + stubs.len()
/// ```
///
/// The loader reserves all three together. It fills the slot page with the addresses of the entries
/// ([`Kind::slot_offset`]) and makes it read-only, maps executable segments from the patched file and the stubs
/// from its `stub_file_offset`. Addresses are the object's own: add the load bias. For a position-dependent
/// executable the program break starts behind the stubs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The object's load span, rounded to pages.
    pub span: Range<u64>,
    /// Overwritten bytes, sorted by address, disjoint.
    pub patches: Vec<Patch>,
    /// Address of the stub area, page aligned.
    pub stub_vaddr: u64,
    /// The stub area's bytes. Empty when nothing is patched; then no slot page is needed either.
    pub stubs: Vec<u8>,
    /// Where the stubs lie in the patched file, page aligned.
    pub stub_file_offset: u64,
    /// Address of the slot page.
    pub slot_vaddr: u64,
    /// Every byte of the stub area, sorted, without gaps.
    pub moved: Vec<Moved>,
    /// Every proven site, sorted by address.
    pub sites: Vec<Site>,
    /// Counts.
    pub stats: Stats,
}

impl Plan {
    /// The addresses that a loader reserves: span, slot page and stubs, rounded to pages.
    pub fn reserved(&self) -> Range<u64> {
        if self.stubs.is_empty() {
            return self.span.clone();
        }
        let end = self.stub_vaddr.saturating_add(self.stubs.len() as u64);
        self.span.start..end.next_multiple_of(PAGE)
    }

    /// The piece of a stub at `pc`, to be translated before a guest sees it.
    pub fn moved_at(&self, pc: u64) -> Option<&Moved> {
        let after = self.moved.partition_point(|moved| moved.stub_start <= pc);
        let moved = self.moved.get(after.checked_sub(1)?)?;
        (pc < moved.stub_end).then_some(moved)
    }

    /// The holes between a site's short jump and its stub, each with the address that it stands for; in the order of
    /// the sites.
    pub fn hops(&self) -> impl Iterator<Item = (Range<u64>, u64)> {
        self.patches.iter().filter_map(|patch| {
            let &[_, distance] = &*patch.bytes else { return None };
            let hole = patch.range().end.checked_add_signed(distance.cast_signed().into())?;
            Some((hole..hole.checked_add(JUMP_LEN)?, patch.vaddr))
        })
    }

    /// The program counter to report for `pc`: the same outside stubs and holes.
    pub fn original_pc(&self, pc: u64) -> u64 {
        let hop = || self.hops().find(|(hole, _)| hole.contains(&pc)).map_or(pc, |(_, site)| site);
        self.moved_at(pc).map_or_else(hop, |moved| moved.original)
    }

    /// Where execution must go on for a guest that wants to run at `pc`: the instruction's copy if it has one
    /// (its original may be overwritten), `pc` itself otherwise.
    pub fn resume_pc(&self, pc: u64) -> u64 {
        let after = self.sites.partition_point(|site| site.window_start <= pc);
        let Some(site) = after.checked_sub(1).and_then(|index| self.sites.get(index)) else { return pc };
        if pc >= site.window_end || site.stub_start == site.stub_end {
            return pc;
        }
        let first = self.moved.partition_point(|moved| moved.stub_start < site.stub_start);
        let pieces = self.moved.get(first..).unwrap_or_default();
        pieces
            .iter()
            .take_while(|moved| moved.stub_start < site.stub_end)
            .find(|moved| moved.original == pc && matches!(moved.kind, MovedKind::Copy | MovedKind::Enter))
            .map_or(pc, |moved| moved.stub_start)
    }
}
