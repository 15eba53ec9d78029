//! When our certificates end, and that somebody is told in time: once at each of a few distances.

use super::{Ours, Tls};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// How near the end of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It is in force for 30 days and more.
    None,
    /// Less than 30 days.
    Month,
    /// Less than 7 days.
    Week,
    /// Less than a day.
    Day,
    /// It is not in force yet.
    NotYet,
    /// It is over.
    Over,
}

impl Urgency {
    fn of(ours: &Ours, now: i64) -> Self {
        let left = ours.not_after - now;
        match left {
            _ if now < ours.not_before => Urgency::NotYet,
            ..0 => Urgency::Over,
            0..DAY => Urgency::Day,
            _ if left < 7 * DAY => Urgency::Week,
            _ if left < 30 * DAY => Urgency::Month,
            _ => Urgency::None,
        }
    }
}

/// What was told of which certificate.
#[derive(Debug, Default)]
pub struct Expiry {
    told: BTreeMap<(String, i64), Urgency>,
}

impl Expiry {
    /// How often certificates are looked at.
    pub const INTERVAL: Duration = Duration::from_secs(3600);

    /// Looks at the certificates of the generation in force, and warns of those whose end is nearer
    /// than it was told before.
    pub fn look(&mut self, tls: &Tls, now: SystemTime) {
        for (ours, urgency) in self.news(tls.certificates(), seconds(now)) {
            let (side, owner, file) = ours.stats.labels();
            let days = (ours.not_after - seconds(now)).div_euclid(DAY);
            let name = format!("{side} {owner}");
            match urgency {
                Urgency::None => {}
                Urgency::NotYet => {
                    tracing::warn!(of = name, file, "A certificate is not valid yet.")
                }
                Urgency::Over => tracing::warn!(of = name, file, "A certificate has expired."),
                Urgency::Month | Urgency::Week | Urgency::Day => {
                    tracing::warn!(
                        of = name,
                        file,
                        days_left = days,
                        "A certificate expires soon."
                    );
                }
            }
        }
    }

    /// Certificates that are more urgent than what was told of them.
    fn news<'t>(
        &mut self,
        certificates: impl Iterator<Item = &'t Ours>,
        now: i64,
    ) -> Vec<(&'t Ours, Urgency)> {
        let before = std::mem::take(&mut self.told);
        let mut news = Vec::new();
        for ours in certificates {
            let urgency = Urgency::of(ours, now);
            let (side, owner, file) = ours.stats.labels();
            let key = (format!("{side} {owner} {file}"), ours.not_after);
            let told = before.get(&key).copied().unwrap_or(Urgency::None);
            if urgency != told && urgency != Urgency::None {
                news.push((ours, urgency));
            }
            self.told.insert(key, urgency);
        }
        news
    }
}

/// Since 1970; before it, the beginning of it.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn ours(not_before: i64, not_after: i64) -> Ours {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let stats = metrics.certificate("listener", "inbound", "/tls.crt");
        Ours { not_before, not_after, uri: None, stats }
    }

    #[test]
    fn each_distance_is_told_once() {
        let ours = ours(0, 100 * DAY);
        let mut expiry = Expiry::default();
        let mut told = |now| {
            let news = expiry.news(std::iter::once(&ours), now);
            news.first().map(|(_, urgency)| *urgency)
        };
        for (left, expected) in [
            (30 * DAY, None),
            (30 * DAY - 1, Some(Urgency::Month)),
            (7 * DAY, None),
            (7 * DAY - 1, Some(Urgency::Week)),
            (DAY, None),
            (DAY - 1, Some(Urgency::Day)),
            (0, None),
            (-1, Some(Urgency::Over)),
            (-2, None),
        ] {
            assert_eq!(told(100 * DAY - left), expected, "{left}");
        }
    }

    #[test]
    fn what_is_not_in_force_yet_is_told() {
        let ours = ours(10, 100 * DAY);
        let mut expiry = Expiry::default();
        for (now, expected) in [(9, vec![Urgency::NotYet]), (10, Vec::new()), (11, Vec::new())] {
            let news = expiry.news(std::iter::once(&ours), now);
            assert_eq!(news.iter().map(|(_, it)| *it).collect::<Vec<_>>(), expected, "{now}");
        }
    }

    #[test]
    fn a_certificate_that_has_replaced_another_is_told_of_anew() {
        let mut expiry = Expiry::default();
        for not_after in [5 * DAY, 6 * DAY] {
            let ours = ours(0, not_after);
            assert_eq!(expiry.news(std::iter::once(&ours), 0).len(), 1);
        }
    }
}
