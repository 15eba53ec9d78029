//! The state file's bytes: one line with the format's number and a hash of all that follows, then
//! JSON. What is not exactly that is refused with the reason, and no part of it is used.

use super::state::State;

/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;
/// Bytes of the state file.
pub const STATE_BYTES_MAX: usize = 8 << 20;

/// What every state file begins with, of whatever format.
const MAGIC: &[u8] = b"pillion rollout state, format ";
/// Between the format and the hash.
const HASH_WORD: &str = ", blake3 ";
/// Bytes of the first line at most, with room for what later formats add.
const HEADER_BYTES_MAX: usize = 256;

/// Why a state file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The hash does not hold.
    #[error("it is torn, or was changed by something else: its checksum does not hold")]
    Torn,
    /// The first bytes are not ours.
    #[error("it is not a state file of Pillion")]
    Foreign,
    /// Written by a later version.
    #[error("it has format {0}, and this version of Pillion knows format {FORMAT} only")]
    Newer(u32),
    /// The hash holds and the contents do not make sense. Where, and not what: it may be secret.
    #[error("its contents are not what format {FORMAT} has, at line {line}, column {column}")]
    Contents {
        /// Of the JSON text.
        line: usize,
        /// Of the JSON text.
        column: usize,
    },
}

/// The file's bytes.
pub(super) fn encode(state: &State) -> serde_json::Result<Vec<u8>> {
    let contents = serde_json::to_vec(state)?;
    let mut file = header(&contents);
    file.extend_from_slice(&contents);
    Ok(file)
}

/// The state that these bytes hold.
pub(super) fn decode(file: &[u8]) -> Result<State, Unusable> {
    let Some(rest) = file.strip_prefix(MAGIC) else {
        return Err(if MAGIC.starts_with(file) { Unusable::Torn } else { Unusable::Foreign });
    };
    let line = &rest[..rest.len().min(HEADER_BYTES_MAX)];
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let format = std::str::from_utf8(&line[..digits]).ok().and_then(|digits| digits.parse().ok());
    match format {
        Some(FORMAT) => {}
        // Whole lines only: the number may be torn, too.
        Some(newer) if newer > FORMAT && line.contains(&b'\n') => {
            return Err(Unusable::Newer(newer));
        }
        _ => return Err(Unusable::Torn),
    }
    let end = line.iter().position(|byte| *byte == b'\n').ok_or(Unusable::Torn)?;
    let contents = &rest[end + 1..];
    if file[..file.len() - contents.len()] != header(contents) {
        return Err(Unusable::Torn);
    }
    serde_json::from_slice(contents)
        .map_err(|error| Unusable::Contents { line: error.line(), column: error.column() })
}

fn header(contents: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(contents).to_hex();
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(format!("{FORMAT}{HASH_WORD}{hash}\n").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this number of the format whose hash holds.
    fn of_format(format: &str, contents: &str) -> Vec<u8> {
        let hash = blake3::hash(contents.as_bytes());
        format!("pillion rollout state, format {format}, blake3 {hash}\n{contents}").into_bytes()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let state = State { rollout_id_last: 7, ..State::default() };
        let file = encode(&state).unwrap();
        assert!(file.starts_with(b"pillion rollout state, format 1, blake3 "));
        assert_eq!(decode(&file), Ok(state));
    }

    #[test]
    fn another_format_is_told_from_a_torn_file() {
        let state = serde_json::to_string(&State::default()).unwrap();
        assert_eq!(decode(&of_format("1", &state)), Ok(State::default()));
        assert_eq!(decode(&of_format("2", "anything")), Err(Unusable::Newer(2)));
        let most = u32::MAX.to_string();
        assert_eq!(decode(&of_format(&most, &state)), Err(Unusable::Newer(u32::MAX)));
        for format in ["0", "01", "", "-1", "x", "4294967296", "1x"] {
            assert_eq!(decode(&of_format(format, &state)), Err(Unusable::Torn), "{format}");
        }
        assert_eq!(decode(b"pillion rollout state, format 2"), Err(Unusable::Torn));
    }

    #[test]
    fn contents_of_another_shape_are_refused_without_being_shown() {
        let state = serde_json::to_string(&State::default()).unwrap();
        let key = state.replace("{\"rollout_id_last\":0", "{\"secret\":1,\"rollout_id_last\":0");
        let value = state.replace("\"pinned\":[]", "\"pinned\":\"secret\"");
        let time = state.replace(
            "\"promoted_next\":null",
            "\"promoted_next\":{\"identity\":\"a\",\"generation\":1,\"at\":18446744073709551616}",
        );
        let nested = state.replace("\"pinned\":[]", &format!("\"pinned\":{}", "[".repeat(10_000)));
        for contents in [key, value, time, nested, String::new(), "[]".to_owned()] {
            assert_ne!(contents, state);
            let refused = decode(&of_format("1", &contents)).unwrap_err();
            assert!(matches!(refused, Unusable::Contents { .. }), "{refused}");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }
}
