//! All processes and tasks of the container, by id.

use super::session::Session;
use super::task::{Pid, Task};
use super::thread_group::Process;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::{Mutex, MutexGuard};

/// Highest id plus one: /proc/sys/kernel/pid_max.
pub const PID_MAX: Pid = 4_194_304;

/// The tree. Its lock also guards who is whose parent, group and session.
#[derive(Debug, Default)]
pub struct Tree {
    processes: BTreeMap<Pid, Arc<Process>>,
    tasks: BTreeMap<Pid, Arc<Task>>,
    last: Pid,
}

static TREE: Mutex<Tree> = Mutex::new(Tree { processes: BTreeMap::new(), tasks: BTreeMap::new(), last: 0 });

/// Locks the tree.
pub fn lock() -> MutexGuard<'static, Tree> {
    TREE.lock()
}

/// A process by id.
#[must_use]
pub fn process(pid: Pid) -> Option<Arc<Process>> {
    lock().process(pid)
}

/// A task by id.
#[must_use]
pub fn task(tid: Pid) -> Option<Arc<Task>> {
    lock().task(tid)
}

/// All processes, by id.
#[must_use]
pub fn collect_processes() -> Vec<Arc<Process>> {
    lock().collect(|_| true)
}

/// Whether a user has fewer tasks than that.
#[must_use]
pub fn has_fewer_tasks(uid: u32, limit: u64) -> bool {
    let tree = lock();
    if (tree.tasks.len() as u64) < limit {
        return true;
    }
    let all: Vec<Arc<Task>> = tree.tasks.values().cloned().collect();
    drop(tree);
    (all.iter().filter(|task| task.creds().uid == uid).count() as u64) < limit
}

/// A process whose threads have all ended, by id.
#[must_use]
pub fn threadless(pid: Pid) -> Option<Arc<Process>> {
    process(pid).filter(|process| process.with_remains(|_| ()).is_some())
}

/// Processes of a group.
#[must_use]
pub fn collect_group(pgid: Pid) -> Vec<Arc<Process>> {
    lock().collect(|process| process.links_of_other().0 == pgid)
}

impl Tree {
    /// A process by id.
    #[must_use]
    pub fn process(&self, pid: Pid) -> Option<Arc<Process>> {
        self.processes.get(&pid).cloned()
    }

    /// A task by id.
    #[must_use]
    pub fn task(&self, tid: Pid) -> Option<Arc<Task>> {
        self.tasks.get(&tid).cloned()
    }

    /// Processes that are meant, by id.
    pub fn collect(&self, is_meant: impl Fn(&Process) -> bool) -> Vec<Arc<Process>> {
        self.processes.values().filter(|process| is_meant(process)).cloned().collect()
    }

    /// An unused id.
    ///
    /// # Errors
    /// EAGAIN.
    pub fn allocate_pid(&mut self) -> Result<Pid> {
        for _ in 0..PID_MAX {
            self.last = if self.last >= PID_MAX - 1 { 300 } else { self.last + 1 };
            let pid = self.last;
            if !self.is_used(pid) {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    fn is_used(&self, id: Pid) -> bool {
        self.processes.contains_key(&id)
            || self.tasks.contains_key(&id)
            || self.processes.values().any(|p| p.links().pgid == id || p.links().session.sid == id)
    }

    /// Adds a process, and makes it a child of its parent.
    pub fn add_process(&mut self, process: Arc<Process>) {
        let parent = process.parent();
        if let Some(parent) = self.processes.get(&parent) {
            parent.links().children.push(process.pid);
        }
        self.processes.insert(process.pid, process);
    }

    /// Adds a task.
    pub fn add_task(&mut self, task: Arc<Task>) {
        let tid = task.tid();
        self.tasks.insert(tid, task);
    }

    /// Takes a task out, to put it in under another id.
    pub fn take_task(&mut self, tid: Pid) -> Option<Arc<Task>> {
        self.tasks.remove(&tid)
    }

    /// Removes a task.
    pub fn remove_task(&mut self, tid: Pid) {
        self.tasks.remove(&tid);
    }

    /// Removes a zombie that was waited for.
    pub fn remove_process(&mut self, pid: Pid) -> Option<Arc<Process>> {
        let process = self.processes.remove(&pid)?;
        process.set_reaped();
        let parent = process.parent();
        if let Some(parent) = self.processes.get(&parent) {
            parent.links().children.retain(|&child| child != pid);
        }
        Some(process)
    }

    /// Children of an ending process go to the nearest subreaper, or to init.
    pub fn reparent_children(&mut self, process: &Arc<Process>) -> Vec<Arc<Process>> {
        let children = core::mem::take(&mut process.links().children);
        let reaper = self.find_reaper(process);
        let mut moved = Vec::new();
        for pid in children {
            let Some(child) = self.processes.get(&pid).cloned() else { continue };
            child.set_parent(reaper);
            if let Some(parent) = self.processes.get(&reaper) {
                parent.links().children.push(pid);
            }
            moved.push(child);
        }
        moved
    }

    fn find_reaper(&self, process: &Arc<Process>) -> Pid {
        let mut at = process.parent();
        while let Some(candidate) = self.processes.get(&at) {
            if candidate.is_subreaper() && !candidate.is_zombie() {
                return at;
            }
            at = candidate.parent();
        }
        1
    }

    /// Whether a session has a process group of that id.
    #[must_use]
    pub fn group_in_session(&self, pgid: Pid, session: &Arc<Session>) -> bool {
        self.processes.values().any(|p| {
            let links = p.links();
            links.pgid == pgid && Arc::ptr_eq(&links.session, session)
        })
    }

    /// Whether a group has no member whose parent is in another group of the same session.
    #[must_use]
    pub fn is_orphaned(&self, pgid: Pid) -> bool {
        self.is_orphaned_without(pgid, None)
    }

    /// The same, were it not for a member.
    #[must_use]
    pub fn is_orphaned_without(&self, pgid: Pid, ended: Option<Pid>) -> bool {
        !self.processes.values().any(|p| {
            let own = p.links_of_other();
            own.0 == pgid && !p.is_zombie() && Some(p.pid) != ended && self.links_to_session(p.parent(), own)
        })
    }

    /// Whether a process is in another group of the same session, by which that group is no orphan.
    #[must_use]
    pub fn links_to_session(&self, parent: Pid, (pgid, sid): (Pid, Pid)) -> bool {
        let links = self.processes.get(&parent).map(|parent| parent.links_of_other());
        links.is_some_and(|links| links.0 != pgid && links.1 == sid)
    }
}
