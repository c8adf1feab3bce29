//! Records: lines like `17 path=some/name`, with their own length in front, that replace or add to a header's fields.
//!
//! The length alone says where a record ends. Values may contain anything, line ends too: those of
//! attributes are binary.

use std::collections::BTreeMap;

use crate::layer::LayerError;

/// The prefix of an extended attribute's name.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records before an entry, as far as they mean something here.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// What records say of a file with holes.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) version: (Vec<u8>, Vec<u8>),
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) real_size: Option<i64>,
    pub(super) count: Option<i64>,
    /// Places and lengths, in turns: of one record, or of many.
    pub(super) map: Option<Vec<i64>>,
}

impl Records {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, LayerError> {
        let mut records = Self::default();
        // The oldest way to have holes: a record for each number.
        let mut map = Vec::new();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(BAD)?;
            bytes = rest;
            match key {
                b"GNU.sparse.offset" if map.len() % 2 == 0 => map.push(integer(value).ok_or(BAD)?),
                b"GNU.sparse.numbytes" if map.len() % 2 == 1 => {
                    map.push(integer(value).ok_or(BAD)?);
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return Err(BAD),
                _ => records.take(key, value)?,
            }
        }
        if !map.is_empty() {
            records.sparse.map = Some(map);
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        // An empty value is none: the header's field counts.
        let text = (!value.is_empty()).then(|| value.to_vec());
        let whole = || match value.is_empty() {
            true => Ok(None),
            false => integer(value).map(Some).ok_or(BAD),
        };
        let sparse = &mut self.sparse;
        match key {
            b"path" => self.path = text,
            b"linkpath" => self.link = text,
            b"size" => self.size = whole()?,
            b"uid" => self.uid = whole()?,
            b"gid" => self.gid = whole()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or(BAD)?),
            b"GNU.sparse.major" => sparse.version.0 = value.to_vec(),
            b"GNU.sparse.minor" => sparse.version.1 = value.to_vec(),
            b"GNU.sparse.name" => sparse.name = text,
            b"GNU.sparse.size" => sparse.size = whole()?,
            b"GNU.sparse.realsize" => sparse.real_size = whole()?,
            b"GNU.sparse.numblocks" => sparse.count = whole()?,
            b"GNU.sparse.map" if value.is_empty() => sparse.map = None,
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(integer);
                sparse.map = Some(numbers.collect::<Option<_>>().ok_or(BAD)?);
            }
            _ => {
                if let (Some(name), Some(value)) = (key.strip_prefix(XATTR), text) {
                    self.xattrs.insert(name.to_vec(), value);
                }
            }
        }
        Ok(())
    }
}

const BAD: LayerError = LayerError::Damaged("a record is malformed");

/// The first record's key and value, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = integer(bytes.get(..space)?)?;
    let (record, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (text.get(..equals)?, text.get(equals + 1..)?);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

/// Decimal digits, maybe with a minus in front.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = plain.then(|| std::str::from_utf8(bytes).ok()).flatten()?;
    text.parse().ok()
}

/// Seconds, maybe with a fraction, as seconds rounded down and nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (value.get(..dot)?, value.get(dot + 1..)?),
        None => (value, &b""[..]),
    };
    let seconds = integer(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match whole.starts_with(b"-") && nanoseconds > 0 {
        true => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        false => Some((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        let cases: [(&str, Option<(i64, u32)>); 9] = [
            ("0", Some((0, 0))),
            ("1350244992.023960108", Some((1_350_244_992, 23_960_108))),
            ("1.5", Some((1, 500_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("1.", Some((1, 0))),
            (".5", None),
            ("1.x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_record_ends_where_its_length_says() {
        let bytes = b"27 SCHILY.xattr.user.a=x\ny\n9 path=a\n";
        let records = Records::parse(bytes).unwrap();
        assert_eq!(records.xattrs[&b"user.a"[..]], b"x\ny");
        assert_eq!(records.path.as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"9 path=a"[..],
            b"11 path=a\n",
            b"8 path=a\n",
            b"0 path=a\n",
            b"-9 path=a\n",
            b"9 pathxa\n",
            b"4 =\n\n",
            b"99999999999999999999999 path=a\n",
            b"10 size=xy\n",
            b"23 GNU.sparse.offset=1\n23 GNU.sparse.offset=1\n",
        ] {
            let refused = Records::parse(bytes);
            assert!(
                matches!(refused, Err(LayerError::Damaged(_))),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn an_empty_value_is_as_good_as_none() {
        let records = Records::parse(b"8 path=\n8 size=\n9 mtime=\n").unwrap();
        assert_eq!(
            (records.path, records.size, records.mtime),
            (None, None, None)
        );
    }
}
