//! Names and paths, checked before the kernel sees them.
//!
//! A *name* is one step of a path. A peer's name goes into a system call relative to an
//! open directory, so all that keeps it there is that it is a single step: no slash, not `..`.

use super::FsFailureKind;

/// The longest name, in bytes, that Linux file systems have.
pub const MAX_NAME: usize = 255;

/// The longest path, in bytes, that the kernel takes.
pub const MAX_PATH: usize = 4095;

/// Checks that `name` is one step, and down.
pub fn check_name(name: &[u8]) -> Result<(), FsFailureKind> {
    if name.len() > MAX_NAME {
        return Err(FsFailureKind::NameTooLong);
    }
    match name {
        b"" | b"." | b".." => Err(FsFailureKind::InvalidName),
        _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(FsFailureKind::InvalidName),
        _ => Ok(()),
    }
}

/// Checks that `path` can be one: not empty, without a zero byte, no longer than the kernel takes.
pub fn check_path(path: &[u8]) -> Result<(), FsFailureKind> {
    if path.is_empty() || path.contains(&0) {
        return Err(FsFailureKind::InvalidName);
    }
    if path.len() > MAX_PATH {
        return Err(FsFailureKind::NameTooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_steps_down_are_names() {
        for name in [&b"a"[..], b"...", b".hidden", b"..x", b"\xff\xfe", b"a b"] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
        for name in [
            &b""[..],
            b".",
            b"..",
            b"/",
            b"a/b",
            b"../x",
            b"a\0",
            b"/etc",
        ] {
            assert_eq!(
                check_name(name),
                Err(FsFailureKind::InvalidName),
                "{name:?}"
            );
        }
        assert_eq!(check_name(&[b'a'; MAX_NAME]), Ok(()));
        assert_eq!(
            check_name(&[b'a'; MAX_NAME + 1]),
            Err(FsFailureKind::NameTooLong)
        );
    }

    #[test]
    fn paths_are_what_the_kernel_takes() {
        for path in [&b"/"[..], b"a/b", b"../x", b"\xff"] {
            assert_eq!(check_path(path), Ok(()), "{path:?}");
        }
        for path in [&b""[..], b"a\0b"] {
            assert_eq!(check_path(path), Err(FsFailureKind::InvalidName));
        }
        assert_eq!(
            check_path(&[b'a'; MAX_PATH + 1]),
            Err(FsFailureKind::NameTooLong)
        );
    }
}
