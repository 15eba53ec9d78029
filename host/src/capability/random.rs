//! The `random` capability: bytes of a cryptographic generator, seeded and reseeded by the
//! operating system, one a thread; or of a script.

use super::{Asker, Sources};

/// Bytes of one call.
pub const RANDOM_BYTES_MAX: u32 = 4 * 1024;

/// More bytes were asked for than [`RANDOM_BYTES_MAX`]; the guest traps with this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`random.bytes` was asked for {asked} bytes; at most {RANDOM_BYTES_MAX} a call")]
pub struct TooManyBytes {
    asked: u32,
}

/// So many random bytes.
pub fn bytes(sources: &Sources, asker: Asker, length: u32) -> Result<Vec<u8>, TooManyBytes> {
    if length > RANDOM_BYTES_MAX {
        return Err(TooManyBytes { asked: length });
    }
    let mut bytes = vec![0; length as usize];
    sources.fill(asker, &mut bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gives_at_most_four_kibibytes() {
        for length in [0, 1, RANDOM_BYTES_MAX - 1, RANDOM_BYTES_MAX] {
            assert_eq!(
                bytes(&Sources::System, Asker::Filter, length).unwrap().len(),
                length as usize
            );
        }
        let refused =
            bytes(&Sources::System, Asker::Filter, RANDOM_BYTES_MAX + 1).unwrap_err().to_string();
        assert_eq!(refused, "`random.bytes` was asked for 4097 bytes; at most 4096 a call");
    }
}
