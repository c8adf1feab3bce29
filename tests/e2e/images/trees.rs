//! What a guest sees of an image is what other tools make of it: every entry, with its type, mode, owner, size,
//! time, attributes and content.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;
use microsandbox::sandbox::PullPolicy;
use msb_test_tree::Tree;
use msb_tests::registry::Registry;
use msb_tests::trees::{ensure_same, of_guest};
use msb_tests::{PATIENCE, images, in_time};

use super::{at_home, pulled, stop};

/// A machine that is emulated takes its time for all files of a Debian.
const LONG: Duration = PATIENCE.saturating_mul(6);

/// The names that the agent adds to `/etc/hosts`, and when.
fn without_hosts(mut tree: Tree) -> Tree {
    tree.remove(&b"etc/hosts"[..]);
    if let Some(etc) = tree.get_mut(&b"etc"[..]) {
        etc.time = (0, 0);
    }
    tree
}

/// Compares what a sandbox sees with what `umoci` unpacks the image to.
async fn compare(sandbox: &Sandbox, image: &images::Image) -> Result<Tree> {
    let found = without_hosts(in_time(LONG, of_guest(sandbox)).await?);
    let expected = without_hosts(image.unpacked()?);
    ensure!(expected.len() > 100, "{} entries", expected.len());
    ensure_same(&expected, &found)?;
    Ok(found)
}

async fn pulled_and_compared(tag: &str) -> Result<()> {
    at_home(async |_| {
        let registry = Registry::start()?;
        let image = images::image(tag)?;
        let reference = registry.push(&image, &format!("{tag}:1"))?;
        let sandbox = in_time(LONG, pulled("tree", &reference).create()).await?;
        let found = compare(&sandbox, &image).await?;
        // Else less was compared than it seems.
        let at = |path: &str| {
            let entry = found.get(path.as_bytes());
            entry.with_context(|| format!("there is no {path}"))
        };
        ensure!(at("modes/4711")?.mode == 0o4711);
        ensure!(at("modes/far")?.owner == (3_000_000, 65534));
        ensure!(at("modes/exact")?.time == (1_600_000_000, 123_456_789));
        ensure!(at("links/of-base")?.same_as == b"base/linked");
        ensure!(at("devices/large")?.device == Some((259, 300_000)));
        ensure!(at("devices/fifo")?.kind == 'p');
        ensure!(at("sizes/hole-first-1.0")?.size == Some(1 << 20));
        ensure!(at("base/removed").is_err() && at("base/emptied").is_err());
        ensure!(at("base/refilled/old").is_err() && at("base/refilled/early").is_ok());
        let names = |path: &str| -> Result<Vec<String>> {
            let xattrs = at(path)?.xattrs.iter();
            Ok(xattrs
                .map(|xattr| xattr.name.escape_ascii().to_string())
                .collect())
        };
        ensure!(names("xattrs/capable")? == ["security.capability"]);
        ensure!(names("xattrs/listed")? == ["system.posix_acl_access"]);
        ensure!(
            names("xattrs/noted")?.len() == 4,
            "{:?}",
            names("xattrs/noted")
        );
        ensure!(names("xattrs/elsewhere")?.is_empty());
        stop(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn ten_layers_that_do_all_that_layers_can_do() -> Result<()> {
    pulled_and_compared("everything").await
}

#[tokio::test]
async fn the_same_compressed_by_zstd() -> Result<()> {
    pulled_and_compared("everything-zstd").await
}

#[tokio::test]
async fn a_debian() -> Result<()> {
    at_home(async |home| {
        let image = images::image("debian")?;
        let loading = home.load(&image, "debian:12");
        in_time(LONG, loading).await?;
        let sandbox = Sandbox::builder("debian")
            .image("debian:12")
            .pull_policy(PullPolicy::Never)
            .memory(256u32)
            .ephemeral(true);
        let sandbox = in_time(LONG, sandbox.create()).await?;
        let found = compare(&sandbox, &image).await?;
        ensure!(found.len() > 5_000, "{} entries", found.len());
        stop(&sandbox).await
    })
    .await
}
