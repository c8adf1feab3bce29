//! Measures images through the public API: the half of `cargo xtask bench image` that is a program of the
//! library.
//!
//! `msb-test-image-bench alone TAG DIR NAME` makes a layout of one of the test images alone.
//! `msb-test-image-bench load HOME LAYOUT REFERENCE` loads it into a home.
//! `msb-test-image-bench machines COUNT` writes one JSON object in each line, `{"what": .., "value": ..}`: how long the
//! first sandbox of an image and the second take to be created, and what memory so many sandboxes take that read
//! the same file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use microsandbox::image::ImageLoadOptions;
use microsandbox::sandbox::PullPolicy;
use microsandbox::{Image, LocalBackend, Sandbox, with_backend};
use msb_tests::images;
use msb_tests::memory::Processes;
use msb_tests::registry::Registry;
use serde_json::json;
use tempfile::TempDir;

/// What is pulled, and then is there.
const IMAGE: &str = "debian";
/// How often that is done anew.
const ROUNDS: u32 = 2;
/// How many follow each first one.
const SECONDS: u32 = 3;

/// The image with the large file, the file, and its size in MiB.
const LARGE: &str = "large";
const FILE: &str = "/large";
const FILE_MIB: f64 = 100.0;
/// What each of those that read it has, in MiB.
const MEMORY: u32 = 128;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["alone", tag, dir, name] => images::image(tag)?.alone(Path::new(dir), name),
        ["load", home, layout, reference] => {
            load(&local(Path::new(home)), Path::new(layout), reference).await
        }
        ["machines", count] => {
            creations().await?;
            sharing(count.parse()?).await
        }
        _ => bail!("what is it to do?"),
    }
}

fn local(home: &Path) -> LocalBackend {
    LocalBackend::builder().home(home).lazy()
}

async fn load(local: &LocalBackend, layout: &Path, reference: &str) -> Result<()> {
    let options = ImageLoadOptions::new().tag(reference);
    let loaded = Image::load(local, layout, options).await?;
    ensure!(loaded.len() == 1, "{loaded:?}");
    Ok(())
}

/// From the call of `create` until a command has run: with a pull, and without.
async fn creations() -> Result<()> {
    let registry = Registry::start()?;
    let reference = registry.push(&images::image(IMAGE)?, "bench:1")?;
    for _ in 0..ROUNDS {
        let home = TempDir::new()?;
        let backend = Arc::new(local(home.path()));
        with_backend(backend, async {
            tell("first_ms", creation(&reference).await?)?;
            for _ in 0..SECONDS {
                tell("second_ms", creation(&reference).await?)?;
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    }
    Ok(())
}

async fn creation(reference: &str) -> Result<f64> {
    let builder = Sandbox::builder("bench")
        .image(reference)
        .registry(|registry| registry.insecure())
        .memory(256u32)
        .ephemeral(true);
    let started = Instant::now();
    let sandbox = builder.create().await?;
    let status = sandbox.exec("/bin/true", [""; 0]).await?.status();
    let elapsed = started.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success, "{status:?}");
    sandbox.kill().await?;
    Ok(elapsed)
}

/// Many sandboxes read the same file.
async fn sharing(count: u32) -> Result<()> {
    let layout = std::env::var_os("MSB_TEST_LARGE_IMAGE").map(PathBuf::from);
    let layout = layout.context("MSB_TEST_LARGE_IMAGE is not set; use cargo xtask bench image")?;
    let home = TempDir::new()?;
    let local = local(home.path());
    let alone = TempDir::new()?;
    images::Image::at(&layout, LARGE).alone(alone.path(), LARGE)?;
    load(&local, alone.path(), LARGE).await?;
    drop(alone);
    let work = async {
        let mut sandboxes = Vec::new();
        for number in 0..count {
            let sandbox = Sandbox::builder(format!("reader-{number}"))
                .image(LARGE)
                .pull_policy(PullPolicy::Never)
                .memory(MEMORY)
                .ephemeral(true);
            sandboxes.push(sandbox.create().await?);
        }
        let before = Memory::of(home.path(), &sandboxes)?;
        for sandbox in &sandboxes {
            let read = sandbox.shell(format!("wc -c < {FILE}")).await?;
            ensure!(read.status().success, "{}", read.stderr()?);
        }
        let after = Memory::of(home.path(), &sandboxes)?;
        let guest = after.guests - before.guests;
        let all = FILE_MIB * f64::from(count);
        for (what, value) in [
            ("page_cache_mib", after.page_cache),
            ("vmms_mib", after.vmms),
            ("guest_mib", guest),
            ("shared_memory_ratio", (after.page_cache + after.vmms) / all),
            (
                "all_memory_ratio",
                (after.page_cache + after.vmms + guest) / all,
            ),
        ] {
            tell(what, value)?;
        }
        for sandbox in &sandboxes {
            sandbox.kill().await?;
        }
        Ok(())
    };
    with_backend(Arc::new(local.clone()), work).await
}

/// MiB of the host's memory.
struct Memory {
    /// Of the images' files.
    page_cache: f64,
    /// Private memory of all VMMs outside their guests'.
    vmms: f64,
    /// Of the guests.
    guests: f64,
}

impl Memory {
    fn of(home: &Path, sandboxes: &[Sandbox]) -> Result<Self> {
        let (mut vmms, mut guests) = (0.0, 0.0);
        for sandbox in sandboxes {
            let processes = Processes::of(sandbox)?;
            vmms += processes.vmm_mib()?;
            guests += processes.guest_resident_mib()?;
        }
        let mut files = vec![home.join("images/meta")];
        let mut page_cache = 0.0;
        while let Some(path) = files.pop() {
            if path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    files.push(entry?.path());
                }
                if path.ends_with("meta") {
                    files.push(home.join("images/layers"));
                }
            } else {
                page_cache += resident_mib(&path)?;
            }
        }
        Ok(Self {
            page_cache,
            vmms,
            guests,
        })
    }
}

/// MiB of a file that are in memory.
fn resident_mib(path: &Path) -> Result<f64> {
    let output = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .arg(path)
        .output()
        .context("cannot start fincore; the package util-linux-extra has it")?;
    let text = String::from_utf8(output.stdout)?;
    // Of an empty file it says nothing.
    let bytes = text.trim().parse::<f64>();
    Ok(bytes.unwrap_or_default() / 1_048_576.0)
}

fn tell(what: &str, value: f64) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", json!({ "what": what, "value": value }))?;
    Ok(stdout.flush()?)
}
