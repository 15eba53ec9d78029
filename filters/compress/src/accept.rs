//! Whether a client wants gzip (RFC 9110 section 12.5.3).
//!
//! Pure: the lines of `accept-encoding` are handed in.

use alloc::string::String;

/// Thousandths, as weights have three digits at most.
type Weight = u16;

/// Is gzip acceptable, and not less welcome than the bytes as they are?
pub(crate) fn wants_gzip(lines: &[String]) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for item in lines.iter().flat_map(|line| line.split(',')) {
        let (coding, parameters) = match item.split_once(';') {
            Some((coding, parameters)) => (coding, Some(parameters)),
            None => (item, None),
        };
        // An invalid weight is none that was asked for.
        let Some(weight) = parameters.map_or(Some(1_000), weight) else { continue };
        let coding = trim(coding);
        let named = |name: &str| coding.eq_ignore_ascii_case(name);
        let slot = if named("gzip") || named("x-gzip") {
            &mut gzip
        } else if named("identity") {
            &mut identity
        } else if coding == "*" {
            &mut any
        } else {
            continue;
        };
        // Of several the first counts.
        slot.get_or_insert(weight);
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && identity.is_none_or(|identity| gzip >= identity)
}

/// `q=0.5`; none where it is no weight.
fn weight(parameters: &str) -> Option<Weight> {
    let (name, value) = trim(parameters).split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = fraction
        .bytes()
        .chain([b'0'; 3])
        .take(3)
        .fold(0, |sum, digit| sum * 10 + Weight::from(digit - b'0'));
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_want_it() {
        for (line, wanted) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("br, gzip;q=0.8", true),
            ("gzip ; q=0.001", true),
            ("*", true),
            ("*;q=0.1", true),
            ("gzip;q=0.5, identity;q=0.5", true),
            ("gzip;q=1.000", true),
            ("", false),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("gzip;q=0.5, identity", false),
            ("gzip;q=2", false),
            ("gzip;q=0.0001", false),
            ("gzip;q=-1", false),
            ("gzip;q=0.x", false),
            ("gzip;level=1", false),
            ("gzipped", false),
        ] {
            assert_eq!(wants_gzip(&[line.to_owned()]), wanted, "{line}");
        }
        assert!(wants_gzip(&["br".to_owned(), "gzip".to_owned()]));
        assert!(!wants_gzip(&[]));
    }
}
