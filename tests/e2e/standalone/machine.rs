//! Machines from the command line.

use std::fs;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use msb_tests::{Fixture, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::{CRASH, POWER_OFF, RESET, initramfs, kernel, run, variable, vmm};

/// Boots `script` as `/init` with further arguments; its console output and exit code.
async fn boot(fixture: &Fixture, script: &str, args: &[&str]) -> Result<(String, Option<i32>)> {
    let mut command = vmm(["--console", "stdio"])?;
    command.arg("--kernel").arg(kernel()?);
    command
        .arg("--initrd")
        .arg(initramfs(fixture.path(), script)?);
    let output = run(command.args(args)).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output
        .status
        .code()
        .is_none_or(|code| code == 1 || code == 2)
    {
        anyhow::bail!("{}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((text, output.status.code()))
}

#[tokio::test]
async fn every_end_has_its_exit_code() -> Result<()> {
    let fixture = Fixture::new()?;
    assert_eq!(boot(&fixture, "poweroff -f", &[]).await?.1, Some(POWER_OFF));
    assert_eq!(boot(&fixture, "reboot -f", &[]).await?.1, Some(RESET));
    let triple =
        "echo triple > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/force; reboot -f";
    assert_eq!(boot(&fixture, triple, &[]).await?.1, Some(CRASH));
    // A kernel panic resets the machine.
    assert_eq!(boot(&fixture, "exit 1", &[]).await?.1, Some(RESET));
    Ok(())
}

#[tokio::test]
async fn thirty_two_cpus() -> Result<()> {
    let fixture = Fixture::new()?;
    let args = ["--cpus", "32", "--memory", "512M"];
    let (console, code) = boot(&fixture, "echo cpus=$(nproc); poweroff -f", &args).await?;
    assert!(console.contains("cpus=32"), "{console}");
    assert_eq!(code, Some(POWER_OFF));
    Ok(())
}

#[tokio::test]
async fn thirty_two_mebibytes() -> Result<()> {
    let fixture = Fixture::new()?;
    let (console, code) = boot(&fixture, "echo little; poweroff -f", &["--memory", "32M"]).await?;
    assert!(console.contains("little"), "{console}");
    assert_eq!(code, Some(POWER_OFF));
    Ok(())
}

#[tokio::test]
async fn disks_in_order_and_as_told() -> Result<()> {
    let fixture = Fixture::new()?;
    let disk = |name: &str, mebibytes: u64| -> Result<String> {
        let path = fixture.path().join(name);
        fs::File::create(&path)?.set_len(mebibytes << 20)?;
        Ok(path.to_str().context("a temporary path")?.to_owned())
    };
    let (first, second) = (disk("first", 8)?, disk("second", 3)?);
    fs::OpenOptions::new()
        .write(true)
        .open(&second)?
        .write_all_at(b"from the host", 1 << 20)?;
    let script = r#"
        echo sizes=$(cat /sys/block/vda/size /sys/block/vdb/size | tr '\n' ' ')
        echo ro=$(cat /sys/block/vda/ro /sys/block/vdb/ro | tr '\n' ' ')
        dd if=/dev/vdb bs=1M skip=1 count=1 2>/dev/null | head -c 13; echo
        head -c 4194304 /dev/urandom > /data
        dd if=/data of=/dev/vda bs=64k seek=32 conv=fsync,notrunc 2>/dev/null || echo write failed
        echo sum=$(sha256sum < /data)
        echo x > /dev/vdb 2>/dev/null && echo wrote to a read-only disk
        poweroff -f"#;
    let read_only = format!("{second},ro");
    let (console, code) = boot(&fixture, script, &["--disk", &first, "--disk", &read_only]).await?;
    assert_eq!(code, Some(POWER_OFF), "{console}");
    assert!(console.contains("sizes=16384 6144"), "{console}");
    assert!(console.contains("ro=0 1"), "{console}");
    assert!(console.contains("from the host"), "{console}");
    assert!(!console.contains("wrote to a read-only disk"), "{console}");
    let sum = console
        .split("sum=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context("sum")?;
    let written = fs::read(&first)?[2 << 20..6 << 20].to_vec();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&written);
    let ours: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ours, sum);
    Ok(())
}

#[tokio::test]
async fn a_configuration_file_says_the_same() -> Result<()> {
    let fixture = Fixture::new()?;
    let archive = initramfs(fixture.path(), "echo cpus=$(nproc); poweroff -f")?;
    let config = serde_json::json!({
        "kernel": kernel()?, "initrd": archive, "cpus": 2, "memory": "128M", "console": "stdio",
    });
    let file = fixture.path().join("machine.json");
    fs::write(&file, config.to_string())?;
    let output = run(vmm(["--config"])?.arg(&file)).await?;
    assert_eq!(output.status.code(), Some(POWER_OFF));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cpus=2"));
    Ok(())
}

#[tokio::test]
async fn a_disk_is_put_together_of_stretches_of_files() -> Result<()> {
    let fixture = Fixture::new()?;
    let random = |name: &str, bytes: usize| -> Result<(std::path::PathBuf, Vec<u8>)> {
        let path = fixture.path().join(name);
        let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(bytes)
            .collect();
        fs::write(&path, &bytes)?;
        Ok((path, bytes))
    };
    let ((one, first), (two, second)) = (random("one", 1 << 20)?, random("two", 3 << 20)?);
    let extents = [
        (&one, 512, 4096),
        (&two, 0, 2 << 20),
        (&one, 0, 512),
        (&two, 1 << 20, 512),
    ];
    let mut whole = Vec::new();
    for (file, offset, length) in extents {
        let bytes = if *file == one { &first } else { &second };
        whole.extend_from_slice(&bytes[offset..offset + length]);
    }
    let extents = extents.map(|(path, offset, length)| {
        serde_json::json!({"path": path, "offset": offset, "length": length})
    });
    let script = r#"
        echo size=$(cat /sys/block/vda/size) ro=$(cat /sys/block/vda/ro) serial=$(cat /sys/block/vda/serial)
        echo sum=$(sha256sum < /dev/vda)
        echo x > /dev/vda 2>/dev/null && echo wrote to it
        poweroff -f"#;
    let config = serde_json::json!({
        "kernel": kernel()?, "initrd": initramfs(fixture.path(), script)?,
        "memory": "128M", "console": "stdio",
        "disk": [{"extents": extents, "read_only": true, "id": "parts"}],
    });
    let file = fixture.path().join("machine.json");
    fs::write(&file, config.to_string())?;
    let output = run(vmm(["--config"])?.arg(&file)).await?;
    let console = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(POWER_OFF), "{console}");
    let sectors = whole.len() / 512;
    let about = format!("size={sectors} ro=1 serial=parts");
    assert!(console.contains(&about), "{console}");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&whole);
    let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(console.contains(&format!("sum={sum}")), "{console}");
    assert!(!console.contains("wrote to it"), "{console}");
    Ok(())
}

#[tokio::test]
async fn random_numbers_and_a_console_both_ways() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "echo rng=$(cat /sys/class/misc/hw_random/rng_current)
        head -c 64 /dev/hwrng | wc -c; read line; echo heard $line; poweroff -f";
    let mut command = vmm(["--console", "stdio", "--memory", "128M"])?;
    command.arg("--kernel").arg(kernel()?);
    command
        .arg("--initrd")
        .arg(initramfs(fixture.path(), script)?);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let mut console = String::new();
    while let Some(line) = within(lines.next_line()).await? {
        console.push_str(&line);
        console.push('\n');
        // What is sent before somebody listens may be lost, as on any terminal.
        if line.contains("64") {
            stdin.write_all(b"a word from outside\n").await?;
        }
    }
    assert!(console.contains("rng=virtio_rng"), "{console}");
    assert!(console.contains("heard a word from outside"), "{console}");
    Ok(())
}

#[tokio::test]
async fn the_guest_reaches_a_socket_of_the_host() -> Result<()> {
    let fixture = Fixture::new()?;
    let socket = fixture.path().join("vm.sock");
    let listener = UnixListener::bind(fixture.path().join("vm.sock_1024"))?;
    let mut command = vmm(["--memory", "128M"])?;
    command.arg("--kernel").arg(kernel()?);
    command.arg("--initrd").arg(variable("MSB_INITRAMFS_PATH")?);
    let _vmm = command.arg("--vsock").arg(&socket).spawn()?;
    let (mut stream, _) = within(listener.accept()).await?;
    // The agent's greeting: a frame of four bytes, generation 1, and what it can do.
    let mut hello = [0; 8];
    within(stream.read_exact(&mut hello)).await?;
    assert_eq!(hello[..7], [4, 0, 0, 0, 0, 1, 1]);
    Ok(())
}
