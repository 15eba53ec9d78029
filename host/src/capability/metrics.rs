//! The `metrics` capability: what a filter version counts and measures.
//!
//! A [`Registry`] belongs to one version of one filter, is shared by the instances of all workers
//! and goes with the version. `telemetry::custom` shows it; this file knows no exposition format.

use super::locked;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Metrics of a registry.
pub const METRICS_MAX: usize = 32;
/// Labels of a metric, without those the host adds.
pub const LABELS_MAX: usize = 8;
/// Series of a registry: combinations of label values that were reported, over all metrics.
pub const SERIES_MAX: usize = 1_000;
/// Bytes of the name of a metric or of a label.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a label's value; the rest is cut off.
pub const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Bytes of a help text; the rest is cut off.
pub const HELP_BYTES_MAX: usize = 256;

/// Upper bounds, in seconds, of histograms whose name ends in `_seconds`.
pub const SECONDS_BUCKETS: [f64; 22] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
];
/// Upper bounds of the others: powers of four.
pub const PLAIN_BUCKETS: [f64; 16] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Label names the host or the exposition format needs for itself.
const LABELS_RESERVED: [&str; 4] = ["filter", "version", "le", "quantile"];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Is set.
    Gauge,
    /// Sorts what it observes into buckets.
    Histogram,
}

/// Why a call was refused; the cases of `metric-error` in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Not a name, too long, a label twice, or a label of the host (`filter`, `version`, `le`,
    /// `quantile`, or beginning with `__`).
    #[error("the name of the metric or of a label is not allowed")]
    InvalidName,
    /// Too many metrics, labels or series.
    #[error("a limit of the filter's metrics would be exceeded")]
    LimitExceeded,
    /// Known with another kind or with other labels.
    #[error("the metric is known with another kind or other labels")]
    Conflict,
    /// No such metric, a wrong number of label values, or a value that makes no sense there.
    #[error("there is no such metric, or it cannot take these labels or this value")]
    InvalidValue,
}

/// The metrics of one filter version.
#[derive(Debug)]
pub struct Registry {
    filter: Arc<str>,
    version: Arc<str>,
    inner: Mutex<Inner>,
}

/// A metric as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What it is.
    pub kind: Kind,
    /// As the filter defined it.
    pub name: Arc<str>,
    /// As the filter defined it.
    pub help: Arc<str>,
    /// Names of the labels.
    pub labels: Arc<[Box<str>]>,
    /// Upper bounds of a histogram's buckets, without the last, infinite one; empty for the others.
    pub bounds: &'static [f64],
    /// In no particular order.
    pub series: Vec<Series>,
}

/// One combination of label values.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Values of the labels, in their order.
    pub labels: Box<[Box<str>]>,
    /// Sum of a counter or histogram, value of a gauge.
    pub value: f64,
    /// Observations in each bucket of a histogram, not cumulated; one more than there are bounds.
    pub buckets: Box<[u64]>,
}

#[derive(Debug, Default)]
struct Inner {
    metrics: Vec<Metric>,
    series: usize,
    /// Key under construction, reused.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Metric {
    kind: Kind,
    name: Arc<str>,
    help: Arc<str>,
    labels: Arc<[Box<str>]>,
    bounds: &'static [f64],
    /// By the label values, each followed by a byte that UTF-8 does not have.
    series: HashMap<Box<[u8]>, Series, RandomState>,
}

impl Registry {
    /// Of a version that has reported nothing yet.
    pub fn new(filter: Arc<str>, version: Arc<str>) -> Self {
        Registry { filter, version, inner: Mutex::default() }
    }

    /// Name of the filter.
    pub fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    /// Its version.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Registers a metric and gives its number; the same again gives the same number.
    pub fn define(
        &self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<u32, MetricError> {
        if !is_name(name) || !labels.iter().all(|label| is_label(label)) {
            return Err(MetricError::InvalidName);
        }
        if labels.len() > LABELS_MAX {
            return Err(MetricError::LimitExceeded);
        }
        if (1..labels.len()).any(|at| labels[..at].contains(&labels[at])) {
            return Err(MetricError::InvalidName);
        }
        let mut inner = locked(&self.inner);
        if let Some(at) = inner.metrics.iter().position(|known| *known.name == *name) {
            let known = &inner.metrics[at];
            let same = known.kind == kind
                && known.labels.iter().map(|label| &**label).eq(labels.iter().copied());
            return if same { Ok(at as u32) } else { Err(MetricError::Conflict) };
        }
        if inner.metrics.len() == METRICS_MAX {
            return Err(MetricError::LimitExceeded);
        }
        inner.metrics.push(Metric {
            kind,
            name: name.into(),
            help: cut(help, HELP_BYTES_MAX).into(),
            labels: labels.iter().map(|label| (*label).into()).collect(),
            bounds: bounds_of(kind, name),
            series: HashMap::default(),
        });
        Ok(inner.metrics.len() as u32 - 1)
    }

    /// Counter: adds. Gauge: sets. Histogram: observes.
    pub fn report(&self, metric: u32, labels: &[&str], value: f64) -> Result<(), MetricError> {
        let mut inner = locked(&self.inner);
        let Inner { metrics, series: series_count, key } = &mut *inner;
        let metric = metrics.get_mut(metric as usize).ok_or(MetricError::InvalidValue)?;
        let falls = metric.kind == Kind::Counter && value < 0.0;
        if labels.len() != metric.labels.len() || !value.is_finite() || falls {
            return Err(MetricError::InvalidValue);
        }
        key.clear();
        for label in labels {
            key.extend_from_slice(cut(label, LABEL_VALUE_BYTES_MAX).as_bytes());
            key.push(0xff);
        }
        if let Some(series) = metric.series.get_mut(key.as_slice()) {
            return series.take_in(metric.kind, metric.bounds, value);
        }
        if *series_count == SERIES_MAX {
            return Err(MetricError::LimitExceeded);
        }
        let mut series = Series {
            labels: labels.iter().map(|label| cut(label, LABEL_VALUE_BYTES_MAX).into()).collect(),
            value: 0.0,
            buckets: match metric.kind {
                Kind::Histogram => vec![0; metric.bounds.len() + 1].into(),
                Kind::Counter | Kind::Gauge => Box::default(),
            },
        };
        series.take_in(metric.kind, metric.bounds, value)?;
        metric.series.insert(key.as_slice().into(), series);
        *series_count += 1;
        Ok(())
    }

    /// Every metric as it is now, in the order of definition.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let inner = locked(&self.inner);
        let snapshot = |metric: &Metric| Snapshot {
            kind: metric.kind,
            name: metric.name.clone(),
            help: metric.help.clone(),
            labels: metric.labels.clone(),
            bounds: metric.bounds,
            series: metric.series.values().cloned().collect(),
        };
        inner.metrics.iter().map(snapshot).collect()
    }
}

impl Series {
    fn take_in(&mut self, kind: Kind, bounds: &[f64], value: f64) -> Result<(), MetricError> {
        match kind {
            Kind::Gauge => self.value = value,
            Kind::Counter | Kind::Histogram => {
                let sum = self.value + value;
                if !sum.is_finite() {
                    return Err(MetricError::InvalidValue);
                }
                self.value = sum;
                if kind == Kind::Histogram {
                    let bucket = bounds.partition_point(|bound| *bound < value);
                    self.buckets[bucket] += 1;
                }
            }
        }
        Ok(())
    }
}

fn bounds_of(kind: Kind, name: &str) -> &'static [f64] {
    match kind {
        Kind::Counter | Kind::Gauge => &[],
        Kind::Histogram if name.ends_with("_seconds") => &SECONDS_BUCKETS,
        Kind::Histogram => &PLAIN_BUCKETS,
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_label(name: &str) -> bool {
    is_name(name) && !name.starts_with("__") && !LABELS_RESERVED.contains(&name)
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new("auth".into(), "0123456789ab".into())
    }

    #[test]
    fn a_counter_adds_a_gauge_sets_a_histogram_sorts() {
        let registry = registry();
        let counter = registry.define(Kind::Counter, "hits", "Hits.", &["who"]).unwrap();
        let gauge = registry.define(Kind::Gauge, "level", "", &[]).unwrap();
        let histogram = registry.define(Kind::Histogram, "size", "", &[]).unwrap();
        for value in [1.0, 2.5, 0.0] {
            registry.report(counter, &["a"], value).unwrap();
            registry.report(gauge, &[], -value).unwrap();
        }
        for value in [-1.0, 1.0, 1.5, 4.0, 2e9] {
            registry.report(histogram, &[], value).unwrap();
        }
        let [hits, level, size] = &registry.snapshot()[..] else { panic!("three metrics") };
        assert_eq!((&*hits.name, &*hits.help, hits.kind), ("hits", "Hits.", Kind::Counter));
        assert_eq!(*hits.series[0].labels, ["a".into()]);
        assert_eq!(hits.series[0].value, 3.5);
        assert_eq!(level.series[0].value, 0.0);
        assert_eq!(size.bounds, PLAIN_BUCKETS);
        assert_eq!(size.series[0].buckets[..3], [2, 2, 0]);
        assert_eq!(size.series[0].buckets[16], 1);
    }

    #[test]
    fn durations_have_buckets_from_a_microsecond_to_ten_seconds() {
        let registry = registry();
        registry.define(Kind::Histogram, "wait_seconds", "", &[]).unwrap();
        let bounds = registry.snapshot()[0].bounds;
        assert_eq!((bounds[0], bounds[bounds.len() - 1]), (1e-6, 10.0));
        assert!(bounds.is_sorted());
    }

    #[test]
    fn the_same_definition_gives_the_same_number() {
        let registry = registry();
        let first = registry.define(Kind::Counter, "a", "help", &["x", "y"]).unwrap();
        let second = registry.define(Kind::Counter, "b", "help", &[]).unwrap();
        assert_eq!((first, second), (0, 1));
        assert_eq!(registry.define(Kind::Counter, "a", "other help", &["x", "y"]), Ok(0));
        let conflicts: [(Kind, &[&str]); 3] =
            [(Kind::Gauge, &["x", "y"]), (Kind::Counter, &["y", "x"]), (Kind::Counter, &["x"])];
        for (kind, labels) in conflicts {
            let refused = registry.define(kind, "a", "help", labels);
            assert_eq!(refused, Err(MetricError::Conflict));
        }
    }

    #[test]
    fn names_are_checked() {
        let registry = registry();
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", "_A9", &longest[1..], &longest] {
            registry.define(Kind::Gauge, name, "", &["ok"]).unwrap();
        }
        for name in ["", "9a", "a-b", "a:b", "ä", &format!("{longest}a")] {
            let refused = registry.define(Kind::Gauge, name, "", &[]);
            assert_eq!(refused, Err(MetricError::InvalidName), "{name}");
            let refused = registry.define(Kind::Gauge, "good", "", &[name]);
            assert_eq!(refused, Err(MetricError::InvalidName), "{name}");
        }
        for labels in [&["filter"][..], &["version"], &["le"], &["quantile"], &["__a"], &["b", "b"]]
        {
            let refused = registry.define(Kind::Gauge, "good", "", labels);
            assert_eq!(refused, Err(MetricError::InvalidName), "{labels:?}");
        }
    }

    #[test]
    fn a_help_text_is_cut() {
        let registry = registry();
        for length in [HELP_BYTES_MAX - 1, HELP_BYTES_MAX, HELP_BYTES_MAX + 1] {
            let name = format!("m{length}");
            let id = registry.define(Kind::Gauge, &name, &"h".repeat(length), &[]).unwrap();
            registry.report(id, &[], 1.0).unwrap();
            let all = registry.snapshot();
            let kept = all.iter().find(|it| *it.name == name).unwrap().help.len();
            assert_eq!(kept, length.min(HELP_BYTES_MAX));
        }
    }

    #[test]
    fn metrics_and_labels_are_limited() {
        let registry = registry();
        let labels: Vec<String> = (0..LABELS_MAX + 1).map(|at| format!("l{at}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        registry.define(Kind::Gauge, "seven", "", &labels[..LABELS_MAX - 1]).unwrap();
        registry.define(Kind::Gauge, "eight", "", &labels[..LABELS_MAX]).unwrap();
        let refused = registry.define(Kind::Gauge, "nine", "", &labels);
        assert_eq!(refused, Err(MetricError::LimitExceeded));
        for at in 2..METRICS_MAX {
            registry.define(Kind::Gauge, &format!("m{at}"), "", &[]).unwrap();
        }
        let refused = registry.define(Kind::Gauge, "one_more", "", &[]);
        assert_eq!(refused, Err(MetricError::LimitExceeded));
        assert_eq!(registry.define(Kind::Gauge, "m2", "", &[]), Ok(2));
    }

    #[test]
    fn series_are_limited_over_all_metrics() {
        let registry = registry();
        let first = registry.define(Kind::Counter, "a", "", &["x"]).unwrap();
        let second = registry.define(Kind::Counter, "b", "", &["x"]).unwrap();
        for at in 0..SERIES_MAX - 1 {
            registry.report(first, &[&at.to_string()], 1.0).unwrap();
        }
        registry.report(second, &["last"], 1.0).unwrap();
        let refused = registry.report(second, &["one more"], 1.0);
        assert_eq!(refused, Err(MetricError::LimitExceeded));
        registry.report(second, &["last"], 1.0).unwrap();
    }

    #[test]
    fn values_are_checked() {
        let registry = registry();
        let counter = registry.define(Kind::Counter, "c", "", &["x"]).unwrap();
        let gauge = registry.define(Kind::Gauge, "g", "", &[]).unwrap();
        let refused = [
            registry.report(99, &[], 1.0),
            registry.report(counter, &[], 1.0),
            registry.report(counter, &["a", "b"], 1.0),
            registry.report(counter, &["a"], -0.1),
            registry.report(counter, &["a"], f64::INFINITY),
            registry.report(gauge, &[], f64::NAN),
        ];
        assert!(refused.iter().all(|refused| *refused == Err(MetricError::InvalidValue)));
        registry.report(counter, &["a"], f64::MAX).unwrap();
        let refused = registry.report(counter, &["a"], f64::MAX);
        assert_eq!(refused, Err(MetricError::InvalidValue));
        assert_eq!(registry.snapshot()[0].series.len(), 1);
    }

    #[test]
    fn label_values_are_cut_and_kept_apart() {
        let registry = registry();
        let counter = registry.define(Kind::Counter, "c", "", &["x", "y"]).unwrap();
        registry.report(counter, &["ab", "c"], 1.0).unwrap();
        registry.report(counter, &["a", "bc"], 1.0).unwrap();
        let longest = "v".repeat(LABEL_VALUE_BYTES_MAX);
        registry.report(counter, &[&longest, ""], 1.0).unwrap();
        registry.report(counter, &[&format!("{longest}v"), ""], 1.0).unwrap();
        registry.report(counter, &[&longest[1..], ""], 1.0).unwrap();
        let mut values: Vec<f64> =
            registry.snapshot()[0].series.iter().map(|series| series.value).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(values, [1.0, 1.0, 1.0, 2.0]);
    }
}
