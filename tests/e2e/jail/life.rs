//! The VMM of a sandbox in its jail, looked at from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
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

/// `status` of each thread but those that KVM makes.
fn threads(pid: i32) -> Result<Vec<BTreeMap<String, String>>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(proc(pid, "task"))? {
        let text = fs::read_to_string(task?.path().join("status"))?;
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

    // Regular files: the disk, and the run's lock, which it never reads.
    let mut files = Vec::new();
    for entry in fs::read_dir(proc(vmm, "fd"))? {
        let path = entry?.path();
        let link = fs::read_link(&path)?;
        ensure!(
            !link.starts_with("/dev/kvm"),
            "it could make another machine"
        );
        if fs::metadata(&path)?.is_file() && link.is_absolute() {
            files.push(link);
        }
    }
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().any(|file| file.ends_with("lock")), "{files:?}");
    assert!(
        files.iter().any(|file| file.ends_with("root.ext4")),
        "{files:?}"
    );
    let limits = fs::read_to_string(proc(vmm, "limits"))?;
    let limit = |name: &str| -> Result<u64> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        Ok(value.context("no such limit")?.parse()?)
    };
    assert_eq!(limit("Max core file size")?, 0);
    assert_eq!(
        limit("Max file size")?,
        fs::metadata(fixture.disk()?)?.len()
    );
    assert!(limit("Max address space")? < 1 << 30);
    within(sandbox.kill()).await?;
    Ok(())
}
