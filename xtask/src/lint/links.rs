//! Checks of the book: links between pages lead to files, and SUMMARY.md has every page.

use super::Finding;
use crate::command;
use anyhow::Result;
use std::path::{Component, Path, PathBuf};

/// The book's list of pages.
const SUMMARY: &str = "docs/SUMMARY.md";
/// What is no page: the list itself, and what decisions are copied from.
const NO_PAGES: [&str; 2] = [SUMMARY, "docs/design/0000-template.md"];

/// Looks at the links of all tracked pages.
///
/// # Errors
/// When a page cannot be read.
pub(crate) fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let pages = files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "md"));
    let texts = pages.map(|page| Ok((page.clone(), std::fs::read_to_string(command::root().join(page))?)));
    Ok(judge(files, &texts.collect::<Result<Vec<_>>>()?))
}

fn judge(files: &[PathBuf], pages: &[(PathBuf, String)]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = pages.iter().flat_map(|(page, text)| dead(files, page, text)).collect();
    let summary = pages.iter().find(|(page, _)| page == Path::new(SUMMARY));
    let listed: Vec<PathBuf> = summary.into_iter().flat_map(|(page, text)| all_links(page, text)).collect();
    let is_page = |page: &Path| page.starts_with("docs") && NO_PAGES.iter().all(|other| page != Path::new(other));
    let unlisted = pages.iter().filter(|(page, _)| is_page(page) && !listed.contains(page));
    let lacks = |(page, _): &(PathBuf, String)| Finding {
        place: page.display().to_string(),
        message: format!("{SUMMARY} lacks it"),
    };
    findings.extend(unlisted.map(lacks));
    findings
}

/// Links of a page that lead to no file of ours.
fn dead(files: &[PathBuf], page: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for link in links(line).filter(|link| !files.contains(&from(page, link))) {
            let place = format!("{}:{number}", page.display());
            findings.push(Finding { place, message: format!("{link} leads nowhere") });
        }
    }
    findings
}

fn all_links(page: &Path, text: &str) -> Vec<PathBuf> {
    text.lines().flat_map(links).map(|link| from(page, link)).collect()
}

/// The targets of a line's links to files of ours.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|behind| behind.split_once(')'));
    let paths = targets.filter_map(|(target, _)| target.split('#').next());
    paths.filter(|path| !path.is_empty() && !path.contains(':'))
}

/// Where a link of a page leads.
fn from(page: &Path, link: &str) -> PathBuf {
    let mut place = page.parent().map_or_else(PathBuf::new, Path::to_owned);
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::Normal(name) => place.push(name),
            _ => {}
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_and_pages_that_nobody_lists_are_found() {
        let files: Vec<PathBuf> =
            [SUMMARY, "README.md", "docs/a.md", "docs/design/b.md", "docs/design/0000-template.md", "benches/x.svg"]
                .map(PathBuf::from)
                .to_vec();
        let text = |file: &PathBuf| match file.to_str() {
            Some(SUMMARY) => "- [A](a.md)",
            Some("README.md") => "[A](docs/a.md), [host](https://example.org/no.md)",
            Some("docs/a.md") => "[here](#x) [x](../benches/x.svg) and\n[B](design/b.md#why) [C](design/c.md)",
            _ => "",
        };
        let pages: Vec<_> = files.iter().take(5).map(|file| (file.clone(), text(file).to_owned())).collect();
        let findings: Vec<String> = judge(&files, &pages).iter().map(ToString::to_string).collect();
        assert_eq!(findings, ["docs/a.md:2: design/c.md leads nowhere", "docs/design/b.md: docs/SUMMARY.md lacks it"]);
    }
}
