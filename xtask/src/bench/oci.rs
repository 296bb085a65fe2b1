//! OCI bundles as podman makes them, over the host's root.

use super::group::Group;
use super::runtime::Job;
use super::site::{PATH, Site};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// podman's default seccomp profile.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// config.json: the root read-only, a tmpfs on /tmp, no capabilities beyond podman's, its seccomp
/// profile.
pub(super) fn config(site: &Site, job: &Job) -> Result<Value> {
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
            "args": job.words,
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
    if job.has_volume {
        let volume = json!({ "destination": site.volume, "type": "bind", "source": site.volume,
            "options": ["bind", "rw"] });
        config["mounts"].as_array_mut().context("no mounts")?.push(volume);
    }
    if let Some(path) = site.group.as_ref().and_then(Group::inner) {
        config["linux"]["cgroupsPath"] = json!(path);
    }
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
}
