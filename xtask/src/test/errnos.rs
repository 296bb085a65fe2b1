//! `errnos.txt`: which errnos each supported call has to answer in some case, against what the cases were answered.

use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// What a call answered, by its name: `ok` and names of errnos.
pub(super) type Seen = BTreeMap<String, BTreeSet<String>>;

/// A call of the list, and what becomes of each of its errnos.
#[derive(Default)]
struct Call<'a> {
    name: &'a str,
    wanted: BTreeSet<&'a str>,
    excused: BTreeSet<&'a str>,
    /// Without a case yet.
    todo: BTreeSet<&'a str>,
}

/// What is said of every call.
#[derive(Default)]
struct Everywhere<'a> {
    excused: BTreeSet<&'a str>,
    /// Calls and errnos of them that are not.
    but: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Everywhere<'a> {
    /// `ERRNO CALL…`.
    fn but(&mut self, pairs: &'a str) {
        let mut words = pairs.split_whitespace();
        let errno = words.next().unwrap_or_default();
        self.but.extend(words.map(|call| (call, errno)));
    }

    fn excuses(&self, call: &str, errno: &str) -> bool {
        self.excused.contains(errno) && !self.but.contains(&(call, errno))
    }
}

/// Reads `# open: ok, ENOENT` into `seen`; false for any other line.
pub(super) fn note(line: &str, seen: &mut Seen) -> bool {
    let Some((call, answers)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(": ")) else { return false };
    seen.entry(call.to_owned()).or_default().extend(answers.split(", ").map(str::to_owned));
    true
}

/// Where list and cases differ: pairs that no case brought about, pairs excused that one did, calls that the list lacks; and how many
/// pairs still want a case.
///
/// # Errors
/// A line that is none of the list's.
pub(super) fn compare<'a>(
    list: &str,
    supported: impl Iterator<Item = &'a str>,
    seen: &Seen,
) -> Result<(Vec<String>, usize)> {
    let (everywhere, calls) = parse(list)?;
    let listed: BTreeSet<&str> = calls.iter().map(|call| call.name).collect();
    let mut wrong: Vec<String> =
        supported.filter(|name| !listed.contains(name)).map(|name| format!("{name} is not in the list")).collect();
    let nothing = BTreeSet::new();
    for call in &calls {
        let answers = seen.get(call.name).unwrap_or(&nothing);
        let excused = |errno: &str| {
            everywhere.excuses(call.name, errno) || [&call.excused, &call.todo].iter().any(|set| set.contains(errno))
        };
        let due = call.wanted.iter().filter(|errno| !excused(errno) && !answers.contains(**errno));
        wrong.extend(due.map(|errno| format!("no case has {} answer {errno}", call.name)));
        let brought = call.excused.iter().filter(|errno| answers.contains(**errno));
        wrong.extend(brought.map(|errno| format!("{} is excused of {errno}, which a case has it answer", call.name)));
    }
    Ok((wrong, calls.iter().map(|call| call.todo.len()).sum()))
}

/// What is said of every call, and the calls.
fn parse(list: &str) -> Result<(Everywhere<'_>, Vec<Call<'_>>)> {
    let (mut everywhere, mut all) = (Everywhere::default(), Call::default());
    let mut calls: Vec<Call<'_>> = Vec::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("    "), calls.last_mut()) {
            (None, _) => calls.extend(call(line)),
            (Some(rest), Some(call)) => exception(rest, call)?,
            (Some(rest), None) => match rest.strip_prefix("but ") {
                Some(pairs) => everywhere.but(pairs),
                None => exception(rest, &mut all)?,
            },
        }
    }
    everywhere.excused = all.excused;
    Ok((everywhere, calls))
}

fn call(line: &str) -> Option<Call<'_>> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    Some(Call { name, wanted: words.collect(), ..Call::default() })
}

/// `never ERRNO…: why`, or `todo ERRNO…`.
fn exception<'a>(rest: &'a str, call: &mut Call<'a>) -> Result<()> {
    let (kind, names) = rest.split_once(' ').unwrap_or((rest, ""));
    let (names, into) = match (kind, names.split_once(": ")) {
        ("never", Some((names, _))) => (names, &mut call.excused),
        ("todo", None) => (names, &mut call.todo),
        _ => {
            bail!("errnos.txt: {rest:?} of {} is neither `never ERRNO…: why` nor `todo ERRNO…`", call.name)
        }
    };
    for name in names.split_whitespace() {
        if !call.name.is_empty() && !call.wanted.contains(name) {
            bail!("errnos.txt: {name} is told of and not listed for {}", call.name);
        }
        into.insert(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# comment\n    never EIO: disks\n    but EIO read\nopen ok ENOENT EDQUOT EIO EINTR\n    never EDQUOT: no quotas\n    todo EINTR\nread ok EIO\n";

    fn seen(lines: &[&str]) -> Seen {
        let mut seen = Seen::new();
        assert!(lines.iter().all(|line| note(line, &mut seen)));
        seen
    }

    #[test]
    fn what_no_case_brought_about_is_told() {
        let compared = compare(LIST, ["open", "write"].into_iter(), &seen(&["# open: ok, EPERM"]));
        let Ok((wrong, todo)) = compared else { panic!("not read") };
        assert_eq!(
            wrong,
            [
                "write is not in the list",
                "no case has open answer ENOENT",
                "no case has read answer EIO",
                "no case has read answer ok",
            ]
        );
        assert_eq!(todo, 1);
    }

    #[test]
    fn answers_of_several_runs_count_together() {
        let mut seen = seen(&["# open: ok", "# open: ENOENT", "# read: ok, EIO"]);
        assert_eq!(compare(LIST, ["open"].into_iter(), &seen).ok(), Some((Vec::new(), 1)));
        assert!(!note("ok file::open", &mut seen));
    }

    #[test]
    fn an_excuse_that_does_not_hold_is_told() {
        let seen = seen(&["# open: ok, ENOENT, EDQUOT", "# read: ok, EIO"]);
        let Ok((wrong, _)) = compare(LIST, [].into_iter(), &seen) else { panic!("not read") };
        assert_eq!(wrong, ["open is excused of EDQUOT, which a case has it answer"]);
    }

    #[test]
    fn a_line_of_another_form_is_named() {
        for bad in
            ["    maybe EPERM", "open ok\n    never EPERM: why", "open ok\n    never ok", "open ok\n    maybe ok"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
