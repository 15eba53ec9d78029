//! An instance says which of its hooks it wants, and the others are never called; in both forms.

use super::*;
use crate::capability::rate_limit::Policy;
use crate::wasm::cache::Compiler;
use crate::wasm::prepared::{FilterSpec, Grants};
use crate::wasm::testing::TYPES;
use std::sync::Arc;

/// The core function of the export, by the name that toolchains give it.
const WANTED: &str = "pillion:filter/wanted-hooks@0.1.0#wanted-hooks";

const LIFT_WANTED: &str = r#"
(type $hook-set' (flags "on-request" "on-request-body" "on-request-trailers"
  "on-response" "on-response-body" "on-response-trailers" "on-complete"))
(export $hook-set "hook-set" (type $hook-set'))
(func $wanted-hooks (result $hook-set)
  (canon lift (core func $guest "pillion:filter/wanted-hooks@0.1.0#wanted-hooks")))
(instance $wanted-hook (export "wanted-hooks" (func $wanted-hooks)))
(export "pillion:filter/wanted-hooks@0.1.0" (instance $wanted-hook))
"#;

/// A guest of one module with both head hooks, which wants what `wanted` leaves.
fn guest(wanted: &str) -> Vec<u8> {
    let text = format!(
        r#"(component {TYPES}
          (core module $guest
            (memory (export "memory") 2)
            (func (export "pillion:filter/on-request@0.1.0#on-request") (result i32) {PROCEED})
            (func (export "pillion:filter/on-response@0.1.0#on-response") (result i32) {PROCEED})
            (func (export "{WANTED}") (result i32) {wanted}))
          (core instance $guest (instantiate $guest))
          (alias core export $guest "memory" (core memory $memory))
          (func $on-request (result $head-decision) (canon lift
            (core func $guest "pillion:filter/on-request@0.1.0#on-request") (memory $memory)))
          (instance $request (export "on-request" (func $on-request)))
          (export "pillion:filter/on-request@0.1.0" (instance $request))
          (func $on-response (result $head-decision) (canon lift
            (core func $guest "pillion:filter/on-response@0.1.0#on-response") (memory $memory)))
          (instance $response (export "on-response" (func $on-response)))
          (export "pillion:filter/on-response@0.1.0" (instance $response))
          {LIFT_WANTED})"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// The filter as a component, and as its module.
fn prepared(spec: &FilterSpec, component: &[u8]) -> [Result<Arc<Prepared>, LoadError>; 2] {
    let compilers = [Compiler::in_process_as_components(), Compiler::in_process()];
    compilers.map(|compiler| {
        let code = compiler.unwrap().load("test", component)?;
        Prepared::build(spec.clone(), code, &State::new(Instant::now()), &numbers())
    })
}

/// The hooks that are called, which are the same in both forms.
fn called(spec: &FilterSpec, component: &[u8]) -> Hooks {
    let [component, module] = prepared(spec, component).map(Result::unwrap);
    assert_eq!((component.runs_directly(), module.runs_directly()), (false, true));
    let [component, module] =
        [component, module].map(|one| one.instantiate_for_worker(0).unwrap().hooks());
    assert_eq!(component, module);
    component
}

/// Why it is not loaded, in both forms.
fn refused(spec: &FilterSpec, component: &[u8]) -> [String; 2] {
    prepared(spec, component).map(|refused| refused.err().unwrap().to_string())
}

#[test]
fn the_hooks_that_are_called_are_those_exported_and_wanted() {
    let of = |hooks: &[Hook]| hooks.iter().copied().collect::<Hooks>();
    for (wanted, expected) in [
        (0b000_0000, &[][..]),
        (0b000_0001, &[Hook::OnRequest]),
        (0b000_1000, &[Hook::OnResponse]),
        (0b000_1001, &[Hook::OnRequest, Hook::OnResponse]),
        // Of what it does not export, nothing comes.
        (0b111_0110, &[]),
        (0b111_1111, &[Hook::OnRequest, Hook::OnResponse]),
        // What is no flag is ignored.
        (0xffff_ff81_u32, &[Hook::OnRequest]),
    ] {
        let guest = guest(&format!("(i32.const {wanted})"));
        assert_eq!(called(&spec(), &guest), of(expected), "{wanted:b}");
    }
}

#[test]
fn each_flag_is_the_hook_of_its_name() {
    let contract = include_str!("../../../../wit/v0.1.0/hooks.wit");
    let (_, flags) = contract.split_once("flags hook-set {").unwrap();
    let (flags, _) = flags.split_once('}').unwrap();
    let lines = flags.lines().map(str::trim).filter(|line| !line.starts_with("///"));
    let names: Vec<&str> = lines.filter_map(|line| line.strip_suffix(',')).collect();
    for (at, name) in names.iter().enumerate() {
        let wanted = crate::wasm::types::wanted_hooks(1 << at);
        let hooks: Vec<&str> =
            Hook::ALL.into_iter().filter(|hook| wanted.has(*hook)).map(Hook::name).collect();
        assert_eq!(hooks, [*name]);
    }
    assert_eq!(names.len(), 7);
}

#[test]
fn without_the_export_every_hook_is_called() {
    let filter = filter(spec(), &configured());
    assert!(filter.hooks().has(Hook::OnRequest));
}

#[test]
fn a_trap_keeps_the_filter_from_being_loaded() {
    for refused in refused(&spec(), &guest("unreachable")) {
        assert!(refused.starts_with("filter `test` failed in `wanted-hooks`: "), "{refused}");
        assert!(refused.contains("unreachable"), "{refused}");
    }
}

#[test]
fn it_has_the_time_of_configure() {
    let mut slow = spec();
    slow.limits.configure_time = Duration::from_millis(10);
    for refused in refused(&slow, &guest("(loop $spin (br $spin)) (i32.const 0)")) {
        let expected = "filter `test` failed in `wanted-hooks`: it took longer than the limit \
                        `configure_time` of 10 ms";
        assert_eq!(refused, expected);
    }
}

#[test]
fn wanting_is_no_hook_of_an_exchange() {
    let function = format!(r#"(func (export "{WANTED}") (result i32) (i32.const 1))"#);
    let refused = load(&component(&[], "", &function, LIFT_WANTED)).err().unwrap();
    assert_eq!(refused.to_string(), "filter `test` exports no hook; was `#[filter]` forgotten?");
}

#[test]
fn other_flags_than_those_of_the_contract_are_refused() {
    let flags = r#""on-request-body" "on-request-trailers""#;
    let fewer = LIFT_WANTED.replace(flags, "");
    assert_ne!(fewer, LIFT_WANTED);
    let functions = format!(
        r#"(func (export "{WANTED}") (result i32) (i32.const 1))
           (func (export "on-request") (result i32) {PROCEED})"#
    );
    let guest = component(&[], "", &functions, &format!("{LIFT}{fewer}"));
    let refused = prepare(spec(), &guest).err().unwrap();
    let LoadError::WrongSignature { hook: Hook::WantedHooks, .. } = refused else {
        panic!("{refused:?}")
    };
}

#[test]
fn the_shipped_filters_want_what_they_are_configured_for() {
    let per = Duration::from_secs(1);
    let grants = Grants {
        clock: true,
        random: true,
        metrics: true,
        rate_limit: Some(Policy { requests: 1, per, burst: 1, keys: 1 }),
        ..Grants::default()
    };
    for (name, config, expected) in [
        ("trace", "{}", &[Hook::OnRequest][..]),
        ("trace", r#"{"response": ["trace-id"]}"#, &[Hook::OnRequest, Hook::OnResponse]),
        ("headers", "{}", &[]),
        ("headers", r#"{"response": [{"remove": {"name": "server"}}]}"#, &[Hook::OnResponse]),
        ("rate-limit", "{}", &[Hook::OnRequest]),
        ("rate-limit", r#"{"fields": "always"}"#, &[Hook::OnRequest, Hook::OnResponse]),
    ] {
        let component = pillion_filters::shipped(name).unwrap().component;
        let config_json = config.to_owned();
        let spec = FilterSpec { config_json, grants: grants.clone(), ..spec() };
        let expected = expected.iter().copied().collect::<Hooks>();
        assert_eq!(called(&spec, component), expected, "{name} {config}");
    }
}
