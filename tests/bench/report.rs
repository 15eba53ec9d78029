//! The figures as JSON and as Markdown, with the machine they come from.

use crate::load;
use crate::measure::median;
use pillion_tests::process::{binaries, find, target};
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Everything measured.
pub(crate) struct Report {
    names: Vec<String>,
    figures: Vec<Figures>,
    pub(crate) swap_ms: Vec<f64>,
}

/// Of one proxy, one entry a round.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub(crate) cpu_us: Vec<f64>,
    pub(crate) per_second: Vec<f64>,
    pub(crate) idle_mib: Vec<f64>,
    pub(crate) busy_mib: Vec<f64>,
    pub(crate) start_ms: Vec<f64>,
    pub(crate) failed: u64,
}

impl Report {
    pub(crate) fn new(names: Vec<String>) -> Report {
        Report { figures: vec![Figures::default(); names.len()], names, swap_ms: Vec::new() }
    }

    pub(crate) fn figures(&mut self, index: usize) -> &mut Figures {
        &mut self.figures[index]
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| proxy | CPU per request, µs | requests/s | RSS after start, MiB | under load, MiB | \
             start to first 200, ms | failed |\n|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for (name, figures) in self.names.iter().zip(&self.figures) {
            let columns = [
                show(&figures.cpu_us, 1),
                show(&figures.per_second, 0),
                show(&figures.idle_mib, 1),
                show(&figures.busy_mib, 1),
                show(&figures.start_ms, 1),
                figures.failed.to_string(),
            ];
            text.push_str(&format!("| {name} | {} |\n", columns.join(" | ")));
        }
        text.push_str(&format!(
            "\nFrom a saved filter to the first answer of its new version: {} ms (median of {}; \
             compiled before).\n\nMedians; each proxy pinned to one processor, everything else on \
             the others.\n\n",
            show(&self.swap_ms, 1),
            self.swap_ms.len()
        ));
        for (what, value) in machine() {
            text.push_str(&format!("- {what}: {value}\n"));
        }
        text
    }

    fn json(&self) -> Value {
        let proxies = self.names.iter().zip(&self.figures).map(|(name, figures)| {
            json!({
                "name": name,
                "cpu_us_per_request": figures.cpu_us,
                "requests_per_second": figures.per_second,
                "rss_after_start_mib": figures.idle_mib,
                "rss_under_load_mib": figures.busy_mib,
                "start_ms": figures.start_ms,
                "failed": figures.failed,
            })
        });
        let machine: serde_json::Map<String, Value> =
            machine().into_iter().map(|(what, value)| (what.to_owned(), value.into())).collect();
        json!({
            "proxies": proxies.collect::<Vec<_>>(),
            "save_to_first_answer_ms": self.swap_ms,
            "machine": machine,
        })
    }

    /// Writes `report.json` and `report.md`; where.
    pub(crate) fn save(&self) -> io::Result<PathBuf> {
        let place = target().join("bench");
        std::fs::create_dir_all(&place)?;
        std::fs::write(place.join("report.json"), format!("{:#}\n", self.json()))?;
        std::fs::write(place.join("report.md"), self.markdown())?;
        Ok(place)
    }
}

fn show(figures: &[f64], digits: usize) -> String {
    median(figures).map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
}

fn machine() -> Vec<(&'static str, String)> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut lines = vec![
        ("processor", format!("{}, {cores} available", model.unwrap_or("unknown"))),
        ("kernel", kernel.trim().to_owned()),
        ("load average at the end", load.trim().to_owned()),
        ("load made by", load::by()),
        ("pillion", version(Command::new(binaries().join("pillion")).arg("--version"))),
    ];
    if let Some(nginx) = find("nginx") {
        lines.push(("nginx", version(Command::new(nginx).arg("-v"))));
    }
    lines
}

fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let texts =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    texts.concat().trim().to_owned()
}
