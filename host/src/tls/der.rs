//! Reads DER (X.690) as far as certificates need it: one element after the other, no more than what
//! is there. What is decided by it is only what is shown; certificates are verified by `webpki`.

/// The elements within one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'d>(&'d [u8]);

/// `SEQUENCE`
pub(super) const SEQUENCE: u8 = 0x30;
/// `SET`
pub(super) const SET: u8 = 0x31;
/// `OBJECT IDENTIFIER`
pub(super) const OID: u8 = 0x06;
/// `[0]`, constructed
pub(super) const CONTEXT_0: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl<'d> Der<'d> {
    /// At the first element of `bytes`.
    pub(super) fn new(bytes: &'d [u8]) -> Self {
        Der(bytes)
    }

    /// Tag and content of the next element. None: there is none, or it is cut off or malformed.
    pub(super) fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
                (length, rest)
            }
            _ => return None,
        };
        // A tag of several bytes does not occur in certificates.
        if tag & 0x1F == 0x1F {
            return None;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which has to have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Steps over the next element if it has this tag.
    pub(super) fn skip(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    /// The next element as a time, in seconds since 1970.
    pub(super) fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let digits = text.strip_suffix(b"Z")?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number =
            |part: &[u8]| part.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let (year, rest) = match (tag, digits.len()) {
            (UTC_TIME, 12) => match number(&digits[..2]) {
                // RFC 5280 section 4.1.2.5.1.
                year @ 50.. => (1900 + year, &digits[2..]),
                year => (2000 + year, &digits[2..]),
            },
            (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
            _ => return None,
        };
        let [month, day, hour, minute, second] =
            [0, 2, 4, 6, 8].map(|start| number(&rest[start..start + 2]));
        let in_range = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        let seconds = (hour * 60 + minute) * 60 + second;
        in_range.then(|| days_since_1970(year, month, day) * 86_400 + seconds)
    }
}

/// Of a day of the Gregorian calendar. Years are counted from March, so that a leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // The first of March of year 0 is this many days before 1970.
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<i64> {
        let mut bytes = vec![tag, text.len() as u8];
        bytes.extend_from_slice(text.as_bytes());
        Der::new(&bytes).time()
    }

    #[test]
    fn elements_follow_each_other() {
        let bytes = [SEQUENCE, 3, 1, 2, 3, SET, 0x81, 1, 9, OID, 0x82, 0, 0];
        let mut der = Der::new(&bytes);
        assert_eq!(der.next(), Some((SEQUENCE, &[1, 2, 3][..])));
        der.skip(OID);
        assert_eq!(der.expect(SET), Some(&[9][..]));
        assert_eq!(der.next(), Some((OID, &[][..])));
        assert_eq!(der.next(), None);
    }

    #[test]
    fn what_is_cut_off_or_malformed_is_nothing() {
        for bytes in [
            &[][..],
            &[SEQUENCE],
            &[SEQUENCE, 1],
            &[SEQUENCE, 0x80],
            &[SEQUENCE, 0x82, 1],
            &[SEQUENCE, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            &[SEQUENCE, 0x85, 0, 0, 0, 0, 1, 1],
            &[0x3F, 0x81, 1, 1],
        ] {
            assert_eq!(Der::new(bytes).next(), None, "{bytes:?}");
        }
    }

    #[test]
    fn times_are_seconds() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "691231235959Z", -1),
            (UTC_TIME, "000229120000Z", 951_825_600),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(time(tag, text), Some(seconds), "{text}");
        }
        for (tag, text) in [
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "70010100000aZ"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "700100000000Z"),
            (UTC_TIME, "700101240000Z"),
            (GENERALIZED_TIME, "700101000000Z"),
            (SEQUENCE, "700101000000Z"),
        ] {
            assert_eq!(time(tag, text), None, "{text}");
        }
    }
}
