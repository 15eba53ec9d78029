//! The metrics that a filter defined and what it reported to them.

use std::collections::BTreeMap;

use super::rules;
use crate::{MetricError, metrics::Kind};

/// Metrics of a filter.
const METRICS: usize = 32;
/// Labels of a metric.
const LABELS: usize = 8;
/// Series of a filter.
const SERIES: usize = 1000;
/// Bytes of a label's value; the rest is cut.
const LABEL_VALUE_BYTES: usize = 256;

/// What a filter reported to one metric with one list of label values.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the metric.
    pub name: String,
    /// Values of its labels, in the order of the definition.
    pub labels: Vec<String>,
    /// The sum of a counter or histogram, the last value of a gauge.
    pub value: f64,
    /// Observations of a histogram; `None`: it is none.
    pub observations: Option<u64>,
}

/// All metrics of a filter; the index is the number that the host gives out.
#[derive(Debug, Default)]
pub(super) struct Metrics(Vec<Metric>);

#[derive(Debug)]
struct Metric {
    kind: Kind,
    name: String,
    labels: Vec<String>,
    /// For each list of label values: the reports, oldest first.
    series: BTreeMap<Vec<String>, Vec<f64>>,
}

impl Metrics {
    pub(super) fn define(
        &mut self,
        kind: Kind,
        name: &str,
        labels: &[&str],
    ) -> Result<u32, MetricError> {
        if labels.len() > LABELS {
            return Err(MetricError::LimitExceeded);
        }
        let is_twice = (1..labels.len()).any(|at| labels[..at].contains(&labels[at]));
        let are_labels = labels.iter().all(|label| rules::is_label(label));
        if !rules::is_metric_name(name) || !are_labels || is_twice {
            return Err(MetricError::InvalidName);
        }
        if let Some(at) = self.0.iter().position(|metric| metric.name == name) {
            let same = self.0[at].kind == kind && self.0[at].labels == labels;
            return if same { Ok(number(at)) } else { Err(MetricError::Conflict) };
        }
        if self.0.len() >= METRICS {
            return Err(MetricError::LimitExceeded);
        }
        let labels = owned(labels);
        self.0.push(Metric { kind, name: name.to_owned(), labels, series: BTreeMap::new() });
        Ok(number(self.0.len() - 1))
    }

    pub(super) fn report(
        &mut self,
        metric: u32,
        labels: &[&str],
        value: f64,
    ) -> Result<(), MetricError> {
        let series: usize = self.0.iter().map(|metric| metric.series.len()).sum();
        let metric = usize::try_from(metric).ok().and_then(|at| self.0.get_mut(at));
        let metric = metric.ok_or(MetricError::InvalidValue)?;
        let falls = metric.kind == Kind::Counter && value < 0.0;
        if labels.len() != metric.labels.len() || !value.is_finite() || falls {
            return Err(MetricError::InvalidValue);
        }
        let cut = |label: &&str| label[..label.floor_char_boundary(LABEL_VALUE_BYTES)].to_owned();
        let key: Vec<String> = labels.iter().map(cut).collect();
        let present = metric.series.get(&key);
        if present.is_none() && series >= SERIES {
            return Err(MetricError::LimitExceeded);
        }
        let sum = present.map_or(0.0, |reports| reports.iter().sum::<f64>()) + value;
        if metric.kind != Kind::Gauge && !sum.is_finite() {
            return Err(MetricError::InvalidValue);
        }
        metric.series.entry(key).or_default().push(value);
        Ok(())
    }

    /// Everything reported to a series, oldest first.
    pub(super) fn reports(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let metric = self.0.iter().find(|metric| metric.name == name);
        metric.and_then(|metric| metric.series.get(&owned(labels))).cloned().unwrap_or_default()
    }

    /// The sum of a counter or histogram, the last value of a gauge.
    pub(super) fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let metric = self.0.iter().find(|metric| metric.name == name)?;
        metric.series.get(&owned(labels)).map(|reports| value(metric.kind, reports))
    }

    /// Every series, in the order of definition.
    pub(super) fn series(&self) -> Vec<Series> {
        let of = |metric: &Metric| {
            let one = |(labels, reports): (&Vec<String>, &Vec<f64>)| Series {
                name: metric.name.clone(),
                labels: labels.clone(),
                value: value(metric.kind, reports),
                observations: (metric.kind == Kind::Histogram).then_some(reports.len() as u64),
            };
            metric.series.iter().map(one).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

fn value(kind: Kind, reports: &[f64]) -> f64 {
    match kind {
        Kind::Gauge => reports.last().copied().unwrap_or_default(),
        Kind::Counter | Kind::Histogram => reports.iter().sum(),
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("there are at most 32 metrics")
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_definition_gives_the_same_metric_and_another_a_conflict() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.define(Kind::Counter, "a", &["l"]), Ok(0));
        assert_eq!(metrics.define(Kind::Gauge, "b", &[]), Ok(1));
        assert_eq!(metrics.define(Kind::Counter, "a", &["l"]), Ok(0));
        assert_eq!(metrics.define(Kind::Gauge, "a", &["l"]), Err(MetricError::Conflict));
        assert_eq!(metrics.define(Kind::Counter, "a", &[]), Err(MetricError::Conflict));
        assert_eq!(metrics.define(Kind::Counter, "a b", &[]), Err(MetricError::InvalidName));
    }

    #[test]
    fn definitions_and_series_have_limits() {
        let mut metrics = Metrics::default();
        let labels = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert_eq!(metrics.define(Kind::Counter, "m0", &labels[..8]), Ok(0));
        assert_eq!(metrics.define(Kind::Counter, "m1", &labels), Err(MetricError::LimitExceeded));
        for index in 1..32 {
            assert_eq!(metrics.define(Kind::Counter, &format!("m{index}"), &["l"]), Ok(index));
        }
        assert_eq!(metrics.define(Kind::Counter, "m32", &[]), Err(MetricError::LimitExceeded));
        for index in 0..1000 {
            assert_eq!(metrics.report(1, &[&index.to_string()], 1.0), Ok(()));
        }
        assert_eq!(metrics.report(1, &["0"], 1.0), Ok(()));
        assert_eq!(metrics.report(2, &["0"], 1.0), Err(MetricError::LimitExceeded));
    }

    #[test]
    fn reports_that_make_no_sense_are_refused() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.define(Kind::Counter, "a", &["l"]), Ok(0));
        for (metric, labels, value) in
            [(1, &["x"][..], 1.0), (0, &[][..], 1.0), (0, &["x"], -1.0), (0, &["x"], f64::NAN)]
        {
            assert_eq!(metrics.report(metric, labels, value), Err(MetricError::InvalidValue));
        }
    }

    #[test]
    fn a_sum_stays_finite_and_a_gauge_takes_any_number() {
        let mut metrics = Metrics::default();
        for (kind, name, again) in [
            (Kind::Counter, "a", Err(MetricError::InvalidValue)),
            (Kind::Histogram, "b", Err(MetricError::InvalidValue)),
            (Kind::Gauge, "c", Ok(())),
        ] {
            let metric = metrics.define(kind, name, &[]).unwrap();
            assert_eq!(metrics.report(metric, &[], f64::MAX), Ok(()));
            assert_eq!(metrics.report(metric, &[], f64::MAX), again, "{name}");
            assert_eq!(metrics.value(name, &[]), Some(f64::MAX));
        }
    }

    #[test]
    fn values_of_labels_are_cut_and_their_names_are_the_filters_own() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.define(Kind::Counter, "a", &["l"]), Ok(0));
        for length in [255, 256, 257] {
            assert_eq!(metrics.report(0, &[&"v".repeat(length)], 1.0), Ok(()));
        }
        assert_eq!(metrics.value("a", &[&"v".repeat(255)]), Some(1.0));
        assert_eq!(metrics.value("a", &[&"v".repeat(256)]), Some(2.0));
        for labels in [["version", "a"], ["a", "a"]] {
            assert_eq!(metrics.define(Kind::Counter, "b", &labels), Err(MetricError::InvalidName));
        }
    }
}
