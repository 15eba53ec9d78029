//! The metrics that filters define, as `pillion_filter_custom_<name>` with `filter` and `version`.
//!
//! Filters choose their names on their own, so that two of them may mean different things by one
//! name: the first one met, in the order of filter and version, gives the family its kind, and
//! metrics of another kind are left out. Two configurations of one version are added up.

use crate::capability::log::printable;
use crate::capability::metrics::{HELP_BYTES_MAX, Kind, Registry, Series, Snapshot};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;

/// Writes the families of all `registries`, which stand in the order of filter and version.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder,
    registries: &[Arc<Registry>],
) -> Result<(), Error> {
    for (name, family) in collect(registries) {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut out = encoder.encode_descriptor(&name, &family.help, None, kind)?;
        for (key, value) in &family.series {
            encode_series(&mut out, &family, key, value)?;
        }
    }
    Ok(())
}

/// Name and value.
type Label = (Box<str>, Box<str>);

struct CustomFamily {
    kind: Kind,
    help: String,
    bounds: &'static [f64],
    /// By their labels, `filter` and `version` first, so that none comes twice.
    series: BTreeMap<Box<[Label]>, Series>,
}

fn collect(registries: &[Arc<Registry>]) -> BTreeMap<String, CustomFamily> {
    let mut families = BTreeMap::<String, CustomFamily>::new();
    for registry in registries {
        for metric in registry.snapshot() {
            let family = families.entry(exposed_name(&metric)).or_insert_with(|| CustomFamily {
                kind: metric.kind,
                help: exposed_help(&metric.help),
                bounds: metric.bounds,
                series: BTreeMap::new(),
            });
            if (family.kind, family.bounds) == (metric.kind, metric.bounds) {
                family.add(registry, metric);
            }
        }
    }
    families
}

impl CustomFamily {
    fn add(&mut self, registry: &Registry, metric: Snapshot) {
        for series in metric.series {
            let mut key: Vec<Label> = vec![
                ("filter".into(), (&**registry.filter()).into()),
                ("version".into(), (&**registry.version()).into()),
            ];
            key.extend(metric.labels.iter().cloned().zip(series.labels.iter().cloned()));
            match self.series.get_mut(key.as_slice()) {
                None => {
                    self.series.insert(key.into(), series);
                }
                Some(known) if self.kind != Kind::Gauge => {
                    known.value += series.value;
                    for (sum, count) in known.buckets.iter_mut().zip(&series.buckets) {
                        *sum += count;
                    }
                }
                // The registry made last says how it is now.
                Some(known) => known.value = series.value,
            }
        }
    }
}

/// The exposition adds `_total` to a counter: `hits` and `hits_total` are both shown as the latter.
fn exposed_name(metric: &Snapshot) -> String {
    let name = match metric.kind {
        Kind::Counter => metric.name.strip_suffix("_total").unwrap_or(&metric.name),
        Kind::Gauge | Kind::Histogram => &metric.name,
    };
    format!("pillion_filter_custom_{name}")
}

/// The encoder writes help texts as they are.
fn exposed_help(help: &str) -> String {
    printable(help, HELP_BYTES_MAX).replace('\\', r"\\").replace('"', "\\\"")
}

fn encode_series(
    out: &mut MetricEncoder,
    family: &CustomFamily,
    key: &[Label],
    series: &Series,
) -> Result<(), Error> {
    let labels: Vec<(&str, &str)> = key.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut out = out.encode_family(&labels)?;
    match family.kind {
        Kind::Counter => out.encode_counter::<NoLabelSet, _, u64>(&series.value, None),
        Kind::Gauge => out.encode_gauge(&series.value),
        Kind::Histogram => {
            let bounds = family.bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(series.buckets.iter().copied()).collect();
            let count = series.buckets.iter().sum();
            out.encode_histogram::<NoLabelSet>(series.value, count, &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;
    use std::time::UNIX_EPOCH;

    fn custom_lines(metrics: &Arc<Metrics>) -> Vec<String> {
        let text = metrics.expose();
        let lines = text.lines().filter(|line| line.contains("pillion_filter_custom_"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn filters_share_a_family_and_keep_their_series_apart() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let registries = [metrics.custom("a", "1", "{}"), metrics.custom("b", "2", "{}")];
        for (registry, name) in registries.iter().zip(["hits", "hits_total"]) {
            let number = registry.define(Kind::Counter, name, "Hits", &[]).unwrap();
            registry.report(number, &[], 1.5).unwrap();
        }
        let expected = [
            "# HELP pillion_filter_custom_hits Hits",
            "# TYPE pillion_filter_custom_hits counter",
            r#"pillion_filter_custom_hits_total{filter="a",version="1"} 1.5"#,
            r#"pillion_filter_custom_hits_total{filter="b",version="2"} 1.5"#,
        ];
        assert_eq!(custom_lines(&metrics), expected);
    }

    #[test]
    fn a_name_has_one_kind() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let (b, a) = (metrics.custom("b", "1", "{}"), metrics.custom("a", "1", "{}"));
        let number = b.define(Kind::Counter, "x", "", &[]).unwrap();
        b.report(number, &[], 1.0).unwrap();
        let number = a.define(Kind::Gauge, "x", "", &[]).unwrap();
        a.report(number, &[], 1.0).unwrap();
        let lines = custom_lines(&metrics);
        let sample = r#"pillion_filter_custom_x{filter="a",version="1"} 1.0"#;
        assert_eq!(lines[1..], ["# TYPE pillion_filter_custom_x gauge", sample]);
    }

    #[test]
    fn two_configurations_of_a_version_are_added_up() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let old = metrics.custom("a", "1", r#"{"rate":1}"#);
        let new = metrics.custom("a", "1", r#"{"rate":2}"#);
        for registry in [&old, &new] {
            let sizes = registry.define(Kind::Histogram, "size", "", &[]).unwrap();
            registry.report(sizes, &[], 3.0).unwrap();
            let hits = registry.define(Kind::Counter, "hits", "", &[]).unwrap();
            registry.report(hits, &[], 1.0).unwrap();
        }
        let lines = custom_lines(&metrics);
        for sample in [
            r#"pillion_filter_custom_hits_total{filter="a",version="1"} 2.0"#,
            r#"pillion_filter_custom_size_sum{filter="a",version="1"} 6.0"#,
            r#"pillion_filter_custom_size_bucket{le="1.0",filter="a",version="1"} 0"#,
            r#"pillion_filter_custom_size_bucket{le="4.0",filter="a",version="1"} 2"#,
            r#"pillion_filter_custom_size_bucket{le="+Inf",filter="a",version="1"} 2"#,
        ] {
            assert!(lines.iter().any(|line| line == sample), "{sample}\nis not in\n{lines:#?}");
        }
    }

    #[test]
    fn series_go_with_their_version() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let registry = metrics.custom("a", "1", "{}");
        let number = registry.define(Kind::Gauge, "x", "", &[]).unwrap();
        registry.report(number, &[], 1.0).unwrap();
        assert_eq!(custom_lines(&metrics).len(), 3);
        drop(registry);
        assert!(custom_lines(&metrics).is_empty());
    }
}
