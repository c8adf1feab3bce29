//! Paths of an image in messages: bytes that somebody else chose, made harmless to print.

/// The most bytes of a path that a message repeats.
const MOST: usize = 200;

/// A path as a message names it: with a slash in front, what is not printable escaped, and cut if long.
pub(crate) fn shown(path: &[u8]) -> String {
    let (head, more) = match path.get(..MOST) {
        Some(head) => (head, "..."),
        None => (path, ""),
    };
    let text: String = String::from_utf8_lossy(head)
        .chars()
        .flat_map(|c| {
            let plain = !c.is_control() && c != '\\';
            plain
                .then_some(c)
                .into_iter()
                .chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        })
        .collect();
    let slash = if text.starts_with('/') { "" } else { "/" };
    format!("{slash}{text}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown(b"a/b\x1b[2J\nc"), "/a/b\\u{1b}[2J\\nc");
        assert_eq!(shown(b""), "/");
        assert_eq!(shown(b"/a"), "/a");
        assert_eq!(shown("größe".as_bytes()), "/größe");
        assert!(shown(&[b'x'; 5000]).len() < 300);
    }
}
