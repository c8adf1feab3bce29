//! Extended attributes: names as an index and a rest, and what can be kept.
//!
//! A name's beginning is one of a few that the format has numbers for; the rest is written out. What
//! begins otherwise has no place in an EROFS and no meaning in the guest (an NFS server's access lists, a
//! Lustre's stripes), and other engines leave it out with a warning when the file system refuses it. So does
//! the writer, and counts. It leaves out access lists as well that the kernel would not have
//! taken: with them, every use of the file is an error.

use super::format::XATTR_ENTRY;
use crate::node::Xattr;

/// Numbers of beginnings, and of names that are nothing but one.
const USER: (u8, &[u8]) = (1, b"user.");
const ACL_ACCESS: (u8, &[u8]) = (2, b"system.posix_acl_access");
const ACL_DEFAULT: (u8, &[u8]) = (3, b"system.posix_acl_default");
const TRUSTED: (u8, &[u8]) = (4, b"trusted.");
const SECURITY: (u8, &[u8]) = (6, b"security.");

/// The longest rest of a name (`e_name_len`, and `XATTR_NAME_MAX` of the kernel, which counts all of it).
pub(super) const MAX_NAME: usize = 255;

/// A name as the format has it: the number of its beginning, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) index: u8,
    pub(super) rest: &'a [u8],
}

impl<'a> Name<'a> {
    /// None if it cannot be kept: another beginning, nothing after it, a zero in it, or too long.
    pub(super) fn split(name: &'a [u8]) -> Option<Self> {
        if name.len() > MAX_NAME || name.contains(&0) {
            return None;
        }
        for (index, whole) in [ACL_ACCESS, ACL_DEFAULT] {
            if name == whole {
                return Some(Self { index, rest: b"" });
            }
        }
        let beginnings = [USER, TRUSTED, SECURITY].into_iter();
        let mut split = beginnings.filter_map(|(index, beginning)| {
            let rest = name.strip_prefix(beginning)?;
            (!rest.is_empty()).then_some(Self { index, rest })
        });
        split.next()
    }

    /// The whole name. None if there is none such.
    pub(super) fn join(self) -> Option<Vec<u8>> {
        let all = [USER, ACL_ACCESS, ACL_DEFAULT, TRUSTED, SECURITY];
        let mut beginnings = all.iter().filter(|(index, _)| *index == self.index);
        let (_, beginning) = beginnings.next()?;
        let whole = [*beginning, self.rest].concat();
        (Name::split(&whole) == Some(self)).then_some(whole)
    }
}

/// What an attribute takes, in bytes.
pub(super) fn entry_bytes(name: usize, value: usize) -> usize {
    (XATTR_ENTRY + name + value).next_multiple_of(XATTR_ENTRY)
}

/// An attribute that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<'a> {
    pub(super) name: Name<'a>,
    pub(super) value: &'a [u8],
}

impl<'a> Kept<'a> {
    /// None if it is left out.
    pub(super) fn new(xattr: &'a Xattr) -> Option<Self> {
        let name = Name::split(&xattr.name)?;
        let value = &xattr.value;
        let acl = [ACL_ACCESS.0, ACL_DEFAULT.0].contains(&name.index);
        let good = value.len() <= usize::from(u16::MAX) && (!acl || is_acl(value));
        good.then_some(Self { name, value })
    }

    pub(super) fn bytes(&self) -> usize {
        entry_bytes(self.name.rest.len(), self.value.len())
    }

    /// Appends it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.bytes();
        // Both fit: `split` and `new` saw to it.
        out.push(u8::try_from(self.name.rest.len()).unwrap_or(u8::MAX));
        out.push(self.name.index);
        let size = u16::try_from(self.value.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(self.name.rest);
        out.extend_from_slice(self.value);
        out.resize(end, 0);
    }
}

/// Whether a value is an access list that the kernel takes: a version, and entries of a tag, permissions
/// and the number of a user or a group, in the order and completeness that it asks for (`acl(5)`).
fn is_acl(value: &[u8]) -> bool {
    const VERSION: [u8; 4] = 2u32.to_le_bytes();
    const OWNER: u8 = 1;
    const USER: u8 = 2;
    const GROUP: u8 = 4;
    const NAMED_GROUP: u8 = 8;
    const MASK: u8 = 0x10;
    const OTHERS: u8 = 0x20;

    let Some((&VERSION, entries)) = value.split_first_chunk() else {
        return false;
    };
    let (entries, rest) = entries.as_chunks::<8>();
    // What the entry before was, and whether somebody is named, which asks for a mask.
    let (mut last, mut named) = (0, false);
    for entry in entries {
        let &[tag, 0, 0..=7, 0, id @ ..] = entry else {
            return false;
        };
        let nobody = id == [0xff; 4];
        let follows = match (last, tag) {
            (0, OWNER) | (OWNER | USER, GROUP) | (GROUP | NAMED_GROUP, MASK) => true,
            (OWNER | USER, USER) | (GROUP | NAMED_GROUP, NAMED_GROUP) => !nobody,
            (GROUP, OTHERS) => !named,
            (MASK, OTHERS) => true,
            _ => false,
        };
        if !follows {
            return false;
        }
        named |= matches!(tag, USER | NAMED_GROUP);
        last = tag;
    }
    rest.is_empty() && matches!(last, 0 | OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_number_are_kept() {
        for name in [
            "user.a",
            "trusted.overlay.opaque",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ] {
            let split = Name::split(name.as_bytes()).unwrap();
            assert_eq!(split.join().unwrap(), name.as_bytes());
        }
    }

    #[test]
    fn others_are_not() {
        let long = format!("user.{}", "x".repeat(251));
        for name in [
            "",
            "user",
            "user.",
            "user.a\0b",
            "lustre.lov",
            "system.nfs4_acl",
            "system.posix_acl_accessx",
            &long,
        ] {
            assert_eq!(Name::split(name.as_bytes()), None, "{name}");
        }
        for (index, rest) in [(0, "x"), (5, "x"), (1, ""), (2, "x"), (0x81, "x")] {
            let rest = rest.as_bytes();
            assert_eq!(Name { index, rest }.join(), None, "{index}");
        }
    }

    /// An entry of an access list.
    fn acl(tag: u8, id: u8) -> [u8; 8] {
        [tag, 0, 6, 0, id, id, id, id]
    }

    #[test]
    fn access_lists_are_kept_if_they_are_whole() {
        let [owner, user, group] = [acl(1, 0xff), acl(2, 3), acl(4, 0xff)];
        let [named, mask, others] = [acl(8, 4), acl(0x10, 0xff), acl(0x20, 0xff)];
        let list = |entries: &[[u8; 8]]| [&[2, 0, 0, 0][..], entries.as_flattened()].concat();
        let good: [&[[u8; 8]]; 5] = [
            &[],
            &[owner, group, others],
            &[owner, group, mask, others],
            &[owner, user, user, group, mask, others],
            &[owner, user, group, named, named, mask, others],
        ];
        for entries in good {
            assert!(is_acl(&list(entries)), "{entries:?}");
        }
        let bad: [&[[u8; 8]]; 9] = [
            &[owner],
            &[group, others],
            &[owner, group, mask],
            &[owner, user, group, others],
            &[owner, group, named, others],
            &[user, owner, group, mask, others],
            &[owner, acl(2, 0xff), group, mask, others],
            &[owner, group, others, others],
            &[owner, acl(3, 0), group, mask, others],
        ];
        for entries in bad {
            assert!(!is_acl(&list(entries)), "{entries:?}");
        }
        for value in [&b""[..], &[2, 0, 0], &[3, 0, 0, 0], &[2, 0, 0, 0, 1]] {
            assert!(!is_acl(value));
        }
        let mut wide = list(&[owner, group, others]);
        wide[6] = 8;
        let xattr = |name: &str| Xattr {
            name: name.into(),
            value: wide.clone(),
        };
        assert!(Kept::new(&xattr("system.posix_acl_default")).is_none());
        assert!(Kept::new(&xattr("user.acl")).is_some());
    }
}
