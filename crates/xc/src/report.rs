//! The report of `--stats`.

use crate::args::StatsForm;
use abi::stats::{SITE_LEAD, Stats, TrappedSite};
use serde_json::json;
use std::fmt::Write as _;

/// Prints the report on standard error. `functions` names the function of each trapped site, where that is known.
pub fn print(stats: &Stats, functions: &[Option<String>], form: StatsForm) {
    match form {
        StatsForm::Json => eprintln!("{}", as_json(stats, functions)),
        StatsForm::Text => print_text(stats, functions),
    }
}

/// Each trapped site with its function.
fn sites<'a>(
    stats: &'a Stats,
    functions: &'a [Option<String>],
) -> impl Iterator<Item = (&'a TrappedSite, Option<&'a str>)> {
    let functions = functions.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    stats.trapped_sites.iter().zip(functions)
}

/// The bytes in hexadecimal, the instruction between bars where there are others.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let is_edge = bytes.len() > SITE_LEAD && (index == SITE_LEAD || index == SITE_LEAD + 2);
        let separator = if is_edge { " | " } else { " " };
        let _ = write!(text, "{}{byte:02x}", if index == 0 { "" } else { separator });
    }
    text
}

/// Microseconds of abom an exec.
fn abom_micros(stats: &Stats) -> f64 {
    let micros = stats.abom_ns as f64 / 1000.0 / stats.execs.max(1) as f64;
    (micros * 10.0).round() / 10.0
}

fn host_name(number: u16) -> String {
    let call = abi::hostcall::HOST_CALLS.iter().find(|call| call.number == u32::from(number));
    call.map_or_else(|| number.to_string(), |call| call.name.to_string())
}

/// Most trapped sites that the text shows; JSON has more.
const SHOWN_SITES: usize = 12;

fn guest_name(number: u16) -> String {
    let row = xlibos::syscall::TABLE.get(usize::from(number)).copied().flatten();
    row.map_or_else(|| number.to_string(), |row| row.name.to_string())
}

fn request_name(kind: u8) -> String {
    abi::broker::REQUEST_NAMES.get(usize::from(kind)).map_or_else(|| kind.to_string(), ToString::to_string)
}

fn as_json(stats: &Stats, functions: &[Option<String>]) -> serde_json::Value {
    let map = |pairs: &[(u16, u64)], name: fn(u16) -> String| -> serde_json::Value {
        pairs.iter().map(|&(number, count)| (name(number), json!(count))).collect::<serde_json::Map<_, _>>().into()
    };
    let requests: serde_json::Map<_, _> =
        stats.broker_requests.iter().map(|&(kind, count)| (request_name(kind), json!(count))).collect();
    let sites = sites(stats, functions).map(|(site, function)| {
        json!({
            "file": String::from_utf8_lossy(&site.file),
            "offset": site.offset,
            "function": function,
            "bytes": dump(&site.bytes),
            "count": site.count,
        })
    });
    json!({
        "jumps": stats.jumps,
        "jumpsByTier": stats.jumps_by_tier,
        "traps": stats.traps,
        "trappedSites": sites.collect::<Vec<_>>(),
        "abomUsAnExec": abom_micros(stats),
        "withoutHostCall": stats.without_host_call,
        "firstInstructionNs": stats.first_instruction_ns,
        "hostCalls": map(&stats.host_calls, host_name),
        "guestCalls": map(&stats.guest_calls, guest_name),
        "unimplemented": map(&stats.unimplemented, guest_name),
        "brokerRequests": requests,
        "brokerWaitUs": stats.broker_wait_us,
        "forks": stats.forks,
        "execs": stats.execs,
        "arenaPeakBytes": stats.arena_peak,
    })
}

fn print_text(stats: &Stats, functions: &[Option<String>]) {
    // The container's figures, and its names: nothing of them is certain.
    let calls = stats.jumps.saturating_add(stats.traps);
    let micros = stats.first_instruction_ns / 1000;
    eprintln!("calls                  {calls}");
    let [first, second, third] = stats.jumps_by_tier;
    let share = stats.jumps as f64 * 100.0 / (calls.max(1)) as f64;
    eprintln!("  by jump              {} ({share:.2} %; tiers {first}, {second}, {third})", stats.jumps);
    eprintln!("  by trap              {}", stats.traps);
    eprintln!("  without host call    {}", stats.without_host_call);
    eprintln!("first instruction      {}.{:03} ms", micros / 1000, micros % 1000);
    eprintln!("arena peak             {} KiB", stats.arena_peak / 1024);
    eprintln!("processes, programs    {}, {}", stats.forks, stats.execs);
    let host: Vec<String> = stats.host_calls.iter().map(|&(n, c)| format!("{} {c}", host_name(n))).collect();
    eprintln!("host calls             {}", host.join(", "));
    let requests: Vec<String> =
        stats.broker_requests.iter().map(|&(kind, c)| format!("{} {c}", request_name(kind))).collect();
    eprintln!("broker requests        {} ({} us)", requests.join(", "), stats.broker_wait_us);
    eprintln!("abom                   {} us an exec", abom_micros(stats));
    for (site, function) in sites(stats, functions).take(SHOWN_SITES) {
        let TrappedSite { offset, count, .. } = site;
        let name = if site.file.is_empty() { "memory".to_owned() } else { xkernel::loader::printable(&site.file) };
        let function = function.map_or_else(|| "?".to_owned(), |name| xkernel::loader::printable(name.as_bytes()));
        eprintln!("trapped                {count} at {name}+{offset:#x} in {function}: {}", dump(&site.bytes));
    }
    let missing: Vec<String> = stats.unimplemented.iter().map(|&(n, c)| format!("{} {c}", guest_name(n))).collect();
    if !missing.is_empty() {
        eprintln!("not implemented        {}", missing.join(", "));
    }
}
