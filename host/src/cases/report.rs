//! What came of a run, told: lines for a terminal, JSON for programs, JUnit for CI servers.

use super::{CaseReport, Counts, FileReport, Finding, Report, Verdict, diff};
use crate::wasm::Usage;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// How much is told on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Every case, and what differs.
    #[default]
    Results,
    /// Also what each case used.
    Usage,
}

/// For a terminal, without a final line break.
pub fn text(report: &Report, detail: Detail) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    for file in &report.files {
        let _ = writeln!(out, "{}", file.name);
        for case in &file.cases {
            text_of_case(&mut out, case, detail);
        }
        for problem in &file.problems {
            let _ = writeln!(out, "\n{}", indented(&problem.to_string()));
        }
        out.truncate(out.trim_end().len());
        out.push_str("\n\n");
    }
    let Counts { passed, failed, broken } = report.counts();
    let _ = write!(out, "{passed} passed, {failed} failed");
    if broken > 0 {
        let _ = write!(out, ", {broken} not played");
    }
    out
}

fn text_of_case(out: &mut String, case: &CaseReport, detail: Detail) {
    let word = match case.verdict {
        Verdict::Passed => "ok  ",
        Verdict::Failed(_) => "FAIL",
        Verdict::Broken => "----",
    };
    let _ = write!(out, "  {word}  {}", case.name);
    if detail == Detail::Usage && case.exchanges > 0 {
        let Usage { time, memory_bytes, host_calls } = case.usage;
        let (time, memory) = (shown_time(time), shown_size(memory_bytes as u64));
        let _ = write!(out, " ({time}, {memory}, {host_calls} host calls)");
    }
    out.push('\n');
    if let Verdict::Failed(findings) = &case.verdict {
        for finding in findings {
            let _ = writeln!(out, "\n{}", indented(&text_of_finding(finding)));
        }
        out.push('\n');
    }
}

/// Place, message and the lines that differ.
pub fn text_of_finding(finding: &Finding) -> String {
    let Finding { diagnostic, mismatch } = finding;
    let mut text = diagnostic.to_string();
    if !(diff::is_short(&mismatch.expected) && diff::is_short(&mismatch.got)) {
        for line in diff::diff(&mismatch.expected, &mismatch.got) {
            text.push('\n');
            text.push_str(&line);
        }
    }
    text
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// For programs.
pub fn json(report: &Report) -> Value {
    let Counts { passed, failed, broken } = report.counts();
    let files: Vec<Value> = report.files.iter().map(json_of_file).collect();
    json!({ "passed": passed, "failed": failed, "broken": broken, "files": files })
}

fn json_of_file(file: &FileReport) -> Value {
    let place = |diagnostic: &crate::config::Diagnostic| {
        let place = diagnostic.place.as_ref();
        (place.map(|place| place.line), place.map(|place| place.column))
    };
    let problem = |problem: &crate::config::Diagnostic| {
        let (line, column) = place(problem);
        json!({ "line": line, "column": column, "message": problem.message, "help": problem.help })
    };
    let finding = |finding: &Finding| {
        let (line, column) = place(&finding.diagnostic);
        json!({
            "line": line,
            "column": column,
            "message": finding.diagnostic.message,
            "what": finding.mismatch.what,
            "expected": finding.mismatch.expected,
            "got": finding.mismatch.got,
        })
    };
    let case = |case: &CaseReport| {
        let (result, findings) = match &case.verdict {
            Verdict::Passed => ("passed", Vec::new()),
            Verdict::Failed(findings) => ("failed", findings.iter().map(finding).collect()),
            Verdict::Broken => ("broken", Vec::new()),
        };
        let Usage { time, memory_bytes, host_calls } = case.usage;
        json!({
            "name": case.name,
            "line": case.line,
            "result": result,
            "exchanges": case.exchanges,
            "usage": {
                "time_ns": u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
                "memory_bytes": memory_bytes,
                "host_calls": host_calls,
            },
            "findings": findings,
        })
    };
    let problems: Vec<Value> = file.problems.iter().map(problem).collect();
    let cases: Vec<Value> = file.cases.iter().map(case).collect();
    json!({ "name": &*file.name, "problems": problems, "cases": cases })
}

/// JUnit XML, as CI servers read it: a suite a file, a case a case.
pub fn junit(report: &Report) -> String {
    let Counts { passed, failed, broken } = report.counts();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "<testsuites tests=\"{}\" failures=\"{failed}\" errors=\"{broken}\">",
        passed + failed + broken
    );
    for file in &report.files {
        junit_of_file(&mut out, file);
    }
    out.push_str("</testsuites>\n");
    out
}

fn junit_of_file(out: &mut String, file: &FileReport) {
    let unread = usize::from(file.file.is_none());
    let count = |wanted: &dyn Fn(&Verdict) -> bool| {
        file.cases.iter().filter(|case| wanted(&case.verdict)).count()
    };
    let failures = count(&|verdict| matches!(verdict, Verdict::Failed(_)));
    let errors = count(&|verdict| matches!(verdict, Verdict::Broken)) + unread;
    let name = xml(&file.name);
    let tests = file.cases.len() + unread;
    let problems: Vec<String> = file.problems.iter().map(ToString::to_string).collect();
    let problems = xml(&problems.join("\n\n"));
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
    );
    if unread == 1 {
        let _ = writeln!(
            out,
            "    <testcase name=\"the file can be read\" classname=\"{name}\">\
             <error>{problems}</error></testcase>"
        );
    }
    for case in &file.cases {
        let _ = write!(
            out,
            "    <testcase name=\"{}\" classname=\"{name}\" time=\"{:.6}\">",
            xml(&case.name),
            case.usage.time.as_secs_f64()
        );
        match &case.verdict {
            Verdict::Passed => {}
            Verdict::Failed(findings) => {
                for finding in findings {
                    let message = xml(&finding.diagnostic.message);
                    let text = xml(&text_of_finding(finding));
                    let _ = write!(out, "<failure message=\"{message}\">{text}</failure>");
                }
            }
            Verdict::Broken => {
                let _ = write!(out, "<error>{problems}</error>");
            }
        }
        out.push_str("</testcase>\n");
    }
    out.push_str("  </testsuite>\n");
}

/// Text and attribute values of XML 1.0, which has no control characters but tab and line ends.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            other if other.is_control() => out.push('\u{FFFD}'),
            other => out.push(other),
        }
    }
    out
}

/// A time as short as it can be told.
pub(super) fn shown_time(time: Duration) -> String {
    let micros = time.as_nanos() as f64 / 1e3;
    if micros < 1e3 { format!("{micros:.1} µs") } else { format!("{:.2} ms", micros / 1e3) }
}

/// A size as short as it can be told.
pub(super) fn shown_size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_has_no_character_that_it_may_not_have() {
        let shown = xml("a<b>&\"\n\t\u{1b}\u{0}\u{ffff}ü");
        assert_eq!(shown, "a&lt;b&gt;&amp;&quot;&#10;&#9;\u{fffd}\u{fffd}\u{fffd}ü");
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(shown_time(Duration::from_nanos(1_260)), "1.3 µs");
        assert_eq!(shown_time(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(shown_size(1_023), "1023 B");
        assert_eq!(shown_size(1_088 << 10), "1.06 MiB");
        assert_eq!(shown_size(1_536), "1.5 KiB");
    }
}
