//! The cases, one family of system calls a file.

use crate::kit::Case;

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct CaseRow {
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Case,
}

impl CaseRow {
    /// `family::case`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}::{}", self.family, self.name)
    }
}

macro_rules! families {
    ($($module:ident)*) => {
        $(mod $module;)*
        const ALL: &[&[CaseRow]] = &[$($module::CASES),*];
    };
}

families! {
    file dir attr fd pipe process exec signal fault futex mm poll epoll event time unix_socket unix_message inet
    tty jobs cred
    sched proc sysv pidfd mqueue inspect ptrace
    refusal pointer mount system capacity reach spawn sleep
}

/// All cases, family by family.
pub(crate) fn all() -> impl Iterator<Item = CaseRow> {
    ALL.iter().flat_map(|cases| cases.iter().copied())
}
