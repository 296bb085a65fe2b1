//! The budgets: figures a package, caps a file and a function, and the whole against its limits.

use super::Finding;
use super::duplicate;
use super::function::{Function, Measure};
use super::safety::Safety;
use super::source::Source;
use std::collections::{BTreeMap, HashSet};

const FILE_CAP: usize = 800;
const FUNCTION_CAP: usize = 60;
const HANDLER_CAP: usize = 40;
const NESTING_CAP: usize = 3;
const PARAMETER_CAP: usize = 5;

/// Where the rows say which functions are handlers.
const TABLE: &str = "crates/xlibos/src/syscall/table.rs";

/// Figures of some files. Tests are in none of them, but for `unsafe`.
#[derive(Default)]
struct Figures {
    files: Vec<usize>,
    functions: Vec<usize>,
    handlers: Vec<usize>,
    nesting: usize,
    parameters: usize,
    code: usize,
    comments: usize,
    docs: usize,
    unwraps: usize,
    blocks: usize,
    explained: usize,
    /// Lines of code, trimmed, a file.
    texts: Vec<Vec<String>>,
}

/// Measures the files, prints the table, and tells what is over a cap or a limit.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let handlers = sources.iter().find(|s| s.path == TABLE).map(handlers).unwrap_or_default();
    let mut packages: BTreeMap<&str, Figures> = BTreeMap::new();
    let mut findings = Vec::new();
    for source in sources {
        let figures = packages.entry(&source.package).or_default();
        let safety = Safety::of(source);
        figures.blocks += safety.blocks;
        figures.explained += safety.explained;
        findings.extend(safety.findings);
        figures.add(source, &handlers, &mut findings);
    }
    print_header();
    let mut whole = Figures::default();
    for (name, figures) in packages {
        figures.print(name);
        whole.merge(figures);
    }
    whole.print("all");
    findings.extend(whole.check_limits());
    findings
}

/// `(file, function)` of each row: `290 eventfd2(…) -> Fd = super::event::eventfd2, Full;`.
fn handlers(table: &Source) -> HashSet<(String, String)> {
    let paths = table.lines.iter().filter_map(|line| line.split_once(" = ")?.1.split([',', ';']).next());
    let split = paths.filter_map(|path| path.rsplit_once("::"));
    split.map(|(module, name)| (module.rsplit("::").next().unwrap_or(module).to_owned(), name.to_owned())).collect()
}

fn is_handler(source: &Source, function: &Function, handlers: &HashSet<(String, String)>) -> bool {
    let Some(inside) = source.path.strip_prefix("crates/xlibos/src/syscall/") else { return false };
    let module = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    handlers.contains(&(module.to_owned(), function.name.clone()))
}

impl Figures {
    fn add(&mut self, source: &Source, handlers: &HashSet<(String, String)>, findings: &mut Vec<Finding>) {
        let measure = Measure::of(source);
        let (mut length, mut text) = (0, Vec::new());
        for (index, line) in source.lines.iter().enumerate() {
            if source.is_test || measure.is_test_line(index + 1) {
                continue;
            }
            length += 1;
            match line.trim() {
                "" => {}
                doc if doc.starts_with("///") || doc.starts_with("//!") => self.docs += 1,
                comment if comment.starts_with("//") => self.comments += 1,
                code => text.push(code.to_owned()),
            }
        }
        let capped = if source.is_test { source.lines.len() } else { length };
        if capped > FILE_CAP && !source.is_excused() {
            let message = format!("file of {capped} lines, cap {FILE_CAP}");
            findings.push(Finding { place: source.path.clone(), message });
        }
        if source.is_test {
            return;
        }
        self.files.push(length);
        self.code += text.len();
        self.texts.push(text);
        self.unwraps += measure.unwraps;
        for function in &measure.functions {
            let is_handler = is_handler(source, function, handlers);
            findings.extend(over_cap(source, function, is_handler));
            self.add_function(function, is_handler);
        }
    }

    fn add_function(&mut self, function: &Function, is_handler: bool) {
        self.functions.push(function.length);
        self.nesting = self.nesting.max(function.nesting);
        if is_handler {
            self.handlers.push(function.length);
        } else {
            self.parameters = self.parameters.max(function.parameters);
        }
    }

    fn merge(&mut self, other: Self) {
        self.files.extend(other.files);
        self.functions.extend(other.functions);
        self.handlers.extend(other.handlers);
        self.nesting = self.nesting.max(other.nesting);
        self.parameters = self.parameters.max(other.parameters);
        self.code += other.code;
        self.comments += other.comments;
        self.docs += other.docs;
        self.unwraps += other.unwraps;
        self.blocks += other.blocks;
        self.explained += other.explained;
        self.texts.extend(other.texts);
    }

    fn print(&self, name: &str) {
        let at = |values: &[usize], percent| percentile(values, percent);
        println!(
            "{name:<20} {:>5} {:>6} {:>15} {:>15} {:>13} {:>4} {:>4} {:>4}% {:>4}% {:>5} {:>5}% {:>6.1} {:>5.1}%",
            self.files.len(),
            self.code,
            format!("{} {} {}", at(&self.files, 50), at(&self.files, 95), at(&self.files, 100)),
            format!("{} {} {}", at(&self.functions, 50), at(&self.functions, 95), at(&self.functions, 100)),
            format!("{} {}", at(&self.handlers, 50), at(&self.handlers, 100)),
            self.nesting,
            self.parameters,
            percent(self.comments, self.code),
            percent(self.docs, self.code),
            self.blocks,
            percent(self.explained, self.blocks),
            self.unwraps_a_kloc(),
            self.repeated_percent(),
        );
    }

    /// The limits on the whole, where a single place is not at fault.
    fn check_limits(&self) -> Vec<Finding> {
        let limits = [
            ("lines a file, median", percentile(&self.files, 50), 150),
            ("lines a file, 95 of 100", percentile(&self.files, 95), 500),
            ("lines a function, 95 of 100", percentile(&self.functions, 95), 40),
            ("lines a handler, median", percentile(&self.handlers, 50), 12),
        ];
        let mut over: Vec<String> = Vec::new();
        for (what, found, limit) in limits {
            if found > limit {
                over.push(format!("{what}: {found}, limit {limit}"));
            }
        }
        if self.unwraps_a_kloc() > 1.0 {
            over.push(format!("unwrap and expect a thousand lines: {:.1}, limit 1", self.unwraps_a_kloc()));
        }
        if self.repeated_percent() > 4.0 {
            over.push(format!("lines in repeated blocks of 8: {:.1} %, limit 4 %", self.repeated_percent()));
        }
        over.into_iter().map(|message| Finding { place: "all".to_owned(), message }).collect()
    }

    fn unwraps_a_kloc(&self) -> f64 {
        share(self.unwraps, self.code) * 1000.0
    }

    fn repeated_percent(&self) -> f64 {
        let (lines, repeated) = duplicate::count(&self.texts);
        share(repeated, lines) * 100.0
    }
}

fn over_cap(source: &Source, function: &Function, is_handler: bool) -> Vec<Finding> {
    if function.is_excused {
        return Vec::new();
    }
    let length_cap = if is_handler { HANDLER_CAP } else { FUNCTION_CAP };
    // A handler's parameters are those of its call.
    let parameter_cap = if is_handler { usize::MAX } else { PARAMETER_CAP };
    let figures = [
        ("lines", function.length, length_cap),
        ("levels of nesting", function.nesting, NESTING_CAP),
        ("parameters", function.parameters, parameter_cap),
    ];
    let over = figures.into_iter().filter(|(_, found, cap)| found > cap);
    over.map(|(what, found, cap)| Finding {
        place: format!("{}:{}", source.path, function.line),
        message: format!("{}: {found} {what}, cap {cap}", function.name),
    })
    .collect()
}

fn print_header() {
    println!(
        "{:<20} {:>5} {:>6} {:>15} {:>15} {:>13} {:>4} {:>4} {:>5} {:>5} {:>5} {:>6} {:>6} {:>6}",
        "package",
        "files",
        "code",
        "file 50 95 max",
        "fn 50 95 max",
        "handler 50 max",
        "nest",
        "args",
        "comm",
        "doc",
        "unsf",
        "SAFETY",
        "unw/k",
        "dup8"
    );
}

fn percentile(values: &[usize], percent: usize) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}

/// Nothing of nothing is everything.
fn percent(part: usize, whole: usize) -> usize {
    (part * 100).checked_div(whole).unwrap_or(100)
}

fn share(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if whole == 0 { 0.0 } else { number(part) / number(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&[Source::parse(path, text).unwrap()]).iter().map(ToString::to_string).collect()
    }

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    call();\n".repeat(lines - 2))
    }

    #[test]
    fn function_over_the_cap_needs_a_reason() {
        let path = "crates/abi/src/a.rs";
        let excused = format!("// budget: one honest match\n{}", function_of(61));
        assert!(messages(path, &function_of(61)).contains(&format!("{path}:1: long: 61 lines, cap 60")));
        assert!(!messages(path, &excused).iter().any(|m| m.contains("cap")));
        assert!(!messages(path, &function_of(60)).iter().any(|m| m.contains("cap")));
    }

    #[test]
    fn handlers_have_a_cap_of_their_own_and_may_take_six_arguments() {
        let table = Source::parse(TABLE, "// 9 mmap(a: u64) -> u64 = super::mm::mmap, Full;\n").unwrap();
        let text = format!("fn mmap(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {{\n{}}}", "  call();\n".repeat(40));
        let file = Source::parse("crates/xlibos/src/syscall/mm.rs", &text).unwrap();
        let findings: Vec<String> = check(&[table, file]).iter().map(ToString::to_string).collect();
        assert!(findings.contains(&"crates/xlibos/src/syscall/mm.rs:1: mmap: 42 lines, cap 40".to_owned()));
        assert!(!findings.iter().any(|m| m.contains("parameters")));
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        assert_eq!([0, 50, 95, 100].map(|p| percentile(&[4, 1, 3, 2], p)), [1, 2, 4, 4]);
        assert_eq!(percentile(&[], 50), 0);
    }
}
