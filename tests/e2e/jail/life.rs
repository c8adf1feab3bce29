//! The VMM of a sandbox in its jail, looked at from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;
use msb_tests::image::{busybox_layer, file_layer, serve};
use msb_tests::{Fixture, host, within};

/// The VMM of the one sandbox that this test has, by the supervisor that is this process's child.
fn vmm() -> Result<i32> {
    let own = i32::try_from(std::process::id())?;
    let supervisor = host::child(own, "msb-runtime").context("no supervisor")?;
    host::child(supervisor, "msb-vmm").context("no VMM")
}

fn proc(pid: i32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{what}"))
}

/// What is read of a process that goes on meanwhile: a thread or a descriptor that was listed may be gone.
fn still<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// `status` of each thread but those that KVM makes.
fn threads(pid: i32) -> Result<Vec<BTreeMap<String, String>>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(proc(pid, "task"))? {
        let Some(text) = still(fs::read_to_string(task?.path().join("status")))? else {
            continue;
        };
        let status: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        if !status["Name"].starts_with("kvm-") {
            threads.push(status);
        }
    }
    Ok(threads)
}

/// Looks at a VMM's process; root's becomes somebody else first.
pub(crate) fn assert_jailed(vmm: i32, of_root: bool) -> Result<()> {
    for status in threads(vmm)? {
        let name = &status["Name"];
        assert_eq!(
            (&*status["NoNewPrivs"], &*status["Seccomp"]),
            ("1", "2"),
            "{name}"
        );
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{name} {set}");
        }
        // Of root it has become somebody whom nobody else is.
        let uid: u32 = status["Uid"]
            .split_whitespace()
            .next()
            .context("uid")?
            .parse()?;
        if of_root {
            assert_eq!(uid, 0x7000_0000 + vmm.unsigned_abs(), "{name}");
            assert_eq!(status["Groups"], "", "{name}");
        } else {
            assert_ne!(uid, 0, "{name}");
        }
    }
    for namespace in ["user", "mnt", "net", "ipc", "uts"] {
        let name = format!("ns/{namespace}");
        let ours = fs::read_link(format!("/proc/self/{name}"))?;
        assert_ne!(fs::read_link(proc(vmm, &name))?, ours, "{namespace}");
    }
    assert_eq!(fs::read_dir(proc(vmm, "root"))?.count(), 0);
    assert_eq!(fs::read_to_string(proc(vmm, "mounts"))?.lines().count(), 1);
    assert!(
        fs::read(proc(vmm, "environ"))?
            .iter()
            .all(|byte| *byte == 0)
    );
    Ok(())
}

/// A regular file that a process has open.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    writable: bool,
}

fn files(vmm: i32) -> Result<Vec<OpenFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(proc(vmm, "fd"))? {
        let entry = entry?;
        let Some(path) = still(fs::read_link(entry.path()))? else {
            continue;
        };
        ensure!(
            !path.starts_with("/dev/kvm"),
            "it could make another machine"
        );
        let info = proc(vmm, "fdinfo").join(entry.file_name());
        let (kind, info) = (fs::metadata(entry.path()), fs::read_to_string(info));
        let (Some(kind), Some(info)) = (still(kind)?, still(info)?) else {
            continue;
        };
        if !kind.is_file() || !path.is_absolute() {
            continue;
        }
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.context("no flags")?.trim(), 8)?;
        // The lowest two bits are how it was opened; 0 is for reading only.
        let writable = flags & 3 != 0;
        files.push(OpenFile { path, writable });
    }
    Ok(files)
}

fn limit(vmm: i32, name: &str) -> Result<u64> {
    let limits = fs::read_to_string(proc(vmm, "limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.context("no such limit")?.parse()?)
}

#[tokio::test]
async fn a_sandboxs_vmm_has_nothing_of_its_host() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("jailed")?.cpus(2).create().await?;
    assert_eq!(
        within(sandbox.shell("echo works")).await?.stdout()?,
        "works\n"
    );
    let vmm = vmm()?;
    assert_jailed(vmm, true)?;

    // The disk, and the run's lock, which it never reads.
    let files = files(vmm)?;
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(
        files.iter().any(|file| file.path.ends_with("lock")),
        "{files:?}"
    );
    assert!(
        files.iter().any(|file| file.path.ends_with("root.ext4")),
        "{files:?}"
    );
    assert_eq!(limit(vmm, "Max core file size")?, 0);
    assert_eq!(
        limit(vmm, "Max file size")?,
        fs::metadata(fixture.disk()?)?.len()
    );
    assert!(limit(vmm, "Max address space")? < 1 << 30);
    within(sandbox.kill()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_image_it_can_read_the_files_and_write_to_none() -> Result<()> {
    let layers = [busybox_layer()?, file_layer("second", "layer")?];
    let (registry, _image) = serve("1", &layers, "{}").await;
    let sandbox = Sandbox::builder("jailed-image")
        .image(format!("{}/app:1", registry.host()))
        .registry(|registry| registry.insecure())
        .memory(128u32)
        .ephemeral(true);
    let sandbox = within(sandbox.create()).await?;
    // What the guest can cause on its own disk: writes, flushes, discards.
    let script =
        "cat /second && head -c 1000000 /dev/urandom > /x && sync && rm /x && sync && echo";
    assert_eq!(within(sandbox.shell(script)).await?.stdout()?, "layer\n");
    let vmm = vmm()?;
    assert_jailed(vmm, true)?;

    let (shared, own): (Vec<_>, Vec<_>) = files(vmm)?.into_iter().partition(|file| {
        let path = file.path.to_string_lossy();
        path.contains("/images/meta/") || path.contains("/images/layers/")
    });
    // The image's metadata and busybox's layer at least.
    assert!(shared.len() >= 2, "{shared:?}");
    assert!(shared.iter().all(|file| !file.writable), "{shared:?}");
    assert_eq!(own.len(), 2, "{own:?}");
    let upper = own.iter().find(|file| file.path.ends_with("upper.ext4"));
    let upper = upper.context("no disk of its own")?;
    assert!(upper.writable, "{own:?}");
    assert_eq!(
        limit(vmm, "Max file size")?,
        fs::metadata(&upper.path)?.len()
    );
    within(sandbox.stop()).await?;
    Ok(())
}

/// What is in force is told, kept and required.
#[tokio::test]
async fn what_stands_around_a_vmm_is_told_kept_and_required() -> Result<()> {
    use microsandbox::isolation::{self, IsolationLevel};
    let fixture = Fixture::new()?;
    let host = isolation::of_host().await?;
    let full = isolation::lacking_for(&host, IsolationLevel::Full).is_empty();
    let requiring = fixture
        .kept("requiring")?
        .require_isolation(IsolationLevel::Full);
    let created = within(requiring.create()).await;
    let sandbox = match created {
        Ok(sandbox) => {
            ensure!(full, "it runs with less than what it requires");
            sandbox
        }
        Err(microsandbox::MicrosandboxError::Isolation { required, .. }) => {
            ensure!(!full && required == IsolationLevel::Full);
            within(fixture.kept("requiring")?.create()).await?
        }
        Err(error) => return Err(error.into()),
    };
    let local = sandbox.local().context("it runs here")?;
    assert_eq!(local.isolation.as_ref(), Some(&host));
    let name = sandbox.name().to_owned();
    within(sandbox.stop()).await?;
    let handle = Sandbox::get(&name).await?;
    let local = handle.local().context("it ran here")?;
    assert_eq!(local.isolation.as_ref(), Some(&host));
    // And when it starts again.
    let again = within(handle.start()).await?;
    let local = again.local().context("it runs here")?;
    assert_eq!(local.isolation.as_ref(), Some(&host));
    within(again.stop()).await?;
    Ok(())
}
