//! Paths as layers have them: made plain when they come from an archive, checked when they come from an index.

use crate::limits::Limits;
use crate::node::MAX_NAME;

/// Why a path cannot be one in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// A zero byte.
    #[error("its path contains a zero byte")]
    Zero,
    /// `..`
    #[error("its path leads upwards (`..`)")]
    Upwards,
    /// A name between slashes that is longer than a file's name can be.
    #[error("a name in its path is longer than {MAX_NAME} bytes")]
    LongName,
    /// Too many bytes.
    #[error("its path is longer than {0} bytes")]
    TooLong(usize),
    /// Too many names.
    #[error("it is more than {0} directories deep")]
    TooDeep(usize),
    /// It is the root, where only a directory can be.
    #[error("it would be in the place of the root directory")]
    Root,
    /// A name of nothing after `.wh.`.
    #[error("it removes something without saying what")]
    Nameless,
    /// Not in the form that an index has.
    #[error("its path is not in its plain form")]
    NotPlain,
}

/// An archive's path in the form that [`Layer`](super::Layer) has: without slashes at its ends, empty names and `.`.
pub(super) fn clean(path: &[u8], limits: &Limits) -> Result<Vec<u8>, PathProblem> {
    let mut plain = Vec::with_capacity(path.len());
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b".") {
            continue;
        }
        check_name(name)?;
        depth += 1;
        if depth > limits.depth {
            return Err(PathProblem::TooDeep(limits.depth));
        }
        if !plain.is_empty() {
            plain.push(b'/');
        }
        plain.extend_from_slice(name);
    }
    match plain.len() > limits.path_bytes {
        true => Err(PathProblem::TooLong(limits.path_bytes)),
        false => Ok(plain),
    }
}

/// Whether a path is one that [`clean`] gives.
pub(super) fn check(path: &[u8], limits: &Limits) -> Result<(), PathProblem> {
    if path.is_empty() {
        return Ok(());
    }
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b".") {
            return Err(PathProblem::NotPlain);
        }
        check_name(name)?;
        depth += 1;
    }
    if depth > limits.depth {
        Err(PathProblem::TooDeep(limits.depth))
    } else if path.len() > limits.path_bytes {
        Err(PathProblem::TooLong(limits.path_bytes))
    } else {
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), PathProblem> {
    if name == b".." {
        Err(PathProblem::Upwards)
    } else if name.contains(&0) {
        Err(PathProblem::Zero)
    } else if name.len() > MAX_NAME {
        Err(PathProblem::LongName)
    } else {
        Ok(())
    }
}

/// A path's directory and its last name; `None` for the root.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_plain() {
        let limits = Limits::default();
        let cases: [(&str, &str); 6] = [
            ("./", ""),
            ("/", ""),
            ("./a/b", "a/b"),
            ("/a//./b/", "a/b"),
            ("a", "a"),
            ("...", "..."),
        ];
        for (path, plain) in cases {
            let made = clean(path.as_bytes(), &limits).unwrap();
            assert_eq!(made, plain.as_bytes());
            assert_eq!(check(&made, &limits), Ok(()));
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let limits = Limits {
            depth: 3,
            path_bytes: 300,
            ..Limits::default()
        };
        let long = "x".repeat(256);
        let deep = "a/a/a/a";
        let wide = format!("{0}/{0}", "x".repeat(200));
        let cases: [(&str, PathProblem); 6] = [
            ("../a", PathProblem::Upwards),
            ("a/../b", PathProblem::Upwards),
            ("a\0b", PathProblem::Zero),
            (&long, PathProblem::LongName),
            (deep, PathProblem::TooDeep(3)),
            (&wide, PathProblem::TooLong(300)),
        ];
        for (path, problem) in cases {
            assert_eq!(clean(path.as_bytes(), &limits), Err(problem));
            assert_eq!(check(path.as_bytes(), &limits), Err(problem));
        }
        for path in ["/a", "a/", "a//b", "./a", "."] {
            assert_eq!(check(path.as_bytes(), &limits), Err(PathProblem::NotPlain));
        }
    }
}
