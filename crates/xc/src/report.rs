//! The report of `--stats`.

use crate::args::StatsForm;
use crate::usage::Usage;
use abi::stats::{OUTSIDE_CALLS, SITE_LEAD, Stats, TrappedSite};
use serde_json::json;
use std::fmt::Write as _;

/// All that is told of a container that has ended.
pub struct Report {
    /// What the LibOS counted.
    pub stats: Stats,
    /// The function of each trapped site, where that is known.
    pub functions: Vec<Option<String>>,
    /// What the host counted.
    pub usage: Usage,
}

/// Prints the report on standard error.
pub fn print(report: &Report, form: StatsForm) {
    match form {
        StatsForm::Json => eprintln!("{}", as_json(report)),
        StatsForm::Text => print_text(report),
    }
}

/// Each trapped site with its function.
fn sites(report: &Report) -> impl Iterator<Item = (&TrappedSite, Option<&str>)> {
    let functions = report.functions.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    report.stats.trapped_sites.iter().zip(functions)
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

/// Microseconds that guests waited for the broker.
fn broker_micros(stats: &Stats) -> u64 {
    stats.broker_requests.iter().fold(0, |sum, &(.., micros)| sum.saturating_add(micros))
}

fn to_kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

/// Clock ticks in milliseconds.
fn to_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1)
}

fn host_name(number: u16) -> String {
    let call = abi::hostcall::HOST_CALLS.iter().find(|call| call.number == u32::from(number));
    call.map_or_else(|| number.to_string(), |call| call.name.to_string())
}

/// Most trapped sites that the text shows; JSON has more.
const SHOWN_SITES: usize = 12;

/// Most pairs of guest call and host call that the text shows; JSON has more.
const SHOWN_PAIRS: usize = 12;

/// Host calls by the guest's call, the busiest first: `read: preadv2 3, futex 1`.
fn by_guest(stats: &Stats) -> Vec<(String, Vec<(String, u64)>)> {
    let mut groups: Vec<(u16, Vec<(String, u64)>)> = Vec::new();
    for &(guest, host, count) in &stats.host_calls_by_guest {
        let pair = (host_name(host), count);
        match groups.iter_mut().find(|(of, _)| *of == guest) {
            Some((_, pairs)) => pairs.push(pair),
            None => groups.push((guest, vec![pair])),
        }
    }
    let name = |guest| if guest == OUTSIDE_CALLS { "outside calls".to_owned() } else { guest_name(guest) };
    groups.into_iter().map(|(guest, pairs)| (name(guest), pairs)).collect()
}

fn guest_name(number: u16) -> String {
    let row = xlibos::syscall::TABLE.get(usize::from(number)).copied().flatten();
    row.map_or_else(|| number.to_string(), |row| row.name.to_string())
}

fn request_name(kind: u8) -> String {
    abi::broker::REQUEST_NAMES.get(usize::from(kind)).map_or_else(|| kind.to_string(), ToString::to_string)
}

fn as_json(report: &Report) -> serde_json::Value {
    let (stats, usage) = (&report.stats, &report.usage);
    let map = |pairs: &[(u16, u64)], name: fn(u16) -> String| -> serde_json::Value {
        pairs.iter().map(|&(number, count)| (name(number), json!(count))).collect::<serde_json::Map<_, _>>().into()
    };
    let requests = |figure: fn(&(u8, u64, u64)) -> u64| -> serde_json::Map<_, _> {
        stats.broker_requests.iter().map(|request| (request_name(request.0), json!(figure(request)))).collect()
    };
    let by_guest = by_guest(stats).into_iter().map(|(guest, pairs)| {
        let pairs = pairs.into_iter().map(|(host, count)| (host, json!(count)));
        (guest, pairs.collect::<serde_json::Map<_, _>>().into())
    });
    let sites = sites(report).map(|(site, function)| {
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
        "patchedKib": to_kib(stats.patched.mapped),
        "patchedPrivateKib": to_kib(stats.patched.private),
        "withoutHostCall": stats.without_host_call,
        "firstInstructionNs": stats.first_instruction_ns,
        "hostCalls": map(&stats.host_calls, host_name),
        "guestCalls": map(&stats.guest_calls, guest_name),
        "unimplemented": map(&stats.unimplemented, guest_name),
        "hostCallsByGuestCall": by_guest.collect::<serde_json::Map<String, serde_json::Value>>(),
        "brokerRequests": requests(|&(_, count, _)| count),
        "brokerUs": requests(|&(.., micros)| micros),
        "brokerWaitUs": broker_micros(stats),
        "minorFaults": usage.minor_faults,
        "majorFaults": usage.major_faults,
        "userMs": to_ms(usage.user_ticks),
        "systemMs": to_ms(usage.system_ticks),
        "lockWaits": stats.lock_waits,
        "lockSleeps": stats.lock_sleeps,
        "forks": stats.forks,
        "execs": stats.execs,
        "arenaPeakBytes": stats.arena_peak,
    })
}

fn print_text(report: &Report) {
    let (stats, usage) = (&report.stats, &report.usage);
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
    for (guest, pairs) in by_guest(stats).into_iter().take(SHOWN_PAIRS) {
        let pairs: Vec<String> = pairs.into_iter().map(|(host, count)| format!("{host} {count}")).collect();
        eprintln!("  of {guest:<19} {}", pairs.join(", "));
    }
    let requests = stats.broker_requests.iter();
    let requests: Vec<String> =
        requests.map(|&(kind, count, micros)| format!("{} {count} ({micros} us)", request_name(kind))).collect();
    eprintln!("broker requests        {}", requests.join(", "));
    eprintln!("page faults            {} from memory, {} from files", usage.minor_faults, usage.major_faults);
    eprintln!(
        "processor time         {} ms own, {} ms host kernel",
        to_ms(usage.user_ticks),
        to_ms(usage.system_ticks)
    );
    eprintln!("lock waits, sleeps     {}, {}", stats.lock_waits, stats.lock_sleeps);
    eprintln!("abom                   {} us an exec", abom_micros(stats));
    let [mapped, private] = [stats.patched.mapped, stats.patched.private].map(to_kib);
    eprintln!("patched                {mapped} KiB of a process at most, {private} KiB of them its own");
    for (site, function) in sites(report).take(SHOWN_SITES) {
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
