//! The hook against the SDK's fake host: who is let through, what goes on, and every limit.

mod keys;

use alloc::borrow::ToOwned;
use core::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use pillion_sdk::testing::{Host, Loaded, Request, json};
use serde_json::Value;
use sha2::Sha256;

use self::keys::{ED25519_KEY, ED25519_TOKEN, P256_KEY, P256_TOKEN, RSA_KEY, RSA_TOKEN};
use super::*;
use crate::keys::{KEYS_MAX, TRIES_MAX};
use crate::token::TOKEN_BYTES_MAX;

const SECRET: &str = "thirty-two bytes are enough here";
/// When the fake host's clock begins.
const NOW: u64 = 1_767_225_600;

fn load(config: Value) -> Loaded<Jwt> {
    Host::new().load::<Jwt>(config).expect("the configuration is valid")
}

fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            let letter = bits >> (18 - 6 * place) & 63;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

fn sign(secret: &str, claims: &Value) -> String {
    let signed =
        format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string().as_bytes()));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signed);
    format!("{signed}.{}", encode(&mac.finalize().into_bytes()))
}

fn with(token: &str) -> Request {
    Request::get("/").header("authorization", format!("Bearer {token}"))
}

/// What is told of a token that is refused; none where it is let through.
fn refusal(filter: &Loaded<Jwt>, token: &str) -> Option<String> {
    let exchange = filter.request(with(token));
    assert_eq!(exchange.failure(), None);
    exchange.local_response().map(|reply| reply.body_text())
}

fn key_set(keys: &[&str]) -> Value {
    json!({ "jwks": format!("{{\"keys\":[{}]}}", keys.join(",")) })
}

fn mistake(config: Value) -> (String, String) {
    let error = Host::new().load::<Jwt>(config).expect_err("the configuration has a mistake");
    (error.key, error.message)
}

#[test]
fn a_token_of_each_algorithm_is_let_through_by_its_key_alone() {
    let pairs = [(RSA_KEY, RSA_TOKEN), (P256_KEY, P256_TOKEN), (ED25519_KEY, ED25519_TOKEN)];
    for (own, token) in pairs {
        for (key, _) in pairs {
            let refused = refusal(&load(key_set(&[key])), token).is_some();
            assert_eq!(refused, key != own, "{token}");
        }
    }
}

#[test]
fn no_letter_of_a_token_can_be_changed() {
    let filter = load(key_set(&[RSA_KEY, P256_KEY, ED25519_KEY]));
    for token in [ED25519_TOKEN, P256_TOKEN, RSA_TOKEN] {
        // The slow ones at fewer places.
        let step = if token == ED25519_TOKEN { 1 } else { 7 };
        for at in (0..token.len()).step_by(step) {
            let mut changed = token.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(refusal(&filter, &changed).is_some(), "place {at} of {token}");
        }
        assert_eq!(refusal(&filter, token), None);
    }
}

#[test]
fn a_token_that_is_known_still_expires() {
    let host = Host::new();
    let filter = host.load::<Jwt>(json!({"secret": SECRET, "clock_skew": 5})).unwrap();
    let token = sign(SECRET, &json!({"exp": NOW + 10}));
    assert_eq!(refusal(&filter, &token), None);
    host.advance(Duration::from_secs(14));
    assert_eq!(refusal(&filter, &token), None);
    host.advance(Duration::from_secs(1));
    assert_eq!(refusal(&filter, &token).as_deref(), Some("the token has expired\n"));
}

#[test]
fn many_tokens_drive_each_other_out_and_stay_apart() {
    let filter = load(json!({"secret": SECRET, "claims": {"x-user": "sub"}}));
    let tokens: Vec<(String, String)> = (0..600)
        .map(|number| {
            let name = format!("user-{number}");
            (sign(SECRET, &json!({"exp": NOW + 10, "sub": name})), name)
        })
        .collect();
    for _ in 0..2 {
        for (token, name) in &tokens {
            let exchange = filter.request(with(token));
            assert_eq!(exchange.forwarded().header("x-user").as_ref(), Some(name));
        }
    }
}

#[test]
fn a_token_over_its_length_is_refused() {
    let filter = load(json!({"secret": SECRET}));
    let sized = |length: usize| {
        let of = |padding: usize| sign(SECRET, &json!({"exp": NOW + 10, "p": "x".repeat(padding)}));
        // Four letters for three bytes: the right one is among these.
        let near = (length - of(0).len()) * 3 / 4;
        let found = (near..near + 4).map(of).find(|token| token.len() == length);
        found.unwrap_or_else(|| panic!("no token has {length} letters"))
    };
    assert_eq!(refusal(&filter, &sized(TOKEN_BYTES_MAX - 1)), None);
    assert_eq!(refusal(&filter, &sized(TOKEN_BYTES_MAX)), None);
    let over = sized(TOKEN_BYTES_MAX + 1);
    assert_eq!(refusal(&filter, &over).as_deref(), Some("the token is malformed\n"));
}

#[test]
fn without_a_name_the_first_keys_are_tried() {
    let secret = |number: usize| format!("a secret of thirty-two bytes, {number:02}");
    let key = |number: usize| json!({"kty": "oct", "k": encode(secret(number).as_bytes())});
    let keys: Vec<String> = (0..=TRIES_MAX).map(|number| key(number).to_string()).collect();
    let filter = load(key_set(&keys.iter().map(String::as_str).collect::<Vec<_>>()));
    for number in 0..=TRIES_MAX {
        let token = sign(&secret(number), &json!({"exp": NOW + 10}));
        assert_eq!(refusal(&filter, &token).is_none(), number < TRIES_MAX, "{number}");
    }
}

#[test]
fn a_key_set_has_a_bound() {
    let sized = |count: usize| key_set(&[ED25519_KEY].repeat(count));
    load(sized(KEYS_MAX - 1));
    load(sized(KEYS_MAX));
    let (key, message) = mistake(sized(KEYS_MAX + 1));
    assert_eq!((key.as_str(), message.as_str()), ("jwks", "has more than 100 keys"));
}

#[test]
fn claims_have_a_bound() {
    let sized = |count: usize| {
        let claims: serde_json::Map<String, Value> =
            (0..count).map(|number| (format!("x-{number}"), "sub".into())).collect();
        json!({"secret": SECRET, "claims": claims})
    };
    load(sized(31));
    load(sized(32));
    assert_eq!(mistake(sized(33)), ("claims".to_owned(), "has more than 32 fields".to_owned()));
    let twice = json!({"secret": SECRET, "claims": {"x-a": "sub", "X-A": "sub"}});
    assert_eq!(mistake(twice).1, "is there twice, in other letters");
}

#[test]
fn a_secret_has_thirty_two_bytes_at_least_and_is_never_told() {
    load(json!({"secret": "x".repeat(32)}));
    load(json!({"secret": "x".repeat(33)}));
    let (key, message) = mistake(json!({"secret": "hunter2"}));
    assert_eq!(key, "secret");
    assert!(!message.contains("hunter2"), "{message}");
    for set in [r#"{"keys": "hunter2"}"#, r#"{"keys": [{"kty": "oct", "k": 7}]}"#, "hunter2"] {
        let (key, message) = mistake(json!({"jwks": set}));
        assert_eq!(key, "jwks");
        assert!(message.starts_with("is not a JSON Web Key Set") && !message.contains("hunter2"));
    }
    let filter = format!("{:?}", load(json!({"secret": SECRET})));
    assert!(!filter.contains(SECRET), "{filter}");
}

#[test]
fn a_weak_key_is_refused() {
    let weak = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&[0; 32])}).to_string();
    assert_eq!(mistake(key_set(&[&weak])).1, "`keys[0]` has no valid `x`");
    let even = json!({"kty": "RSA", "e": "AQAB", "n": encode(&[0xfe; 256])}).to_string();
    assert_eq!(mistake(key_set(&[&even])).1, "`keys[0]` is no RSA key of 2,048 to 4,096 bits");
    let large = json!({"kty": "RSA", "e": "AQAB", "n": encode(&[0xff; 513])}).to_string();
    assert_eq!(mistake(key_set(&[&large])).1, "`keys[0]` is no RSA key of 2,048 to 4,096 bits");
    let one = json!({"kty": "RSA", "e": "AQ", "n": encode(&[0xff; 256])}).to_string();
    assert_eq!(mistake(key_set(&[&one])).1, "`keys[0]` is no RSA key of 2,048 to 4,096 bits");
}

#[test]
fn the_clock_skew_has_a_bound() {
    for seconds in [0, 3_599, 3_600] {
        load(json!({"secret": SECRET, "clock_skew": seconds}));
    }
    assert_eq!(mistake(json!({"secret": SECRET, "clock_skew": 3_601})).0, "clock_skew");
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    let mut config = file["filter"]["jwt"]["config"].clone();
    assert_eq!(config["jwks"], "${file:./keys.json}", "the host puts the file's text there");
    config["jwks"] = key_set(&[RSA_KEY])["jwks"].clone();
    load(config);
}
