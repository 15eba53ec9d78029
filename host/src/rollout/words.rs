//! A plan as people write it: `shadow 10m`, `canary 5% 10m`, `full`; and what is wrong with what
//! they wrote. The configuration, the command line and the admin interface read it here.
//!
//! Knows nothing of files and arguments: a problem is a message and what to do about it.

use super::plan::{Hold, STEPS_MAX, Share, Stage, Step, Sticky};
use crate::units::{UnitError, format_duration, micros, parse_duration, parse_percent};
use http::HeaderName;
use std::fmt;
use std::time::Duration;

/// The shortest time of a step.
pub const STEP_TIME_MIN: Duration = Duration::from_millis(100);
/// The longest time of a step.
pub const STEP_TIME_MAX: Duration = Duration::from_hours(7 * 24);
/// Bytes of a text that a message quotes.
const QUOTED_BYTES_MAX: usize = 80;

/// What is wrong with a text, as a lower-case fragment, and what to do. It quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct WordProblem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

fn problem<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, WordProblem> {
    Err(WordProblem { message: message.into(), help: help.into() })
}

/// A text of the user, short and printable.
fn quoted(text: &str) -> String {
    let (start, rest) = text.split_at(text.floor_char_boundary(QUOTED_BYTES_MAX));
    let more = if rest.is_empty() { "" } else { "..." };
    format!("`{}{more}`", start.escape_debug())
}

/// The steps of `shadow 10m, canary 5% 10m, full`.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_steps(text: &str) -> Result<Vec<Step>, WordProblem> {
    let steps: Vec<Step> = text
        .split(',')
        // One more than there may be: `check_steps` tells.
        .take(STEPS_MAX + 1)
        .map(parse_step)
        .collect::<Result<_, _>>()?;
    match check_steps(&steps) {
        Ok(()) => Ok(steps),
        Err((_, problem)) => Err(problem),
    }
}

/// One step. A time is needed nowhere: without one the step lasts until it is told to end.
///
/// # Errors
/// It is none.
pub fn parse_step(text: &str) -> Result<Step, WordProblem> {
    let mut words = text.split_ascii_whitespace();
    let stage = match words.next() {
        Some("shadow") => Stage::Shadow,
        Some("canary") => match words.next() {
            Some(share) => Stage::Canary(parse_share(share)?),
            None => return problem("`canary` has no share", "write one, as in `canary 5% 10m`"),
        },
        Some("full") => Stage::Full,
        Some(other) => {
            let help = "a step is `shadow`, `canary` with a share, or `full`";
            return problem(format!("{} is no stage", quoted(other)), help);
        }
        None => {
            let help = "write it as in `shadow 10m`, `canary 5% 10m` or `full`";
            return problem("a step is empty", help);
        }
    };
    let hold = match words.next() {
        Some(_) if stage == Stage::Full => {
            return problem("`full` has a time", "write `full` alone: nothing comes after it");
        }
        Some(time) => Hold::For(parse_time(time)?),
        None => Hold::UntilTold,
    };
    match words.next() {
        Some(extra) => {
            let message = format!("{} is a word too many in {}", quoted(extra), quoted(text));
            problem(message, "a step has a stage and a time, as in `canary 5% 10m`")
        }
        None => Ok(Step { stage, hold }),
    }
}

/// A share of a canary: `5%`, `0.1%`. Above 0 % and below 100 %, to the millionth.
///
/// # Errors
/// It is none.
pub fn parse_share(text: &str) -> Result<Share, WordProblem> {
    let millionths = match parse_percent(text) {
        Ok(millionths) => millionths,
        Err(UnitError::TooLarge) => u64::MAX,
        Err(UnitError::TooFine) => {
            let message = format!("{} is too fine a share", quoted(text));
            return problem(message, "a percentage has at most four digits after the point");
        }
        Err(UnitError::NoNumber | UnitError::NoUnit | UnitError::UnknownUnit) => {
            let help = "write the percentage of requests, as in `5%` or `0.1%`";
            return problem(format!("{} is no share", quoted(text)), help);
        }
    };
    match millionths {
        0 => problem(
            format!("{} is no share of the requests", quoted(text)),
            "the smallest share is `0.0001%`; `shadow` tries a version without giving it any",
        ),
        1_000_000.. => problem(
            format!("{} leaves nothing to compare with", quoted(text)),
            "the largest share is `99.9999%`; `full` is everything",
        ),
        // Below a million.
        millionths => Ok(Share::from_millionths(millionths as u32)),
    }
}

fn parse_time(text: &str) -> Result<Duration, WordProblem> {
    let Ok(time) = parse_duration(text).map(Duration::from_micros) else {
        let help = "write it as in `10m`: a whole number and one of `us`, `ms`, `s`, `m`, `h`";
        return problem(format!("{} is no duration", quoted(text)), help);
    };
    let range = format!(
        "it has to be from {} to {}; without a time a step lasts until it is told to end",
        format_duration(micros(STEP_TIME_MIN)),
        format_duration(micros(STEP_TIME_MAX)),
    );
    match time {
        _ if time < STEP_TIME_MIN => {
            problem(format!("{} is too short for a step", quoted(text)), range)
        }
        _ if time > STEP_TIME_MAX => {
            problem(format!("{} is too long for a step", quoted(text)), range)
        }
        _ => Ok(time),
    }
}

/// Do these steps make a plan?
///
/// # Errors
/// The index of the first step that is wrong where it is, or of the last one, and why.
pub fn check_steps(steps: &[Step]) -> Result<(), (usize, WordProblem)> {
    let wrong = |index, message: String, help: &str| {
        Err((index, WordProblem { message, help: help.to_owned() }))
    };
    if steps.len() > STEPS_MAX {
        let message = format!("there are more than {STEPS_MAX} steps");
        return wrong(STEPS_MAX, message, "leave some out");
    }
    for (index, pair) in steps.windows(2).enumerate() {
        let (before, this) = (pair[0].stage, pair[1].stage);
        let index = index + 1;
        match (before, this) {
            (Stage::Full, _) => {
                let message = format!("`{this}` comes after `full`");
                return wrong(index, message, "`full` is the last step");
            }
            (_, Stage::Shadow) => {
                let message = format!("`shadow` comes after `{before}`");
                return wrong(index, message, "`shadow` comes first, and once");
            }
            (Stage::Canary(smaller), Stage::Canary(larger)) if larger <= smaller => {
                let message = format!("`{this}` comes after `{before}`");
                return wrong(index, message, "shares grow from step to step");
            }
            (Stage::Shadow | Stage::Canary(_), Stage::Canary(_) | Stage::Full) => {}
        }
    }
    match steps.last() {
        Some(Step { stage: Stage::Full, .. }) => Ok(()),
        Some(Step { stage, .. }) => {
            let message = format!("`{stage}` is the last step");
            wrong(steps.len() - 1, message, "the last step is `full`: add it")
        }
        None => wrong(0, "there are no steps".to_owned(), "write at least `full`"),
    }
}

/// Which requests a canary gets: `client`, `random` or `header:NAME`.
///
/// # Errors
/// It is none of them.
pub fn parse_sticky(text: &str) -> Result<Sticky, WordProblem> {
    match text {
        "client" => Ok(Sticky::Client),
        "random" => Ok(Sticky::Random),
        _ => match text.strip_prefix("header:").map(|name| (name, name.parse::<HeaderName>())) {
            Some((_, Ok(name))) => Ok(Sticky::Header(name)),
            Some((name, Err(_))) => problem(
                format!("{} is no name of a field", quoted(name)),
                "write one as in `header:x-user`",
            ),
            None => problem(
                format!("requests cannot be sticky by {}", quoted(text)),
                "write `client`, `random`, or a field as in `header:x-user`",
            ),
        },
    }
}

/// As it is written.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stage.fmt(f)?;
        match self.hold {
            Hold::For(time) => write!(f, " {}", format_duration(micros(time))),
            Hold::UntilTold => Ok(()),
        }
    }
}

/// As it is written.
impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sticky::Random => f.write_str("random"),
            Sticky::Client => f.write_str("client"),
            Sticky::Header(name) => write!(f, "header:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Plan;

    #[test]
    fn steps_read_back_as_they_are_shown() {
        for text in [
            "full",
            "shadow, full",
            "shadow 1m, canary 5% 5m, canary 50% 5m, full",
            "canary 0.0001%, canary 0.1% 100ms, canary 12.5% 36h, canary 99.9999% 168h, full",
        ] {
            let steps = parse_steps(text).unwrap();
            let shown: Vec<String> = steps.iter().map(Step::to_string).collect();
            assert_eq!(shown.join(", "), text);
        }
        let odd = parse_steps(" canary  05.50%\t10m ,full ").unwrap();
        assert_eq!(odd[0].to_string(), "canary 5.5% 10m");
        let default = parse_steps("shadow 1m, canary 5% 5m, canary 50% 5m, full").unwrap();
        assert_eq!(Plan::default().steps, default);
    }

    #[test]
    fn what_is_wrong_with_steps_is_said_of_the_word() {
        for (text, message, help) in [
            ("", "a step is empty", "write it as in `shadow 10m`, `canary 5% 10m` or `full`"),
            ("full,", "a step is empty", "write it as in"),
            ("canry 5%", "`canry` is no stage", "a step is `shadow`, `canary` with a share, or"),
            ("canary", "`canary` has no share", "write one, as in `canary 5% 10m`"),
            ("canary 10m", "`10m` is no share", "write the percentage of requests, as in `5%`"),
            ("canary 5", "`5` is no share", "write the percentage"),
            ("canary %", "`%` is no share", "write the percentage"),
            ("canary -5%", "`-5%` is no share", "write the percentage"),
            ("canary 5.%", "`5.%` is no share", "write the percentage"),
            ("canary 1e1%", "`1e1%` is no share", "write the percentage"),
            ("canary 0.00001%", "`0.00001%` is too fine a share", "a percentage has at most four"),
            ("canary 0%", "`0%` is no share of the requests", "the smallest share is `0.0001%`"),
            ("canary 100%", "`100%` leaves nothing to compare with", "the largest share is"),
            ("canary 99999999999%", "`99999999999%` leaves nothing", "the largest share is"),
            ("shadow 10", "`10` is no duration", "write it as in `10m`: a whole number and one"),
            ("shadow 10 m", "`10` is no duration", "write it as in `10m`"),
            ("shadow 99ms", "`99ms` is too short for a step", "it has to be from 100ms to 168h"),
            ("shadow 169h", "`169h` is too long for a step", "it has to be from 100ms to 168h"),
            ("full 10m", "`full` has a time", "write `full` alone"),
            ("shadow 1m now", "`now` is a word too many in `shadow 1m now`", "a step has a stage"),
            ("canary 5% 1m, shadow, full", "`shadow` comes after `canary 5%`", "`shadow` comes"),
            ("shadow, shadow, full", "`shadow` comes after `shadow`", "`shadow` comes first, and"),
            ("canary 5%, canary 5%, full", "`canary 5%` comes after `canary 5%`", "shares grow"),
            ("canary 5%, canary 4%, full", "`canary 4%` comes after `canary 5%`", "shares grow"),
            ("full, full", "`full` comes after `full`", "`full` is the last step"),
            ("full, canary 5%", "`canary 5%` comes after `full`", "`full` is the last step"),
            ("shadow", "`shadow` is the last step", "the last step is `full`: add it"),
        ] {
            let problem = parse_steps(text).unwrap_err();
            assert!(problem.message.starts_with(message), "{text}: {problem}");
            assert!(problem.help.starts_with(help), "{text}: {problem}");
        }
        assert_eq!(check_steps(&[]).unwrap_err().1.message, "there are no steps");
    }

    #[test]
    fn every_bound_holds_below_at_and_above() {
        for (text, accepted) in [
            ("shadow 99999us", false),
            ("shadow 100ms", true),
            ("shadow 100001us", true),
            ("shadow 604799s", true),
            ("shadow 168h", true),
            ("shadow 604801s", false),
            ("shadow 99999999999999999999h", false),
            ("canary 0%", false),
            ("canary 0.0001%", true),
            ("canary 0.0002%", true),
            ("canary 99.9998%", true),
            ("canary 99.9999%", true),
            ("canary 100%", false),
        ] {
            assert_eq!(parse_step(text).is_ok(), accepted, "{text}");
        }
        for (canaries, accepted) in
            [(STEPS_MAX - 2, true), (STEPS_MAX - 1, true), (STEPS_MAX, false), (500, false)]
        {
            let steps: String = (1..=canaries).map(|it| format!("canary {it}%, ")).collect();
            let parsed = parse_steps(&format!("{steps}full"));
            assert_eq!(parsed.is_ok(), accepted, "{canaries}");
            if let Err(problem) = parsed {
                assert_eq!(problem.message, "there are more than 16 steps");
            }
        }
    }

    #[test]
    fn texts_of_the_user_are_quoted_short_and_printable() {
        let problem = parse_step(&"\u{1b}é".repeat(1_000)).unwrap_err();
        assert!(problem.message.starts_with("`\\u{1b}é"), "{problem}");
        assert!(problem.message.len() < 500 && problem.message.ends_with("...` is no stage"));
    }

    #[test]
    fn what_makes_a_canary_sticky_is_one_of_three() {
        for text in ["client", "random", "header:x-user"] {
            assert_eq!(parse_sticky(text).unwrap().to_string(), text);
        }
        assert_eq!(parse_sticky("header:X-User").unwrap().to_string(), "header:x-user");
        for (text, message) in [
            ("header:", "`` is no name of a field"),
            ("header:a b", "`a b` is no name of a field"),
            ("cookie", "requests cannot be sticky by `cookie`"),
        ] {
            assert_eq!(parse_sticky(text).unwrap_err().message, message);
        }
    }
}
