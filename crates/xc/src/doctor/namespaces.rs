//! Namespaces, the place of the empty root, and cgroups.

use super::Check;
use super::facts::Facts;
use std::path::Path;
use xkernel::mountinfo;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut all = vec![user_namespaces(facts), ordinary_users(facts)];
    all.extend([other_namespaces(facts), empty_root(facts), cgroups(facts), memory_limit(facts)]);
    all
}

fn user_namespaces(facts: &Facts) -> Check {
    const NAME: &str = "user namespaces";
    if !facts.has_user_namespaces {
        return Check::missing(NAME, "the kernel has none", "boot a kernel with CONFIG_USER_NS");
    }
    if is_chroot(facts) {
        let mend = "run xc outside of the chroot, on its directory: xc run --rootfs DIR";
        return Check::missing(NAME, "/ is no mount: in a chroot the kernel makes none", mend);
    }
    if !facts.has_ids {
        let mend = "map ids in the user namespace that xc is started in (unshare -Ur): without them none is made in it";
        return Check::missing(NAME, "the caller has no ids in its own user namespace", mend);
    }
    match facts.number("user/max_user_namespaces") {
        Some(0) => Check::missing(NAME, "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"),
        Some(most) => Check::ok(NAME, format!("up to {most} a user")),
        None => Check::ok(NAME, "the kernel has them"),
    }
}

/// user_namespaces(7), EPERM. Mounts above the caller's root are not shown.
fn is_chroot(facts: &Facts) -> bool {
    let mounts = facts.mountinfo.as_ref().map(|table| mountinfo::parse(table.as_bytes()));
    mounts.is_some_and(|mounts| mounts.iter().all(|mount| mount.target != Path::new("/")))
}

/// Without them only root can run containers: as root this is a warning.
fn ordinary_users(facts: &Facts) -> Check {
    const NAME: &str = "ordinary users";
    let refused = |found: &str, mend: &str| {
        if facts.is_root { Check::warning(NAME, found, mend) } else { Check::missing(NAME, found, mend) }
    };
    if facts.number("kernel/unprivileged_userns_clone") == Some(0) {
        return refused(
            "kernel.unprivileged_userns_clone is 0: only root makes user namespaces",
            "sysctl -w kernel.unprivileged_userns_clone=1, or run xc as root",
        );
    }
    if facts.number("kernel/apparmor_restrict_unprivileged_userns").is_some_and(|value| value != 0) {
        return refused(
            "AppArmor gives user namespaces of ordinary users no rights (kernel.apparmor_restrict_unprivileged_userns)",
            "load an AppArmor profile with `userns,` for xc, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    Check::ok(NAME, "may make user namespaces")
}

fn other_namespaces(facts: &Facts) -> Check {
    const NAME: &str = "other namespaces";
    let kinds = ["ipc", "mnt", "net", "pid", "uts"];
    let none = |kind: &&str| facts.number(&format!("user/max_{kind}_namespaces")) == Some(0);
    let lacking: Vec<&str> = kinds.into_iter().filter(none).collect();
    if lacking.is_empty() {
        return Check::ok(NAME, kinds.join(", "));
    }
    let settings: Vec<String> = lacking.iter().map(|kind| format!("user.max_{kind}_namespaces=15000")).collect();
    Check::missing(NAME, format!("no {}", lacking.join(", ")), format!("sysctl -w {}", settings.join(" ")))
}

fn empty_root(facts: &Facts) -> Check {
    const NAME: &str = "/tmp";
    if facts.has_tmp {
        return Check::ok(NAME, "is a directory: in its own namespace, a container's empty root is mounted there");
    }
    Check::missing(NAME, "is no directory: a container's empty root cannot be mounted there", "mkdir -m 1777 /tmp")
}

/// Which kinds of cgroup are mounted.
fn cgroups(facts: &Facts) -> Check {
    const NAME: &str = "cgroups";
    let mounts = facts.mountinfo.as_ref().map_or_else(Vec::new, |table| mountinfo::parse(table.as_bytes()));
    let mounted = |kind: &str| mounts.iter().any(|mount| mount.kind == kind);
    match (mounted("cgroup"), mounted("cgroup2")) {
        (false, true) => Check::ok(NAME, "version 2"),
        (true, false) => Check::ok(NAME, "version 1"),
        (true, true) => Check::ok(NAME, "hybrid: version 1, and version 2 beside it"),
        (false, false) => {
            let mend = "mount -t cgroup2 none /sys/fs/cgroup, where containers shall have limits of the host";
            Check::warning(NAME, "none is mounted", mend)
        }
    }
}

/// Without a group, `--memory` still bounds what programs reserve.
fn memory_limit(facts: &Facts) -> Check {
    const NAME: &str = "memory limit";
    match &facts.no_memory_group {
        None => Check::ok(NAME, "--memory makes a control group for the container"),
        Some(why) => Check::warning(
            NAME,
            format!("--memory counts only what programs reserve: {why}"),
            "run xc as root, or as systemd-run --user --scope xc ...: where its own control group may be given children",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_kernel_without_user_namespaces_is_no_host() {
        let none = Facts { has_user_namespaces: false, ..Facts::good() };
        assert_eq!(user_namespaces(&none).state, State::Missing);
        let zero = user_namespaces(&Facts::good().with("user/max_user_namespaces", "0"));
        assert_eq!((zero.state, zero.mend.contains("user.max_user_namespaces=")), (State::Missing, true));
        let unmapped = user_namespaces(&Facts { has_ids: false, ..Facts::good() });
        assert_eq!((unmapped.state, unmapped.mend.contains("unshare -Ur")), (State::Missing, true));
        let mountinfo = Some("30 24 0:26 / /proc rw - proc proc rw\n".into());
        assert!(user_namespaces(&Facts { mountinfo, ..Facts::good() }).found.contains("chroot"));
    }

    #[test]
    fn what_ordinary_users_lack_is_a_warning_for_root() {
        for (name, value) in
            [("kernel/unprivileged_userns_clone", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")]
        {
            let facts = Facts::good().with(name, value);
            let as_root = ordinary_users(&Facts { is_root: true, ..facts.clone() });
            assert_eq!([ordinary_users(&facts).state, as_root.state], [State::Missing, State::Warning], "{name}");
            assert!(as_root.mend.contains(name.rsplit('/').next().unwrap_or("?")), "{as_root:?}");
        }
    }

    #[test]
    fn a_kind_of_namespace_that_is_switched_off_is_named() {
        let check = other_namespaces(&Facts::good().with("user/max_net_namespaces", "0"));
        assert_eq!((check.state, check.found.as_str()), (State::Missing, "no net"));
        assert_eq!(check.mend, "sysctl -w user.max_net_namespaces=15000");
    }

    #[test]
    fn cgroups_are_told_apart() {
        let of = |lines: &str| {
            let check = cgroups(&Facts { mountinfo: Some(lines.into()), ..Facts::good() });
            (check.state, check.found)
        };
        let first = "1 2 0:3 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let second = "1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(of(second), (State::Ok, "version 2".into()));
        assert_eq!(of(first), (State::Ok, "version 1".into()));
        assert!(of(&[first, second].concat()).1.starts_with("hybrid"));
        assert_eq!(of("").0, State::Warning);
    }

    #[test]
    fn a_limit_without_a_control_group_is_told() {
        let check = memory_limit(&Facts { no_memory_group: Some("it is read-only".into()), ..Facts::good() });
        assert_eq!((check.state, check.found.ends_with("it is read-only")), (State::Warning, true));
    }

    #[test]
    fn a_host_without_tmp_is_told() {
        assert_eq!(empty_root(&Facts { has_tmp: false, ..Facts::good() }).state, State::Missing);
    }
}
