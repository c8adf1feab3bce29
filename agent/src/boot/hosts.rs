//! `/etc/hosts`: the names that every program takes for granted, `localhost` and the guest's own.
//!
//! What is missing is added at the end, and nothing that is there is changed: the file is the
//! image's and its user's. It is written where it lies, so that it can be replaced, as editors do,
//! and lasts. A link, a directory or a device of that name is left alone, whatever it leads to.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::{CWD, Mode, OFlags, fchmod, mkdir, openat};
use rustix::io::Errno;

use super::{files, memory};
use crate::log;

const ETC: &str = "/etc";
const FILE: &str = "hosts";
const HOSTNAME: &str = "hostname";

/// The most of it that is read. With more it is left alone.
const FILE_MAX: u64 = 1024 * 1024;

/// What is added when it is missing: an address, and its names.
const LOCAL: [(&str, &[&str]); 2] = [
    ("127.0.0.1", &["localhost"]),
    ("::1", &["localhost", "ip6-localhost", "ip6-loopback"]),
];

/// The address of the guest's own name: it has it whatever network there is.
const OWN: &str = "127.0.1.1";

/// Sees to it that `localhost` and `hostname` are known. Nothing depends on it, so what goes wrong
/// is only said.
pub(super) fn name(hostname: Option<&str>) {
    match attempt(ETC, hostname) {
        Ok(()) => {}
        Err(error) => log::info(&format!("{ETC}/{FILE} stays as it is: {error}")),
    }
}

/// Has an init of the image's own, which sets the name anew from `/etc/hostname`, set the same.
pub(super) fn name_for_init(hostname: &str) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let written = openat(CWD, ETC, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|etc| files::replace(etc, HOSTNAME, &format!("{hostname}\n")));
    if let Err(error) = written {
        log::info(&format!("{ETC}/{HOSTNAME} stays as it is: {error}"));
    }
}

fn attempt(etc: &str, hostname: Option<&str>) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, etc, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            mkdir(etc, Mode::from_raw_mode(0o755))?;
            openat(CWD, etc, flags, Mode::empty())?
        }
        other => other?,
    };
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags | OFlags::CLOEXEC;
    let plain = Mode::from_raw_mode(0o644);
    let file = match openat(&directory, FILE, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            let file = openat(
                &directory,
                FILE,
                flags | OFlags::CREATE | OFlags::EXCL,
                plain,
            )?;
            fchmod(&file, plain)?;
            file
        }
        other => other?,
    };
    if !memory::is_file(&file)? {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    (&file).take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(io::Error::other("it is too long to be read"));
    }
    let lines = missing(&String::from_utf8_lossy(&bytes), hostname);
    // In one piece, or not at all.
    file.write_all(lines.as_bytes())
}

/// What has to be added to `hosts`.
fn missing(hosts: &str, hostname: Option<&str>) -> String {
    let knows = |address: Option<&str>, name: &str| {
        hosts.lines().any(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let first = words.next();
            (address.is_none() || first == address) && words.any(|word| same(word, name))
        })
    };
    let mut lines = String::new();
    for (address, names) in LOCAL {
        if names.iter().any(|name| !knows(Some(address), name)) {
            lines.push_str(&format!("{address}\t{}\n", names.join(" ")));
        }
    }
    if let Some(name) = hostname.filter(|name| !name.is_empty())
        && !knows(None, name)
        && !same(name, "localhost")
    {
        lines.push_str(&format!("{OWN}\t{name}\n"));
    }
    if !lines.is_empty() && !hosts.is_empty() && !hosts.ends_with('\n') {
        lines.insert(0, '\n');
    }
    lines
}

/// Host names are the same in capitals.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::private::in_root;

    fn run(etc: &Path, hostname: &str) -> io::Result<()> {
        attempt(etc.to_str().unwrap(), Some(hostname))
    }

    #[test]
    fn where_there_is_none_one_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc");
        run(&etc, "web").unwrap();
        let hosts = etc.join("hosts");
        let text = fs::read_to_string(&hosts).unwrap();
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tweb\n"
        );
        assert_eq!(
            hosts.metadata().unwrap().permissions().mode() & 0o777,
            0o644
        );
        run(&etc, "web").unwrap();
        assert_eq!(fs::read_to_string(&hosts).unwrap(), text, "twice is once");
    }

    #[test]
    fn what_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = directory.path().join("hosts");
        let theirs = "# mine\n127.0.0.1 localhost web.example\n10.0.0.7 Web # not 127.0.1.1";
        fs::write(&hosts, theirs).unwrap();
        run(directory.path(), "web").unwrap();
        let text = fs::read_to_string(&hosts).unwrap();
        let added = text.strip_prefix(theirs).unwrap();
        assert_eq!(added, "\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (hosts, other) = (
            directory.path().join("hosts"),
            directory.path().join("other"),
        );
        fs::write(&other, "untouched").unwrap();
        symlink(&other, &hosts).unwrap();
        assert!(run(directory.path(), "web").is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
        fs::remove_file(&hosts).unwrap();
        symlink(&hosts, &hosts).unwrap();
        assert!(run(directory.path(), "web").is_err());
        fs::remove_file(&hosts).unwrap();
        fs::create_dir(&hosts).unwrap();
        assert!(run(directory.path(), "web").is_err());
        fs::remove_dir(&hosts).unwrap();
        rustix::fs::mknodat(
            CWD,
            &hosts,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(run(directory.path(), "web").is_err(), "a FIFO has no end");
        fs::remove_file(&hosts).unwrap();
        File::create(&hosts).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(run(directory.path(), "web").is_err());
        assert_eq!(hosts.metadata().unwrap().len(), FILE_MAX + 1);
    }

    #[test]
    fn an_init_finds_the_name_that_the_guest_has() {
        in_root(|| {
            name_for_init("web");
            assert!(
                fs::metadata("/etc").is_err(),
                "no root without /etc gets one"
            );
            fs::create_dir("/etc").unwrap();
            fs::write("/etc/hostname", "images-own\n").unwrap();
            name_for_init("web");
            assert_eq!(fs::read("/etc/hostname").unwrap(), b"web\n");
        });
    }

    proptest! {
        #[test]
        fn after_it_nothing_is_missing(hosts in "[ -~\n\t#é]{0,200}", name in "[a-z0-9-]{1,20}") {
            let added = missing(&hosts, Some(&name));
            prop_assert_eq!(missing(&format!("{hosts}{added}"), Some(&name)), "");
        }
    }
}
