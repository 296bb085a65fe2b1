//! What may depend on what, and where it comes from.

use super::Finding;
use crate::command;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// The layers of ARCHITECTURE.md: a crate depends on crates of lower layers only, never sideways.
const LAYERS: &[(&str, u8)] = &[
    ("abi", 0),
    ("abom", 1),
    ("machine", 1),
    ("xlibos", 2),
    ("xkernel", 2),
    ("image", 2),
    ("xlibos-image", 3),
    ("xc", 3),
    ("runxc", 3),
    ("shim", 3),
    ("xtask", 4),
    ("conformance", 4),
    ("programs", 4),
    ("hostile", 4),
    ("runtime", 4),
];

/// Everything that code in the container is made of. A longer list is a decision: docs/design/.
const CLOSED: &[(&str, &[&str])] = &[
    ("abi", &["postcard", "serde"]),
    ("machine", &["abi", "bitflags", "lock_api", "talc", "zerocopy"]),
    ("xlibos", &["abi", "abom", "bitflags", "hashbrown", "machine", "zerocopy"]),
    ("xlibos-image", &["abi", "machine", "xlibos"]),
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the crates' dependencies and the lock file.
///
/// # Errors
/// When cargo or the lock file cannot be read.
pub(crate) fn check() -> Result<Vec<Finding>> {
    let mut metadata = command::cargo();
    metadata.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata: Value = serde_json::from_str(&command::output(&mut metadata)?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings: Vec<Finding> = packages.iter().flat_map(check_package).collect();
    let lock = std::fs::read_to_string(command::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    findings.extend(check_lock(&lock));
    Ok(findings)
}

fn check_package(package: &Value) -> Vec<Finding> {
    let name = package["name"].as_str().unwrap_or_default();
    let finding = |message: String| Finding { place: name.to_owned(), message };
    let Some(own) = layer(name) else {
        return vec![finding("has no layer; say which in xtask/src/lint/supply.rs".to_owned())];
    };
    let closed = CLOSED.iter().find(|(owner, _)| *owner == name).map(|(_, list)| list);
    let mut findings = Vec::new();
    for dependency in normal_dependencies(package) {
        if layer(dependency).is_some_and(|other| other >= own) {
            findings.push(finding(format!("depends on {dependency}, which is not below it")));
        }
        if closed.is_some_and(|list| !list.contains(&dependency)) {
            findings.push(finding(format!("its list of dependencies is closed, and lacks {dependency}")));
        }
    }
    findings
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// Names of what is linked in: no build scripts, no tests.
fn normal_dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter(|dependency| dependency["kind"].is_null()).filter_map(|dependency| dependency["name"].as_str())
}

fn check_lock(lock: &str) -> Vec<Finding> {
    let sources = lock.lines().enumerate().filter_map(|(i, line)| Some((i + 1, line.strip_prefix("source = ")?)));
    let other = sources.filter(|(_, source)| source.trim_matches('"') != REGISTRY);
    let message = || "a source that is not crates.io".to_owned();
    other.map(|(line, _)| Finding { place: format!("Cargo.lock:{line}"), message: message() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(package: &Value) -> Vec<String> {
        check_package(package).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dependencies_point_down() {
        let up = json!({ "name": "abom", "dependencies": [{ "name": "machine", "kind": null }] });
        assert_eq!(messages(&up), ["abom: depends on machine, which is not below it"]);
        let down = json!({ "name": "xc", "dependencies": [{ "name": "xkernel", "kind": null }] });
        assert_eq!(messages(&down), [""; 0]);
    }

    #[test]
    fn closed_list_does_not_bind_tests() {
        let dependency = |kind: Value| json!({ "name": "abi", "dependencies": [{ "name": "rand", "kind": kind }] });
        assert_eq!(messages(&dependency(json!("dev"))), [""; 0]);
        assert_eq!(messages(&dependency(json!(null))).len(), 1);
    }

    #[test]
    fn lock_file_names_crates_io_only() {
        let lock = format!("source = \"{REGISTRY}\"\nsource = \"git+https://example.com/x\"\n");
        assert_eq!(check_lock(&lock)[0].to_string(), "Cargo.lock:2: a source that is not crates.io");
    }
}
