//! What a guest writes to its standard streams: whole lines for the log, and the last words of one
//! that fails.
//!
//! Bounded: a guest that writes without end loses what is older, not memory of the host.

/// Bytes of standard error that are kept as the last words of a failed call.
pub(super) const LAST_WORDS_BYTES: usize = 1024;
/// Bytes of one stream that wait for the end of their line or of the call.
const WAITING_BYTES_MAX: usize = 4 * 1024;

/// The stream a guest writes to. The number is the handle's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Lines go to the log as they are complete.
    Output = 1,
    /// Lines wait for the end of the call: of a call that fails they are its message.
    Error = 2,
}

/// Text of the hook call in progress.
#[derive(Debug, Default)]
pub(super) struct Output {
    output: Vec<u8>,
    error: Vec<u8>,
}

impl Output {
    /// Nothing was written?
    pub(super) fn is_empty(&self) -> bool {
        self.output.is_empty() && self.error.is_empty()
    }

    /// Takes bytes in; gives the lines that are to be logged now.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> Vec<String> {
        let waiting = match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        };
        waiting.extend_from_slice(bytes);
        let end = match stream {
            Stream::Output => after_last_line_end(waiting),
            Stream::Error => 0,
        };
        // Too much waits: what is over goes, at the end of a line where there is one.
        let over = waiting.len().saturating_sub(WAITING_BYTES_MAX);
        let line_end = waiting[over..].iter().position(|byte| *byte == b'\n');
        let over_end = match (over, line_end) {
            (0, _) => 0,
            (over, Some(at)) => over + at + 1,
            (over, None) => over,
        };
        lines(waiting.drain(..end.max(over_end)).as_slice())
    }

    /// The call came back: what still waits is to be logged.
    pub(super) fn finish(&mut self) -> Vec<String> {
        let mut rest = lines(&self.output);
        rest.extend(lines(&self.error));
        self.clear();
        rest
    }

    /// The call failed: the end of what was written to standard error, or else to standard output.
    pub(super) fn last_words(&mut self) -> String {
        let words = if self.error.is_empty() { &self.output } else { &self.error };
        let cut = words.len().saturating_sub(LAST_WORDS_BYTES);
        let text = String::from_utf8_lossy(&words[cut..]).trim().to_owned();
        self.clear();
        text
    }

    fn clear(&mut self) {
        self.output.clear();
        self.error.clear();
    }
}

fn after_last_line_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_standard_output_are_logged_when_complete() {
        let mut output = Output::default();
        assert!(output.write(Stream::Output, b"one").is_empty());
        assert_eq!(output.write(Stream::Output, b" line\ntwo\nthr"), ["one line", "two"]);
        assert_eq!(output.finish(), ["thr"]);
        assert!(output.is_empty());
    }

    #[test]
    fn standard_error_is_the_last_words_of_a_failure_or_logged_otherwise() {
        let mut output = Output::default();
        assert!(output.write(Stream::Error, b"panicked at\nboom\n").is_empty());
        assert_eq!(output.last_words(), "panicked at\nboom");
        assert!(output.is_empty());
        output.write(Stream::Error, b"a\nb");
        assert_eq!(output.finish(), ["a", "b"]);
    }

    #[test]
    fn what_waits_is_bounded() {
        for stream in [Stream::Output, Stream::Error] {
            let mut output = Output::default();
            for (bytes, flushed) in [
                (WAITING_BYTES_MAX - 1, false),
                (WAITING_BYTES_MAX, false),
                (WAITING_BYTES_MAX + 1, true),
            ] {
                let lines = output.write(stream, &vec![b'x'; bytes]);
                assert_eq!(!lines.is_empty(), flushed, "{bytes}");
                output.clear();
            }
        }
    }

    #[test]
    fn last_words_are_cut_at_their_beginning() {
        let mut output = Output::default();
        output.write(Stream::Error, &[&[b'a'; 10][..], &[b'b'; LAST_WORDS_BYTES]].concat());
        assert_eq!(output.last_words(), "b".repeat(LAST_WORDS_BYTES));
    }
}
