//! Copying extended attributes from one directory to another.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

use crate::log;

/// The longest list of names, and the longest value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`, `linux/limits.h`).
const MAX: usize = 64 << 10;

/// What an overlay writes for itself. From an image it would be believed.
const OVERLAYS: &[u8] = b"trusted.overlay.";

/// Gives `to` the attributes that `from` has. One that cannot be had there is left out, and that is said.
pub(super) fn copy(from: impl AsFd, to: impl AsFd) {
    if let Err((name, error)) = attempt(from, to) {
        log::info(&format!("{name} of the root is left out: {error}"));
    }
}

fn attempt(from: impl AsFd, to: impl AsFd) -> Result<(), (String, Errno)> {
    let mut names = vec![0; MAX];
    let listed = match flistxattr(&from, &mut names) {
        Ok(listed) => listed,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(("the list of attributes".to_owned(), error)),
    };
    let mut value = vec![0; MAX];
    let mut failed = Ok(());
    let names = names.get(..listed).unwrap_or_default();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if name.to_bytes().starts_with(OVERLAYS) {
            continue;
        }
        let copied = fgetxattr(&from, name, &mut value).and_then(|length| {
            let value = value.get(..length).unwrap_or_default();
            fsetxattr(&to, name, value, XattrFlags::empty())
        });
        if let Err(error) = copied {
            failed = Err((format!("the attribute {}", name.to_string_lossy()), error));
        }
    }
    failed
}
