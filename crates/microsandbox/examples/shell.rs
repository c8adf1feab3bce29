//! A shell in a sandbox, on the terminal that this was started from.
//!
//! ```text
//! cargo run --example shell                           # on a small disk made of busybox
//! cargo run --example shell -- --disk debian.ext4     # on a disk of your own
//! cargo run --example shell -- -- top                 # another command
//! ```
//!
//! The library's parts have to be where it finds them, which `cargo xtask install` sees to.
//!
//! Ctrl and `]` lets go of the shell; the sandbox ends with this program all the same.

#[path = "demo/busybox.rs"]
mod busybox;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use microsandbox::Sandbox;

/// Starts a sandbox and gives you a shell in it.
#[derive(Debug, Parser)]
struct Options {
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 1)]
    cpus: u8,
    /// Memory in MiB
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// A raw disk image to boot from, instead of a small one made of busybox
    #[arg(long)]
    disk: Option<PathBuf>,
    /// The keys that let go of the shell
    #[arg(long, default_value = "ctrl-]")]
    detach_keys: String,
    /// A command to run instead of the shell
    #[arg(last = true)]
    command: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let work = tempfile::tempdir()?;
    let disk = match &options.disk {
        Some(disk) => std::path::absolute(disk)?,
        None => {
            let disk = work.path().join("root.ext4");
            busybox::make_disk(&disk, 32)?;
            disk
        }
    };
    let sandbox = Sandbox::builder(format!("shell-{}", std::process::id()))
        .image(disk)
        .cpus(options.cpus)
        .memory(options.memory)
        .ephemeral(true)
        .create()
        .await?;
    let keys = &options.detach_keys;
    let code = match options.command.split_first() {
        Some((program, args)) => {
            let attached = sandbox.attach_with(program, |o| o.args(args).detach_keys(keys));
            attached.await?
        }
        None => {
            writeln!(std::io::stderr(), "{keys} lets go of this shell")?;
            let attached = sandbox.attach_with("/bin/sh", |o| o.arg("-l").detach_keys(keys));
            attached.await?
        }
    };
    sandbox.stop().await?;
    // Not `exit`: the temporary directory goes with this function.
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
