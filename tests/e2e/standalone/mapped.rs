//! Machines with disks that are mapped into their memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use msb_tests::{Fixture, erofs, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{POWER_OFF, initramfs, kernel, run, variable, vmm};

/// A disk with a file of 16 MiB that is the same nowhere, and its bytes.
fn disk(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 16 << 20];
    fastrand::Rng::with_seed(3).fill(&mut bytes);
    let tree = tempfile::tempdir()?;
    fs::write(tree.path().join("big"), &bytes)?;
    fs::write(tree.path().join("text"), "from the disk\n")?;
    erofs::of_directory(tree.path(), path)?;
    Ok(bytes)
}

fn sum(bytes: &[u8]) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_mapped_disk_is_used_in_place() -> Result<()> {
    let fixture = Fixture::new()?;
    let path = fixture.path().join("disk.erofs");
    let bytes = disk(&path)?;
    let before = fs::read(&path)?;
    let script = r#"
        mkdir /mnt
        mount -t erofs -o ro,dax=always /dev/pmem0 /mnt
        echo options=$(grep ' /mnt ' /proc/mounts)
        echo size=$(cat /sys/block/pmem0/size) dax=$(cat /sys/block/pmem0/queue/dax)
        cat /mnt/text
        echo sum=$(sha256sum < /mnt/big)
        umount /mnt
        before=$(sha256sum < /dev/pmem0)
        dd if=/dev/urandom of=/dev/pmem0 bs=4096 seek=600 count=4 conv=fsync,notrunc 2>/dev/null && echo written
        echo 3 > /proc/sys/vm/drop_caches
        [ "$before" = "$(sha256sum < /dev/pmem0)" ] && echo nothing changed
        mount -t erofs -o ro,dax=always /dev/pmem0 /mnt
        echo again=$(sha256sum < /mnt/big)
        grep MemTotal /proc/meminfo
        poweroff -f"#;
    let mut command = vmm(["--console", "stdio", "--memory", "128M"])?;
    command.arg("--kernel").arg(kernel()?);
    command
        .arg("--initrd")
        .arg(initramfs(fixture.path(), script)?);
    let output = run(command.arg("--pmem").arg(&path)).await?;
    let console = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(POWER_OFF), "{console}");
    assert!(console.contains("dax=always"), "{console}");
    assert!(console.contains("from the disk"), "{console}");
    let mapped = before.len().next_multiple_of(2 << 20) / 512;
    assert!(
        console.contains(&format!("size={mapped} dax=1")),
        "{console}"
    );
    // The guest's kernel does not know that nobody can write there.
    assert!(
        console.contains("written") && console.contains("nothing changed"),
        "{console}"
    );
    for said in ["sum=", "again="] {
        assert!(
            console.contains(&format!("{said}{}", sum(&bytes))),
            "{said}: {console}"
        );
    }
    // It is no memory of the machine's.
    let total = console
        .split("MemTotal:")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    assert!(
        total.context("MemTotal")?.parse::<u64>()? < 128 << 10,
        "{console}"
    );
    assert!(fs::read(&path)? == before, "the disk was written to");
    Ok(())
}

#[tokio::test]
async fn several_are_put_together_and_lie_apart() -> Result<()> {
    let fixture = Fixture::new()?;
    let file = fixture.path().join("file");
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(3 << 20)
        .collect();
    fs::write(&file, &bytes)?;
    let extents = [(4096, 1 << 20), (0, 4096), (2 << 20, 8192)];
    let mut whole = Vec::new();
    for (offset, length) in extents {
        whole.extend_from_slice(&bytes[offset..offset + length]);
    }
    let extents = extents.map(
        |(offset, length)| serde_json::json!({"path": &file, "offset": offset, "length": length}),
    );
    let script = format!(
        "echo one=$(head -c {} /dev/pmem0 | sha256sum)
        echo two=$(head -c {} /dev/pmem1 | sha256sum)
        echo rest=$(tail -c +{} /dev/pmem0 | tr -d '\\0' | wc -c)
        echo disk=$(cat /sys/block/vda/size)
        poweroff -f",
        whole.len(),
        bytes.len(),
        whole.len() + 1
    );
    let config = serde_json::json!({
        "kernel": kernel()?, "initrd": initramfs(fixture.path(), &script)?,
        "memory": "128M", "console": "stdio",
        "disk": [{"path": &file, "read_only": true}],
        "pmem": [{"extents": extents}, {"path": &file}],
    });
    let description = fixture.path().join("machine.json");
    fs::write(&description, config.to_string())?;
    let output = run(vmm(["--config"])?.arg(&description)).await?;
    let console = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(POWER_OFF), "{console}");
    assert!(
        console.contains(&format!("one={}", sum(&whole))),
        "{console}"
    );
    assert!(
        console.contains(&format!("two={}", sum(&bytes))),
        "{console}"
    );
    assert!(
        console.contains("rest=0") && console.contains("disk=6144"),
        "{console}"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_cut_short_ends_the_machine_with_an_error() -> Result<()> {
    let fixture = Fixture::new()?;
    let path = fixture.path().join("disk.erofs");
    disk(&path)?;
    let script = "mkdir /mnt
        mount -t erofs -o ro,dax=always /dev/pmem0 /mnt
        echo ready
        while cat /mnt/big > /dev/null; do :; done
        echo the file is gone
        poweroff -f";
    let mut command = vmm(["--console", "stdio", "--memory", "128M"])?;
    command.arg("--kernel").arg(kernel()?);
    command
        .arg("--initrd")
        .arg(initramfs(fixture.path(), script)?);
    let mut child = command.arg("--pmem").arg(&path).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    while let Some(line) = within(lines.next_line()).await? {
        if line.contains("ready") {
            fs::OpenOptions::new()
                .write(true)
                .open(&path)?
                .set_len(1 << 20)?;
        }
    }
    let status = within(child.wait()).await?;
    let mut said = String::new();
    let mut stderr = child.stderr.take().context("piped")?;
    within(stderr.read_to_string(&mut said)).await?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cut short"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_agent_makes_it_the_root_when_there_is_no_other() -> Result<()> {
    let fixture = Fixture::new()?;
    let path = fixture.path().join("root.erofs");
    erofs::make(&path, |tree| {
        Ok(fs::write(tree.join("mark"), "the mapped root\n")?)
    })?;
    let mut command = vmm(["--console", "stdio", "--memory", "128M"])?;
    command.arg("--kernel").arg(kernel()?);
    command.arg("--initrd").arg(variable("MSB_INITRAMFS_PATH")?);
    let mut child = command
        .arg("--pmem")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    // What comes before the shell listens may be lost, so it is said until it was heard.
    let words = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let line = b"grep ' / ' /proc/mounts; cat /mark; poweroff -f\n";
        while stdin.write_all(line).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    });
    let mut console = String::new();
    let mut stdout = child.stdout.take().context("piped")?;
    within(stdout.read_to_string(&mut console)).await?;
    words.abort();
    within(child.wait()).await?;
    assert!(console.contains("the mapped root"), "{console}");
    assert!(console.contains("dax=always"), "{console}");
    Ok(())
}
