//! What the VMM refuses: exit code 2, a message that says what to do, nothing left.

use std::fs;
use std::path::Path;

use anyhow::Result;
use msb_tests::Fixture;

use super::{REFUSED, initramfs, kernel, run, vmm};

/// Runs a VMM that must refuse, and looks for `hint` in what it says.
async fn refuses(args: &[&str], hint: &str) -> Result<()> {
    let output = run(&mut vmm(args)?).await?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(REFUSED), "{args:?}: {message}");
    assert!(message.to_lowercase().contains(hint), "{args:?}: {message}");
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

#[tokio::test]
async fn kernels() -> Result<()> {
    let fixture = Fixture::new()?;
    let file = fixture.path().join("kernel");
    refuses(&["--kernel", text(&file)], "kernel").await?;
    refuses(&["--kernel", text(fixture.path())], "not a regular file").await?;
    fs::write(&file, "#!/bin/sh\n".repeat(1000))?;
    refuses(&["--kernel", text(&file)], "elf").await?;
    fs::write(&file, "")?;
    refuses(&["--kernel", text(&file)], "elf").await?;

    let real = fs::read(kernel()?)?;
    fs::write(&file, &real[..real.len() / 2])?;
    refuses(&["--kernel", text(&file)], "truncated").await?;
    let mut narrow = real;
    narrow[4] = 1; // EI_CLASS: 32 bits
    fs::write(&file, &narrow)?;
    refuses(&["--kernel", text(&file)], "32-bit").await
}

#[tokio::test]
async fn initramfs_and_memory() -> Result<()> {
    let fixture = Fixture::new()?;
    let kernel = kernel()?;
    let base = ["--kernel", text(&kernel)];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let missing = fixture.path().join("missing");
    refuses(
        &[&base[..], &["--initrd", text(&missing)]].concat(),
        "initrd",
    )
    .await?;
    let large = fixture.path().join("large");
    fs::File::create(&large)?.set_len(200 << 20)?;
    refuses(
        &[&base[..], &["--memory", "128M", "--initrd", text(&large)]].concat(),
        "memory",
    )
    .await?;

    refuses(&with(&["--memory", "0"]), "memory").await?;
    refuses(&with(&["--memory", "16M"]), "memory").await?;
    refuses(&with(&["--memory", "100000G"]), "memory").await?;
    refuses(&with(&["--memory", "lots"]), "size").await?;
    refuses(&with(&["--cpus", "0"]), "cpu").await?;
    refuses(&with(&["--cpus", "5000"]), "cpu").await
}

#[tokio::test]
async fn disks() -> Result<()> {
    let fixture = Fixture::new()?;
    let kernel = kernel()?;
    let refuses_disk = async |disk: &Path, hint: &str| {
        refuses(&["--kernel", text(&kernel), "--disk", text(disk)], hint).await
    };
    let path = fixture.path().join("disk");
    refuses_disk(&path, "disk").await?;
    refuses_disk(fixture.path(), "not a regular file").await?;
    fs::write(&path, [0; 1000])?;
    refuses_disk(&path, "512").await?;

    // In use: by a machine that still boots.
    fs::File::create(&path)?.set_len(1 << 20)?;
    let mut first = vmm(["--console", "stdio", "--memory", "128M"])?;
    first.arg("--kernel").arg(&kernel).arg("--disk").arg(&path);
    first
        .arg("--initrd")
        .arg(initramfs(fixture.path(), "echo up; sleep 1000")?);
    let mut first = first.spawn()?;
    let mut lines = tokio::io::BufReader::new(first.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("up") {
        line.clear();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line);
        assert_ne!(
            msb_tests::within(read).await?,
            0,
            "the first machine did not come up"
        );
    }
    refuses_disk(&path, "in use").await?;
    let read_only = format!("{},ro", text(&path));
    refuses(&["--kernel", text(&kernel), "--disk", &read_only], "in use").await?;
    first.kill().await?;
    Ok(())
}

#[tokio::test]
async fn configuration_and_sockets() -> Result<()> {
    let fixture = Fixture::new()?;
    let file = fixture.path().join("machine.json");
    fs::write(&file, r#"{"kernel": "k", "cpu": 2}"#)?;
    refuses(&["--config", text(&file)], "cpu").await?;
    fs::write(&file, "not json")?;
    refuses(&["--config", text(&file)], "json").await?;
    refuses(
        &["--config", text(&fixture.path().join("missing"))],
        "missing",
    )
    .await?;
    refuses(&[], "kernel").await?;

    let kernel = kernel()?;
    let long = format!("{}/{}", text(fixture.path()), "s".repeat(120));
    refuses(
        &["--kernel", text(&kernel), "--vsock", &long],
        "at most 107",
    )
    .await?;
    refuses(
        &["--kernel", text(&kernel), "--control", &long],
        "at most 107",
    )
    .await?;
    let left: Vec<_> = fs::read_dir(fixture.path())?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["machine.json"], "something was left behind");
    Ok(())
}

/// Runs the VMM where `/dev/kvm` was tampered with by `prepare`, in a mount namespace.
async fn without_kvm(prepare: &str, hint: &str) -> Result<()> {
    let vmm = super::variable("MSB_VMM_PATH")?;
    let script = format!("{prepare} \"$@\"");
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(vmm)
        .arg("--kernel")
        .arg(kernel()?);
    let output = run(&mut command).await?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(REFUSED), "{message}");
    assert!(
        message.contains("/dev/kvm") && message.contains(hint),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn kvm_absent_and_kvm_forbidden() -> Result<()> {
    without_kvm("mount -t tmpfs none /dev && exec", "no /dev/kvm").await?;
    without_kvm(
        "chmod 600 /dev/kvm; exec setpriv --reuid 65534 --regid 65534 --clear-groups",
        "group",
    )
    .await
}
