//! The report as JSON and as Markdown: targets first, then every table, then where it was measured.

use crate::machine::machine;
use crate::table::Table;
use crate::targets;
use pillion_tests::process::target;
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;

/// Everything measured so far.
pub(crate) struct Report {
    pub(crate) tables: Vec<Table>,
    /// What was not measured, and why.
    skipped: Vec<String>,
    machine: Vec<(&'static str, String)>,
}

impl Report {
    /// With the machine it is made on, and the versions of the peers.
    pub(crate) fn new(versions: Vec<(&'static str, String)>) -> Report {
        let mut machine = machine();
        machine.extend(versions);
        Report { tables: Vec::new(), skipped: Vec::new(), machine }
    }

    /// Notes that something is not measured, and tells it now; once, however many rounds meet it.
    pub(crate) fn skip(&mut self, reason: String) {
        if !self.skipped.contains(&reason) {
            eprintln!("skipped: {reason}");
            self.skipped.push(reason);
        }
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.key == key)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("# What Pillion costs\n\n");
        text.push_str(&targets::markdown(&targets::verdicts(self)));
        for table in &self.tables {
            text.push_str(&format!("\n{}", table.markdown()));
        }
        text.push_str(
            "\n## Where and how\n\nFigures are medians over interleaved rounds. Proxies are pinned \
             to one processor, load and origin to the others. Everything goes over loopback.\n\n",
        );
        for (what, value) in &self.machine {
            text.push_str(&format!("- {what}: {value}\n"));
        }
        for reason in &self.skipped {
            text.push_str(&format!("- skipped: {reason}\n"));
        }
        text
    }

    fn json(&self) -> Value {
        let machine: serde_json::Map<String, Value> = self
            .machine
            .iter()
            .map(|(what, value)| ((*what).to_owned(), value.as_str().into()))
            .collect();
        json!({
            "targets": targets::json(&targets::verdicts(self)),
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(),
            "machine": machine,
            "skipped": self.skipped,
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
