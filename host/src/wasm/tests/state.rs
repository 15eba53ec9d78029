//! A version with a newer form of state takes over a migrated copy, and nothing else is touched; in
//! both forms.

use super::*;
use crate::capability::kv::{KvGrant, Origin};
use crate::wasm::cache::Compiler;
use std::sync::Arc;

/// Runs a test once with components, once with their modules.
fn in_both_forms(test: impl Fn(&dyn Fn() -> Compiler)) {
    test(&|| Compiler::in_process_as_components().unwrap());
    test(&|| Compiler::in_process().unwrap());
}

/// A version of the filter `count`, which is not in force yet.
fn build(
    compiler: &Compiler,
    state: &State,
    guest: &str,
    config: &str,
) -> Result<Arc<Prepared>, LoadError> {
    let component = std::fs::read(pillion_tests::guests::path(guest)).unwrap();
    let code = compiler.load("count", &component)?;
    let grants = Grants { log: true, kv: Some(KvGrant::default()), ..Grants::default() };
    let spec = FilterSpec {
        name: "count".into(),
        config_json: config.to_owned(),
        grants,
        ..super::spec()
    };
    Prepared::build(spec, code, state, &numbers())
}

fn in_force(compiler: &Compiler, state: &State, guest: &str) -> Arc<Prepared> {
    let prepared = build(compiler, state, guest, "{}").unwrap();
    prepared.put_in_force();
    prepared
}

/// Sends a response through the filter: which one is it, as the filter counts?
fn count(prepared: &Arc<Prepared>) -> u64 {
    let filter = prepared.instantiate_for_worker(0).unwrap();
    let mut exchange = Box::<Exchange>::default();
    exchange.phase = Phase::ResponseHead;
    filter.on_response(&mut exchange).unwrap();
    let count = exchange.response.fields.get(Name::known("x-count")).unwrap();
    std::str::from_utf8(count).unwrap().parse().unwrap()
}

#[test]
fn a_newer_form_is_migrated_into_and_the_older_version_keeps_its_own() {
    in_both_forms(|compiler| {
        let (compiler, state) = (compiler(), State::new(Instant::now()));
        let old = in_force(&compiler, &state, "kv-counter");
        assert_eq!((old.state_version(), count(&old), count(&old)), (Some(0), 1, 2));
        let mut new = None;
        let told = logged(|| new = Some(build(&compiler, &state, "kv-migrate", "{}").unwrap()));
        assert!(told.contains("1 entries migrated from 0"), "{told}");
        assert_eq!(told.matches("state migrated").count(), 1, "{told}");
        let new = new.unwrap();
        assert_eq!((new.state_version(), count(&new)), (Some(1), 3));
        assert_eq!(count(&old), 3, "it never sees what the other writes");

        new.put_in_force();
        let same = in_force(&compiler, &state, "kv-migrate");
        assert_eq!(count(&same), 4, "versions of one form share a map");
        let back = in_force(&compiler, &state, "kv-counter");
        assert_eq!(count(&back), 4, "the older form is as it was left");
        let again = in_force(&compiler, &state, "kv-migrate");
        assert_eq!(count(&again), 5, "what is in force is migrated anew");
    });
}

#[test]
fn a_version_goes_back_to_an_empty_map_where_none_was_left() {
    in_both_forms(|compiler| {
        let (compiler, state) = (compiler(), State::new(Instant::now()));
        let new = in_force(&compiler, &state, "kv-migrate");
        assert_eq!((count(&new), count(&new)), (1, 2));
        let told = logged(|| {
            let old = in_force(&compiler, &state, "kv-counter");
            assert_eq!(count(&old), 1);
        });
        assert!(told.contains("WARN") && told.contains("state begins empty"), "{told}");
        assert_eq!(count(&new), 3);
    });
}

#[test]
fn what_cannot_migrate_is_not_loaded_and_its_copy_dropped() {
    in_both_forms(|compiler| {
        let (compiler, state) = (compiler(), State::new(Instant::now()));
        let old = in_force(&compiler, &state, "kv-counter");
        assert_eq!(count(&old), 1);
        let refused = |way: &str| {
            let config = format!(r#"{{"migrate":"{way}"}}"#);
            build(&compiler, &state, "kv-migrate", &config).err().unwrap()
        };
        assert_eq!(
            refused("fail").to_string(),
            "filter `count` refuses to take over the state of the version that runs, from state \
             version 0 to 1: told to fail; mend its `migrate`, or give the filter another name and \
             with it a map of its own"
        );
        let panicked = refused("panic").to_string();
        assert!(panicked.starts_with("filter `count` failed in `migrate`: "), "{panicked}");
        assert!(panicked.contains("told to panic"), "{panicked}");
        assert_eq!(state.kv("count", 0).origin(), Origin::InForce);
        assert_eq!(count(&old), 2);
        let new = build(&compiler, &state, "kv-migrate", "{}").unwrap();
        assert_eq!(count(&new), 3);
    });
}

#[test]
fn to_migrate_has_the_time_of_configure() {
    let (compiler, state) = (Compiler::in_process().unwrap(), State::new(Instant::now()));
    let _old = in_force(&compiler, &state, "kv-counter");
    let component = std::fs::read(pillion_tests::guests::path("kv-migrate")).unwrap();
    let mut slow = super::spec();
    slow.name = "count".into();
    slow.limits.configure_time = Duration::from_millis(100);
    slow.grants = Grants { log: true, kv: Some(KvGrant::default()), ..Grants::default() };
    slow.config_json = r#"{"migrate":"spin"}"#.to_owned();
    let code = compiler.load("count", &component).unwrap();
    let refused = Prepared::build(slow, code, &state, &numbers()).err().unwrap().to_string();
    let expected = "filter `count` failed in `migrate`: it took longer than the limit \
                    `configure_time` of 100 ms";
    assert_eq!(refused, expected);
}

#[test]
fn keys_are_listed_while_migrating_and_never_while_a_request_waits() {
    in_both_forms(|compiler| {
        let (compiler, state) = (compiler(), State::new(Instant::now()));
        let filter = in_force(&compiler, &state, "kv-migrate").instantiate_for_worker(0).unwrap();
        let mut exchange = Box::<Exchange>::default();
        exchange.request.fields.append(Name::known("x-keys"), b"1");
        let failure = request(&filter, &mut exchange).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Trap);
        let why = "`kv.keys` can be called in `migrate` only";
        assert!(failure.message.contains(why), "{}", failure.message);
    });
}

const LIFT_STATE: &str = r#"
(func $state-version (result u32) (canon lift (core func $guest "state-version")))
(func $migrate (param "from-version" u32) (result (result (error string)))
  (canon lift (core func $guest "migrate") (memory $memory)))
(instance $state (export "state-version" (func $state-version))
  (export "migrate" (func $migrate)))
(export "pillion:filter/state@0.1.0" (instance $state))
"#;

/// Adds to the entry `k` in every call: 1 in `state-version`, 10 in `configure`, 100 in `migrate`.
fn adding() -> Vec<u8> {
    let add = |amount: u32| {
        format!(
            "(call $increment (i32.const 1024) (i32.const 1) (i64.const {amount}) (i32.const 0)
               (i64.const 0) (i32.const 600))"
        )
    };
    let functions = format!(
        r#"(func (export "state-version") (result i32) {} (i32.const 7))
           (func (export "configure") (param i32 i32) (result i32) {} (i32.const 512))
           (func (export "migrate") (param i32) (result i32) {}
             (i32.ne (local.get 0) (i32.const 3)) (if (then unreachable)) (i32.const 512))
           (func (export "on-request") (result i32) {PROCEED})"#,
        add(1),
        add(10),
        add(100),
    );
    component(&[Import::Kv], "k", &functions, &format!("{LIFT}{LIFT_CONFIGURE}{LIFT_STATE}"))
}

fn with_kv() -> FilterSpec {
    let grants = Grants { kv: Some(KvGrant::default()), ..Grants::default() };
    FilterSpec { grants, ..super::spec() }
}

#[test]
fn the_version_is_asked_of_an_instance_that_leaves_no_trace() {
    let state = State::new(Instant::now());
    let code = load(&adding()).unwrap();
    let prepared = Prepared::build(with_kv(), code.clone(), &state, &numbers()).unwrap();
    assert_eq!(prepared.state_version(), Some(7));
    let map = |version| state.kv("test", version).store(KvGrant::default());
    assert_eq!(map(7).get("k", Instant::now()).as_deref(), Some(&b"10"[..]), "one `configure`");
}

#[test]
fn an_instance_migrates_after_configure_and_then_is_not_used() {
    let (state, now) = (State::new(Instant::now()), Instant::now());
    let claim = state.kv("test", 3);
    claim.store(KvGrant::default()).increment("k", 1_000, None, now).unwrap();
    let prepared = Prepared::build(with_kv(), load(&adding()).unwrap(), &state, &numbers());
    prepared.unwrap().put_in_force();
    let map = state.kv("test", 7).store(KvGrant::default());
    // `configure` of the instance that migrates, `migrate`, `configure` of the one that serves.
    assert_eq!(map.get("k", now).as_deref(), Some(&b"1120"[..]));
    assert_eq!(claim.store(KvGrant::default()).get("k", now).as_deref(), Some(&b"1000"[..]));
}

#[test]
fn a_filter_without_a_map_is_not_asked_for_its_state() {
    let functions = format!(
        r#"(func (export "state-version") (result i32) unreachable)
           (func (export "migrate") (param i32) (result i32) unreachable)
           (func (export "on-request") (result i32) {PROCEED})"#
    );
    let guest = component(&[], "", &functions, &format!("{LIFT}{LIFT_STATE}"));
    assert_eq!(prepare(super::spec(), &guest).unwrap().state_version(), None);
}

#[test]
fn other_functions_than_those_of_the_contract_are_refused() {
    let functions = format!(
        r#"(func (export "state-version") (result i32) (i32.const 1))
           (func (export "migrate") (param i32) (result i32) (i32.const 512))
           (func (export "on-request") (result i32) {PROCEED})"#
    );
    let refused = |exports: String| {
        let guest = component(&[], "", &functions, &format!("{LIFT}{exports}"));
        prepare(super::spec(), &guest).err().unwrap()
    };
    let wider = LIFT_STATE
        .replace("(func $state-version (result u32)", "(func $state-version (result s32)");
    assert!(matches!(refused(wider), LoadError::WrongSignature { hook: Hook::StateVersion, .. }));
    let lacking = LIFT_STATE.replace(r#"(export "migrate" (func $migrate))"#, "");
    let error = refused(lacking);
    assert!(matches!(error, LoadError::WrongSignature { hook: Hook::Migrate, .. }));
    assert_eq!(
        error.to_string(),
        "hook `migrate` of filter `test` does not have the contract's signature: \
         `pillion:filter/state@0.1.0` has no function of that name"
    );
}
