//! Reads the file: what holds for all of its cases, the cases, and their steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::de::DeValue;

use super::expect;
use super::keys::NOW_DEFAULT;
use super::message::{self, Collected, literal, text_of};
use super::model::{Answer, Budget, Case, LogLevel, Setup, Step, Wanted};
use crate::config::filters::{
    read_config, read_fail_policy, read_grants, read_isolation, read_limits,
};
use crate::config::model::FilterSource;
use crate::config::reader::TableReader;
use crate::config::words::{join, shortened};

/// Bytes of the name of a case.
pub(super) const CASE_NAME_BYTES_MAX: usize = 200;

/// What a file is made of, apart from its filter.
pub(super) struct Read {
    pub(super) cases: Vec<Case>,
    pub(super) files: Vec<PathBuf>,
}

/// What holds for every case that does not say otherwise.
struct Defaults {
    setup: Setup,
    seed: u64,
    now: SystemTime,
    budget: Budget,
    upstream: Answer,
}

/// Everything but the filter itself.
pub(super) fn cases(root: &TableReader<'_, '_>, builtin: bool) -> Read {
    let mut collected = Collected::default();
    let defaults = Defaults {
        setup: Setup {
            config: read_config(root),
            config_path: path_of(root, "config").unwrap_or_else(|| "filter".to_owned()),
            grants_path: path_of(root, "grants").unwrap_or_else(|| "filter".to_owned()),
            grants: read_grants(&root.table("grants"), builtin),
            limits: read_limits(root),
            fail_policy: read_fail_policy(root),
            isolation: read_isolation(root),
            log_level: log_level(root),
        },
        seed: root.limit("seed").unwrap_or(0),
        now: now(root).unwrap_or(UNIX_EPOCH + NOW_DEFAULT),
        budget: budget(root),
        upstream: message::answer(&root.table("upstream"), &mut collected),
    };
    let mut names = BTreeMap::new();
    let tables = root.tables("case");
    let cases = tables.iter().enumerate().map(|(index, table)| {
        let name = case_name(table);
        if let Some(first) = names.insert(name.clone(), index).filter(|_| !name.is_empty()) {
            let message = format!("case `{}` is there twice", shortened(&name));
            let help = format!("`case[{first}]` has the name already");
            table.context.error(table.span_of("name"), message, help);
        }
        case(table, name, &defaults, builtin, &mut collected)
    });
    Read { cases: cases.collect(), files: collected.files }
}

/// The file itself where there is one; else the first one of that path in a directory above.
pub(super) fn found_above(filter: FilterSource, case_file: &Path) -> FilterSource {
    let FilterSource::File(path) = &filter else { return filter };
    let Some(base) = case_file.parent() else { return filter };
    let Ok(relative) = path.strip_prefix(base) else { return filter };
    let found = base.ancestors().map(|above| above.join(relative)).find(|path| path.is_file());
    found.map_or(filter, FilterSource::File)
}

fn case(
    table: &TableReader<'_, '_>,
    name: String,
    defaults: &Defaults,
    builtin: bool,
    collected: &mut Collected,
) -> Case {
    let load_error =
        table.has("load_error").then(|| expect::load_error(&table.table("load_error")));
    let steps = table.tables("step");
    let own = ["advance", "repeat", "request", "expect"];
    if load_error.is_some() {
        for key in own.into_iter().chain(["step", "upstream"]).filter(|key| table.has(key)) {
            let message = format!("`{key}` in a case whose filter must not load");
            table.context.error(table.span_of(key), message, "leave it out: no request is sent");
        }
    } else if !steps.is_empty() {
        for key in own.into_iter().filter(|key| table.has(key)) {
            let message = format!("`{key}` in a case that has steps");
            table.context.error(table.span_of(key), message, "write it in `[[case.step]]`");
        }
    }
    let steps = if load_error.is_some() {
        Vec::new()
    } else if steps.is_empty() {
        vec![step(table, &defaults.upstream, collected)]
    } else {
        let upstream = upstream(table, &defaults.upstream, collected);
        steps.iter().map(|table| step(table, &upstream, collected)).collect()
    };
    Case {
        name,
        span: table.span.clone(),
        setup: setup(table, &defaults.setup, builtin),
        seed: if table.has("seed") { table.limit("seed").unwrap_or(0) } else { defaults.seed },
        now: now(table).unwrap_or(defaults.now),
        budget: if table.has("budget") { budget(table) } else { defaults.budget.clone() },
        steps,
        load_error,
    }
}

fn step(table: &TableReader<'_, '_>, upstream: &Answer, collected: &mut Collected) -> Step {
    Step {
        advance: Duration::from_micros(table.limit("advance").unwrap_or(0)),
        repeat: table.limit("repeat").unwrap_or(1),
        request: message::request(&table.table("request"), collected),
        upstream: self::upstream(table, upstream, collected),
        expect: expect::expect(&table.table("expect"), collected),
    }
}

fn upstream(table: &TableReader<'_, '_>, default: &Answer, collected: &mut Collected) -> Answer {
    match table.has("upstream") {
        true => message::answer(&table.table("upstream"), collected),
        false => default.clone(),
    }
}

fn setup(table: &TableReader<'_, '_>, defaults: &Setup, builtin: bool) -> Setup {
    let mut setup = defaults.clone();
    if let Some(path) = path_of(table, "config") {
        (setup.config, setup.config_path) = (read_config(table), path);
    }
    if let Some(path) = path_of(table, "grants") {
        (setup.grants, setup.grants_path) = (read_grants(&table.table("grants"), builtin), path);
    }
    if table.has("limits") {
        setup.limits = read_limits(table);
    }
    if table.has("fail_policy") {
        setup.fail_policy = read_fail_policy(table);
    }
    if table.has("isolation") {
        setup.isolation = read_isolation(table);
    }
    if table.has("log_level") {
        setup.log_level = log_level(table);
    }
    setup
}

fn path_of(table: &TableReader<'_, '_>, key: &str) -> Option<String> {
    table.has(key).then(|| join(table.path(), key))
}

fn case_name(table: &TableReader<'_, '_>) -> String {
    let Some((name, node)) = literal(table, "name") else { return String::new() };
    let problem = if name.trim().is_empty() {
        "it is empty"
    } else if name.len() > CASE_NAME_BYTES_MAX {
        "it is too long"
    } else if name.chars().any(char::is_control) {
        "it has several lines or control characters"
    } else {
        return name;
    };
    let message = format!("`{}` is no name of a case: {problem}", shortened(&name));
    let help = format!("write a sentence that says what holds, in {CASE_NAME_BYTES_MAX} bytes");
    table.context.error(node.span(), message, help);
    name
}

fn log_level(table: &TableReader<'_, '_>) -> LogLevel {
    let written = table.choice("log_level");
    LogLevel::ALL.into_iter().find(|level| level.name() == written).unwrap_or(LogLevel::Trace)
}

fn budget(table: &TableReader<'_, '_>) -> Budget {
    let table = table.table("budget");
    let wanted = |key: &str| {
        let value = table.has(key).then(|| table.limit(key)).flatten()?;
        Some(Wanted { value, span: table.span_of(key) })
    };
    let time = wanted("time");
    Budget {
        time: time.map(|Wanted { value, span }| {
            let value = Duration::from_micros(value);
            Wanted { value, span }
        }),
        memory: wanted("memory"),
        host_calls: wanted("host_calls"),
    }
}

/// Date and time with an offset; none: there is none, or a wrong one is reported.
fn now(table: &TableReader<'_, '_>) -> Option<SystemTime> {
    let node = table.node("now")?;
    let help = "write date, time and offset, as in `2026-01-01T00:00:00Z`, from 1970 on";
    let DeValue::Datetime(written) = node.get_ref() else {
        let text = text_of(table, "now", node)?;
        let message = format!("`{}` is no date and time", shortened(&text));
        table.context.error(node.span(), message, format!("{help}, without quotes"));
        return None;
    };
    let time = since_epoch(written).and_then(|since| UNIX_EPOCH.checked_add(since));
    if time.is_none() {
        let message = format!("`{written}` is no point in time");
        table.context.error(node.span(), message, help);
    }
    time
}

fn since_epoch(written: &toml::value::Datetime) -> Option<Duration> {
    let (date, time) = (written.date?, written.time?);
    let minutes = match written.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let [hour, minute, second] = [time.hour, time.minute, time.second.unwrap_or(0)].map(i64::from);
    let seconds = ((days * 24 + hour) * 60 + minute - minutes) * 60 + second;
    let seconds = u64::try_from(seconds).ok()?;
    Some(Duration::new(seconds, time.nanosecond.unwrap_or(0)))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last day of one.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before_month = (month * 153 + 2) / 5;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_from_1970() {
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((1970, 12, 31), 364),
            ((1972, 2, 29), 789),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 1, 1), 20_454),
            ((2100, 3, 1), 47_541),
            ((1969, 12, 31), -1),
        ] {
            let (year, month, day) = date;
            assert_eq!(days_from_civil(year, month, day), days, "{date:?}");
        }
    }

    #[test]
    fn points_in_time_have_an_offset() {
        let since = |text: &str| since_epoch(&text.parse().unwrap());
        assert_eq!(since("2026-01-01T00:00:00Z"), Some(NOW_DEFAULT));
        assert_eq!(since("1970-01-01T01:30:00.25+01:00"), Some(Duration::from_millis(1_800_250)));
        assert_eq!(since("1970-01-01T00:00:00-01:00"), Some(Duration::from_secs(3600)));
        for text in ["1969-12-31T23:59:59Z", "2026-01-01T00:00:00", "2026-01-01", "12:00:00"] {
            assert_eq!(since(text), None, "{text}");
        }
    }
}
