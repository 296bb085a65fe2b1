//! /proc/sys. Values are those that the LibOS works with; none can be changed, as in a container without privileges.

use super::node::Node;
use crate::process::tree::PID_MAX;
use crate::syscall::system;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// Where a value comes from.
#[derive(Debug)]
pub(super) enum Value {
    Fixed(&'static str),
    Made(fn() -> String),
}

/// One file.
#[derive(Debug)]
pub(super) struct Setting {
    /// Path below /proc/sys.
    pub(super) path: &'static str,
    value: Value,
}

/// There is one of each.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Setting {}

const fn fixed(path: &'static str, text: &'static str) -> Setting {
    Setting { path, value: Value::Fixed(text) }
}

const fn made(path: &'static str, make: fn() -> String) -> Setting {
    Setting { path, value: Value::Made(make) }
}

/// In the order of their paths.
static TABLE: &[Setting] = &[
    fixed("fs/aio-max-nr", "65536"),
    fixed("fs/epoll/max_user_watches", "1048576"),
    fixed("fs/file-max", "9223372036854775807"),
    made("fs/file-nr", open_files),
    fixed("fs/inotify/max_queued_events", "16384"),
    fixed("fs/inotify/max_user_instances", "128"),
    fixed("fs/inotify/max_user_watches", "1048576"),
    fixed("fs/mqueue/msg_default", "10"),
    fixed("fs/mqueue/msg_max", "10"),
    fixed("fs/mqueue/msgsize_default", "8192"),
    fixed("fs/mqueue/msgsize_max", "8192"),
    fixed("fs/mqueue/queues_max", "256"),
    fixed("fs/nr_open", "1048576"),
    fixed("fs/overflowgid", "65534"),
    fixed("fs/overflowuid", "65534"),
    fixed("fs/pipe-max-size", "1048576"),
    fixed("fs/protected_hardlinks", "1"),
    fixed("fs/protected_symlinks", "1"),
    fixed("fs/suid_dumpable", "0"),
    fixed("kernel/arch", "x86_64"),
    fixed("kernel/cap_last_cap", "40"),
    fixed("kernel/core_pattern", "core"),
    fixed("kernel/core_uses_pid", "0"),
    fixed("kernel/dmesg_restrict", "1"),
    made("kernel/domainname", || text_of(system::domain_name())),
    made("kernel/hostname", || text_of(system::hostname())),
    fixed("kernel/keys/maxkeys", "200"),
    fixed("kernel/msgmax", "8192"),
    fixed("kernel/msgmnb", "16384"),
    fixed("kernel/msgmni", "1024"),
    fixed("kernel/ngroups_max", "65536"),
    made("kernel/osrelease", || system::RELEASE.into()),
    fixed("kernel/ostype", "Linux"),
    fixed("kernel/overflowgid", "65534"),
    fixed("kernel/overflowuid", "65534"),
    fixed("kernel/perf_event_paranoid", "3"),
    made("kernel/pid_max", || PID_MAX.to_string()),
    made("kernel/random/boot_id", || uuid(&boot_id())),
    fixed("kernel/random/entropy_avail", "256"),
    fixed("kernel/random/poolsize", "256"),
    made("kernel/random/uuid", || uuid(&random_id())),
    fixed("kernel/randomize_va_space", "2"),
    fixed("kernel/sem", "32000\t32000\t500\t4096"),
    fixed("kernel/shmall", "18446744073692774399"),
    fixed("kernel/shmmax", "9223372036854775807"),
    fixed("kernel/shmmni", "4096"),
    fixed("kernel/tainted", "0"),
    made("kernel/threads-max", || PID_MAX.to_string()),
    made("kernel/version", || system::VERSION.into()),
    fixed("net/core/rmem_default", "212992"),
    fixed("net/core/rmem_max", "212992"),
    fixed("net/core/somaxconn", "4096"),
    fixed("net/core/wmem_default", "212992"),
    fixed("net/core/wmem_max", "212992"),
    fixed("net/ipv4/ip_forward", "0"),
    fixed("net/ipv4/ip_local_port_range", "32768\t60999"),
    fixed("net/ipv4/ip_unprivileged_port_start", "1024"),
    fixed("vm/max_map_count", "65530"),
    fixed("vm/mmap_min_addr", "65536"),
    fixed("vm/overcommit_memory", "0"),
    fixed("vm/swappiness", "60"),
];

/// Position of the first file below a path, or of the file.
pub(super) fn index(path: &str) -> u64 {
    TABLE.iter().position(|setting| setting.path.starts_with(path)).unwrap_or(0) as u64
}

/// What lies in a directory, by its path; "" is /proc/sys itself.
pub(super) fn children(directory: &'static str) -> Vec<(&'static str, Node)> {
    let mut found: Vec<(&'static str, Node)> = Vec::new();
    for setting in TABLE {
        let below = setting.path.strip_prefix(directory);
        let below = if directory.is_empty() { below } else { below.and_then(|rest| rest.strip_prefix('/')) };
        let Some(below) = below else { continue };
        let (name, node) = match below.split_once('/') {
            None => (below, Node::Setting(setting)),
            Some((name, rest)) => {
                let path = setting.path.get(..setting.path.len() - rest.len() - 1).unwrap_or("");
                (name, Node::Settings(path))
            }
        };
        // Files of a directory stand beside each other.
        if found.last().is_none_or(|(last, _)| *last != name) {
            found.push((name, node));
        }
    }
    found
}

/// Its text.
pub(super) fn text(setting: &Setting) -> String {
    match setting.value {
        Value::Fixed(text) => format!("{text}\n"),
        Value::Made(make) => format!("{}\n", make()),
    }
}

fn text_of(bytes: Vec<u8>) -> String {
    // As Linux writes an empty domain name.
    if bytes.is_empty() { "(none)".into() } else { String::from_utf8_lossy(&bytes).into_owned() }
}

fn open_files() -> String {
    let tasks = crate::process::tree::collect_processes();
    let open: usize = tasks.iter().filter_map(|p| p.tasks().first().map(|task| task.files().collect().len())).sum();
    format!("{open}\t0\t9223372036854775807")
}

fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    crate::random::fill(&mut id);
    // Version 4, variant 1.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// One for the container's life.
fn boot_id() -> [u8; 16] {
    static ID: machine::sync::Mutex<Option<[u8; 16]>> = machine::sync::Mutex::new(None);
    *ID.lock().get_or_insert_with(random_id)
}

fn uuid(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |range| hex.get(range).unwrap_or("");
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_order_and_each_directory_lists_a_name_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].path < pair[1].path));
        let names = |directory| children(directory).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(""), ["fs", "kernel", "net", "vm"]);
        assert_eq!(names("net"), ["core", "ipv4"]);
        assert_eq!(names("kernel/random"), ["boot_id", "entropy_avail", "poolsize", "uuid"]);
        assert_eq!(children("net").first().map(|(_, node)| *node), Some(Node::Settings("net/core")));
    }

    #[test]
    fn a_uuid_has_its_version_and_length() {
        let text = uuid(&random_id());
        assert_eq!((text.len(), text.as_bytes()[14]), (36, b'4'));
    }
}
