//! Names of the functions that hold sites, for reports.

use crate::elf::Elf;
use crate::functions::{is_function, symbol_tables};
use crate::plan::{Name, Site, Source};
use crate::{functions, pclntab};
use object::LittleEndian;
use object::elf;
use object::read::elf::{SectionHeader as _, Sym as _};

const ENDIAN: LittleEndian = LittleEndian;
const MAX_NAME: usize = 512;

/// Fills in the names of `sites`, which are sorted.
pub(crate) fn resolve(elf: &Elf<'_>, functions: &functions::Functions, sites: &mut [Site]) {
    for site in sites.iter_mut().filter(|site| site.source == Source::Pclntab) {
        let start = functions.starting_in(site.function..site.function.saturating_add(1));
        let record = start.iter().find(|function| function.source == Source::Pclntab).map(|function| function.record);
        site.name = record.and_then(|record| pclntab::name(elf, record));
    }
    for table in symbol_tables(elf) {
        let strings = strings_offset(elf, table.string_section().0);
        for symbol in table.iter().filter(|symbol| is_function(symbol)) {
            let start: u64 = symbol.st_value(ENDIAN);
            let size: u64 = symbol.st_size(ENDIAN);
            let name = strings.and_then(|strings| strings.checked_add(u64::from(symbol.st_name(ENDIAN))));
            assign(elf.file, sites, start, start.saturating_add(size), name);
        }
    }
}

/// Gives `name` to the sites from `start` to `end`, and to those of the function that starts there.
fn assign(file: &[u8], sites: &mut [Site], start: u64, end: u64, name: Option<u64>) {
    let first = sites.partition_point(|site| site.vaddr < start);
    let Some(sites) = sites.get_mut(first..) else { return };
    let covered = sites.iter_mut().take_while(|site| site.vaddr < end || site.function == start);
    for site in covered.filter(|site| site.name.is_none()) {
        site.name = name.and_then(|offset| name_at(file, offset));
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
