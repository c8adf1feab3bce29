//! Header blocks: fields of fixed length.

use tar::{EntryType, Header};

use crate::layer::LayerError;

/// Where the sum of all bytes is; it counts as spaces.
const SUM: std::ops::Range<usize> = 148..156;

/// What a header says by itself.
pub(super) struct Fields {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    /// Its type is that of the time before there were types.
    pub(super) old: bool,
    pub(super) mode: u16,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) device: (i64, i64),
}

impl Fields {
    pub(super) fn parse(header: &Header) -> Result<Self, LayerError> {
        let field = |bytes: &[u8]| number(bytes).ok_or(LayerError::Damaged("a number is none"));
        let old = header.as_old();
        let kind = header.entry_type();
        let device = match (kind, header.as_ustar(), header.as_gnu()) {
            (EntryType::Char | EntryType::Block, Some(ustar), _) => {
                (field(&ustar.dev_major)?, field(&ustar.dev_minor)?)
            }
            (EntryType::Char | EntryType::Block, _, Some(gnu)) => {
                (field(&gnu.dev_major)?, field(&gnu.dev_minor)?)
            }
            _ => (0, 0),
        };
        // Twelve bits are left by the mask.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mode = (field(&old.mode)? & 0o7777) as u16;
        Ok(Self {
            path: header.path_bytes().into_owned(),
            link: header
                .link_name_bytes()
                .map_or_else(Vec::new, |link| link.into_owned()),
            kind,
            old: old.linkflag == [0],
            mode,
            uid: field(&old.uid)?,
            gid: field(&old.gid)?,
            size: field(&old.size)?,
            mtime: field(&old.mtime)?,
            device,
        })
    }
}

/// Whether the block's sum is the one in it; some writers take bytes as signed.
pub(super) fn check_sum(block: &[u8; 512]) -> Result<(), LayerError> {
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if SUM.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    let stored = block.get(SUM).and_then(number);
    match stored == Some(unsigned) || stored == Some(signed) {
        true => Ok(()),
        false => Err(LayerError::Damaged("a header's checksum is wrong")),
    }
}

pub(super) fn is_zero(block: &[u8; 512]) -> bool {
    *block == [0; 512]
}

/// A number: octal digits, or in two's complement if the first bit is set. Nothing at all is zero.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let negative = first & 0x40 != 0;
    let flip = if negative { 0xff } else { 0 };
    let magnitude = field
        .iter()
        .enumerate()
        .try_fold(0i64, |sum, (index, byte)| {
            let byte = byte ^ flip;
            let byte = if index == 0 { byte & 0x7f } else { byte };
            sum.checked_mul(256)?.checked_add(i64::from(byte))
        })?;
    Some(if negative { !magnitude } else { magnitude })
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let begin = field.iter().position(|byte| !blank(byte));
    let Some(digits) = begin.and_then(|begin| field.get(begin..)) else {
        return Some(0);
    };
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    // What follows the digits is blank, or nobody knows what it means.
    let rest = digits.get(end..)?;
    let ended = rest.first() == Some(&0) || rest.iter().all(blank);
    let text = std::str::from_utf8(digits.get(..end)?).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (ended && plain)
        .then(|| i64::from_str_radix(text, 8).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        let cases: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x01", Some(1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(-1),
            ),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000008\0", None),
            (b"-000001\0", None),
            (b"12 34  \0", None),
        ];
        for (field, expected) in cases {
            assert_eq!(
                number(field),
                expected,
                "{:?}",
                field.escape_ascii().to_string()
            );
        }
        let most = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(number(most), Some(i64::MAX));
    }

    #[test]
    fn signed_sums_count_as_well() {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..2].copy_from_slice(b"\xe4\xf6");
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert!(check_sum(&block).is_ok());
        let signed = number(&block[SUM]).unwrap() - 512;
        block[SUM].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert!(check_sum(&block).is_ok());
        block[0] += 1;
        assert!(check_sum(&block).is_err());
    }
}
