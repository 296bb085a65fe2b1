//! The command line.

use clap::ArgAction::{HelpShort, Set};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs unmodified Linux programs in containers on a library OS of their own.
#[derive(Debug, Parser)]
#[command(name = "xc", version, args_override_self = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `xc` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program of this machine in a throw-away container: writes stay in memory.
    #[command(disable_help_flag = true)]
    Do(Options),
    /// Run a program on the root file system in a directory.
    #[command(disable_help_flag = true)]
    Run(Run),
    /// Check whether containers can run on this host, and say how to mend what lacks.
    Doctor(Doctor),
    /// Print host calls, broker requests and system calls as JSON.
    Features,
    /// Print the version.
    Version,
}

/// A switch's value, in podman's spellings.
fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("write true or false"),
    }
}

/// Form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsForm {
    /// A table.
    Text,
    /// One line of JSON.
    Json,
}

/// Options of both commands, as podman spells them.
#[derive(Debug, Args)]
pub struct Options {
    /// Keep standard input open; `xc do` always does.
    #[arg(short = 'i', long, num_args = 0..=1, require_equals = true, action = Set, default_value = "false",
          default_missing_value = "true", hide_default_value = true, value_parser = switch, value_name = "BOOL")]
    pub interactive: bool,
    /// Give the container a terminal, whatever the standard streams are.
    #[arg(short = 't', long, num_args = 0..=1, require_equals = true, action = Set, default_value = "false",
          default_missing_value = "true", hide_default_value = true, value_parser = switch, value_name = "BOOL")]
    pub tty: bool,
    /// Set an environment variable: NAME=VALUE, or NAME to take the caller's.
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Set the variables of a file, a line each; -e comes after it.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// User in the container: names or numbers.
    #[arg(short = 'u', long = "user", value_name = "USER[:GROUP]", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// Name of the container: no two that run have the same.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub name: Option<String>,
    /// Working directory in the container.
    #[arg(short = 'w', long = "workdir", value_name = "DIR")]
    pub workdir: Option<OsString>,
    /// Host name of the container.
    #[arg(short = 'h', long, value_name = "NAME", allow_hyphen_values = true)]
    pub hostname: Option<String>,
    /// Mount a directory or file of the host: SRC:DST[:OPTIONS].
    #[arg(short = 'v', long = "volume", value_name = "SRC:DST[:ro]")]
    pub volume: Vec<OsString>,
    /// Mount an empty file system in memory: DIR[:size=SIZE,nr_inodes=COUNT,mode=OCTAL,ro,noexec,nosuid,nodev].
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<OsString>,
    /// Memory that processes may reserve and files in memory may take, together: 64m, 1g.
    #[arg(short = 'm', long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Print what the LibOS counted, on standard error.
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub stats: Option<StatsForm>,
    /// Sample the program, the LibOS and the host kernel with perf, by function, as root: folded stacks for flame graph viewers.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Trace system calls, on standard error.
    #[arg(long)]
    pub strace: bool,
    /// Print help.
    #[arg(long, action = HelpShort)]
    help: Option<bool>,
    /// Program and arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `xc doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `xc run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Directory with the root file system.
    #[arg(long, value_name = "DIR")]
    pub rootfs: PathBuf,
    /// Refuse writes to the root file system.
    #[arg(long, num_args = 0..=1, require_equals = true, action = Set, default_value = "false",
          default_missing_value = "true", hide_default_value = true, value_parser = switch, value_name = "BOOL")]
    pub read_only: bool,
    /// With --read-only: writes to /run, /tmp and /var/tmp stay in memory.
    #[arg(long, num_args = 0..=1, require_equals = true, action = Set, default_value = "true",
          default_missing_value = "true", value_parser = switch, value_name = "BOOL")]
    pub read_only_tmpfs: bool,
    /// Keep nothing of the container, as always.
    #[arg(long)]
    rm: bool,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Options {
        let words = ["xc", "do"].into_iter().chain(words.split(' ')).chain(["--", "true"]);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Do(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn switches_are_spelled_in_all_ways_of_podman() {
        let of = |words| (options(words).interactive, options(words).tty);
        for words in ["-it", "-ti", "-i -t", "--interactive --tty", "-i=1 --tty=TRUE", "-i -i -t", "-t=false -it"] {
            assert_eq!(of(words), (true, true), "{words}");
        }
        assert_eq!(
            [of("-i=F"), of("--interactive=false -t"), of("-it -t=false")],
            [(false, false), (false, true), (true, false)]
        );
        let refused = Arguments::try_parse_from(["xc", "do", "-i=no", "true"]).unwrap_err().to_string();
        assert!(refused.contains("--interactive") && refused.contains("write true or false"), "{refused}");
    }

    #[test]
    fn h_is_the_host_name_and_help_is_spelled_out() {
        assert_eq!(options("-h web").hostname.as_deref(), Some("web"));
        for verb in ["do", "run"] {
            let help = Arguments::try_parse_from(["xc", verb, "--help"]).unwrap_err();
            assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
        }
    }

    #[test]
    fn of_an_option_with_one_value_the_last_counts_and_lists_grow() {
        let options = options("-w /a --name a -e A=1 -v /x:/x --workdir=/b --name b -e B=2 -v /y:/y");
        assert_eq!((options.workdir, options.name), (Some("/b".into()), Some("b".into())));
        assert_eq!(
            (options.env, options.volume),
            (vec!["A=1".into(), "B=2".into()], vec!["/x:/x".into(), "/y:/y".into()])
        );
    }
}
