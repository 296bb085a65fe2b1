//! What the host tells of itself: texts, which the checks judge.

use std::path::Path;
use xkernel::cgroup::Group;

/// Texts of files, and a few answers of calls. None where the host does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Whether the caller is root.
    pub(super) is_root: bool,
    /// uname(2), release and machine.
    pub(super) release: String,
    pub(super) machine: String,
    /// /proc/self/auxv.
    pub(super) auxv: Vec<u8>,
    /// /proc/self/status.
    pub(super) status: Option<String>,
    /// /proc/self/limits.
    pub(super) limits: Option<String>,
    /// /proc/self/mountinfo.
    pub(super) mountinfo: Option<String>,
    /// /proc/meminfo.
    pub(super) meminfo: Option<String>,
    /// Whether /proc is that of the caller's pid namespace.
    pub(super) is_own_proc: bool,
    /// Whether the caller has ids in its user namespace.
    pub(super) has_ids: bool,
    /// Whether /proc/self/ns/user is there.
    pub(super) has_user_namespaces: bool,
    /// Why a container gets no control group that bounds its memory; None where it gets one.
    pub(super) no_memory_group: Option<String>,
    /// Whether /tmp is a directory.
    pub(super) has_tmp: bool,
    /// Files of /proc/sys by path, and two of /sys.
    pub(super) settings: Vec<(String, String)>,
}

/// Settings that checks look at.
const SETTINGS: [&str; 14] = [
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/seccomp/actions_avail",
    "kernel/unprivileged_userns_clone",
    "user/max_ipc_namespaces",
    "user/max_mnt_namespaces",
    "user/max_net_namespaces",
    "user/max_pid_namespaces",
    "user/max_user_namespaces",
    "user/max_uts_namespaces",
    "vm/max_map_count",
    "vm/memfd_noexec",
    "vm/mmap_min_addr",
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
];
/// The host's clock, and SELinux.
pub(super) const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
pub(super) const SELINUX: &str = "/sys/fs/selinux/enforce";

fn text(path: &str) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the maps of the user namespace hold the caller's ids; true where they do not tell.
fn has_ids() -> bool {
    let ids = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    let maps = ["/proc/self/uid_map", "/proc/self/gid_map"].map(text);
    ids.iter().zip(&maps).all(|(id, map)| map.as_ref().is_none_or(|map| map_holds(map, u64::from(*id))))
}

/// Lines of first id inside, first id outside and count: user_namespaces(7).
fn map_holds(map: &str, id: u64) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (first, count) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
        (first..first.saturating_add(count)).contains(&id)
    })
}

impl Facts {
    pub(super) fn of_host() -> Self {
        let uname = rustix::system::uname();
        let sys = |name: &str| text(&format!("/proc/sys/{name}")).map(|text| (name.to_owned(), text));
        let absolute = |path: &str| text(path).map(|text| (path.to_owned(), text));
        Self {
            is_root: rustix::process::geteuid().is_root(),
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            auxv: std::fs::read("/proc/self/auxv").unwrap_or_default(),
            status: text("/proc/self/status"),
            limits: text("/proc/self/limits"),
            mountinfo: text("/proc/self/mountinfo"),
            meminfo: text("/proc/meminfo"),
            is_own_proc: xkernel::sandbox::is_own_proc(),
            has_ids: has_ids(),
            has_user_namespaces: Path::new("/proc/self/ns/user").exists(),
            no_memory_group: Group::attempt().err().map(|error| error.to_string()),
            has_tmp: Path::new("/tmp").is_dir(),
            settings: SETTINGS
                .iter()
                .filter_map(|name| sys(name))
                .chain([CLOCK, SELINUX].iter().filter_map(|p| absolute(p)))
                .collect(),
        }
    }

    /// A setting without white space around it.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, text)| text.trim())
    }

    /// A setting that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.setting(name)?.parse().ok()
    }

    /// A line of /proc/self/status.
    pub(super) fn status_line(&self, name: &str) -> Option<&str> {
        self.status.as_ref()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// A line of /proc/meminfo in bytes.
    pub(super) fn memory(&self, name: &str) -> Option<u64> {
        let line = self.meminfo.as_ref()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        kib.checked_mul(1024)
    }
}

#[cfg(test)]
impl Facts {
    /// A host on which nothing is to be mended.
    pub(super) fn good() -> Self {
        let setting = |name: &str, text: &str| (name.to_owned(), format!("{text}\n"));
        let limit = |name: &str, soft: &str, hard: &str| format!("{name:<25} {soft:<20} {hard:<20} units\n");
        Self {
            is_root: false,
            release: "6.1.0-18-amd64".into(),
            machine: "x86_64".into(),
            auxv: [26_u64, 2, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect(),
            status: Some("Name:\txc\nSeccomp:\t0\n".into()),
            limits: Some(
                [
                    limit("Max file size", "unlimited", "unlimited"),
                    limit("Max data size", "unlimited", "unlimited"),
                    limit("Max processes", "96000", "96000"),
                    limit("Max open files", "1024", "1048576"),
                    limit("Max address space", "unlimited", "unlimited"),
                ]
                .concat(),
            ),
            mountinfo: Some(
                "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".into(),
            ),
            meminfo: Some(
                "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\nCommitLimit: 6000000 kB\nCommitted_AS: 1 kB\n".into(),
            ),
            is_own_proc: true,
            has_ids: true,
            has_user_namespaces: true,
            no_memory_group: None,
            has_tmp: true,
            settings: vec![
                setting("kernel/apparmor_restrict_unprivileged_userns", "0"),
                setting("kernel/seccomp/actions_avail", "kill_process kill_thread trap errno trace log allow"),
                setting("kernel/unprivileged_userns_clone", "1"),
                setting("user/max_user_namespaces", "30000"),
                setting("vm/max_map_count", "65530"),
                setting("vm/overcommit_memory", "0"),
                setting(CLOCK, "tsc"),
            ],
        }
    }

    /// The same with a setting changed.
    pub(super) fn with(mut self, name: &str, text: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.into(), format!("{text}\n")));
        self
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_looked_up_in_all_lines_of_a_map() {
        let holds = |id| super::map_holds("         0       1000          1\n   5     100000  10\n", id);
        assert_eq!([0, 1, 5, 14, 15].map(holds), [true, false, true, true, false]);
        assert!(!super::map_holds("", 65534) && super::map_holds("0 0 4294967295\n", 65534));
    }
}
