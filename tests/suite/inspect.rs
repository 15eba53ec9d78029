//! `pillion filter inspect` says what a component is, or what is wrong with it and what to do.

use pillion_tests::peer::run;
use pillion_tests::sidecar::pillion;
use pillion_tests::{Sidecar, guests};
use std::path::Path;

/// Exit code, standard output and standard error.
async fn inspect(file: &str, place: &Path) -> (i32, String, String) {
    let mut command = pillion();
    command.args(["filter", "inspect", file]).current_dir(place);
    run(command).await
}

#[tokio::test]
async fn a_component_is_told_with_the_table_that_lets_it_run() {
    let setup = Sidecar::new();
    let component = std::fs::read(guests::path("metrics")).unwrap();
    std::fs::write(setup.directory().join("my_filter.wasm"), component).unwrap();
    let (code, out, err) = inspect("my_filter.wasm", setup.directory()).await;
    assert_eq!((code, err.as_str()), (0, ""));
    // Size, version and tools change with the compiler.
    let steady = |line: &&str| !line.starts_with("component ") && !line.starts_with("made with ");
    let told: Vec<&str> = out.lines().filter(steady).collect();
    let expected = "\
my_filter.wasm

contract      0.1.0
hooks         configure, on-request
imports       types, request, metrics
also          wasi:io@0.2.6, wasi:cli@0.2.6
capabilities  metrics

To let it run, name it in the `chain` of a route and add its table to the file:

[filter.my-filter]
source = \"./my_filter.wasm\"
grants = { metrics = true }
config = {}  # what it reads from here, its documentation says";
    assert_eq!(told.join("\n"), expected);
    let made_with = out.lines().find(|line| line.starts_with("made with ")).unwrap();
    assert!(made_with.starts_with("made with     pillion-sdk 0.1.0 (Rust), "), "{made_with}");
}

#[tokio::test]
async fn a_component_that_needs_nothing_is_told_so() {
    let noop = guests::path("noop");
    let (code, out, _) = inspect(noop.to_str().unwrap(), Path::new("/")).await;
    assert_eq!(code, 0);
    for line in [
        "hooks         on-request",
        "imports       types",
        "also          -",
        "capabilities  nothing that has to be granted",
    ] {
        assert!(out.lines().any(|told| told == line), "{line}\n{out}");
    }
    assert!(out.ends_with(&format!("[filter.noop]\nsource = {noop:?}\n")), "{out}");
}

#[tokio::test]
async fn a_component_with_a_state_of_its_own_is_told_so() {
    let guest = guests::path("kv-migrate");
    let (code, out, _) = inspect(guest.to_str().unwrap(), Path::new("/")).await;
    assert_eq!(code, 0);
    let hooks = "hooks         configure, state-version, migrate, on-request, on-response";
    assert!(out.lines().any(|told| told == hooks), "{out}");
}

#[tokio::test]
async fn the_table_is_one_that_a_configuration_takes() {
    let base = "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:0\"\n[[listener.route]]\n\
                chain = [\"NAME\"]\nupstream = \"app\"\n[upstream.app]\nendpoints = [\"a:1\"]\n";
    for guest in guests::NAMES {
        let file = guests::path(guest);
        let (code, out, err) = inspect(file.to_str().unwrap(), Path::new("/")).await;
        assert_eq!(code, 0, "{guest}: {err}");
        let table = &out[out.find("[filter.").expect("a table is told")..];
        let name = table["[filter.".len()..].split(']').next().unwrap();
        let text = format!("{}{table}", base.replace("NAME", name));
        let loaded = pillion::config::parse(&text, "p.toml", Path::new("/"), &|_| None);
        assert!(loaded.is_ok(), "{guest}: {}", loaded.unwrap_err());
    }
}

#[tokio::test]
async fn what_is_no_filter_is_told_with_what_to_do() {
    let setup = Sidecar::new();
    let hello = std::fs::read(guests::path("hello")).unwrap();
    let unknown = "(component (import \"wasi:http/types@0.2.0\" (instance))
        (core module $m (func (export \"f\") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i \"f\")))
        (instance $hook (export \"on-complete\" (func $f)))
        (export \"pillion:filter/on-complete@0.1.0\" (instance $hook))
        (import \"other:package/thing@1.0.0\" (instance)))";
    let broken = b"\0asm\x0d\0\x01\0\xff".to_vec();
    for (bytes, told) in [
        (
            None,
            "there is no component `odd.wasm`\nhelp: `pillion filter build` says where it puts one",
        ),
        (
            Some(b"not wasm at all".to_vec()),
            "filter `odd` is not a WebAssembly component: it does not begin as one; name the file \
             that a build for `wasm32-wasip2` made",
        ),
        (
            Some(b"\0asm\x01\0\0\0".to_vec()),
            "filter `odd` is a core WebAssembly module, not a component; build it for the target \
             `wasm32-wasip2`",
        ),
        (
            Some(b"\0asm\x0d\0\x01\0".to_vec()),
            "filter `odd` exports no hook; was `#[filter]` forgotten?",
        ),
        (
            Some(of_contract(&hello, b"0.2.0")),
            "filter `odd` is made for another version of the contract: it has \
             `pillion:filter/on-request@0.2.0`, and this Pillion speaks version 0.1.0; build it \
             with an SDK of that version",
        ),
        (
            Some(wat::parse_str(unknown).expect("the text is right")),
            "filter `odd` imports `other:package/thing@1.0.0`, which no filter gets; filters may \
             import the contract (`pillion:filter/…@0.1.0`) and WASI 0.2",
        ),
        (Some(broken), "failed to compile component `odd`: the component is not valid: "),
    ] {
        let file = setup.directory().join("odd.wasm");
        if let Some(bytes) = &bytes {
            std::fs::write(&file, bytes).unwrap();
        }
        let (code, out, err) = inspect("odd.wasm", setup.directory()).await;
        assert_eq!((code, out.as_str()), (1, ""), "{told}");
        let err = err.trim_end();
        let is_told = if told.ends_with(": ") { err.starts_with(told) } else { err == told };
        assert!(is_told, "{err}\nis not\n{told}");
    }
    std::fs::create_dir(setup.directory().join("folder")).unwrap();
    let (code, _, err) = inspect("folder", setup.directory()).await;
    assert_eq!(code, 1);
    assert_eq!(err, "failed to read component `folder`: it is not a regular file\n");
}

/// The component as if it were made for another version of the contract, of equal length.
fn of_contract(component: &[u8], version: &[u8; 5]) -> Vec<u8> {
    let mut component = component.to_vec();
    for at in 0..component.len() - 6 {
        if component[at..].starts_with(b"@0.1.0") {
            component[at + 1..at + 6].copy_from_slice(version);
        }
    }
    component
}
