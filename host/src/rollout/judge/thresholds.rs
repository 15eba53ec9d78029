//! What counts as worse: one tolerance for each measure, and how sure the judge has to be.
//!
//! Values out of range cannot break a test, only make it blunt; `config` refuses them with their line.

use std::time::Duration;

/// What counts as worse. Each has a default that is meant to be left alone. A measure without a
/// tolerance informs and does not decide.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Exchanges of the candidate, and of the running version, before any promotion: 100.
    pub samples_min: u64,
    /// The chance that a step rolls back a candidate that is within all tolerances, and that a bound
    /// told in a verdict does not hold: 0.01. Between 0 and 1.
    pub error_chance: f64,
    /// How much worse a candidate must be shown not to be, as a share of exchanges, for a verdict to
    /// call it shown: 0.01.
    pub margin: f64,
    /// Exchanges in which a filter that differs failed: 1.25 times, 0.1 %. In shadow the share alone
    /// counts, of those that failed only with the candidate.
    pub failures: Tolerance,
    /// Exchanges answered with 500 to 599: 1.25 times, 0.1 %.
    pub errors: Option<Tolerance>,
    /// Exchanges answered by a filter: 1.5 times, 5 %.
    pub local_replies: Option<Tolerance>,
    /// How much longer half, and 99 %, of the exchanges may spend in filters, beside twice as long:
    /// 100 µs. Does not decide in shadow, where copies wait for whatever serves.
    pub time: Option<Duration>,
    /// How much more memory: twice, 16 MiB.
    pub memory: Option<MemoryTolerance>,
    /// Share of the copies that may get another status, or an answer by one of the two only: none.
    pub shadow_status: Option<f64>,
    /// Share of the copies that may get other fields: none.
    pub shadow_headers: Option<f64>,
    /// Share of the copies that may get another body: none.
    pub shadow_body: Option<f64>,
    /// Share of the copies that may be slower: none.
    pub shadow_slower: Option<f64>,
}

/// How much worse a share of exchanges may be than the running version's: the larger of the two is
/// tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// So many times the running version's share; 1 and more.
    pub ratio: f64,
    /// This share, whatever the running version's; between 0 and 1.
    pub share: f64,
}

/// How much more memory instances may take: the larger of the two is tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryTolerance {
    /// So many times the most that the running version took; 1 and more.
    pub ratio: f64,
    /// So many bytes more.
    pub bytes: u64,
}

/// `number` where it lies between the two, else the nearer of them; `least` for what is not a number.
pub(super) fn within(number: f64, least: f64, most: f64) -> f64 {
    if number >= least { number.min(most) } else { least }
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            samples_min: 100,
            error_chance: 0.01,
            margin: 0.01,
            failures: Tolerance { ratio: 1.25, share: 0.001 },
            errors: Some(Tolerance { ratio: 1.25, share: 0.001 }),
            local_replies: Some(Tolerance { ratio: 1.5, share: 0.05 }),
            time: Some(Duration::from_micros(100)),
            memory: Some(MemoryTolerance { ratio: 2.0, bytes: 16 << 20 }),
            shadow_status: None,
            shadow_headers: None,
            shadow_body: None,
            shadow_slower: None,
        }
    }
}
