//! `xc features`: JSON made from the tables that run.

use serde_json::{Value, json};
use xlibos::syscall::{Support, table::ROWS};

/// Prints the document.
///
/// # Errors
/// Standard output takes no more.
pub fn print() -> anyhow::Result<u8> {
    let host_calls: Vec<Value> = abi::hostcall::HOST_CALLS
        .iter()
        .map(|call| {
            let checks: Vec<String> = call.checks.iter().map(|check| format!("{check:?}")).collect();
            json!({"number": call.number, "name": call.name, "checks": checks, "why": call.why})
        })
        .collect();
    let system_calls: Vec<Value> = ROWS
        .iter()
        .map(|row| {
            let (support, missing) = match row.support {
                Support::Full => ("full", None),
                Support::Partial(missing) => ("partial", Some(missing)),
                Support::Absent => ("absent", None),
            };
            json!({"number": row.number, "name": row.name, "support": support, "missing": missing})
        })
        .collect();
    let document = json!({
        "hostCalls": host_calls,
        "brokerRequests": abi::broker::REQUEST_NAMES,
        "systemCalls": system_calls,
    });
    crate::answer(&format!("{document:#}")).map(|()| 0)
}
