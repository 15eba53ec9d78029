//! Random configurations of the shipped filters; one in some is refused.

use super::dice::Dice;
use super::messages::NAMES;
use serde_json::{Value, json};

const TEMPLATES: [&str; 12] = [
    "plain",
    "",
    " padded\t",
    "${method} ${scheme} ${authority} ${path} ${query} ${protocol}",
    "${client.address}",
    "${header.x-a}",
    "${header.X-Many:-none}",
    "${note.auth.user:-}|${note.other}",
    "$$${header.cookie:-$}",
    "${header.x-b}${header.x-a:-ä}",
    "${header.forwarded}",
    "${method",
];

pub(super) fn headers(dice: &mut Dice) -> Value {
    let request = dice.some(6, |dice| rule(dice, "request"));
    let response = dice.some(6, |dice| rule(dice, "response"));
    json!({ "request": request, "response": response })
}

fn rule(dice: &mut Dice, direction: &str) -> Value {
    let name = |dice: &mut Dice| match dice.below(40) {
        0 => dice.text(&["Content-Length", "content_length", "no name", "", "host", ":path"]),
        _ => dice.text(&NAMES),
    };
    let mut rule = json!({});
    match dice.below(4) {
        0 => rule["set"] = json!({ "name": name(dice), "value": template(dice) }),
        1 => rule["append"] = json!({ "name": name(dice), "value": template(dice) }),
        2 => rule["remove"] = json!({ "name": name(dice) }),
        _ => rule["rename"] = json!({ "name": name(dice), "to": name(dice) }),
    }
    if dice.chance(50) {
        let mut when = json!({});
        dice.key(&mut when, "method", &[json!("GET"), json!(["POST", "X-OWN"]), json!([])]);
        match dice.below(4) {
            0 => when["path"] = dice.pick(&[json!("/api"), json!("*"), json!("/"), json!("api")]),
            1 => when["path_prefix"] = dice.pick(&[json!("/api"), json!("/api/"), json!("/")]),
            _ => {}
        }
        if dice.chance(40) {
            when["header"] = field_test(dice);
        }
        if direction == "response" && dice.chance(40) {
            when["response_header"] = field_test(dice);
        }
        rule["when"] = when;
    }
    rule
}

/// Few are mistakes: a configuration with one is refused as a whole.
fn template(dice: &mut Dice) -> String {
    let end = if dice.chance(5) { TEMPLATES.len() } else { TEMPLATES.len() - 1 };
    dice.text(&TEMPLATES[..end])
}

fn field_test(dice: &mut Dice) -> Value {
    let mut test = json!({ "name": dice.text(&NAMES) });
    match dice.below(4) {
        0 => test["value"] = json!(dice.text(&["a", "b", "", "ä€"])),
        1 => test["present"] = json!(true),
        2 => test["present"] = json!(false),
        _ => {}
    }
    test
}

pub(super) fn trace(dice: &mut Dice) -> Value {
    let mut table = json!({});
    dice.key(&mut table, "incoming", &[json!("continue"), json!("restart")]);
    dice.key(&mut table, "sample_ratio", &[json!(0.0), json!(0.5), json!(1), json!(0.1)]);
    dice.key(&mut table, "tracestate_max", &[json!(512), json!(16_384)]);
    dice.key(&mut table, "b3_in", &[json!(true), json!(true), json!(false)]);
    let b3_out = ["none", "single", "multi", "both"].map(Value::from);
    dice.key(&mut table, "b3_out", &b3_out);
    dice.key(&mut table, "request_id", &["keep", "replace", "off"].map(Value::from));
    dice.key(
        &mut table,
        "response",
        &[json!(["trace-id"]), json!(["trace-id", "request-id"]), json!([])],
    );
    if dice.chance(4) {
        let mistakes =
            [("sample_ratio", json!(1.5)), ("tracestate_max", json!(511)), ("b3", json!(1))];
        let (key, value) = dice.pick(&mistakes);
        table[key] = value;
    }
    table
}

pub(super) fn rate_limit(dice: &mut Dice) -> Value {
    let mut table = json!({});
    let keys = [
        json!("client"),
        json!("header:X-Tenant"),
        json!(["client", "header:x-tenant", "path"]),
        json!(["method", "authority"]),
    ];
    dice.key(&mut table, "key", &keys);
    dice.key(&mut table, "ipv6_prefix", &[json!(1), json!(48), json!(128)]);
    dice.key(&mut table, "missing", &["share", "skip", "refuse"].map(Value::from));
    dice.key(&mut table, "mode", &["enforce", "shadow"].map(Value::from));
    dice.key(&mut table, "fields", &["always", "refused", "never"].map(Value::from));
    dice.key(&mut table, "name", &["a", "policy-1.b_c"].map(Value::from));
    if dice.chance(4) {
        let mistakes = [("key", json!([])), ("ipv6_prefix", json!(129)), ("name", json!("a b"))];
        let (key, value) = dice.pick(&mistakes);
        table[key] = value;
    }
    table
}
