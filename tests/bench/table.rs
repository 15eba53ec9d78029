//! Figures in rows and columns: every one that was measured is kept, its median is shown.

use crate::statistics::median;
use serde_json::{Value, json};

/// A column: its key in JSON, its heading, the digits behind the point.
pub(crate) type Column = (&'static str, &'static str, usize);

/// One table of the report.
pub(crate) struct Table {
    pub(crate) key: &'static str,
    title: String,
    columns: &'static [Column],
    rows: Vec<(String, Vec<Vec<f64>>)>,
    remarks: Vec<String>,
}

impl Table {
    pub(crate) fn new(key: &'static str, title: &str, columns: &'static [Column]) -> Table {
        Table { key, title: title.to_owned(), columns, rows: Vec::new(), remarks: Vec::new() }
    }

    /// Adds a figure of one round. Rows stand in the order in which they come first.
    pub(crate) fn add(&mut self, row: &str, column: &str, figure: f64) {
        let at = self.columns.iter().position(|(key, ..)| *key == column);
        let at = at.unwrap_or_else(|| panic!("the table `{}` has no column `{column}`", self.key));
        let known = self.rows.iter().position(|(name, _)| name == row);
        let index = known.unwrap_or_else(|| {
            self.rows.push((row.to_owned(), vec![Vec::new(); self.columns.len()]));
            self.rows.len() - 1
        });
        self.rows[index].1[at].push(figure);
    }

    /// Adds a sentence below the table.
    pub(crate) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Every figure of a cell, in the order of the rounds; none where it was not measured.
    pub(crate) fn figures(&self, row: &str, column: &str) -> &[f64] {
        let at = self.columns.iter().position(|(key, ..)| *key == column);
        let cells = self.rows.iter().find(|(name, _)| name == row).map(|(_, cells)| cells);
        at.zip(cells).and_then(|(at, cells)| cells.get(at)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn median(&self, row: &str, column: &str) -> Option<f64> {
        median(self.figures(row, column))
    }

    /// How many times the figure of `other` that of `row` is: the median of the rounds' ratios, as
    /// what disturbs a round disturbs both.
    pub(crate) fn ratio(&self, column: &str, row: &str, other: &str) -> Option<f64> {
        let (above, below) = (self.figures(row, column), self.figures(other, column));
        if above.len() != below.len() {
            return Some(median(above)? / median(below)?);
        }
        median(&above.iter().zip(below).map(|(a, b)| a / b).collect::<Vec<_>>())
    }

    pub(crate) fn markdown(&self) -> String {
        let headings: Vec<&str> = self.columns.iter().map(|(_, heading, _)| *heading).collect();
        let rules = "--:|".repeat(headings.len());
        let mut text =
            format!("## {}\n\n| | {} |\n|---|{rules}\n", self.title, headings.join(" | "));
        for (name, cells) in &self.rows {
            let shown = cells.iter().zip(self.columns).map(|(figures, (_, _, digits))| {
                median(figures).map_or_else(|| "–".to_owned(), |it| format!("{it:.digits$}"))
            });
            text.push_str(&format!("| {name} | {} |\n", shown.collect::<Vec<_>>().join(" | ")));
        }
        for remark in &self.remarks {
            text.push_str(&format!("\n{remark}\n"));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, cells)| {
            let cells = self.columns.iter().zip(cells);
            let cells = cells.map(|((key, ..), figures)| ((*key).to_owned(), json!(figures)));
            json!({ "name": name, "figures": cells.collect::<serde_json::Map<_, _>>() })
        });
        json!({
            "key": self.key,
            "title": self.title,
            "rows": rows.collect::<Vec<_>>(),
            "remarks": self.remarks,
        })
    }
}
