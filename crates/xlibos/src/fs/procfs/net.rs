//! /proc/PID/net: proc_pid_net(5). Sockets are those that processes have open; the one interface is `lo`, which carries
//! no packets here, so that its counters stay zero.

use crate::fs::file::FileOps as _;
use crate::net::options::Value;
use crate::net::socket::{Socket, SocketFile, Type, family};
use crate::process::tree;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write as _;

/// Its files.
pub(super) const FILES: [&str; 15] = [
    "arp",
    "dev",
    "if_inet6",
    "ipv6_route",
    "netlink",
    "packet",
    "raw",
    "raw6",
    "route",
    "sockstat",
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "unix",
];

const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
";
const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
const IF_INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
const IPV6_ROUTE: &str = "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n";
const NETLINK: &str = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
const PACKET: &str = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";
const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n";
const QUEUES: &str = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

/// A file's text.
pub(super) fn text(name: &str) -> String {
    match name {
        "arp" => ARP.into(),
        "dev" => DEV.into(),
        "if_inet6" => IF_INET6.into(),
        "ipv6_route" => IPV6_ROUTE.into(),
        "netlink" => NETLINK.into(),
        "packet" => PACKET.into(),
        "route" => format!("{ROUTE:<127}\n"),
        "sockstat" => sockstat(),
        "unix" => unix(),
        "raw" => format!("  sl  local_address rem_address   {QUEUES} ref pointer drops\n"),
        "tcp" => {
            let head = format!("  sl  local_address rem_address   {QUEUES}");
            format!("{head:<149}\n{}", table(family::INET, Type::Stream))
        }
        "udp" => {
            let head = format!("   sl  local_address rem_address   {QUEUES} ref pointer drops");
            format!("{head:<127}\n{}", table(family::INET, Type::Datagram))
        }
        _ => {
            let (tail, kind) = if name == "tcp6" { ("", Type::Stream) } else { (" ref pointer drops", Type::Datagram) };
            let head = format!("  sl  {:<38}{:<39}{QUEUES}{tail}\n", "local_address", "remote_address");
            if name == "raw6" { head } else { head + &table(family::INET6, kind) }
        }
    }
}

/// An open socket: itself, and the user of a process that has it.
struct Open {
    socket: Arc<dyn Socket>,
    uid: u32,
}

/// By inode number.
fn collect() -> BTreeMap<u64, Open> {
    let mut all = BTreeMap::new();
    for task in tree::collect_processes().iter().flat_map(|process| process.tasks()) {
        let uid = task.creds().fsuid;
        for (_, file) in task.files().collect() {
            let Some(found) = file.downcast::<SocketFile>() else { continue };
            let ino = found.stat().map_or(0, |stat| stat.ino);
            all.entry(ino).or_insert_with(|| Open { socket: Arc::clone(found.socket()), uid });
        }
    }
    all
}

fn is_of(open: &Open, family: u16, kind: Type) -> bool {
    let identity = open.socket.identity();
    identity.family == family && identity.kind == kind
}

/// Address and port of a `struct sockaddr_in` or `sockaddr_in6`, each word as the machine has it. Zeros for none.
fn address(bytes: Option<&[u8]>, family: u16) -> String {
    let (at, words) = if family == family::INET { (4, 1) } else { (8, 4) };
    let byte = |at: usize| bytes.and_then(|bytes| bytes.get(at).copied()).unwrap_or(0);
    let word = |n: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(at + n * 4 + i)));
    let ip: String = (0..words).map(|n| format!("{:08X}", word(n))).collect();
    format!("{ip}:{:04X}", u16::from_be_bytes([byte(2), byte(3)]))
}

/// TCP_INFO begins with the state.
fn state_of(socket: &dyn Socket, has_peer: bool) -> u8 {
    const IPPROTO_TCP: u32 = 6;
    const TCP_INFO: u32 = 11;
    match socket.option(IPPROTO_TCP, TCP_INFO) {
        Ok(Value::Bytes(info)) if socket.identity().kind == Type::Stream => info.first().copied().unwrap_or(7),
        _ if has_peer => 1,
        _ => 7,
    }
}

/// Those that have a port.
fn table(family: u16, kind: Type) -> String {
    let mut out = String::new();
    for (ino, open) in collect().iter().filter(|(_, open)| is_of(open, family, kind)) {
        let local = open.socket.local_address().ok();
        let has_port = local.as_ref().is_some_and(|bytes| bytes.get(2..4).is_some_and(|port| port != [0, 0]));
        if !has_port {
            continue;
        }
        let peer = open.socket.peer_address().ok();
        let state = state_of(&*open.socket, peer.is_some());
        let (from, to) = (address(local.as_deref(), family), address(peer.as_deref(), family));
        let waiting = open.socket.readable_bytes();
        let number = out.lines().count();
        let (width, tail) = if kind == Type::Stream { (4, "100 0 0 10 0") } else { (5, "0") };
        let line = format!(
            "{number:>width$}: {from} {to} {state:02X} 00000000:{waiting:08X} 00:00000000 00000000 {:>5}        0 {ino} 2 0000000000000000 {tail}",
            open.uid,
        );
        let width = if kind == Type::Stream && family == family::INET { 149 } else { 127 };
        let _ = writeln!(out, "{line:<width$}");
    }
    out
}

fn unix() -> String {
    const ACCEPTS: u32 = 1 << 16;
    let mut out = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    for (ino, open) in collect().iter().filter(|(_, open)| open.socket.identity().family == family::UNIX) {
        let flags = if open.socket.is_listening() { ACCEPTS } else { 0 };
        let state = if open.socket.peer_address().is_ok() { 3 } else { 1 };
        let kind = open.socket.identity().kind.number();
        let _ = write!(out, "0000000000000000: 00000002 00000000 {flags:08X} {kind:04X} {state:02X} {ino:>5}");
        let local = open.socket.local_address().unwrap_or_default();
        let name = local.get(2..).unwrap_or(&[]);
        let shown = match name.split_first() {
            // An abstract name begins with a NUL, and may have others.
            Some((0, rest)) => Some([b"@", rest].concat()),
            Some(_) => Some(name.split(|byte| *byte == 0).next().unwrap_or(name).to_vec()),
            None => None,
        };
        if let Some(shown) = shown {
            let _ = write!(out, " {}", String::from_utf8_lossy(&shown).replace('\0', "@"));
        }
        out.push('\n');
    }
    out
}

fn sockstat() -> String {
    let all = collect();
    let count = |kind: Type| {
        let of = |open: &&Open| is_of(open, family::INET, kind) || is_of(open, family::INET6, kind);
        all.values().filter(of).count()
    };
    let (used, tcp, udp) = (all.len(), count(Type::Stream), count(Type::Datagram));
    format!(
        "sockets: used {used}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{address, text};
    use crate::net::socket::family;

    #[test]
    fn addresses_are_words_of_the_machine() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1];
        assert_eq!(address(Some(&v4), family::INET), "0100007F:1F90");
        let mut v6 = [0; 28];
        (v6[0], v6[3], v6[23]) = (10, 22, 1);
        assert_eq!(address(Some(&v6), family::INET6), "00000000000000000000000001000000:0016");
        assert_eq!(address(None, family::INET), "00000000:0000");
    }

    #[test]
    fn headings_are_as_long_as_those_of_linux() {
        let first = |name| text(name).lines().next().map(str::len);
        assert_eq!([first("tcp"), first("udp"), first("route")], [Some(149), Some(127), Some(127)]);
    }
}
