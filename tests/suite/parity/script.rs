//! Random lists of calls for the guest `script`: every function of the contract, with arguments at
//! and beyond the edges of what is allowed.

use super::dice::Dice;
use serde_json::{Value, json};

const HOOKS: [&str; 7] = [
    "on-request",
    "on-request-body",
    "on-request-trailers",
    "on-response",
    "on-response-body",
    "on-response-trailers",
    "on-complete",
];
const NAMES: [&str; 18] = [
    "x-a",
    "X-A",
    "x-b",
    "x-many",
    "cookie",
    "via",
    "date",
    "x-sum",
    "x_under",
    "content-length",
    "Content_Length",
    "transfer_encoding",
    "TE",
    "host",
    "no name",
    "",
    ":path",
    "ä",
];
const VALUES: [&str; 9] = ["", "v", " padded\t", "a\tb", "a\r\nb", "ä", "\u{7f}", "\u{1}", "a,b"];
const METHODS: [&str; 5] = ["PUT", "get", "CONNECT", "A B", ""];
const SCHEMES: [&str; 4] = ["http", "https", "HTTP", ""];
const AUTHORITIES: [&str; 14] = [
    "b.example",
    "b.example:81",
    "b:",
    "b:65536",
    ":80",
    "",
    "[::1]:80",
    "[::1]",
    "[::1]x",
    "[x]",
    "u@b",
    "a b",
    "a:1:2",
    "a_b~%!$&'()*+,;=",
];
const TARGETS: [&str; 8] = ["/", "/c?d", "c", "*", "/a b", "/a#b", "/ä", ""];
const STATUSES: [&str; 10] = ["99", "101", "199", "200", "204", "205", "304", "404", "599", "600"];
const KEYS: [&str; 5] = ["a", "b", "c", "d", "ä"];
const TIMES: [&str; 6] = ["-", "-", "0", "1", "400", "10000"];
const LINES: [&str; 5] = ["line", "", "two\nlines\r\u{1b}[31m", "ä\u{202e}b\u{2028}", "\u{feff}"];
const NUMBERS: [&str; 6] = ["1", "-3", "0", "9223372036854775807", "-9223372036854775808", "7"];
const AMOUNTS: [&str; 8] = ["1", "0.5", "-1", "0", "NaN", "inf", "1e308", "1e-300"];
const METRICS: [(&str, &str, &[&str]); 12] = [
    ("counter", "requests", &["l"]),
    ("gauge", "level", &[]),
    ("histogram", "sizes", &["a", "b"]),
    ("histogram", "took_seconds", &[]),
    ("gauge", "requests", &["l"]),
    ("counter", "requests", &["l"]),
    ("counter", "no name", &[]),
    ("counter", "_ok", &["version"]),
    ("counter", "twice", &["a", "a"]),
    ("counter", "hidden", &["__a"]),
    ("counter", "many", &["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
    ("counter", "le_", &["le"]),
];

pub(super) fn config(dice: &mut Dice) -> Value {
    let metrics = dice.some(7, |dice| {
        let (kind, name, labels) = dice.pick(&METRICS);
        [&[kind, name][..], labels].concat()
    });
    let unwanted =
        if dice.chance(20) { dice.some(3, |dice| dice.text(&HOOKS)) } else { Vec::new() };
    let (mut calls, mut answers) = (json!({}), json!({}));
    for hook in HOOKS {
        calls[hook] = json!(dice.some(6, |dice| call(dice, hook)));
        answers[hook] = json!(dice.some(4, |dice| answer(dice, hook)));
    }
    json!({ "metrics": metrics, "unwanted": unwanted, "calls": calls, "answers": answers })
}

fn call(dice: &mut Dice, hook: &str) -> Vec<String> {
    let once = match dice.below(3) {
        0 => service(dice),
        1 if hook != "on-complete" => message(dice, hook),
        _ => noted(dice, hook),
    };
    match dice.below(50) {
        0 => {
            ["repeat".to_owned(), dice.text(&["25", "70", "300"])].into_iter().chain(once).collect()
        }
        _ => once,
    }
}

/// Reading and editing the message of a hook.
fn message(dice: &mut Dice, hook: &str) -> Vec<String> {
    let name = dice.text(&NAMES);
    let call: &[String] = match dice.below(10) {
        0 => &["header".to_owned(), name],
        1 => &["header-bytes".to_owned(), name],
        2 => &["headers".to_owned()],
        3 | 4 => &["set-header".to_owned(), name, value(dice)],
        5 => &["append-header".to_owned(), name, value(dice)],
        6 => &["remove-header".to_owned(), name],
        _ if hook.ends_with("trailers") => &["append-header".to_owned(), name, value(dice)],
        7 => &["header-all".to_owned(), name],
        8 => {
            &["set-header-bytes".to_owned(), name, dice.text(&["\u{ff}", "b\u{80}", "\u{0}", " "])]
        }
        _ => &line(dice, hook),
    };
    call.to_vec()
}

/// Editing the first line of a message.
fn line(dice: &mut Dice, hook: &str) -> [String; 2] {
    if hook.starts_with("on-response") {
        return ["set-status".to_owned(), dice.text(&STATUSES)];
    }
    let (call, values): (&str, &[&str]) = dice.pick(&[
        ("set-method", &METHODS[..]),
        ("set-scheme", &SCHEMES),
        ("set-authority", &AUTHORITIES),
        ("set-path-with-query", &TARGETS),
    ]);
    let long = match (call, dice.below(12)) {
        ("set-authority", 0) => Some("b".repeat(260 + dice.below(3))),
        ("set-path-with-query", 0) => Some(format!("/{}", "t".repeat(8190 + dice.below(3)))),
        _ => None,
    };
    [call.to_owned(), long.unwrap_or_else(|| dice.text(values))]
}

fn value(dice: &mut Dice) -> String {
    match dice.below(30) {
        0 => "x".repeat(31_000 + dice.below(2000)),
        1 => "x".repeat(8100 + dice.below(200)),
        _ => dice.text(&VALUES),
    }
}

/// What every hook can read of the request, and notes.
fn noted(dice: &mut Dice, hook: &str) -> Vec<String> {
    let [name, key] = [dice.text(&NAMES), dice.text(&KEYS)];
    let call: &[String] = match dice.below(6) {
        0 => &["line".to_owned()],
        1 => &["request-header".to_owned(), name],
        2 => &["request-headers".to_owned()],
        3 => &["note".to_owned(), key],
        4 if hook.ends_with("-body") => &["held".to_owned()],
        4 if hook == "on-response-trailers" => &["status".to_owned()],
        _ if dice.chance(10) => &["set-note".to_owned(), key, "n".repeat(1021 + dice.below(4))],
        _ => &["set-note".to_owned(), key, dice.text(&VALUES)],
    };
    call.to_vec()
}

/// Calls of the capabilities.
fn service(dice: &mut Dice) -> Vec<String> {
    let key = match dice.below(20) {
        0 => "k".repeat(255 + dice.below(3)),
        1 => String::new(),
        _ => dice.text(&KEYS),
    };
    let value = match dice.below(6) {
        0 => "v".repeat(63 + dice.below(3)),
        _ => dice.text(&["1", "2", "", "ä"]),
    };
    let time = dice.text(&TIMES);
    let call: &[String] = match dice.below(16) {
        0 => {
            let line =
                if dice.chance(20) { "é".repeat(510 + dice.below(4)) } else { dice.text(&LINES) };
            &["log".to_owned(), dice.below(5).to_string(), line]
        }
        1 => &["enabled".to_owned()],
        2 => &["now".to_owned()],
        3 => &["monotonic".to_owned()],
        4 => &["bytes".to_owned(), dice.text(&["0", "1", "8", "33", "4096"])],
        5 => &["number".to_owned()],
        6 => &["get".to_owned(), key],
        7 | 8 => &["set".to_owned(), key, value, time],
        9 => &["delete".to_owned(), key],
        10 => &["increment".to_owned(), key, dice.text(&NUMBERS), time],
        11 => &["compare-and-set".to_owned(), key, dice.text(&["-", "1", "2", ""]), value, time],
        12 => &["take".to_owned(), key, dice.text(&["0", "1", "1", "2", "50", "4294967295"])],
        13 => &["policy".to_owned()],
        _ => return report(dice),
    };
    call.to_vec()
}

fn report(dice: &mut Dice) -> Vec<String> {
    let labels = dice.some(4, |dice| match dice.below(12) {
        0 => "é".repeat(127 + dice.below(3)),
        _ => dice.text(&["", "a", "b"]),
    });
    let call = ["report".to_owned(), dice.below(6).to_string(), dice.text(&AMOUNTS)];
    call.into_iter().chain(labels).collect()
}

fn answer(dice: &mut Dice, hook: &str) -> Vec<String> {
    let fails = || vec!["fail".to_owned(), "it was asked to\nfail".to_owned()];
    let is_body = hook.ends_with("-body");
    match dice.below(60) {
        0 => fails(),
        1 => vec!["panic".to_owned(), "it was asked to panic".to_owned()],
        2..10 if is_body => vec!["replace".to_owned(), dice.text(&["", "new", "ä"])],
        10..20 if is_body => vec!["hold".to_owned()],
        20 if is_body => vec!["grow".to_owned(), (1_048_575 + dice.below(3)).to_string()],
        2..10 => vec!["wait".to_owned()],
        10..15 => vec!["skip".to_owned()],
        21..26 if hook.ends_with("-request") || hook.ends_with("-response") || is_body => {
            respond(dice)
        }
        _ => Vec::new(),
    }
}

fn respond(dice: &mut Dice) -> Vec<String> {
    let body = match dice.below(10) {
        0 => "b".repeat(65_535 + dice.below(3)),
        _ => dice.text(&["", "no", "ä\n"]),
    };
    let status = match dice.chance(60) {
        true => dice.text(&["200", "403", "429", "503"]),
        false => dice.text(&STATUSES),
    };
    let fields = match dice.below(30) {
        0 => (0..98 + dice.below(4)).map(|at| [format!("x-{at}"), "v".to_owned()]).collect(),
        1 => vec![["x-large".to_owned(), "v".repeat(32_755 + dice.below(4))]],
        2 => dice.some(4, |dice| [dice.text(&NAMES), dice.text(&VALUES)]),
        _ => dice.some(4, |dice| [dice.text(&NAMES[..9]), dice.text(&["v", " padded\t", "ä", ""])]),
    };
    ["respond".to_owned(), status, body].into_iter().chain(fields.concat()).collect()
}
