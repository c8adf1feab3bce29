//! A program that makes sandboxes from images of a registry: what the image tests start, several at a time,
//! and kill.
//!
//! `msb-test-puller NAME LINGER REFERENCE...` makes a sandbox from each image in turn, runs a command in it, and
//! says `up` and the reference. With `linger` it keeps the last one until its standard input ends; otherwise
//! none is kept. The images' registry is talked to without TLS.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("no name")?;
    let lingers = args.next().context("no mode")? == "linger";
    let references: Vec<String> = args.collect();
    for (number, reference) in references.iter().enumerate() {
        let sandbox = Sandbox::builder(format!("{name}-{number}"))
            .image(reference.as_str())
            .registry(|registry| registry.insecure())
            .memory(64u32)
            .ephemeral(true)
            .create()
            .await
            .with_context(|| reference.clone())?;
        let status = sandbox.exec("/bin/true", [""; 0]).await?.status();
        ensure!(status.success, "{reference}: {status:?}");
        let mut out = std::io::stdout();
        writeln!(out, "up {reference}")?;
        out.flush()?;
        if lingers && number + 1 == references.len() {
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        sandbox.stop().await?;
    }
    Ok(())
}
