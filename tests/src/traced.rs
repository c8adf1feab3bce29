//! A program with a sandbox that does a little of everything, for whoever watches its VMM.
//!
//! `msb-test-traced NAME DISK` creates it, runs commands that use the disk, pauses and resumes it, asks for its
//! numbers, and stops it.

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("no name")?;
    let disk = std::path::PathBuf::from(args.next().context("no disk")?);
    let sandbox = Sandbox::builder(name)
        .image(disk)
        .memory(128u32)
        .cpus(2)
        .ephemeral(true)
        .create()
        .await?;
    let script = "head -c 200000 /dev/urandom > /file && sync && echo 3 > /proc/sys/vm/drop_caches
        cat /file | wc -c; head -c 16 /dev/hwrng | wc -c; rm /file; sync; fstrim / || true";
    let output = sandbox.shell(script).await?;
    ensure!(output.stdout()? == "200000\n16\n", "{:?}", output.stdout());
    for _ in 0..3 {
        sandbox.pause().await?;
        sandbox.resume().await?;
    }
    sandbox.exec("true", [""; 0]).await?;
    sandbox.stop().await?;
    Ok(())
}
