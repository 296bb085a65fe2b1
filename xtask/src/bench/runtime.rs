//! Where words run: the bare host, OCI runtimes on a bundle over the host's root, and ours.

use super::group::Group;
use super::oci;
use super::site::{PATH, Site, is_on_path};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Only root makes mount namespaces; others make them in a user namespace.
const MOUNT_NAMESPACE: [&str; 2] = ["unshare", "--mount"];
const USERS_MOUNT_NAMESPACE: [&str; 3] = ["unshare", "--map-root-user", "--mount"];

/// The bare host with a tmpfs on /tmp, as the others have it: the rows on files compare kernels, not disks.
const ENTER_HOST: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp || exit 125
exec \"$0\" \"$@\"";

/// A private mount namespace in which the bundle's root is the host's, and in which runtimes that refuse a hybrid of
/// both cgroup versions see the first one only.
const ENTER: &str = "mount --make-rprivate / && mount --rbind / \"$0/rootfs\" || exit 125
if findmnt --types cgroup >/dev/null; then
for tree in $(findmnt --noheadings --types cgroup2 --output TARGET); do umount \"$tree\"; done
fi
cd \"$0\" && exec \"$@\"";

/// Enters cgroups before anything else starts.
const JOIN: &str = "for procs in $0; do echo $$ > \"$procs\" || exit 125; done
exec \"$@\"";

/// The name of containers that need one.
const CONTAINER: &str = "xc-bench";

/// The runtime that most people have.
pub(super) const RUNC: &str = "runc";

/// The runtime that resting containers are compared with.
pub(super) const CRUN: &str = "crun";

/// One runtime.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Host,
    /// The words before the container's name, and the bundle.
    Oci(&'static [&'static str], PathBuf),
    Ours(PathBuf),
}

/// What runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    pub(super) words: Vec<String>,
    /// Words that start the container, outside of it.
    pub(super) timer: Vec<String>,
    /// Whether the site's volume is mounted.
    pub(super) has_volume: bool,
    /// Whether ours reports what it counted.
    pub(super) has_stats: bool,
    /// Whether crun leaves its container alone once that runs, instead of waiting beside it.
    pub(super) is_detached: bool,
    /// cgroups that all of it runs in.
    pub(super) groups: Vec<PathBuf>,
}

impl Job {
    pub(super) fn new<S: AsRef<str>>(words: &[S]) -> Job {
        Job { words: words.iter().map(|word| word.as_ref().to_owned()).collect(), ..Job::default() }
    }
}

/// How other people's runtimes are called: the words before those of a container.
const OCI: [(&str, &[&str]); 3] = [
    (RUNC, &[RUNC, "run"]),
    (CRUN, &[CRUN, "--cgroup-manager=disabled", "run"]),
    ("runsc", &["runsc", "--ignore-cgroups", "--network=none", "run"]),
];

/// Ends and forgets containers of a bench that was killed: each runtime keeps a name until it is told.
pub(super) fn delete_left_behind() {
    for (name, _) in OCI.iter().filter(|(name, _)| is_on_path(name)) {
        // Mostly there is none, of which it complains.
        let _ = deletion(name).output();
    }
}

fn deletion(runtime: &str) -> Command {
    let mut command = Command::new(runtime);
    command.args(["delete", "--force", CONTAINER]);
    command
}

/// The runtimes of other people that run here, the bare host first, and why others do not.
pub(super) fn find(site: &Site) -> Result<(Vec<Runtime>, Vec<String>)> {
    let mut runtimes = vec![Runtime { name: "host".to_owned(), kind: Kind::Host }];
    let mut refused = Vec::new();
    for (name, words) in OCI {
        let bundle = site.directory.join(name);
        std::fs::create_dir_all(bundle.join("rootfs"))?;
        let runtime = Runtime { name: name.to_owned(), kind: Kind::Oci(words, bundle) };
        match runtime.try_out(site) {
            Ok(()) => runtimes.push(runtime),
            Err(why) => refused.push(format!("{name} cannot run here: {why}")),
        }
    }
    Ok((runtimes, refused))
}

impl Runtime {
    /// Ours, as this executable.
    pub(super) fn ours(name: &str, xc: &Path) -> Runtime {
        Runtime { name: name.to_owned(), kind: Kind::Ours(xc.to_owned()) }
    }

    /// Whether this is one of other people's container runtimes.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Oci(..))
    }

    /// Whether `--stats` is known.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours(_))
    }

    /// Our own executable.
    pub(super) fn executable(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Ours(path) => Some(path),
            Kind::Host | Kind::Oci(..) => None,
        }
    }

    /// What ends a container that was left alone.
    pub(super) fn ending(&self, job: &Job) -> Option<Command> {
        (self.is_peer() && job.is_detached).then(|| deletion(&self.name))
    }

    /// A command that does the job in a fresh container.
    pub(super) fn command(&self, site: &Site, job: &Job) -> Result<Command> {
        let words = self.words(site, job)?;
        let (program, arguments) = words.split_first().context("no words")?;
        let mut command = Command::new(program);
        // The same environment everywhere: whose python3 PATH names matters.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root");
        Ok(command)
    }

    fn words(&self, site: &Site, job: &Job) -> Result<Vec<String>> {
        let mut words = joining(&if job.groups.is_empty() {
            site.group.iter().map(Group::cpu).collect()
        } else {
            job.groups.clone()
        });
        let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
        match &self.kind {
            Kind::Host => {
                add(if site.is_root { &MOUNT_NAMESPACE } else { &USERS_MOUNT_NAMESPACE });
                add(&["sh", "-c", ENTER_HOST]);
                words.extend(job.timer.iter().chain(&job.words).cloned());
            }
            Kind::Ours(path) => {
                words.extend(job.timer.iter().cloned());
                words.push(path.to_str().context("the path of xc is no UTF-8")?.to_owned());
                words.extend(our_options(site, job));
                words.extend(job.words.iter().cloned());
            }
            Kind::Oci(run, bundle) => {
                std::fs::write(bundle.join("config.json"), oci::config(site, job)?.to_string())?;
                add(&MOUNT_NAMESPACE);
                add(&["sh", "-c", ENTER, &bundle.to_string_lossy()]);
                words.extend(job.timer.iter().cloned());
                let detach = job.is_detached.then_some("--detach");
                words.extend(run.iter().copied().chain(detach).chain([CONTAINER]).map(str::to_owned));
            }
        }
        Ok(words)
    }

    fn try_out(&self, site: &Site) -> Result<(), String> {
        if !is_on_path(&self.name) {
            return Err("it is not installed".to_owned());
        }
        if !site.is_root {
            return Err("it is measured as root only".to_owned());
        }
        let job = Job::new(&[&site.workload, "--child"]);
        let mut command = self.command(site, &job).map_err(|error| format!("{error:#}"))?;
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(text.lines().last().map_or_else(|| output.status.to_string(), str::to_owned))
    }
}

/// A session of its own for all alike: hosts that schedule session by session would favour those that make one.
fn joining(groups: &[PathBuf]) -> Vec<String> {
    if groups.is_empty() {
        return vec!["setsid".to_owned()];
    }
    let files: Vec<String> = groups.iter().map(|group| group.join("cgroup.procs").display().to_string()).collect();
    ["setsid", "sh", "-c", JOIN, &files.join(" ")].map(str::to_owned).into()
}

fn our_options(site: &Site, job: &Job) -> Vec<String> {
    let mut words = vec!["do".to_owned()];
    if job.has_volume {
        words.extend(["-v".to_owned(), format!("{0}:{0}", site.volume)]);
    }
    if job.has_stats {
        words.push("--stats=json".to_owned());
    }
    words.push("--".to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(job: &Job) -> String {
        let site = Site { volume: "/volume".to_owned(), is_root: true, ..Site::default() };
        let words = Runtime::ours("ours", Path::new("xc")).words(&site, job);
        words.map(|words| words.join(" ")).unwrap_or_default()
    }

    #[test]
    fn a_timer_stands_before_the_runtime() {
        let job = Job { timer: vec!["timer".to_owned()], ..Job::new(&["/bin/true"]) };
        assert_eq!(words(&job), "setsid timer xc do -- /bin/true");
    }

    #[test]
    fn options_stand_before_the_words() {
        let job = Job { has_volume: true, has_stats: true, ..Job::new(&["/bin/true"]) };
        assert_eq!(words(&job), "setsid xc do -v /volume:/volume --stats=json -- /bin/true");
    }

    #[test]
    fn groups_are_joined_first() {
        let job = Job { groups: vec!["/a".into(), "/b".into()], ..Job::new(&["/bin/true"]) };
        assert!(words(&job).ends_with("/a/cgroup.procs /b/cgroup.procs xc do -- /bin/true"), "{}", words(&job));
    }
}
