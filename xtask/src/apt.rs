//! Debian packages as a source of files: downloaded by apt, which checks their signatures, and
//! unpacked without being installed, which needs no root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::proc;

/// The version of a package that apt would fetch now, or `None` when it knows no such package.
pub(crate) fn candidate(package: &str) -> Result<Option<String>> {
    let policy = proc::text(
        Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C"),
    )?;
    Ok(parse_candidate(&policy))
}

fn parse_candidate(policy: &str) -> Option<String> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))
        .map(|version| version.trim().to_owned())
        .filter(|version| version != "(none)" && !version.is_empty())
}

/// The first package that a metapackage depends on and whose name begins so.
pub(crate) fn dependency(package: &str, prefix: &str) -> Result<Option<String>> {
    let depends = proc::text(
        Command::new("apt-cache")
            .args(["depends", package])
            .env("LC_ALL", "C"),
    )?;
    Ok(parse_dependency(&depends, prefix))
}

fn parse_dependency(depends: &str, prefix: &str) -> Option<String> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends:"))
        .map(str::trim)
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

/// Fetches the package lists when this user may; otherwise says who must.
pub(crate) fn refresh() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("apt's package lists are missing or too old: run `sudo apt-get update`, then repeat");
    }
    proc::run(Command::new("apt-get").args(["update", "-qq"]))
}

/// Downloads `package` (`name` or `name=version`) and unpacks it into `into`.
pub(crate) fn unpack(package: &str, into: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("deb-")
        .tempdir_in(into)
        .context("cannot make a directory for the download")?;
    let download = || {
        proc::output(
            Command::new("apt-get")
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
                .current_dir(scratch.path()),
        )
    };
    if download().is_err() {
        // The archive drops superseded versions: old lists name files that are gone.
        refresh()?;
        download().with_context(|| format!("cannot download the Debian package {package}"))?;
    }
    let deb = std::fs::read_dir(scratch.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .with_context(|| format!("apt-get download {package} left no package file"))?;
    proc::output(Command::new("dpkg").arg("-x").arg(&deb).arg(into))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_is_read_from_policy() {
        let policy = "linux-source-6.12:\n  Installed: (none)\n  Candidate: 6.12.117-1\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("6.12.117-1"));
        assert_eq!(parse_candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn dependency_is_read_by_prefix() {
        let depends = "meta\n  Depends: other\n  Depends: linux-image-6.12.1-cloud-amd64\n";
        assert_eq!(
            parse_dependency(depends, "linux-image-").as_deref(),
            Some("linux-image-6.12.1-cloud-amd64")
        );
        assert_eq!(parse_dependency(depends, "nothing"), None);
    }
}
