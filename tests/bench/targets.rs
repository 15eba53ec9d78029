//! What Pillion is held to, and whether it is met: each target beside the figure measured.

use crate::report::Report;
use crate::section::curves::no_op_row;
use crate::statistics::{Line, STRAIGHT_FIT, line};
use crate::subject::{ENVOY, ENVOY_WASM, HYPER, NGINX, PILLION, PILLION_THREE};
use serde_json::{Value, json};

/// One target, held against a report.
pub(crate) struct Verdict {
    what: String,
    /// `None`: not measured in this run.
    measured: Option<f64>,
    bound: Bound,
    unit: &'static str,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Verdict {
    fn met(&self) -> Option<bool> {
        self.measured.map(|figure| match self.bound {
            Bound::AtMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
        })
    }

    fn word(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        }
    }

    fn bound(&self) -> String {
        match self.bound {
            Bound::AtMost(most) => format!("≤ {most}{}", self.unit),
            Bound::AtLeast(least) => format!("≥ {least}{}", self.unit),
        }
    }
}

/// Every target.
pub(crate) fn verdicts(report: &Report) -> Vec<Verdict> {
    let ratio = |table: &str, column, row, other| report.table(table)?.ratio(column, row, other);
    let figure = |table: &str, row, column| report.table(table)?.median(row, column);
    let most = |what: &str, measured, most, unit| Verdict {
        what: what.to_owned(),
        measured,
        bound: Bound::AtMost(most),
        unit,
    };
    let least = |what: &str, measured, least| Verdict {
        what: what.to_owned(),
        measured,
        bound: Bound::AtLeast(least),
        unit: " ×",
    };
    let filters = filters_line(report);
    let mut verdicts = Vec::new();
    // Where nobody pays for waking the load; then as wrk makes it, which sleeps beside slower proxies.
    for (table, note) in [("cpu_awake", ""), ("cpu", "; load may sleep")] {
        for (what, row, other, bound) in [
            ("no filters, to minimal hyper", PILLION, HYPER, 1.05),
            ("no filters, to nginx", PILLION, NGINX, 1.1),
            ("three filters, to minimal hyper", PILLION_THREE, HYPER, 1.25),
            ("three filters, to Envoy with none", PILLION_THREE, ENVOY, 0.65),
            ("three filters, to Envoy's three", PILLION_THREE, ENVOY_WASM, 0.5),
        ] {
            let measured = ratio(table, "cpu_us", row, other);
            verdicts.push(most(&format!("CPU, {what}{note}"), measured, bound, " ×"));
        }
    }
    // The same twice: a processor that sleeps takes longer to wake than any proxy does to answer.
    for (table, note) in [("latency_awake", ""), ("latency", "; processors may sleep")] {
        for (what, column, bound) in [("p50", "added_p50_us", 60.0), ("p99", "added_p99_us", 300.0)]
        {
            let measured = figure(table, PILLION, column);
            verdicts.push(most(&format!("added {what} at 1,000/s{note}"), measured, bound, " µs"));
        }
    }
    verdicts.extend([
        most("one more no-op filter", filters.map(|line| line.slope), 0.3, " µs"),
        least("ten filters on a straight line (R²)", filters.map(|line| line.fit), STRAIGHT_FIT),
        most("RSS idle, three filters", figure("memory", PILLION_THREE, "rss_mib"), 8.0, " MiB"),
        most("anonymous part of it", figure("memory", PILLION_THREE, "anonymous_mib"), 4.0, " MiB"),
        most("RSS per idle connection", figure("connections", PILLION, "rss_kib"), 8.0, " KiB"),
        most("RSS per active h2 stream", figure("streams", PILLION, "rss_kib"), 40.0, " KiB"),
        most("start to first 200, cached", figure("start", PILLION_THREE, "start_ms"), 25.0, " ms"),
        most("save to first answer, cached", figure("swap", "compiled before", "ms"), 30.0, " ms"),
        most("save to first answer, cold", figure("swap", "compiled cold", "ms"), 150.0, " ms"),
        most(
            "p99 during swaps, to without",
            ratio("swap_latency", "p99_us", "with swaps", "without"),
            1.1,
            " ×",
        ),
        least(
            "throughput, two workers to one",
            ratio("workers", "per_second", "two workers", "one worker"),
            1.8,
        ),
        least("10 MB down, to nginx", ratio("bodies", "down_mb", PILLION, NGINX), 0.9),
        least("10 MB up, to nginx", ratio("bodies", "up_mb", PILLION, NGINX), 0.9),
    ]);
    verdicts
}

/// The cost of no-op filters over their number.
fn filters_line(report: &Report) -> Option<Line> {
    let table = report.table("curve_filters")?;
    let points = (0..=10)
        .filter_map(|count| Some((count as f64, table.median(&no_op_row(count), "cpu_us")?)));
    line(&points.collect::<Vec<_>>())
}

pub(crate) fn markdown(verdicts: &[Verdict]) -> String {
    let mut text = String::from("| | target | measured | |\n|---|--:|--:|---|\n");
    for verdict in verdicts {
        let Verdict { what, measured, unit, .. } = verdict;
        let measured = measured.map_or_else(|| "–".to_owned(), |it| format!("{it:.2}{unit}"));
        let (bound, word) = (verdict.bound(), verdict.word());
        text.push_str(&format!("| {what} | {bound} | {measured} | {word} |\n"));
    }
    text
}

pub(crate) fn json(verdicts: &[Verdict]) -> Value {
    let each = verdicts.iter().map(|verdict| {
        json!({
            "what": verdict.what,
            "target": verdict.bound(),
            "measured": verdict.measured,
            "met": verdict.met(),
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(measured: Option<f64>, bound: Bound) -> Verdict {
        Verdict { what: "speed".to_owned(), measured, bound, unit: " ×" }
    }

    #[test]
    fn a_target_is_met_up_to_its_bound_and_not_beyond() {
        for (measured, bound, met) in [
            (Some(0.9), Bound::AtMost(1.0), Some(true)),
            (Some(1.0), Bound::AtMost(1.0), Some(true)),
            (Some(1.1), Bound::AtMost(1.0), Some(false)),
            (Some(1.1), Bound::AtLeast(1.0), Some(true)),
            (Some(1.0), Bound::AtLeast(1.0), Some(true)),
            (Some(0.9), Bound::AtLeast(1.0), Some(false)),
            (None, Bound::AtMost(1.0), None),
        ] {
            assert_eq!(verdict(measured, bound).met(), met);
        }
    }

    #[test]
    fn the_table_says_what_is_met_what_is_not_and_what_was_not_measured() {
        let text = markdown(&[
            verdict(Some(0.5), Bound::AtMost(1.05)),
            verdict(Some(2.0), Bound::AtMost(1.05)),
            verdict(None, Bound::AtLeast(0.9)),
        ]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows[0], "| speed | ≤ 1.05 × | 0.50 × | met |");
        assert_eq!(rows[1], "| speed | ≤ 1.05 × | 2.00 × | **not met** |");
        assert_eq!(rows[2], "| speed | ≥ 0.9 × | – | not measured |");
    }
}
