//! Where the figures come from: the machine, the kernel, the versions, the command.

use crate::load;
use crate::measure;
use pillion_tests::process::{binaries, repository};
use std::process::Command;

/// What stands below every report.
pub(crate) fn machine() -> Vec<(&'static str, String)> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut commit = Command::new("git");
    commit.args(["describe", "--always", "--dirty"]).current_dir(repository());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    vec![
        ("command", format!("bench {}", arguments.join(" ")).trim().to_owned()),
        (
            "processor",
            format!("{}, {} available", model.unwrap_or("unknown"), measure::processors()),
        ),
        ("kernel", kernel.trim().to_owned()),
        ("load average at the beginning", load.trim().to_owned()),
        ("descriptors a process may open", measure::descriptors_max().to_string()),
        ("load made by", load::by()),
        ("pillion", version(Command::new(binaries().join("pillion")).arg("--version"))),
        ("commit", version(&mut commit)),
    ]
}

/// The first line that a program writes.
pub(crate) fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let texts =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = texts.concat();
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.unwrap_or("unknown").trim().to_owned()
}
