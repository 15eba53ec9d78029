//! Whole case files against the whole reader: good ones are read, bad ones have exactly the messages
//! beside them, and every limit holds at its edges.

use super::keys::{CASE_BODY_BYTES_MAX, ROOT};
use super::*;
use crate::config::limits::{NOTE_BYTES_MAX, NOTES_MAX};
use crate::config::model::Grants;
use crate::config::spec::{Kind, Presence, Table, Unit};
use crate::config::tests::{expect_messages, files};
use std::time::{Duration, UNIX_EPOCH};

fn parse_file(path: &Path) -> Result<CaseFile, Diagnostics> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    parse(&text, name, path.parent().unwrap(), &|_| None)
}

fn parse_text(text: &str) -> Result<CaseFile, Diagnostics> {
    parse(text, "a.toml", Path::new("/cases"), &|_| None)
}

/// A file with one case that has these keys.
fn case(keys: &str) -> Result<CaseFile, Diagnostics> {
    parse_text(&format!("filter = \"builtin:trace\"\n[[case]]\nname = \"it holds\"\n{keys}\n"))
}

fn only_message(read: Result<CaseFile, Diagnostics>) -> String {
    let problems = read.expect_err("it is refused");
    assert_eq!(problems.iter().count(), 1, "{problems}");
    problems.iter().next().unwrap().message.clone()
}

#[test]
fn good_files_are_read() {
    for path in files("cases/good") {
        if let Err(problems) = parse_file(&path) {
            panic!("{problems}");
        }
    }
}

#[test]
fn bad_files_have_exactly_the_messages_beside_them() {
    for path in files("cases/bad") {
        expect_messages(&path, &parse_file(&path).expect_err("it is refused"));
    }
}

#[test]
fn values_reach_the_model() {
    let file = parse_file(&files("cases/good")[0]).unwrap();
    let [one, several, refused] = file.cases.as_slice() else { panic!("{:?}", file.cases) };
    assert_eq!(one.setup.config["response"], Value::Array(Vec::new()));
    assert_eq!(one.setup.config_path, "case[0].config");
    assert_eq!((one.seed, one.now, one.setup.log_level), (8, UNIX_EPOCH, LogLevel::Error));
    assert_eq!(one.setup.limits.memory, 1 << 20);
    let step = &one.steps[0];
    assert_eq!((step.advance.as_secs(), step.repeat), (60, 2));
    let Request { headers, payload, .. } = &step.request;
    assert_eq!(headers[0], ("x-a".to_owned(), b"1".to_vec()));
    assert_eq!(headers[2], ("x-b".to_owned(), b"3".to_vec()));
    assert_eq!(headers[3], ("x-c".to_owned(), vec![0xff]));
    let pieces: Vec<&[u8]> = payload.chunks.iter().flatten().map(Vec::as_slice).collect();
    assert_eq!(pieces, [&b"a"[..], b"bc", b"def"]);
    assert_eq!(payload.trailers, [("x-t".to_owned(), b"end".to_vec())]);
    assert_eq!(step.upstream, Answer::default());
    let metrics: Vec<_> = step.expect.metrics.iter().map(|it| &it.value).collect();
    assert_eq!(metrics[1].labels[1], ("c".to_owned(), "d".to_owned()));
    assert_eq!((metrics[3].count, metrics[3].value), (Some(2), Some(0.5)));

    assert_eq!(several.setup.config_path, "config");
    assert_eq!(several.seed, 7);
    assert_eq!(several.now, UNIX_EPOCH + Duration::from_millis(1_770_087_906_789));
    assert_eq!(several.budget.time.as_ref().unwrap().value, Duration::from_millis(1));
    assert_eq!(several.setup.grants.rate_limit.as_ref().unwrap().burst, 3);
    let [first, second, ..] = several.steps.as_slice() else { panic!() };
    assert_eq!(first.upstream.status, 404);
    assert_eq!(second.upstream.payload.chunks, Some(vec![Vec::new()]));
    assert_eq!(second.request.payload.chunks.as_ref().unwrap().len(), 3);
    assert_eq!(file.files.len(), 2);

    assert!(refused.steps.is_empty());
    assert_eq!(refused.load_error.as_ref().unwrap().line.as_ref().unwrap().value, 78);
}

#[test]
fn what_a_file_does_not_say_has_its_default() {
    let file = parse_file(&files("cases/good")[1]).unwrap();
    let case = &file.cases[0];
    assert_eq!(case.now, UNIX_EPOCH + NOW_DEFAULT);
    assert_eq!(case.seed, 0);
    assert_eq!(case.setup.grants, Grants::default(), "a component has none by itself");
    let [step] = case.steps.as_slice() else { panic!() };
    assert_eq!((step.advance, step.repeat), (Duration::ZERO, 1));
    let Request { method, path, secure, authority, protocol, client, listener, .. } = &step.request;
    assert_eq!((method.as_str(), path.as_str(), *secure), ("GET", "/", false));
    assert_eq!((authority.as_str(), *protocol), ("app.example", "HTTP/1.1"));
    assert_eq!((client.to_string().as_str(), listener.as_str()), ("192.0.2.1", "inbound"));
    assert_eq!(step.upstream, Answer::default());
    assert!(step.request.payload.chunks.is_none() && step.expect.status.is_none());
    let shipped = &super::tests::case("").unwrap().cases[0].setup;
    assert!(shipped.grants.clock && shipped.grants.kv.is_none(), "a shipped one has the harmless");
}

#[test]
fn a_component_may_be_in_a_directory_above() {
    let here = std::env::temp_dir().join(format!("pillion-above-{}", std::process::id()));
    let cases = here.join("project/cases");
    std::fs::create_dir_all(&cases).unwrap();
    std::fs::create_dir_all(here.join("project/target")).unwrap();
    std::fs::write(here.join("project/target/a.wasm"), "").unwrap();
    let text = "filter = \"target/a.wasm\"\n[[case]]\nname = \"a\"\n";
    let found = |directory: &Path| parse(text, "a.toml", directory, &|_| None).unwrap().filter;
    let above = FilterSource::File(here.join("project/target/a.wasm"));
    assert_eq!(found(&cases), above);
    std::fs::create_dir_all(cases.join("target")).unwrap();
    std::fs::write(cases.join("target/a.wasm"), "").unwrap();
    assert_eq!(found(&cases), FilterSource::File(cases.join("target/a.wasm")), "nearest first");
    std::fs::remove_dir_all(here.join("project")).unwrap();
    let missing = FilterSource::File(cases.join("target/a.wasm"));
    assert_eq!(found(&cases), missing, "messages name the place beside the file");
    std::fs::remove_dir_all(here).unwrap();
}

#[test]
fn a_file_has_a_limit() {
    let filled = |bytes: usize| {
        let text = "filter = \"builtin:trace\"\ncase = [{ name = \"a\" }]\n#";
        format!("{text}{}", "x".repeat(bytes - text.len()))
    };
    for (bytes, fits) in [
        (CONFIG_FILE_BYTES_MAX - 1, true),
        (CONFIG_FILE_BYTES_MAX, true),
        (CONFIG_FILE_BYTES_MAX + 1, false),
    ] {
        assert_eq!(parse_text(&filled(bytes)).is_ok(), fits, "{bytes}");
    }
}

/// Reads a file with so many of something.
type With<'w> = &'w dyn Fn(usize) -> Result<CaseFile, Diagnostics>;

#[test]
fn lists_have_limits() {
    let cases = |count: usize| {
        let all: Vec<String> = (0..count).map(|nth| format!("{{ name = \"{nth}\" }}")).collect();
        parse_text(&format!("filter = \"builtin:trace\"\ncase = [{}]\n", all.join(",")))
    };
    let steps = |count: usize| case(&format!("step = [{}]", vec!["{}"; count].join(",")));
    let fields = |count: usize| {
        let all: Vec<String> = (0..count).map(|nth| format!("x-{nth} = \"\"")).collect();
        case(&format!("request.headers = {{ {} }}", all.join(",")))
    };
    let listed = |count: usize| case(&format!("expect.log = [{}]", vec!["\"\""; count].join(",")));
    let checks: [(usize, With<'_>); 4] = [
        (CASES_MAX, &cases),
        (STEPS_MAX, &steps),
        (CASE_FIELDS_MAX, &fields),
        (LISTED_MAX, &listed),
    ];
    for (max, with) in checks {
        for (count, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
            let read = with(count);
            assert_eq!(read.is_ok(), fits, "{count}");
            if !fits {
                assert!(only_message(read).ends_with(&format!("and {max} is the most")));
            }
        }
    }
}

#[test]
fn texts_have_limits() {
    let name = |bytes: usize| {
        let name = "n".repeat(bytes);
        parse_text(&format!("filter = \"builtin:trace\"\n[[case]]\nname = \"{name}\"\n"))
    };
    let regex =
        |bytes: usize| case(&format!("expect.body = {{ matches = \"{}\" }}", "r".repeat(bytes)));
    let checks: [(usize, With<'_>); 2] =
        [(read::CASE_NAME_BYTES_MAX, &name), (expect::REGEX_BYTES_MAX, &regex)];
    for (max, with) in checks {
        for (bytes, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
            assert_eq!(with(bytes).is_ok(), fits, "{bytes}");
        }
    }
}

#[test]
fn bodies_have_limits() {
    let pieces = |count: usize| {
        let body = "b".repeat(count);
        case(&format!("request.body = {{ text = \"{body}\", chunks = 1 }}"))
    };
    for (count, fits) in [(CHUNKS_MAX - 1, true), (CHUNKS_MAX, true), (CHUNKS_MAX + 1, false)] {
        assert_eq!(pieces(count).is_ok(), fits, "{count}");
    }
    let path = std::env::temp_dir().join(format!("pillion-body-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    for (bytes, fits) in [
        (CASE_BODY_BYTES_MAX - 1, true),
        (CASE_BODY_BYTES_MAX, true),
        (CASE_BODY_BYTES_MAX + 1, false),
    ] {
        file.set_len(bytes as u64).unwrap();
        let read = case(&format!("request.body = {{ file = {:?} }}", path.display().to_string()));
        assert_eq!(read.is_ok(), fits, "{bytes}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn notes_have_the_limits_of_an_exchange() {
    let notes = |count: usize| {
        let all: Vec<String> = (0..count).map(|nth| format!("n{nth} = \"\"")).collect();
        case(&format!("request.notes = {{ {} }}", all.join(",")))
    };
    let note =
        |bytes: usize| case(&format!("request.notes = {{ n = \"{}\" }}", "t".repeat(bytes - 1)));
    let checks: [(usize, With<'_>); 2] = [(NOTES_MAX, &notes), (NOTE_BYTES_MAX, &note)];
    for (max, with) in checks {
        for (count, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
            assert_eq!(with(count).is_ok(), fits, "{count}");
        }
    }
}

/// Every number with a range, with the keys of a case before it.
fn limits(
    table: &'static Table,
    path: &str,
    found: &mut Vec<(String, crate::config::spec::Limit)>,
) {
    for key in table.keys {
        let path =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match key.kind {
            Kind::Limit(limit) => found.push((path, limit)),
            // Those of the configuration are its own tests' matter.
            Kind::Table(_) if ["grants", "limits"].contains(&key.name) => {}
            Kind::Table(inner) | Kind::FlagOrTable(inner) => limits(inner, &path, found),
            Kind::Tables { table: inner, .. } if key.name == "case" => limits(inner, "", found),
            _ => {}
        }
    }
}

#[test]
fn every_number_holds_below_at_and_above_its_edges() {
    let mut all = Vec::new();
    limits(&ROOT, "", &mut all);
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all.dedup_by(|one, other| one.0 == other.0);
    assert!(all.len() >= 10, "{all:?}");
    for (path, limit) in all {
        let values = [
            (limit.min.checked_sub(1), false),
            (Some(limit.min), true),
            (Some(limit.min + 1), true),
            (Some(limit.max - 1), true),
            (Some(limit.max), true),
            (Some(limit.max + 1), false),
        ];
        for (value, accepted) in values {
            let Some(value) = value else { continue };
            let value = match limit.unit {
                Unit::Count => value.to_string(),
                Unit::Duration | Unit::Size | Unit::Percent => format!("{:?}", limit.format(value)),
            };
            let read = case(&format!("{path} = {value}"));
            assert_eq!(read.is_ok(), accepted, "{path} = {value}: {read:?}");
        }
    }
    let Kind::Tables { table, .. } = ROOT.key("case").unwrap().kind else { panic!() };
    assert_eq!(table.key("name").unwrap().presence, Presence::Required);
}

#[test]
fn an_error_of_configure_points_into_the_table_it_is_about() {
    let file = parse_file(&files("cases/good")[0]).unwrap();
    let setup = &file.cases[2].setup;
    let shown = file.locate_filter_config(setup, "request[0].set", "no such edit").to_string();
    let expected = "everything.toml:80:23: error: the filter refuses its configuration: \
                    `request[0].set`: no such edit\n80 | config = { request = [{}] }\n";
    assert!(shown.starts_with(expected), "{shown}");
    let whole = file.locate_filter_config(&file.cases[1].setup, "", "empty");
    assert_eq!(whole.place.unwrap().line, 3);
    let none = case("").unwrap();
    let nearest = none.locate_filter_config(&none.cases[0].setup, "a", "missing");
    assert_eq!(nearest.place.unwrap().line, 1, "without a table: where the filter is named");
}
