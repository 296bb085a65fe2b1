//! The kernel and the processor.

use super::Check;
use super::facts::{CLOCK, Facts, SELINUX};

/// FSGSBASE reached Linux with 5.9; close_range and openat2 are older.
const OLDEST: (u32, u32) = (5, 9);

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let all = [version(facts), fsgsbase(facts), seccomp(facts), memory_files(facts), clock(facts)];
    all.into_iter().chain(selinux(facts)).collect()
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

fn version(facts: &Facts) -> Check {
    const NAME: &str = "kernel";
    let found = format!("Linux {} on {}", facts.release, facts.machine);
    if facts.machine != "x86_64" {
        return Check::missing(NAME, found, "use an x86-64 machine: the library OS knows no other processor");
    }
    match numbers(&facts.release) {
        Some(numbers) if numbers >= OLDEST => Check::ok(NAME, found),
        Some(_) => Check::missing(NAME, found, "boot Linux 5.9 or newer; Debian 12 has 6.1"),
        None => Check::warning(NAME, found, "Linux 5.9 or newer is needed; this release does not say what it is"),
    }
}

/// AT_HWCAP2 of the auxiliary vector: getauxval(3).
fn fsgsbase(facts: &Facts) -> Check {
    const NAME: &str = "FSGSBASE";
    const HWCAP2: u64 = 26;
    const FSGSBASE: u64 = 2;
    let mut words = facts.auxv.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
    let pairs = core::iter::from_fn(|| Some((words.next()?, words.next()?)));
    let offered = pairs.into_iter().find(|(key, _)| *key == HWCAP2).is_some_and(|(_, value)| value & FSGSBASE != 0);
    if offered {
        return Check::ok(NAME, "programs may set their own GS base");
    }
    let mend = "use a processor from 2012 or later (in a virtual machine: pass its model through), and boot without nofsgsbase";
    Check::missing(NAME, "programs may not set their own GS base", mend)
}

fn seccomp(facts: &Facts) -> Check {
    const NAME: &str = "seccomp";
    let Some(actions) = facts.setting("kernel/seccomp/actions_avail") else {
        if facts.status_line("Seccomp_filters").is_some() {
            return Check::ok(NAME, "the kernel has filters; /proc/sys does not tell which");
        }
        let mend = "boot a kernel with CONFIG_SECCOMP_FILTER: host calls of containers cannot be filtered";
        return Check::missing(NAME, "the kernel has no filters", mend);
    };
    let lacking: Vec<&str> = ["trap", "errno"].into_iter().filter(|a| !actions.split(' ').any(|b| b == *a)).collect();
    match (lacking.as_slice(), facts.status_line("Seccomp")) {
        ([], Some("2")) => Check::warning(
            NAME,
            "filters of this kernel work; xc itself runs under one",
            "if containers do not start, run xc outside of its sandbox (docker: --security-opt seccomp=unconfined)",
        ),
        ([], _) => Check::ok(NAME, "filters work"),
        (lacking, _) => Check::missing(NAME, format!("filters without {}", lacking.join(", ")), "boot a newer kernel"),
    }
}

fn memory_files(facts: &Facts) -> Check {
    const NAME: &str = "executable memfd";
    match facts.number("vm/memfd_noexec") {
        Some(2..) => {
            Check::missing(NAME, "vm.memfd_noexec is 2: the LibOS cannot be executed", "sysctl -w vm.memfd_noexec=1")
        }
        _ => Check::ok(NAME, "allowed"),
    }
}

fn clock(facts: &Facts) -> Check {
    const NAME: &str = "clock";
    match facts.setting(CLOCK) {
        Some(clock @ ("tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page")) => Check::ok(NAME, clock),
        None => Check::ok(NAME, "the host does not tell which"),
        Some(clock) => Check::warning(
            NAME,
            format!("{clock}: each look at the time is a host call"),
            "echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource, if it is in available_clocksource",
        ),
    }
}

fn selinux(facts: &Facts) -> Option<Check> {
    const NAME: &str = "SELinux";
    (facts.setting(SELINUX)? == "1").then(|| {
        Check::warning(NAME, "enforcing", "if containers do not start, allow execmem and execmod to the domain of xc")
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn state(check: &Check) -> (State, bool) {
        (check.state, check.mend.is_empty())
    }

    #[test]
    fn old_kernels_and_other_machines_are_missing() {
        let of = |release: &str, machine: &str| {
            let facts = Facts { release: release.into(), machine: machine.into(), ..Facts::good() };
            state(&version(&facts))
        };
        assert_eq!(of("5.9.0", "x86_64"), (State::Ok, true));
        assert_eq!(of("5.8.18-300.fc33", "x86_64"), (State::Missing, false));
        assert_eq!(of("4.18.0-513.el8", "x86_64"), (State::Missing, false));
        assert_eq!(of("6.1.0", "aarch64"), (State::Missing, false));
        assert_eq!(of("odd", "x86_64"), (State::Warning, false));
    }

    #[test]
    fn without_fsgsbase_nothing_runs() {
        let of = |words: &[u64]| {
            let auxv = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            fsgsbase(&Facts { auxv, ..Facts::good() }).state
        };
        assert_eq!(
            [of(&[6, 4096, 26, 2, 0, 0]), of(&[26, 1, 0, 0]), of(&[2, 26, 0, 0]), of(&[])],
            [State::Ok, State::Missing, State::Missing, State::Missing]
        );
    }

    #[test]
    fn filters_must_trap() {
        let good = Facts::good();
        assert_eq!(seccomp(&good).state, State::Ok);
        assert_eq!(
            seccomp(&good.clone().with("kernel/seccomp/actions_avail", "kill errno allow")).state,
            State::Missing
        );
        let none = Facts { settings: Vec::new(), ..good.clone() };
        assert_eq!(seccomp(&none).state, State::Missing);
        // A /proc of processes alone: mount option subset=pid.
        assert_eq!(seccomp(&Facts { status: Some("Seccomp_filters:\t0\n".into()), ..none }).state, State::Ok);
        assert_eq!(seccomp(&Facts { status: Some("Seccomp:\t2\n".into()), ..good }).state, State::Warning);
    }

    #[test]
    fn memory_files_must_be_executable() {
        let of = |value: &str| memory_files(&Facts::good().with("vm/memfd_noexec", value)).state;
        assert_eq!([of("0"), of("1"), of("2")], [State::Ok, State::Ok, State::Missing]);
    }

    #[test]
    fn slow_clocks_and_selinux_are_warned_of() {
        assert_eq!(clock(&Facts::good().with(CLOCK, "hpet")).state, State::Warning);
        assert_eq!(selinux(&Facts::good().with(SELINUX, "1")).map(|check| check.state), Some(State::Warning));
        assert_eq!(selinux(&Facts::good().with(SELINUX, "0")), None);
    }
}
