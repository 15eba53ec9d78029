//! How a rollout looks: a block for a terminal, a line for everything else, and how it ended.
//!
//! Pure: a rollout in, text out. What the sidecar says is made safe for a terminal here.

use super::super::ask::printable;
use crate::admin::shape::{ADDED_US_BEYOND, Rollout, Shadow, Side, State};
use crate::rollout::words::parse_step;
use crate::rollout::{Hold, Stage};
use std::time::Duration;

/// Columns that are used.
const WIDTH: usize = 80;
/// Columns of the bar of a step.
const BAR: usize = 30;
/// Changes that are shown.
const CHANGES_SHOWN: usize = 4;
/// Samples that are shown.
const SAMPLES_SHOWN: usize = 3;
/// Lines of a verdict that are shown.
const VERDICT_LINES: usize = 3;

/// May there be colour?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Colour,
}

/// The rollout as a block of lines, none wider than [`WIDTH`].
pub(super) fn block(rollout: &Rollout, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let changes = rollout.changes.iter().map(|change| printable(change).replace('\n', " "));
    lines.push(format!("rollout {}", rollout.id));
    lines.extend(changes.take(CHANGES_SHOWN).map(|change| format!("  {change}")));
    if let Some(more) = rollout.changes.len().checked_sub(CHANGES_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.push(String::new());
    lines.push(format!("  {}", steps(rollout)));
    if rollout.state == State::Stepping {
        lines.push(format!("  {}", progress(rollout)));
    }
    lines.push(String::new());
    lines.extend(sides(&rollout.running, &rollout.next));
    if let Some(shadow) = &rollout.shadow {
        lines.push(String::new());
        lines.extend(wrapped(&format!("shadow: {}", differences(shadow)), VERDICT_LINES));
        let samples = rollout.samples.iter().rev().take(SAMPLES_SHOWN);
        lines.extend(samples.map(|sample| format!("    {}", printable(sample).replace('\n', " "))));
    }
    if !rollout.verdict.is_empty() {
        lines.push(String::new());
        lines.extend(wrapped(&format!("verdict: {}", rollout.verdict), VERDICT_LINES));
    }
    for line in &mut lines {
        *line = cut(line, WIDTH);
    }
    if style == Style::Colour
        && let Some(first) = lines.first_mut()
    {
        *first = format!("\u{1b}[1m{first}\u{1b}[0m");
    }
    lines
}

/// The rollout as one line.
pub(super) fn line(rollout: &Rollout) -> String {
    let side = |side: &Side| {
        format!(
            "{} requests, {} failed, {} local replies, {} 5xx",
            counted(side.exchanges),
            percent(side.failures, side.exchanges),
            percent(side.local_replies, side.exchanges),
            percent(side.errors, side.exchanges),
        )
    };
    let mut line = format!(
        "rollout {}: {}; next: {}; running: {}",
        rollout.id,
        place(rollout),
        side(&rollout.next),
        side(&rollout.running)
    );
    if let Some(shadow) = &rollout.shadow {
        line.push_str(&format!("; shadow: {}", differences(shadow)));
    }
    if !rollout.verdict.is_empty() {
        line.push_str(&format!("; {}", printable(&rollout.verdict).replace('\n', " ")));
    }
    line
}

/// What has to differ for another line: the place, and the first words of the verdict, whose numbers
/// change all the time.
pub(super) fn change(rollout: &Rollout) -> (State, usize, String) {
    let words = rollout.verdict.split(':').next().unwrap_or_default();
    let words = words.chars().filter(|char| !char.is_ascii_digit()).collect();
    (rollout.state, rollout.step, words)
}

/// How it ended; none while it goes on.
pub(super) fn ending(rollout: &Rollout) -> Option<String> {
    let generation = rollout.generation.unwrap_or_default();
    let reason = printable(rollout.reason.as_deref().unwrap_or("no reason was given"));
    match rollout.state {
        State::Stepping => None,
        State::Promoted => Some(format!(
            "promoted: the next version serves everything, as generation {generation}"
        )),
        State::RolledBack if rollout.by_judge == Some(true) => Some(format!(
            "rolled back to generation {generation} by the judge: {reason}\n\
             it is not tried again until its content changes"
        )),
        State::RolledBack => Some(format!("rolled back to generation {generation}: {reason}")),
        State::CutShort => Some(format!("cut short: {reason}")),
    }
}

/// Where it stands: `step 2 of 4, canary 5% 10m`.
pub(super) fn place(rollout: &Rollout) -> String {
    let step = rollout.steps.get(rollout.step).map_or("", String::as_str);
    let (number, count) = (rollout.step.saturating_add(1), rollout.steps.len());
    format!("step {number} of {count}, {}", printable(step))
}

/// A duration in its two largest units.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// All steps with the one in progress in brackets; where they are too many, those around it.
fn steps(rollout: &Rollout) -> String {
    const BETWEEN: &str = " > ";
    let named = |(index, step): (usize, &String)| {
        let step = printable(step);
        if index == rollout.step { format!("[{step}]") } else { step }
    };
    let names: Vec<String> = rollout.steps.iter().enumerate().map(named).collect();
    let all = names.join(BETWEEN);
    if all.len() + 2 <= WIDTH {
        return all;
    }
    let around = rollout.step.saturating_sub(1)..rollout.step.saturating_add(2).min(names.len());
    let before = if around.start > 0 { "... > " } else { "" };
    let after = if around.end < names.len() { " > ..." } else { "" };
    let shown = names.get(around).unwrap_or_default().join(BETWEEN);
    format!("{before}{shown}{after}")
}

/// The bar of the step in progress, and when the next one comes.
fn progress(rollout: &Rollout) -> String {
    let step = rollout.steps.get(rollout.step).and_then(|text| parse_step(text).ok());
    let next = rollout.steps.get(rollout.step.saturating_add(1)).map(|next| printable(next));
    let then = next.map_or_else(String::new, |next| format!(", then {next}"));
    let elapsed = Duration::from_millis(rollout.step_elapsed_ms);
    let Some(step) = step else { return format!("for {}", time(elapsed)) };
    let hold = match step.hold {
        Hold::For(hold) => hold,
        Hold::UntilTold if step.stage == Stage::Full => return "about to be in force".to_owned(),
        Hold::UntilTold => {
            return format!("for {}; waits for `pillion promote`{then}", time(elapsed));
        }
    };
    if elapsed >= hold {
        return format!("{} {}: waits for enough samples{then}", bar(1.0), time(elapsed));
    }
    let done = elapsed.as_secs_f64() / hold.as_secs_f64();
    format!("{} {} of {}{then}", bar(done), time(elapsed), time(hold))
}

/// `done` from 0 to 1.
fn bar(done: f64) -> String {
    // A float out of range is cut to it.
    let full = ((done * BAR as f64) as usize).min(BAR);
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

/// Both sides as a table.
fn sides(running: &Side, next: &Side) -> Vec<String> {
    let row = |name: &str, running: String, next: String| {
        format!("  {name:<14} {running:>14} {next:>14}")
    };
    let rate = |name: &str, of: fn(&Side) -> u64| {
        let shown = |side: &Side| percent(of(side), side.exchanges);
        row(name, shown(running), shown(next))
    };
    vec![
        row("", "running".to_owned(), "next".to_owned()),
        row("requests", counted(running.exchanges), counted(next.exchanges)),
        rate("failures", |side| side.failures),
        rate("local replies", |side| side.local_replies),
        rate("5xx", |side| side.errors),
        row("added time p50", bound(running.added_p50_us), bound(next.added_p50_us)),
        row("added time p99", bound(running.added_p99_us), bound(next.added_p99_us)),
        row("memory", mebibytes(running.memory_bytes), mebibytes(next.memory_bytes)),
    ]
}

fn differences(shadow: &Shadow) -> String {
    let Shadow { compared, skipped, same, status, headers, body, failed, slower } = shadow;
    let counts = [
        (same, "the same"),
        (status, "other status"),
        (headers, "other headers"),
        (body, "other body"),
        (failed, "failed"),
        (slower, "slower"),
        (skipped, "skipped"),
    ];
    let named = counts.iter().filter(|(count, _)| **count > 0);
    let named: Vec<String> =
        named.map(|(count, name)| format!("{} {name}", counted(**count))).collect();
    let colon = if named.is_empty() { "" } else { ": " };
    format!("{} compared{colon}{}", counted(*compared), named.join(", "))
}

/// `12,345`
fn counted(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.2}%", part as f64 * 100.0 / whole as f64)
}

/// The upper bound of a time.
fn bound(microseconds: Option<u64>) -> String {
    match microseconds {
        None => "-".to_owned(),
        Some(it) if it >= ADDED_US_BEYOND => "> 1.05 s".to_owned(),
        Some(it) if it >= 1_000 => format!("<= {:.1} ms", it as f64 / 1_000.0),
        Some(it) => format!("<= {it} us"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A text in lines with a margin, no more than `lines_max` of them.
fn wrapped(text: &str, lines_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in printable(text).split_whitespace() {
        let last = lines.last_mut().expect("there is a line to begin with");
        let columns = last.chars().count() + 1 + word.chars().count();
        if last.is_empty() {
            last.push_str(word);
        } else if columns + 4 <= WIDTH {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        lines.last_mut().into_iter().for_each(|last| last.push_str(" ..."));
    }
    let margin = |(index, line): (usize, String)| {
        if index == 0 { format!("  {line}") } else { format!("    {line}") }
    };
    lines.into_iter().enumerate().map(margin).collect()
}

/// No wider than `columns`.
fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns - 3).chain("...".chars()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::shape::By;

    pub(in super::super) fn rollout() -> Rollout {
        let side = |exchanges, failures| Side {
            exchanges,
            failures,
            local_replies: exchanges / 50,
            errors: 0,
            added_p50_us: Some(16),
            added_p99_us: Some(2_048),
            memory_bytes: 2_202_010,
        };
        Rollout {
            id: 3,
            origin: By::Admin,
            changes: vec!["filter limit: 0123456789ab -> ba9876543210 (v2)".to_owned()],
            state: State::Stepping,
            generation: None,
            reason: None,
            by_judge: None,
            steps: ["shadow 1m", "canary 5% 5m", "canary 50% 5m", "full"].map(String::from).into(),
            step: 1,
            step_elapsed_ms: 150_900,
            step_began_unix_seconds: 0,
            began_unix_seconds: 0,
            sticky: "client".to_owned(),
            running: side(12_345, 0),
            next: side(650, 1),
            shadow: None,
            samples: Vec::new(),
            verdict: "too few: 650 of 1,000 requests".to_owned(),
        }
    }

    #[test]
    fn a_block_has_everything_to_be_known() {
        let expected = "\
rollout 3
  filter limit: 0123456789ab -> ba9876543210 (v2)

  shadow 1m > [canary 5% 5m] > canary 50% 5m > full
  [###############---------------] 2m 30s of 5m 0s, then canary 50% 5m

                        running           next
  requests               12,345            650
  failures                0.00%          0.15%
  local replies           1.99%          2.00%
  5xx                     0.00%          0.00%
  added time p50       <= 16 us       <= 16 us
  added time p99      <= 2.0 ms      <= 2.0 ms
  memory                2.1 MiB        2.1 MiB

  verdict: too few: 650 of 1,000 requests";
        assert_eq!(block(&rollout(), Style::Plain).join("\n"), expected);
        let coloured = block(&rollout(), Style::Colour).join("\n");
        assert!(coloured.starts_with("\u{1b}[1mrollout 3\u{1b}[0m\n"), "{coloured}");
    }

    #[test]
    fn a_shadow_shows_what_differed() {
        let shadow =
            Shadow { compared: 1_000, same: 990, headers: 7, failed: 3, ..Shadow::default() };
        let samples = (1..=4).map(|it| format!("sample {it}")).collect();
        let rollout = Rollout { shadow: Some(shadow), samples, step: 0, ..rollout() };
        let shown = block(&rollout, Style::Plain).join("\n");
        let expected = "\n  shadow: 1,000 compared: 990 the same, 7 other headers, 3 failed\n    \
                        sample 4\n    sample 3\n    sample 2\n";
        assert!(shown.contains(expected), "{shown}");
        let nothing = Rollout { shadow: Some(Shadow::default()), ..rollout };
        assert!(line(&nothing).contains("; shadow: 0 compared; too few"), "{}", line(&nothing));
    }

    #[test]
    fn nothing_is_wider_than_a_terminal_or_controls_it() {
        let evil = "\u{1b}[2J\u{7}évil\n".repeat(200);
        let rollout = Rollout {
            changes: vec![evil.clone(); 20],
            steps: vec![evil.clone(); 16],
            samples: vec![evil.clone(); 16],
            shadow: Some(Shadow::default()),
            verdict: evil.clone(),
            reason: Some(evil),
            step: usize::MAX,
            ..rollout()
        };
        let lines = block(&rollout, Style::Plain);
        assert!(lines.len() < 40, "{}", lines.len());
        for shown in lines.iter().chain([&line(&rollout)]) {
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert!(lines.contains(&"  and 16 more".to_owned()));
        for state in [State::Stepping, State::Promoted, State::RolledBack, State::CutShort] {
            let ending = ending(&Rollout { state, ..rollout.clone() }).unwrap_or_default();
            assert!(!ending.replace('\n', "").contains(char::is_control), "{ending:?}");
        }
    }

    #[test]
    fn many_steps_are_shown_around_the_one_in_progress() {
        let all: Vec<String> =
            (1..=15).map(|it| format!("canary {it}% 10m")).chain(["full".to_owned()]).collect();
        for (step, expected) in [
            (0, "[canary 1% 10m] > canary 2% 10m > ..."),
            (7, "... > canary 7% 10m > [canary 8% 10m] > canary 9% 10m > ..."),
            (15, "... > canary 15% 10m > [full]"),
        ] {
            assert_eq!(steps(&Rollout { steps: all.clone(), step, ..rollout() }), expected);
        }
    }

    #[test]
    fn a_step_says_what_it_waits_for() {
        let at = |step: &str, step_elapsed_ms| {
            let steps = vec![step.to_owned(), "full".to_owned()];
            progress(&Rollout { steps, step: 0, step_elapsed_ms, ..rollout() })
        };
        let empty = "-".repeat(30);
        assert_eq!(at("canary 5% 5m", 0), format!("[{empty}] 0s of 5m 0s, then full"));
        let full = "#".repeat(30);
        let expected = format!("[{full}] 5m 0s: waits for enough samples, then full");
        assert_eq!(at("canary 5% 5m", 300_000), expected);
        let waits = "for 1h 1m; waits for `pillion promote`, then full";
        assert_eq!(at("canary 5%", 3_660_000), waits);
        assert_eq!(at("full", 5), "about to be in force");
    }

    #[test]
    fn an_end_is_told_with_its_reason() {
        let ended = |state, by_judge| {
            let reason = Some("worse: 37 of 412".to_owned());
            ending(&Rollout { state, generation: Some(7), reason, by_judge, ..rollout() })
        };
        assert_eq!(ended(State::Stepping, None), None);
        let promoted = "promoted: the next version serves everything, as generation 7";
        assert_eq!(ended(State::Promoted, None).unwrap(), promoted);
        let judged = "rolled back to generation 7 by the judge: worse: 37 of 412\n\
                      it is not tried again until its content changes";
        assert_eq!(ended(State::RolledBack, Some(true)).unwrap(), judged);
        let told = "rolled back to generation 7: worse: 37 of 412";
        assert_eq!(ended(State::RolledBack, Some(false)).unwrap(), told);
        assert_eq!(ended(State::CutShort, None).unwrap(), "cut short: worse: 37 of 412");
    }

    #[test]
    fn a_line_comes_with_another_place_or_another_kind_of_verdict() {
        let first = rollout();
        let more = Rollout { verdict: "too few: 700 of 1,000 requests".to_owned(), ..rollout() };
        assert_eq!(change(&first), change(&more));
        for other in [
            Rollout { step: 2, ..rollout() },
            Rollout { state: State::Promoted, ..rollout() },
            Rollout { verdict: "sound: nothing is worse".to_owned(), ..rollout() },
        ] {
            assert_ne!(change(&first), change(&other));
        }
        let expected = "rollout 3: step 2 of 4, canary 5% 5m; next: 650 requests, 0.15% failed, \
                        2.00% local replies, 0.00% 5xx; running: 12,345 requests, 0.00% failed, \
                        1.99% local replies, 0.00% 5xx; too few: 650 of 1,000 requests";
        assert_eq!(line(&first), expected);
    }

    #[test]
    fn numbers_are_short() {
        for (count, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(counted(count), shown);
        }
        for (us, shown) in [
            (None, "-"),
            (Some(1), "<= 1 us"),
            (Some(1_024), "<= 1.0 ms"),
            (Some(1_048_576), "<= 1048.6 ms"),
            (Some(ADDED_US_BEYOND), "> 1.05 s"),
        ] {
            assert_eq!(bound(us), shown);
        }
        assert_eq!((percent(0, 0), percent(1, 3)), ("-".to_owned(), "33.33%".to_owned()));
        assert_eq!(time(Duration::from_secs(90_000)), "1d 1h");
    }
}
