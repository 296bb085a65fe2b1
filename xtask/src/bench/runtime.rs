//! Where words run: the bare host, OCI runtimes on a bundle over the host's root, and ours.

use crate::command;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// podman's default seccomp profile.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bare host with a tmpfs on /tmp, as the others have it: the rows on files compare kernels, not disks.
const ENTER_HOST: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp || exit 125
exec \"$0\" \"$@\"";

/// A private mount namespace in which the bundle's root is the host's, and in which runtimes that refuse a hybrid of
/// both cgroup versions see the first one only.
const ENTER: &str = "mount --make-rprivate / && mount --rbind / \"$0/rootfs\" || exit 125
for tree in $(findmnt --noheadings --types cgroup2 --output TARGET); do umount \"$tree\"; done
cd \"$0\" && exec \"$@\"";

/// One runtime.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Host,
    /// The words before the container's name, and the bundle.
    Oci(&'static [&'static str], PathBuf),
    Ours(PathBuf),
}

/// The runtimes that run here, the bare host first and ours last, and why others do not.
pub(super) fn find(xc: &Path, workload: &Path) -> Result<(Vec<Runtime>, Vec<String>)> {
    let mut runtimes = vec![Runtime { name: "host", kind: Kind::Host }];
    let mut refused = Vec::new();
    let oci: [(&str, &[&str]); 3] = [
        ("runc", &["runc", "run"]),
        ("crun", &["crun", "--cgroup-manager=disabled", "run"]),
        ("runsc", &["runsc", "--ignore-cgroups", "--network=none", "run"]),
    ];
    for (name, words) in oci {
        let runtime = Runtime { name, kind: Kind::Oci(words, bundle(name)?) };
        match runtime.try_out(workload) {
            Ok(()) => runtimes.push(runtime),
            Err(why) => refused.push(format!("{name} cannot run here: {why}")),
        }
    }
    runtimes.push(Runtime { name: "ours", kind: Kind::Ours(xc.to_owned()) });
    Ok((runtimes, refused))
}

fn bundle(name: &str) -> Result<PathBuf> {
    let bundle = super::directory()?.join(name);
    std::fs::create_dir_all(bundle.join("rootfs"))?;
    Ok(bundle)
}

impl Runtime {
    /// Runs words in a fresh container.
    pub(super) fn command(&self, words: &[&str]) -> Result<Command> {
        self.build(&[], words)
    }

    /// Runs words in a fresh container, and has `timer` time the whole of it from outside.
    pub(super) fn timed(&self, timer: &str, words: &[&str]) -> Result<Command> {
        self.build(&[timer, "--command"], words)
    }

    fn build(&self, before: &[&str], words: &[&str]) -> Result<Command> {
        let xc;
        let all: Vec<&str> = match &self.kind {
            Kind::Host => [&["unshare", "--mount", "sh", "-c", ENTER_HOST], before, words].concat(),
            Kind::Ours(path) => {
                xc = path.to_str().context("the path of xc is no UTF-8")?;
                [before, &[xc, "do", "--"], words].concat()
            }
            Kind::Oci(run, bundle) => {
                std::fs::write(bundle.join("config.json"), config(words)?.to_string())?;
                let bundle = bundle.to_str().context("the path of the bundle is no UTF-8")?;
                [&["unshare", "--mount", "sh", "-c", ENTER, bundle], before, run, &["xc-bench"]].concat()
            }
        };
        let (program, arguments) = all.split_first().context("no words")?;
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

    fn try_out(&self, workload: &Path) -> Result<(), String> {
        let is_installed = |name: &str| PATH.split(':').any(|directory| Path::new(directory).join(name).exists());
        if !is_installed(self.name) {
            return Err("it is not installed".to_owned());
        }
        let program = workload.to_string_lossy();
        let mut command = self.command(&[program.as_ref(), "--child"]).map_err(|error| format!("{error:#}"))?;
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(text.lines().last().map_or_else(|| output.status.to_string(), str::to_owned))
    }
}

/// An OCI bundle as podman makes it: the root read-only, a tmpfs on /tmp, no capabilities beyond podman's, its seccomp
/// profile.
fn config(words: &[&str]) -> Result<Value> {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_SETFCAP"
    ]);
    let namespaces: Vec<Value> = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind })).into();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": words,
            "env": [format!("PATH={PATH}"), "HOME=/root"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"] },
        ],
        "linux": { "namespaces": namespaces },
    });
    let profile = std::fs::read(PROFILE).with_context(|| format!("cannot read podman's profile, {PROFILE}"))?;
    config["linux"]["seccomp"] = seccomp(&serde_json::from_slice(&profile)?);
    Ok(config)
}

/// The profile in OCI's form: rules that hold without further capabilities.
fn seccomp(profile: &Value) -> Value {
    let is_plain = |rule: &&Value| {
        let needs_nothing = |key: &str| rule["includes"][key].as_array().is_none_or(Vec::is_empty);
        let is_ours = rule["includes"]["arches"].as_array().is_some_and(|all| all.iter().any(|arch| arch == "amd64"));
        needs_nothing("caps") && (needs_nothing("arches") || is_ours) && rule["includes"]["minKernel"].is_null()
    };
    let rules = profile["syscalls"].as_array().into_iter().flatten().filter(is_plain).map(|rule| {
        let mut plain = serde_json::Map::new();
        for key in ["names", "action", "args", "errnoRet"] {
            if let Some(value) = rule.get(key).filter(|value| !value.is_null()) {
                plain.insert(key.to_owned(), value.clone());
            }
        }
        Value::Object(plain)
    });
    json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet").cloned().unwrap_or(json!(38)),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules.collect::<Vec<_>>(),
    })
}

/// Processor, kernel and mitigations, for the page.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = command::output(Command::new("uname").arg("-r")).unwrap_or_default();
    let mitigations = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mut lines: Vec<String> = mitigations
        .filter_map(|entry| {
            let state = std::fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            (state.trim() != "Not affected").then(|| format!("- {name}: {}", state.trim()))
        })
        .collect();
    lines.sort();
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{count} × {model}, Linux {}\n\nMitigations:\n{}\n", kernel.trim(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_need_a_capability_are_left_out() {
        let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {} },
            { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_BPF"] } },
        ] });
        let rules = seccomp(&profile);
        assert_eq!(rules["syscalls"], json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [] }]));
    }

    #[test]
    fn a_timer_stands_before_the_runtime() {
        let ours = Runtime { name: "ours", kind: Kind::Ours("xc".into()) };
        let command = ours.timed("workload", &["/bin/true"]).ok();
        let words = command.iter().flat_map(Command::get_args).collect::<Vec<_>>();
        assert_eq!(words, ["--command", "xc", "do", "--", "/bin/true"]);
    }
}
