//! Debian packages as a source of files: downloaded by apt, which checks their signatures, and
//! unpacked without being installed, which needs no root.

use std::ffi::OsString;
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
    if unpack_from(&[], package, into).is_err() {
        // The archive drops superseded versions: old lists name files that are gone.
        refresh()?;
        unpack_from(&[], package, into)?;
    }
    Ok(())
}

/// Debian's backports to the installed release. apt need not be set up for them: the lists are
/// kept apart from the system's, which are not touched.
#[derive(Debug)]
pub(crate) struct Backports {
    options: Vec<OsString>,
}

impl Backports {
    /// Fetches the lists into `scratch`.
    pub(crate) fn fetch(scratch: &Path) -> Result<Self> {
        let (archive, release) = archive()?;
        let sources = scratch.join("backports.list");
        std::fs::write(
            &sources,
            format!("deb {archive} {release}-backports main\n"),
        )?;
        // apt makes them itself only when it runs as the system's own.
        for dir in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(scratch.join(dir))?;
        }
        let mut options = Vec::new();
        for (name, path) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::State::Lists", &scratch.join("lists")),
            ("Dir::Cache", &scratch.join("cache")),
        ] {
            let mut option = OsString::from(format!("{name}="));
            option.push(path);
            options.extend(["-o".into(), option]);
        }
        proc::output(apt_get(&options).arg("update"))
            .with_context(|| format!("cannot fetch the package lists of {release}-backports"))?;
        Ok(Self { options })
    }

    /// Downloads a package and unpacks it into `into`.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        unpack_from(&self.options, package, into)
    }
}

/// Where apt fetches the installed release from, and the release's name.
pub(crate) fn archive() -> Result<(String, String)> {
    let os_release =
        std::fs::read_to_string("/etc/os-release").context("cannot read os-release")?;
    let release = parse_codename(&os_release).context("os-release names no Debian release")?;
    let targets = proc::text(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let archive = parse_archive(&targets, &release)
        .with_context(|| format!("apt is not set up for the release {release}"))?;
    Ok((archive, release))
}

/// How apt gets at its archives here: proxies, and what it lets pass. In the form of its
/// configuration files, for an apt that reads another directory's.
pub(crate) fn reach() -> Result<String> {
    Ok(parse_reach(&proc::text(
        Command::new("apt-config").arg("dump"),
    )?))
}

fn parse_reach(dump: &str) -> String {
    let wanted = ["Acquire::http", "Acquire::https", "Acquire::Check-"];
    dump.lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn parse_codename(os_release: &str) -> Option<String> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
}

fn parse_archive(targets: &str, release: &str) -> Option<String> {
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == release)
        .map(|(_, archive)| archive.to_owned())
}

fn apt_get(options: &[OsString]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-qq", "-o", "APT::Sandbox::User=root"])
        .args(options);
    command
}

fn unpack_from(options: &[OsString], package: &str, into: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("deb-")
        .tempdir_in(into)
        .context("cannot make a directory for the download")?;
    proc::output(
        apt_get(options)
            .args(["download", package])
            .current_dir(scratch.path()),
    )
    .with_context(|| format!("cannot download the Debian package {package}"))?;
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
    fn the_archive_of_the_release_is_read() {
        let os_release = "ID=debian\nVERSION_CODENAME=\"trixie\"\n";
        assert_eq!(parse_codename(os_release).as_deref(), Some("trixie"));
        assert_eq!(parse_codename("ID=debian\n"), None);
        let targets = "trixie-security http://b/\ntrixie http://a/\n";
        assert_eq!(
            parse_archive(targets, "trixie").as_deref(),
            Some("http://a/")
        );
        assert_eq!(parse_archive(targets, "sid"), None);
    }

    #[test]
    fn proxies_are_kept_and_the_rest_is_not() {
        let dump = "APT \"\";\nAcquire \"\";\nAcquire::http::Proxy \"http://p:1/\";\n\
                    Acquire::Languages:: \"en\";\nAcquire::Check-Date \"false\";\n";
        assert_eq!(
            parse_reach(dump),
            "Acquire::http::Proxy \"http://p:1/\";\nAcquire::Check-Date \"false\";\n"
        );
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
