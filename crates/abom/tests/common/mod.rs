//! Builds small ELF files around a few bytes of code.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its own part")]

use abom::{Limits, Plan, Site};

/// Address and file offset of the text.
pub const TEXT: u64 = 0x1000;
/// Address and file offset of the read-only data.
pub const DATA: u64 = 0x2000;

const SYMBOL_LEN: usize = 24;

/// A shared object under construction: a page of headers, one of text, one of data, then symbols.
#[derive(Default)]
pub struct Object {
    text: Vec<u8>,
    data: Vec<u8>,
    symbols: Vec<(String, u64, u64)>,
}

impl Object {
    /// An object without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a function with a sized symbol.
    pub fn function(self, name: &str, code: &[u8]) -> Self {
        let size = code.len() as u64;
        self.symbol(name, size).bytes(code)
    }

    /// Adds a symbol at the end of the text so far.
    pub fn symbol(mut self, name: &str, size: u64) -> Self {
        self.symbols.push((name.to_owned(), TEXT + self.text.len() as u64, size));
        self
    }

    /// Appends bytes that belong to no function.
    pub fn bytes(mut self, code: &[u8]) -> Self {
        self.text.extend_from_slice(code);
        self
    }

    /// Appends read-only data.
    pub fn data(mut self, bytes: &[u8]) -> Self {
        self.data.extend_from_slice(bytes);
        self
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut strings = vec![0_u8];
        let mut symbols = vec![0_u8; SYMBOL_LEN];
        for (name, value, size) in &self.symbols {
            symbols.extend_from_slice(&(strings.len() as u32).to_le_bytes());
            symbols.extend_from_slice(&[0x12, 0, 1, 0]);
            symbols.extend_from_slice(&value.to_le_bytes());
            symbols.extend_from_slice(&size.to_le_bytes());
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0";
        let symbols_at = 0x3000;
        let strings_at = symbols_at + symbols.len() as u64;
        let names_at = strings_at + strings.len() as u64;
        let sections_at = (names_at + names.len() as u64).next_multiple_of(8);

        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
        words(&mut file, &[TEXT, 64, sections_at]);
        file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 64, 0, 5, 0, 4, 0]);
        let segments = [(4_u32, 0_u64, 64 + 3 * 56), (5, TEXT, self.text.len()), (4, DATA, self.data.len() + 8)];
        for (flags, at, len) in segments {
            file.extend_from_slice(&[1, 0, 0, 0]);
            file.extend_from_slice(&flags.to_le_bytes());
            words(&mut file, &[at, at, at, len as u64, len as u64, 0x1000]);
        }
        place(&mut file, TEXT, &self.text);
        place(&mut file, DATA, &self.data);
        place(&mut file, symbols_at, &symbols);
        place(&mut file, strings_at, &strings);
        place(&mut file, names_at, names);
        place(&mut file, sections_at, &[0; 64]);
        let text_len = self.text.len() as u64;
        section(&mut file, [1, 1], [6, TEXT, TEXT, text_len], [0, 0], [16, 0]);
        section(&mut file, [7, 2], [0, 0, symbols_at, symbols.len() as u64], [3, 1], [8, 24]);
        section(&mut file, [15, 3], [0, 0, strings_at, strings.len() as u64], [0, 0], [1, 0]);
        section(&mut file, [23, 3], [0, 0, names_at, names.len() as u64], [0, 0], [1, 0]);
        file
    }

    /// The file and its plan.
    pub fn plan(&self) -> (Vec<u8>, Plan) {
        let file = self.build();
        let plan = abom::plan(&file, &Limits::default()).expect("plan");
        (file, plan)
    }

    /// The plan's only site.
    pub fn only_site(&self) -> (Plan, Site) {
        let (_, plan) = self.plan();
        assert_eq!(plan.sites.len(), 1, "{:?}", plan.sites);
        let site = plan.sites[0];
        (plan, site)
    }
}

/// The patch that starts at `vaddr`.
pub fn patch_at(plan: &Plan, vaddr: u64) -> Vec<u8> {
    let patch = plan.patches.iter().find(|patch| patch.vaddr == vaddr).expect("patch");
    patch.bytes.to_vec()
}

/// Target of a `jmp rel32` or `jmp rel8` that lies at `vaddr`.
pub fn jump_target(code: &[u8], vaddr: u64) -> u64 {
    match code {
        [0xe9, a, b, c, d, ..] => (vaddr + 5).wrapping_add_signed(i32::from_le_bytes([*a, *b, *c, *d]).into()),
        [0xeb, distance, ..] => (vaddr + 2).wrapping_add_signed(distance.cast_signed().into()),
        _ => panic!("no jump: {code:02x?}"),
    }
}

/// The site's stub.
pub fn stub<'a>(plan: &'a Plan, site: &Site) -> &'a [u8] {
    let start = usize::try_from(site.stub_start - plan.stub_vaddr).expect("offset");
    let end = usize::try_from(site.stub_end - plan.stub_vaddr).expect("offset");
    &plan.stubs[start..end]
}

fn words(file: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        file.extend_from_slice(&word.to_le_bytes());
    }
}

fn place(file: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).expect("offset");
    file.resize(file.len().max(at), 0);
    file.truncate(at);
    file.extend_from_slice(bytes);
}

fn section(file: &mut Vec<u8>, head: [u32; 2], body: [u64; 4], link: [u32; 2], tail: [u64; 2]) {
    for word in head {
        file.extend_from_slice(&word.to_le_bytes());
    }
    words(file, &body);
    for word in link {
        file.extend_from_slice(&word.to_le_bytes());
    }
    words(file, &tail);
}
