//! `-e` and `--env-file`.

use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Why a setting is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Nothing before the `=`.
    #[error("the variable has no name: write NAME=VALUE, or NAME to take the caller's")]
    NoName,
    /// White space in the name.
    #[error("the name {0:?} has white space in it")]
    Space(String),
    /// A NUL byte.
    #[error("there is a NUL byte in it")]
    Nul,
}

/// Variables as `NAME=value`, one each.
#[derive(Debug, Default)]
pub struct Environment {
    variables: Vec<Vec<u8>>,
}

impl Environment {
    /// The caller's.
    #[must_use]
    pub fn of_caller() -> Self {
        let all = std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        Self { variables: all.collect() }
    }

    /// Those that podman sets.
    #[must_use]
    pub fn of_container(hostname: &str) -> Self {
        const PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let hostname = format!("HOSTNAME={hostname}");
        Self { variables: [PATH, b"TERM=xterm", b"container=xc", hostname.as_bytes()].map(<[u8]>::to_vec).to_vec() }
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let prefix = [name, b"="].concat();
        self.variables.retain(|old| !old.starts_with(&prefix));
        self.variables.push([&prefix, value].concat());
    }

    /// `NAME=VALUE`; `NAME` for the caller's, where it has one; `NAME*` for all of the caller's that begin so.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn apply(&mut self, setting: &[u8]) -> Result<(), SettingError> {
        let (name, value) = match setting.iter().position(|&b| b == b'=') {
            Some(at) => (setting.get(..at).unwrap_or(&[]), setting.get(at + 1..)),
            None => (setting, None),
        };
        if name.is_empty() {
            return Err(SettingError::NoName);
        }
        if name.iter().any(u8::is_ascii_whitespace) {
            return Err(SettingError::Space(String::from_utf8_lossy(name).into_owned()));
        }
        if setting.contains(&0) {
            return Err(SettingError::Nul);
        }
        match (value, name.strip_suffix(b"*")) {
            (Some(value), _) => self.set(name, value),
            (None, Some(prefix)) => self.take_all(prefix),
            (None, None) => {
                if let Some(value) = std::env::var_os(OsStr::from_bytes(name)) {
                    self.set(name, value.as_bytes());
                }
            }
        }
        Ok(())
    }

    fn take_all(&mut self, prefix: &[u8]) {
        for (name, value) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(prefix)) {
            self.set(name.as_bytes(), value.as_bytes());
        }
    }

    /// Each line of a file; empty ones and comments are nothing.
    ///
    /// # Errors
    /// Names the file, and the line at fault.
    pub fn apply_file(&mut self, path: &Path) -> Result<()> {
        let option = || format!("--env-file {}", path.display());
        let bytes = std::fs::read(path).with_context(option)?;
        for (number, line) in (1..).zip(bytes.split(|&b| b == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            self.apply(line).with_context(|| format!("{}: line {number}", option()))?;
        }
        Ok(())
    }

    /// The variables.
    #[must_use]
    pub fn into_variables(self) -> Vec<Vec<u8>> {
        self.variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(settings: &[&str]) -> Vec<String> {
        let mut environment = Environment::default();
        settings.iter().for_each(|s| assert_eq!(environment.apply(s.as_bytes()), Ok(())));
        environment.variables.iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect()
    }

    #[test]
    fn the_last_setting_of_a_name_counts() {
        assert_eq!(applied(&["A=1", "AB=2", "A=3=4", "C="]), ["AB=2", "A=3=4", "C="]);
    }

    #[test]
    fn a_name_alone_takes_the_callers() {
        let path = std::env::var("PATH").unwrap_or_default();
        assert_eq!(applied(&["PATH"]), [format!("PATH={path}")]);
        assert_eq!(applied(&["NO_SUCH_VARIABLE"]), [""; 0]);
        assert_eq!(applied(&["NO_SUCH_VARIABLE=1", "NO_SUCH_VARIABLE"]), ["NO_SUCH_VARIABLE=1"]);
        assert!(applied(&["PAT*"]).contains(&format!("PATH={path}")));
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let refusal = |setting: &[u8]| Environment::default().apply(setting).err();
        assert_eq!(refusal(b"=x"), Some(SettingError::NoName));
        assert_eq!(refusal(b""), Some(SettingError::NoName));
        assert_eq!(refusal(b"A B=x"), Some(SettingError::Space("A B".into())));
        assert_eq!(refusal(b"A=\0"), Some(SettingError::Nul));
        assert_eq!(refusal(b"A=b c"), None);
    }
}
