//! OCI images as roots, each test in a home of its own: loaded from archives that are made here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use microsandbox::image::{Image, ImageLoadOptions};
use microsandbox::sandbox::PullPolicy;
use microsandbox::{
    BootErrorKind, LocalBackend, MicrosandboxError, Sandbox, SandboxBuilder, with_backend,
};
use msb_tests::archive::{Archive, Layer};
use msb_tests::{PATIENCE, host, within};

use super::{prints, removed, succeeds};

/// What the image of these tests is called.
pub(crate) const IMAGE: &str = "msb-test/app:1";

/// Runs a test in an empty home.
pub(crate) async fn at_home(
    test: impl AsyncFnOnce(&Path, &LocalBackend) -> Result<()>,
) -> Result<()> {
    let home = tempfile::tempdir()?;
    let local = Arc::new(LocalBackend::builder().home(home.path()).lazy());
    let done = with_backend(local.clone(), test(home.path(), &local)).await;
    host::nothing_left().await?;
    done
}

/// Two layers: the second changes and removes something of the first.
pub(crate) fn app() -> Result<Archive> {
    let base = Layer::busybox()?
        .file("srv/text", b"from the base\n", 0o644)?
        .file("srv/gone", b"", 0o644)?
        .file("srv/old/one", b"", 0o644)?
        .file("srv/large", &[b'x'; 100_000], 0o640)?;
    let app = Layer::new()
        .file("srv/text", b"from the app\n", 0o644)?
        .without("srv/gone")?
        .without("srv/old/one")?
        .link("srv/link", "text")?;
    Archive::new().layer(base)?.layer(app)
}

/// Loads an image into a home, under its name.
pub(crate) async fn load(home: &Path, local: &LocalBackend, archive: Archive) -> Result<()> {
    let path = archive.write(IMAGE, &home.join("image.tar"))?;
    let loaded = Image::load(local, &path, ImageLoadOptions::new()).await?;
    assert_eq!(loaded.len(), 1);
    Ok(fs::remove_file(path)?)
}

/// A sandbox of the image, yet to be created.
pub(crate) fn of(name: &str) -> SandboxBuilder {
    let builder = Sandbox::builder(name).image(IMAGE).memory(128u32);
    builder.pull_policy(PullPolicy::Never)
}

/// One with a file added, one made longer and one removed, yet to be created.
pub(crate) fn patched(name: &str) -> SandboxBuilder {
    of(name).patch(|patch| {
        patch
            .text("/etc/app/conf", "on\n", None, false)
            .append("/srv/text", "and more\n")
            .remove("/srv/large")
    })
}

/// The data of layers that a sandbox's VMM has open.
fn layers_of(sandbox: &Sandbox) -> Result<BTreeSet<PathBuf>> {
    let supervisor = sandbox
        .local()
        .and_then(|local| local.pid)
        .context("no supervisor")?;
    let vmm = host::child(i32::try_from(supervisor)?, "msb-vmm").context("no VMM")?;
    let open = fs::read_dir(format!("/proc/{vmm}/fd"))?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let open: Vec<_> = open.collect();
    assert!(open.iter().any(|path| path.ends_with("upper.ext4")));
    Ok(open
        .into_iter()
        .filter(|path| path.ends_with("data"))
        .collect())
}

#[tokio::test]
async fn its_layers_are_one_root_that_all_sandboxes_share() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let one = within(of("one").create()).await?;
        let look =
            "cat /srv/text /srv/link; wc -c < /srv/large; ls /srv /srv/old; stat -c %a /srv/large";
        let expected =
            "from the app\nfrom the app\n100000\n/srv:\nlarge\nlink\nold\ntext\n\n/srv/old:\n640\n";
        assert_eq!(prints(&one, look).await?, expected);
        let two = within(of("two").create()).await?;
        let shared = layers_of(&one)?;
        assert!(!shared.is_empty());
        assert_eq!(shared, layers_of(&two)?);

        prints(
            &one,
            "echo mine > /srv/text; rm /srv/large; mv /srv/old /srv/new",
        )
        .await?;
        assert_eq!(prints(&two, look).await?, expected);
        within(one.stop_with_timeout(PATIENCE)).await?;
        let again = within(Sandbox::start("one")).await?;
        assert_eq!(
            prints(&again, "cat /srv/link; ls /srv").await?,
            "mine\nlink\nnew\ntext\n"
        );
        assert!(again.config().manifest_digest.is_some());
        removed(&again).await?;
        removed(&two).await
    })
    .await
}

#[tokio::test]
async fn a_full_layer_is_the_commands_error_and_no_more() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let sandbox = within(of("full").oci_upper_size(64u32).create()).await?;
        let fill = "dd if=/dev/zero of=/srv/fill bs=1M count=128 2>&1; ls -l /srv/fill";
        let said = prints(&sandbox, fill).await?;
        assert!(said.contains("No space left on device"), "{said}");
        // What is yet to be allocated is counted at its most; once it is written out, a few blocks are left.
        let rest = "sync; dd if=/dev/zero of=/srv/rest bs=4k 2> /dev/null; sync; i=0; \
                    { while echo x > /srv/rest.$i; do i=$((i+1)); sync; done; } 2> /dev/null";
        prints(&sandbox, rest).await?;
        // It goes on, and with room again it writes again.
        assert!(!succeeds(&sandbox, "echo x > /srv/more").await?);
        prints(&sandbox, "rm /srv/fill; sync; echo again > /srv/again").await?;
        within(sandbox.stop_with_timeout(PATIENCE)).await?;
        let sandbox = within(Sandbox::start("full")).await?;
        assert_eq!(prints(&sandbox, "cat /srv/again").await?, "again\n");
        let size = prints(&sandbox, "df -m / | tail -n 1 | awk '{print $2}'").await?;
        assert!(size.trim().parse::<u64>()? <= 64, "{size}");
        removed(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn patches_are_there_from_the_first_boot_on() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let source = home.join("source");
        fs::create_dir(&source)?;
        fs::write(source.join("tool"), "#!/bin/sh\necho a tool\n")?;
        let builder = of("patched").patch(|patch| {
            patch
                .text("/etc/app/conf", "on\n", Some(0o600), false)
                .append("/srv/text", "and more\n")
                .copy_file(source.join("tool"), "/bin/tool", Some(0o755), false)
                .remove("/srv/large")
                .mkdir("/var/lib/app", None)
                .symlink("/srv/text", "/srv/second", false)
        });
        let sandbox = within(builder.create()).await?;
        fs::remove_dir_all(&source)?;
        let look = "cat /etc/app/conf /srv/second; stat -c %a /etc/app/conf; tool; ls -d /var/lib/app; \
                    ls /srv/large 2>/dev/null; true";
        let expected = "on\nfrom the app\nand more\n600\na tool\n/var/lib/app\n";
        assert_eq!(prints(&sandbox, look).await?, expected);
        // They are part of the image to it, and can be changed like that.
        prints(&sandbox, "echo off > /etc/app/conf").await?;
        within(sandbox.stop_with_timeout(PATIENCE)).await?;
        let again = within(Sandbox::start("patched")).await?;
        assert_eq!(prints(&again, "cat /etc/app/conf; tool").await?, "off\na tool\n");
        let plain = within(of("plain").create()).await?;
        assert_eq!(prints(&plain, "cat /srv/text; wc -c < /srv/large").await?, "from the app\n100000\n");
        // What both have is one file on the host.
        let (patched, shared) = (layers_of(&again)?, layers_of(&plain)?);
        assert!(patched.is_superset(&shared) && patched.len() == shared.len() + 1);
        removed(&again).await?;
        removed(&plain).await?;
        assert!(!home.join("sandboxes/patched").exists());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_patch_that_cannot_be_made_leaves_no_sandbox() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let builder = of("wrong").patch(|patch| patch.text("/srv/text", "", None, false));
        let error = within(builder.create()).await.map(drop).unwrap_err();
        assert!(
            matches!(&error, MicrosandboxError::PatchFailed(why) if why.contains("/srv/text")),
            "{error:?}"
        );
        assert!(Sandbox::list().await?.is_empty());
        assert_eq!(fs::read_dir(home.join("sandboxes"))?.count(), 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_that_was_changed_on_the_host_is_not_booted() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let sandbox = within(of("damaged").create()).await?;
        within(sandbox.stop_with_timeout(PATIENCE)).await?;
        let layer = fs::read_dir(home.join("images/layers"))?
            .flatten()
            .map(|entry| entry.path().join("data"))
            .max_by_key(|path| fs::metadata(path).map_or(0, |found| found.len()))
            .context("no layer")?;
        let mut bytes = fs::read(&layer)?;
        let last = bytes.len() / 2;
        bytes[last] ^= 1;
        fs::write(&layer, bytes)?;
        let error = within(Sandbox::start("damaged")).await.map(drop).unwrap_err();
        assert!(
            matches!(&error, MicrosandboxError::BootStart { err, .. } if err.kind == BootErrorKind::Image),
            "{error:?}"
        );
        // Loaded again, it is right again, and the sandbox has what it had.
        load(home, local, app()?).await?;
        let sandbox = within(Sandbox::start("damaged")).await?;
        assert_eq!(prints(&sandbox, "cat /srv/text").await?, "from the app\n");
        removed(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn an_image_without_a_shell_or_any_directory() -> Result<()> {
    at_home(async |home, local| {
        let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox"))?;
        let bare = Layer::new().file("busybox", &busybox, 0o755)?;
        load(home, local, Archive::new().layer(bare)?).await?;
        let sandbox = within(of("bare").create()).await?;
        let output = within(sandbox.exec("/busybox", ["ls", "/"])).await?;
        let places = output.stdout()?;
        for place in ["busybox", "dev", "etc", "proc", "run", "sys", "tmp"] {
            assert!(
                places.lines().any(|line| line == place),
                "{place}: {places}"
            );
        }
        within(sandbox.exec("/busybox", ["touch", "/tmp/x"])).await?;
        removed(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn as_many_layers_as_an_image_may_have() -> Result<()> {
    at_home(async |home, local| {
        let mut archive = Archive::new().layer(Layer::busybox()?)?;
        for n in 1..200 {
            let text = format!("{n}\n");
            let layer = Layer::new()
                .file(&format!("srv/{n}"), text.as_bytes(), 0o644)?
                .file("srv/last", text.as_bytes(), 0o644)?;
            archive = archive.layer(layer)?;
        }
        load(home, local, archive).await?;
        let sandbox = within(of("many").create()).await?;
        assert_eq!(
            prints(&sandbox, "cat /srv/last; ls /srv | wc -l; cat /srv/100").await?,
            "199\n200\n100\n"
        );
        assert_eq!(layers_of(&sandbox)?.len(), 200);
        removed(&sandbox).await
    })
    .await
}
