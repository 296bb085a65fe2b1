//! Where functions start and end, by everything the file says about it.
//!
//! These ranges are the only starting points of decoding. A file that lies in them harms only the programs that
//! run that file; what is checked here is that the claims are in text and, later, that they agree.

use crate::elf::Elf;
use crate::plan::{Limits, PlanError, Source};
use crate::{frames, pclntab};
use alloc::vec::Vec;
use core::ops::Range;
use object::LittleEndian;
use object::elf;
use object::read::elf::{Sym as _, SymbolTable};

const ENDIAN: LittleEndian = LittleEndian;
/// How far a symbol without size may reach.
const MAX_OPEN_LEN: u64 = 64 << 10;
/// How many starts before an address are looked at for functions that cover it.
const MAX_NESTED: usize = 16;

/// One function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) source: Source,
    /// The unwind information says that this is a signal frame.
    pub(crate) is_signal_frame: bool,
    /// It has exception landing pads, which are reached without a branch.
    pub(crate) has_landing_pads: bool,
    /// Its end is a guess: no further than the next start.
    pub(crate) is_open: bool,
    /// Go only: offset in the file of the function's record.
    pub(crate) record: u64,
}

impl Function {
    pub(crate) fn new(range: Range<u64>, source: Source) -> Self {
        Self {
            start: range.start,
            end: range.end,
            source,
            is_signal_frame: false,
            has_landing_pads: false,
            is_open: matches!(source, Source::OpenSymbol | Source::Call),
            record: 0,
        }
    }
}

/// All functions, sorted by start, duplicates merged.
pub(crate) struct Functions {
    list: Vec<Function>,
    /// Their starts, each once.
    starts: Vec<u64>,
}

type Header = elf::FileHeader64<LittleEndian>;

/// The symbol tables of the file: full and dynamic.
pub(crate) fn symbol_tables<'a>(elf: &Elf<'a>) -> impl Iterator<Item = SymbolTable<'a, Header>> {
    let sections = elf.sections;
    let file = elf.file;
    [elf::SHT_SYMTAB, elf::SHT_DYNSYM].into_iter().filter_map(move |kind| sections?.symbols(ENDIAN, file, kind).ok())
}

/// Whether the symbol is a function of this file.
pub(crate) fn is_function(symbol: &elf::Sym64<LittleEndian>) -> bool {
    let kind = symbol.st_type();
    (kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC) && !symbol.is_undefined(ENDIAN)
}

impl Functions {
    /// Collects what `.eh_frame`, symbols and Go's table say.
    pub(crate) fn collect(elf: &Elf<'_>, limits: &Limits) -> Result<Self, PlanError> {
        let mut list = Vec::new();
        frames::collect(elf, limits.max_functions, &mut list)?;
        pclntab::collect(elf, limits.max_functions, &mut list)?;
        collect_symbols(elf, limits.max_functions, &mut list)?;
        list.retain(|function| {
            let text = elf.text_at(function.start);
            text.is_some_and(|text| function.start <= function.end && function.end <= text.file_end())
        });
        list.sort_unstable_by_key(|function| (function.start, function.end, function.source));
        close_open(elf, &mut list);
        list.retain(|function| function.start < function.end);
        list.dedup_by(|later, first| (later.start, later.end) == (first.start, first.end));
        let starts = starts(&list);
        Ok(Self { list, starts })
    }

    /// Adds functions that are known by their starts alone.
    pub(crate) fn add_starts(&mut self, elf: &Elf<'_>, starts: &[u64]) {
        self.list.extend(starts.iter().map(|start| Function::new(*start..*start, Source::Call)));
        self.list.sort_unstable_by_key(|function| (function.start, function.end, function.source));
        close_open(elf, &mut self.list);
        self.starts = self::starts(&self.list);
    }

    /// All functions, sorted by start.
    pub(crate) fn all(&self) -> &[Function] {
        &self.list
    }

    /// The function whose code may run on to `vaddr`, which no function covers: some end before their last
    /// instructions, where unwind information has to stop.
    pub(crate) fn running_into(&self, elf: &Elf<'_>, vaddr: u64) -> Option<Function> {
        let after = self.list.partition_point(|function| function.start <= vaddr);
        let function = self.list.get(after.checked_sub(1)?)?;
        let next = self.list.get(after).map_or(u64::MAX, |next| next.start);
        let end = next.min(elf.text_at(vaddr)?.file_end());
        let is_near = end.checked_sub(function.start)? <= MAX_OPEN_LEN && elf.text_at(function.start).is_some();
        is_near.then_some(Function { end, is_open: true, ..*function })
    }

    /// The functions that cover `vaddr`, the most trusted first.
    pub(crate) fn covering(&self, vaddr: u64) -> Vec<Function> {
        let after = self.list.partition_point(|function| function.start <= vaddr);
        let near = self.list.get(after.saturating_sub(MAX_NESTED)..after).unwrap_or_default();
        let mut found: Vec<_> = near.iter().filter(|function| vaddr < function.end).copied().collect();
        found.sort_by_key(|function| (function.source, function.start));
        found
    }

    /// Functions that start in `range`.
    pub(crate) fn starting_in(&self, range: Range<u64>) -> &[Function] {
        let first = self.list.partition_point(|function| function.start < range.start);
        let after = self.list.partition_point(|function| function.start < range.end);
        self.list.get(first..after).unwrap_or_default()
    }

    /// Starts of functions in `range`, each once.
    pub(crate) fn starts_in(&self, range: Range<u64>) -> &[u64] {
        let first = self.starts.partition_point(|start| *start < range.start);
        let after = self.starts.partition_point(|start| *start < range.end);
        self.starts.get(first..after).unwrap_or_default()
    }

    /// The start of the first function at or after `vaddr`.
    pub(crate) fn next_start(&self, vaddr: u64) -> Option<u64> {
        let index = self.list.partition_point(|function| function.start < vaddr);
        self.list.get(index).map(|function| function.start)
    }
}

fn starts(list: &[Function]) -> Vec<u64> {
    let mut starts: Vec<_> = list.iter().map(|function| function.start).collect();
    starts.dedup();
    starts
}

fn collect_symbols(elf: &Elf<'_>, limit: usize, list: &mut Vec<Function>) -> Result<(), PlanError> {
    for table in symbol_tables(elf) {
        for symbol in table.iter().filter(|symbol| is_function(symbol)) {
            let start: u64 = symbol.st_value(ENDIAN);
            let size: u64 = symbol.st_size(ENDIAN);
            let Some(end) = start.checked_add(size) else { continue };
            let source = if size == 0 { Source::OpenSymbol } else { Source::Symbol };
            push(list, Function::new(start..end, source), limit)?;
        }
    }
    Ok(())
}

/// Adds a function within the limit.
pub(crate) fn push(list: &mut Vec<Function>, function: Function, limit: usize) -> Result<(), PlanError> {
    if list.len() >= limit {
        return Err(PlanError::TooLarge);
    }
    list.push(function);
    Ok(())
}

/// Lets functions without a known end reach to the next start.
fn close_open(elf: &Elf<'_>, list: &mut [Function]) {
    let mut next = u64::MAX;
    let mut current = u64::MAX;
    for function in list.iter_mut().rev() {
        if function.start != current {
            next = current;
            current = function.start;
        }
        if function.is_open {
            let text_end = elf.text_at(function.start).map_or(function.start, |text| text.file_end());
            function.end = next.min(text_end).min(function.start.saturating_add(MAX_OPEN_LEN));
        }
    }
}
