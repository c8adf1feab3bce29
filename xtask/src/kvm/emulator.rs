//! The QEMU that runs the nested machine.
//!
//! Emulators are not perfect with several processors: guests of any VMM sometimes die of a triple
//! fault or hang while they boot. Newer versions fail less often (docs/hacking.md has what was
//! measured). So where the installed QEMU is old, the one of the release's backports is unpacked
//! into the cache and used instead; nothing is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::Backports;
use crate::progress::Progress;
use crate::{cache, proc};

const PROGRAM: &str = "qemu-system-x86_64";
/// The first version that locks a page while it translates it: an older one may run what was
/// rewritten meanwhile.
const STEADY: (u32, u32) = (8, 2);
/// The program, its boot firmware's loaders, and its firmware.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "qemu-system-data", "seabios"];
/// Changes when another version is to be fetched.
const RECIPE: &str = "1: program, data, firmware";

/// A QEMU, and where its firmware is when that is not where it was built to look.
#[derive(Debug)]
pub(super) struct Emulator {
    program: PathBuf,
    firmware: Vec<PathBuf>,
}

impl Emulator {
    /// The installed one if it is steady, else a newer one from the cache or the backports; if
    /// there is none, the installed one, after a warning.
    pub(super) fn find() -> Result<Self> {
        let program = proc::find_on_path(PROGRAM)
            .context("QEMU is missing: run `cargo xtask setup` (package qemu-system-x86)")?;
        let installed = Self {
            program,
            firmware: Vec::new(),
        };
        let version = installed.version()?;
        if version >= STEADY {
            return Ok(installed);
        }
        match Self::unpacked() {
            Ok(newer) => Ok(newer),
            Err(error) => {
                eprintln!(
                    "xtask kvm: QEMU {}.{} sometimes fails guests with several processors, and \
                     there is no newer one: {error:#}",
                    version.0, version.1
                );
                Ok(installed)
            }
        }
    }

    /// The command, to be given arguments.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for dir in &self.firmware {
            command.arg("-L").arg(dir);
        }
        command
    }

    fn unpacked() -> Result<Self> {
        let kind = cache::Kind::open("emulator")?;
        let key = cache::key(&[RECIPE.as_bytes()]);
        let dir = kind.get_or_make(&key, |made| {
            let progress = Progress::new("fetching a newer QEMU for the nested machine", 1);
            let scratch = made
                .parent()
                .context("the build has no scratch directory")?
                .join("apt");
            std::fs::create_dir(&scratch)?;
            let backports = Backports::fetch(&scratch)?;
            for package in PACKAGES {
                backports.unpack(package, made)?;
            }
            // It may want libraries that are not here, and then must not stay in the cache.
            Self::in_tree(made).version()?;
            progress.finish();
            Ok(())
        })?;
        Ok(Self::in_tree(&dir))
    }

    fn in_tree(tree: &Path) -> Self {
        Self {
            program: tree.join("usr/bin").join(PROGRAM),
            firmware: ["usr/share/qemu", "usr/share/seabios"]
                .map(|dir| tree.join(dir))
                .into(),
        }
    }

    fn version(&self) -> Result<(u32, u32)> {
        let said = proc::text(Command::new(&self.program).arg("--version"))?;
        parse_version(&said).with_context(|| format!("QEMU's version is not clear: {said}"))
    }
}

/// Major and minor of `QEMU emulator version 7.2.22 (...)`.
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let rest = said.split_once("version ")?.1;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(parse_version(debian), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(parse_version("something else"), None);
        assert!((7, 2) < STEADY && (10, 0) >= STEADY);
    }
}
