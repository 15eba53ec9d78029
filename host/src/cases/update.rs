//! Rewrites expectations that were not met: what differs takes the place of what was expected.
//!
//! Only whole values that a person wrote as such; conditions like `matches` and budgets stay. A file
//! is written whole or not at all, and only as it was when it was played.

use super::{FileReport, Finding, Report, Verdict};
use crate::config::case;
use std::io;
use std::path::{Path, PathBuf};

/// The changes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Where it is.
    pub path: PathBuf,
    /// Each change in words.
    pub changes: Vec<String>,
    /// Expectations that were not met and stay as they are.
    pub left: usize,
    before: String,
    after: String,
}

/// What would be rewritten.
pub fn updates(report: &Report) -> Vec<Update> {
    report.files.iter().filter_map(update_of).collect()
}

fn update_of(report: &FileReport) -> Option<Update> {
    let file = report.file.as_ref()?;
    let findings: Vec<&Finding> = report
        .cases
        .iter()
        .filter_map(|case| match &case.verdict {
            Verdict::Failed(findings) => Some(findings),
            Verdict::Passed | Verdict::Broken => None,
        })
        .flatten()
        .collect();
    let mut edits: Vec<(&Finding, &str)> = findings
        .iter()
        .filter_map(|finding| Some((*finding, finding.mismatch.rewrite.as_deref()?)))
        .collect();
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(finding, _)| finding.mismatch.span.start);
    let before = file.text();
    let (mut after, mut end, mut changes) = (String::with_capacity(before.len()), 0, Vec::new());
    for (finding, text) in edits {
        let span = &finding.mismatch.span;
        // Defensive: two expectations never share a value.
        let Some(kept) = before.get(end..span.start) else { continue };
        let Some(old) = before.get(span.clone()) else { continue };
        after.push_str(kept);
        after.push_str(text);
        end = span.end;
        let line = finding.diagnostic.place.as_ref().map_or(0, |place| place.line);
        changes.push(format!("{}:{line}: {}: {old} → {text}", file.name, finding.mismatch.what));
    }
    after.push_str(&before[end..]);
    let left = findings.len() - changes.len();
    let (path, before) = (file.path.clone(), before.to_owned());
    Some(Update { path, changes, left, before, after })
}

/// Writes the file.
///
/// # Errors
/// It has changed since, or cannot be written, or what would be written is no case file.
pub fn write(update: &Update) -> io::Result<()> {
    let Update { path, before, after, .. } = update;
    if std::fs::read_to_string(path)? != *before {
        let message = "it has changed since it was played; play it again";
        return Err(io::Error::other(message));
    }
    let name = path.display().to_string();
    let base = path.parent().unwrap_or(Path::new("/"));
    let env = |variable: &str| std::env::var(variable).ok();
    if let Err(problems) = case::parse(after, &name, base, &env) {
        return Err(io::Error::other(format!("the result would be no case file:\n{problems}")));
    }
    let mut temporary = path.clone().into_os_string();
    temporary.push(format!(".{}.new", std::process::id()));
    let written = std::fs::write(&temporary, after)
        .and_then(|()| std::fs::set_permissions(&temporary, std::fs::metadata(path)?.permissions()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The first error says more than this one would.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
