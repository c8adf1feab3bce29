//! Which of the host's files a command means that the nested machine's own /tmp, /run and /dev/shm
//! hide: a checkout under /tmp, say, or a disk image.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Call;

/// Where the machine has memory of its own.
const HIDING: [&str; 3] = ["/tmp", "/run", "/dev/shm"];
/// Must be in the machine's own memory, for there are sockets and locks in it.
const OWN: [&str; 1] = ["MSB_HOME"];

/// The topmost hidden directories (or files) on the way to the working directory, to arguments
/// that are paths, and to the product's variables. Each is a direct child of a hiding directory.
pub(super) fn tops(call: &Call) -> BTreeSet<PathBuf> {
    let variables = call.env.iter().filter(|(name, _)| {
        name.to_str()
            .is_some_and(|name| name.starts_with("MSB_") && !OWN.contains(&name))
    });
    call.argv
        .iter()
        .chain(variables.map(|(_, value)| value))
        .chain([&call.cwd])
        .filter_map(|word| top(word))
        .collect()
}

fn top(word: &OsStr) -> Option<PathBuf> {
    let path = Path::new(word);
    HIDING.iter().find_map(|dir| {
        let below = path.strip_prefix(dir).ok()?;
        match below.components().next()? {
            std::path::Component::Normal(name) => Some(Path::new(dir).join(name)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_hiding_directories_are_found_once() {
        let call = Call {
            argv: [
                "/tmp/clone/target/x",
                "/tmp/clone/y",
                "/usr/bin/z",
                "tmp/a",
                "/tmp",
                "/tmp/..",
            ]
            .map(Into::into)
            .into(),
            env: [
                ("MSB_KERNEL_PATH", "/run/k/vmlinux"),
                ("MSB_HOME", "/tmp/home"),
                ("X", "/tmp/x"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
            cwd: "/dev/shm/w/deep".into(),
        };
        let found: Vec<_> = tops(&call).into_iter().collect();
        assert_eq!(
            found,
            ["/dev/shm/w", "/run/k", "/tmp/clone"].map(PathBuf::from)
        );
    }
}
