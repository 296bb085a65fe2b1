//! Plans as bytes, for a cache on disk.
//!
//! Little-endian, LEB128 numbers, addresses as differences. Reading checks every count against the bytes that are
//! there and every structural promise of [`Plan`]; whether the plan fits a file is [`crate::verify`]'s question.

use crate::plan::{Code, Kind, Moved, MovedKind, Name, Obstacle, PAGE, Patch, Plan, PlanError, Site, Source, Stats};
use crate::reader::Reader;
use alloc::vec::Vec;

const MAGIC: [u8; 4] = *b"ABOM";
/// Changes with the format and with the meaning of what is stored.
const VERSION: u16 = 2;

const KINDS: [Kind; 2] = [Kind::Syscall, Kind::Cpuid];
const MOVED_KINDS: [MovedKind; 4] = [MovedKind::Copy, MovedKind::Enter, MovedKind::Restore, MovedKind::Leave];
const SOURCES: [Source; 5] = [Source::Frame, Source::Symbol, Source::Pclntab, Source::OpenSymbol, Source::Call];
const OBSTACLES: [Option<Obstacle>; 6] = [
    None,
    Some(Obstacle::NoRoom),
    Some(Obstacle::Overlap),
    Some(Obstacle::SignalReturn),
    Some(Obstacle::Prefixed),
    Some(Obstacle::Taken),
];

impl Plan {
    /// Serialises the plan.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer { bytes: Vec::with_capacity(64 + self.sites.len() * 40 + self.stubs.len()) };
        out.bytes.extend_from_slice(&MAGIC);
        out.bytes.extend_from_slice(&VERSION.to_le_bytes());
        for value in [self.span.start, self.span.end, self.stub_vaddr, self.slot_vaddr, self.stub_file_offset] {
            out.number(value);
        }
        out.blob(&self.stubs);
        out.number(self.patches.len() as u64);
        for patch in &self.patches {
            out.number(patch.vaddr);
            out.number(patch.offset);
            out.blob(&patch.bytes);
        }
        out.number(self.moved.len() as u64);
        let mut at = self.stub_vaddr;
        for moved in &self.moved {
            out.number(moved.stub_start.wrapping_sub(at));
            out.number(moved.stub_end.wrapping_sub(moved.stub_start));
            out.number(moved.original);
            out.choice(&MOVED_KINDS, &moved.kind);
            at = moved.stub_end;
        }
        out.number(self.sites.len() as u64);
        for site in &self.sites {
            out.site(site);
        }
        let stats = &self.stats;
        for count in stats.syscall.iter().chain(&stats.cpuid).chain([&stats.embedded, &stats.unproven]) {
            out.number(u64::from(*count));
        }
        out.bytes
    }

    /// Reads what [`Plan::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`PlanError::Encoding`] for anything else: truncated, damaged, trailing bytes, another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PlanError> {
        read(bytes).filter(is_consistent).ok_or(PlanError::Encoding)
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn number(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.bytes.push(low & 0x7f);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn choice<T: PartialEq>(&mut self, all: &[T], value: &T) {
        let index = all.iter().position(|candidate| candidate == value).unwrap_or(all.len());
        self.number(index as u64);
    }

    fn site(&mut self, site: &Site) {
        self.number(site.vaddr);
        self.choice(&KINDS, &site.kind);
        self.number(u64::from(site.tier));
        self.choice(&SOURCES, &site.source);
        self.number(site.function);
        self.choice(&OBSTACLES, &site.obstacle);
        self.number(site.vaddr.wrapping_sub(site.window_start));
        self.number(site.window_end.wrapping_sub(site.vaddr));
        self.number(site.stub_start);
        self.number(site.stub_end.wrapping_sub(site.stub_start));
        let name = site.name.unwrap_or(Name { offset: 0, len: 0 });
        self.number(u64::from(name.len));
        if name.len > 0 {
            self.number(name.offset);
        }
    }
}

fn read(bytes: &[u8]) -> Option<Plan> {
    let mut reader = Reader::new(bytes, 0);
    (reader.take(MAGIC.len())? == MAGIC && reader.u16()? == VERSION).then_some(())?;
    let span = reader.uleb()?..reader.uleb()?;
    let [stub_vaddr, slot_vaddr, stub_file_offset] = [reader.uleb()?, reader.uleb()?, reader.uleb()?];
    let stubs = blob(&mut reader)?.to_vec();
    let patches = list(&mut reader, bytes.len(), patch)?;
    let mut at = stub_vaddr;
    let moved = list(&mut reader, bytes.len(), |reader| {
        let moved = moved(reader, at)?;
        at = moved.stub_end;
        Some(moved)
    })?;
    let sites = list(&mut reader, bytes.len(), site)?;
    let stats = stats(&mut reader)?;
    let plan = Plan { span, patches, stub_vaddr, stubs, stub_file_offset, slot_vaddr, moved, sites, stats };
    (reader.pos() == bytes.len()).then_some(plan)
}

/// A counted list; each item takes at least a byte, so the count cannot exceed what is there.
fn list<T>(reader: &mut Reader<'_>, len: usize, mut item: impl FnMut(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(reader.uleb()?).ok()?;
    (count <= len.saturating_sub(reader.pos())).then_some(())?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(reader)?);
    }
    Some(items)
}

fn blob<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = usize::try_from(reader.uleb()?).ok()?;
    reader.take(len)
}

fn choice<T: Copy>(reader: &mut Reader<'_>, all: &[T]) -> Option<T> {
    all.get(usize::try_from(reader.uleb()?).ok()?).copied()
}

fn patch(reader: &mut Reader<'_>) -> Option<Patch> {
    let [vaddr, offset] = [reader.uleb()?, reader.uleb()?];
    Some(Patch { vaddr, offset, bytes: Code::new(blob(reader)?)? })
}

fn moved(reader: &mut Reader<'_>, at: u64) -> Option<Moved> {
    let stub_start = at.checked_add(reader.uleb()?)?;
    let stub_end = stub_start.checked_add(reader.uleb()?)?;
    Some(Moved { stub_start, stub_end, original: reader.uleb()?, kind: choice(reader, &MOVED_KINDS)? })
}

fn site(reader: &mut Reader<'_>) -> Option<Site> {
    let vaddr = reader.uleb()?;
    let kind = choice(reader, &KINDS)?;
    let tier = u8::try_from(reader.uleb()?).ok()?;
    let source = choice(reader, &SOURCES)?;
    let function = reader.uleb()?;
    let obstacle = choice(reader, &OBSTACLES)?;
    let window_start = vaddr.checked_sub(reader.uleb()?)?;
    let window_end = vaddr.checked_add(reader.uleb()?)?;
    let stub_start = reader.uleb()?;
    let stub_end = stub_start.checked_add(reader.uleb()?)?;
    let len = u16::try_from(reader.uleb()?).ok()?;
    let name = if len > 0 { Some(Name { offset: reader.uleb()?, len }) } else { None };
    Some(Site { vaddr, kind, tier, source, function, name, obstacle, window_start, window_end, stub_start, stub_end })
}

fn stats(reader: &mut Reader<'_>) -> Option<Stats> {
    let mut count = || u32::try_from(reader.uleb()?).ok();
    Some(Stats {
        syscall: [count()?, count()?, count()?, count()?],
        cpuid: [count()?, count()?, count()?, count()?],
        embedded: count()?,
        unproven: count()?,
    })
}

/// What lookups and loaders rely on without looking at the file.
fn is_consistent(plan: &Plan) -> bool {
    let page_aligned = [plan.span.start, plan.span.end, plan.stub_vaddr, plan.slot_vaddr, plan.stub_file_offset];
    let Some(stub_end) = plan.stub_vaddr.checked_add(plan.stubs.len() as u64) else { return false };
    let ranges_ascend = plan.patches.is_sorted_by(|first, second| first.range().end <= second.vaddr)
        && plan.sites.is_sorted_by(|first, second| first.window_end <= second.window_start);
    let moved_fit = plan.moved.is_sorted_by(|first, second| first.stub_end <= second.stub_start)
        && plan.moved.first().is_none_or(|moved| moved.stub_start >= plan.stub_vaddr)
        && plan.moved.last().is_none_or(|moved| moved.stub_end <= stub_end);
    let is_in_span = |range: core::ops::Range<u64>| range.start >= plan.span.start && range.end <= plan.span.end;
    page_aligned.iter().all(|value| value % PAGE == 0)
        && plan.span.start <= plan.span.end
        && plan.slot_vaddr == plan.span.end
        && Some(plan.stub_vaddr) == plan.slot_vaddr.checked_add(PAGE)
        && ranges_ascend
        && moved_fit
        && plan.patches.iter().all(|patch| is_in_span(patch.range()))
        && plan.sites.iter().all(|site| is_in_span(site.window_start..site.window_end) && (1..=4).contains(&site.tier))
}
