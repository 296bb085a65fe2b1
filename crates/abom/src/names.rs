//! Names of the functions that hold sites, for reports.

use crate::elf::{Elf, Segment};
use crate::functions::{Functions, is_function, symbol_tables};
use crate::pclntab;
use crate::plan::{Limits, Name, PlanError, Site, Source};
use core::ops::Range;
use object::LittleEndian;
use object::elf;
use object::read::elf::{SectionHeader as _, Sym as _};

/// Names of the functions of a file.
pub struct Names<'a> {
    elf: Elf<'a>,
    functions: Functions,
}

impl<'a> Names<'a> {
    /// Reads the symbols of an ELF file.
    ///
    /// # Errors
    /// Those of [`crate::plan`].
    pub fn parse(file: &'a [u8], limits: &Limits) -> Result<Self, PlanError> {
        let elf = Elf::parse(file, limits)?;
        let functions = Functions::collect(&elf, limits)?;
        Ok(Self { elf, functions })
    }

    /// The name of the function whose code lies at `offset` of the file.
    pub fn at(&self, offset: u64) -> Option<&'a str> {
        let holds = |text: &&Segment<'_>| {
            offset.checked_sub(text.offset).is_some_and(|distance| distance < text.bytes.len() as u64)
        };
        let text = self.elf.text().find(holds)?;
        self.at_vaddr(text.vaddr.checked_add(offset - text.offset)?)
    }

    /// The name of the function whose code is to lie at `vaddr`.
    pub fn at_vaddr(&self, vaddr: u64) -> Option<&'a str> {
        let covering = self.functions.covering(vaddr);
        let by_table = covering.iter().find(|function| function.source == Source::Pclntab);
        let function = by_table.or(covering.first());
        let (start, source) = function.map_or((vaddr, Source::Call), |function| (function.start, function.source));
        let mut site = [Site::unpatched(vaddr, start, source)];
        resolve(&self.elf, &self.functions, &mut site);
        site.first()?.name(self.elf.file)
    }
}

const ENDIAN: LittleEndian = LittleEndian;
const MAX_NAME: usize = 512;
const MAX_ALIASES: usize = 16;
/// Most names given, so that symbols that all cover everything cost bounded time.
const MAX_WORK: usize = 1 << 20;

/// Fills in the names of `sites`, which are sorted.
pub(crate) fn resolve(elf: &Elf<'_>, functions: &Functions, sites: &mut [Site]) {
    if let Some(table) = pclntab::locate(elf) {
        for site in sites.iter_mut().filter(|site| site.source == Source::Pclntab) {
            let starting = functions.starting_in(site.function..site.function.saturating_add(1));
            let function = starting.iter().take(MAX_ALIASES).find(|function| function.source == Source::Pclntab);
            site.name = function.and_then(|function| pclntab::name(&table, function.record));
        }
    }
    let mut work = MAX_WORK;
    for table in symbol_tables(elf) {
        let strings = strings_offset(elf, table.string_section().0);
        for symbol in table.iter().filter(|symbol| is_function(symbol)) {
            let start: u64 = symbol.st_value(ENDIAN);
            let size: u64 = symbol.st_size(ENDIAN);
            let name = strings.and_then(|strings| strings.checked_add(u64::from(symbol.st_name(ENDIAN))));
            assign(elf.file, sites, start..start.saturating_add(size), name, &mut work);
        }
    }
}

/// Gives `name` to the sites in `range`, and to those of the function that starts there. Of several names, one
/// without leading underscores is what people know.
fn assign(file: &[u8], sites: &mut [Site], range: Range<u64>, name: Option<u64>, work: &mut usize) {
    let first = sites.partition_point(|site| site.vaddr < range.start);
    let Some(sites) = sites.get_mut(first..) else { return };
    let covered = sites.iter_mut().take_while(|site| site.vaddr < range.end || site.function == range.start);
    for site in covered.take(*work) {
        *work = work.saturating_sub(1);
        let is_poor = site.name(file).is_none_or(|name| name.starts_with('_'));
        let better = name.filter(|_| is_poor).and_then(|offset| name_at(file, offset));
        site.name = better.or(site.name);
    }
}

fn name_at(file: &[u8], offset: u64) -> Option<Name> {
    let bytes = file.get(usize::try_from(offset).ok()?..)?;
    let len = bytes.iter().take(MAX_NAME).position(|byte| *byte == 0).filter(|len| *len > 0)?;
    core::str::from_utf8(bytes.get(..len)?).ok()?;
    Some(Name { offset, len: u16::try_from(len).ok()? })
}

fn strings_offset(elf: &Elf<'_>, section: usize) -> Option<u64> {
    let header = elf.sections?.section(object::SectionIndex(section)).ok()?;
    (header.sh_type(ENDIAN) == elf::SHT_STRTAB).then(|| header.sh_offset(ENDIAN))
}
