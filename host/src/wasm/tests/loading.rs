//! What is refused before it serves, each with the reason.

use super::*;

#[test]
fn a_capability_without_a_grant_is_refused() {
    let guest = on_request(&[Import::Log], "", PROCEED);
    let refused = prepare(spec(), &guest).err().unwrap();
    assert!(matches!(refused, LoadError::NotGranted { .. }));
    assert_eq!(
        refused.to_string(),
        "filter `test` imports the capability `log`, which it is not granted; to grant it, add \
         `grants = { log = true }` to its table"
    );
}

#[test]
fn what_is_no_filter_is_refused_with_the_reason() {
    let message = |bytes: &[u8]| load(bytes).err().unwrap().to_string();
    assert!(message(b"garbage").contains("is not a WebAssembly component"));
    assert!(message(b"").contains("is not a WebAssembly component"));
    let module = wat::parse_str("(module)").unwrap();
    assert!(message(&module).contains("is a core WebAssembly module"));
    let empty = wat::parse_str("(component)").unwrap();
    assert_eq!(message(&empty), "filter `test` exports no hook; was `#[filter]` forgotten?");
    let mut torn = on_request(&[], "", PROCEED);
    torn.truncate(torn.len() - 20);
    assert_eq!(message(&torn), "failed to compile component `test`");
    for (over, refused) in [(-1, "is not a"), (0, "is not a"), (1, "has at most 64 MiB")] {
        let bytes = crate::wasm::compile::COMPONENT_BYTES_MAX.saturating_add_signed(over);
        assert!(message(&vec![0; bytes]).contains(refused), "{over}");
    }
}

#[test]
fn another_version_of_the_contract_is_refused() {
    let guest = component(
        &[],
        "",
        &format!(r#"(func (export "on-request") (result i32) {PROCEED})"#),
        &LIFT.replace("@0.1.0", "@0.2.0"),
    );
    let refused = load(&guest).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "filter `test` is made for another version of the contract: it has \
         `pillion:filter/on-request@0.2.0`, and this Pillion speaks version 0.1.0; build it with an \
         SDK of that version"
    );
}

#[test]
fn a_hook_with_another_signature_is_refused() {
    let exports = r#"
        (func $on-request (param "x" u32) (canon lift (core func $guest "on-request")))
        (instance $hook (export "on-request" (func $on-request)))
        (export "pillion:filter/on-request@0.1.0" (instance $hook))"#;
    let guest = component(&[], "", r#"(func (export "on-request") (param i32))"#, exports);
    let refused = prepare(spec(), &guest).err().unwrap();
    let LoadError::WrongSignature { hook: Hook::OnRequest, .. } = refused else {
        panic!("{refused:?}")
    };
    let without = component(
        &[],
        "",
        &format!(r#"(func (export "on-request") (result i32) {PROCEED})"#),
        &LIFT.replace(r#"(export "on-request" (func"#, r#"(export "on-reqest" (func"#),
    );
    let refused = load(&without).err().unwrap().to_string();
    assert!(refused.contains("has no function of that name"), "{refused}");
}

#[test]
fn an_unknown_import_is_refused() {
    let exports =
        format!(r#"(import "other:world/thing@1.0.0" (instance $o (export "f" (func)))) {LIFT}"#);
    let functions = format!(r#"(func (export "on-request") (result i32) {PROCEED})"#);
    let guest = component(&[], "", &functions, &exports);
    let refused = prepare(spec(), &guest).err().unwrap();
    assert!(
        matches!(&refused, LoadError::UnknownImport { import, .. } if import.starts_with("other:")),
        "{refused}"
    );
}

#[test]
fn a_function_the_contract_does_not_have_is_refused() {
    let exports = format!(
        r#"(import "pillion:filter/notes@0.1.3" (instance $o (export "f" (func)))) {LIFT}"#
    );
    let functions = format!(r#"(func (export "on-request") (result i32) {PROCEED})"#);
    let guest = component(&[], "", &functions, &exports);
    let refused = prepare(spec(), &guest).err().unwrap().to_string();
    assert!(refused.contains("`pillion:filter/notes@0.1.3`"), "{refused}");
}

#[test]
fn a_refused_configuration_is_reported_with_its_key() {
    let guest = configured();
    prepare(spec(), &guest).unwrap();
    let mut other = spec();
    other.config_json = r#"{"key":1}"#.to_owned();
    let refused = prepare(other, &guest).err().unwrap();
    let LoadError::Refused { key, message, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((key.as_str(), message.as_str()), ("key", "bad"));
    assert_eq!(refused.to_string(), "filter `test` refuses its configuration: `key`: bad");
}
