//! The fake host has a filter bring `kv` into the form of its state version.

use pillion_sdk::{
    prelude::*,
    testing::{Host, json},
};

/// Puts the state version in front of every value.
struct Prefixed {
    refuses: bool,
}

#[filter]
impl Filter for Prefixed {
    type Config = bool;
    const STATE_VERSION: u32 = 3;

    fn new(refuses: bool) -> Result<Self, ConfigError> {
        Ok(Self { refuses })
    }

    fn migrate(&mut self, from: u32) -> Result<()> {
        if self.refuses {
            return Err(Error::new("too old"));
        }
        for key in kv::keys(None) {
            let value = kv::get(&key).unwrap_or_default();
            kv::set(&key, &[format!("{from}>3 ").as_bytes(), &value].concat(), None)?;
        }
        Ok(())
    }

    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        Ok(kv::keys(None).len()).map(|_| Decision::Proceed)
    }
}

#[test]
fn what_is_there_is_migrated() {
    let host = Host::new().kv_entry("a", b"one").kv_entry("b", b"two");
    host.migrate::<Prefixed>(1, json!(false)).expect("it does not refuse");
    assert_eq!(host.kv("a").as_deref(), Some(&b"1>3 one"[..]));
    assert_eq!(host.kv("b").as_deref(), Some(&b"1>3 two"[..]));
}

#[test]
fn a_refusal_is_the_answer() {
    let host = Host::new();
    let refused = host.migrate::<Prefixed>(2, json!(true)).expect_err("it refuses");
    assert_eq!(refused.to_string(), "too old");
    let refused = host.migrate::<Prefixed>(2, json!("x")).expect_err("that is no truth value");
    assert!(refused.to_string().starts_with("the configuration was refused: "), "{refused}");
}

#[test]
#[should_panic(expected = "the host migrates to a higher state version only, not from 3 to 3")]
fn to_the_same_version_nothing_is_migrated() {
    let _panics = Host::new().migrate::<Prefixed>(3, json!(false));
}

#[test]
#[should_panic(expected = "`kv::keys` was called outside of `migrate`")]
fn keys_are_listed_in_migrate_only() {
    let filter = Host::new().load::<Prefixed>(json!(false)).expect("it takes a truth value");
    filter.request(pillion_sdk::testing::Request::get("/"));
}
