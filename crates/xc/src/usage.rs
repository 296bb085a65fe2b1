//! What the host counted for the processes of a container: proc_pid_stat(5).

use std::collections::HashMap;

/// Sums over a container's processes, reaped ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that waited for a file.
    pub major_faults: u64,
    /// Clock ticks on a processor outside the host kernel.
    pub user_ticks: u64,
    /// Clock ticks in the host kernel.
    pub system_ticks: u64,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    usage: Usage,
}

impl Usage {
    /// Of a process, its descendants, and those that they reaped. What cannot be read counts nothing.
    pub fn below(root: i32) -> Usage {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let stat = |pid| parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
        let all: HashMap<i32, Process> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
        let is_below = |pid| {
            let parent = |pid: &i32| all.get(pid).map(|process| process.parent);
            std::iter::successors(Some(pid), parent).take(all.len()).any(|ancestor| ancestor == root)
        };
        all.iter()
            .filter(|(pid, _)| is_below(**pid))
            .fold(Usage::default(), |sum, (_, process)| sum.plus(process.usage))
    }

    fn plus(self, other: Usage) -> Usage {
        Usage {
            minor_faults: self.minor_faults.saturating_add(other.minor_faults),
            major_faults: self.major_faults.saturating_add(other.major_faults),
            user_ticks: self.user_ticks.saturating_add(other.user_ticks),
            system_ticks: self.system_ticks.saturating_add(other.system_ticks),
        }
    }
}

/// The name may hold anything, also blanks and parentheses; what follows it are numbers from the third field on.
fn parse(stat: &str) -> Option<Process> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    // As proc_pid_stat(5) numbers them. A field, and the same of reaped children.
    let sum = |own: usize, reaped: usize| {
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(number(own)?.saturating_add(number(reaped)?))
    };
    let usage = Usage {
        minor_faults: sum(10, 11)?,
        major_faults: sum(12, 13)?,
        user_ticks: sum(14, 16)?,
        system_ticks: sum(15, 17)?,
    };
    Some(Process { parent: fields.get(1)?.parse().ok()?, usage })
}

#[cfg(test)]
mod tests {
    use super::{Process, Usage, parse};

    #[test]
    fn fields_are_found_behind_any_name() {
        let usage = Usage { minor_faults: 11, major_faults: 6, user_ticks: 30, system_ticks: 50 };
        let stat = "7 (a) b) S 3 1 1 0 -1 64 10 1 4 2 20 30 10 20 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(Process { parent: 3, usage }));
        assert_eq!(parse("7 (a) S 3"), None);
    }

    #[test]
    fn descendants_count() {
        let own = Usage::below(i32::try_from(std::process::id()).unwrap());
        assert!(own.minor_faults > 0, "{own:?}");
        assert_eq!(Usage::below(i32::MAX), Usage::default());
    }
}
