//! A disk image with an EROFS as a root: shared, unchanged, and writable all the same.

use std::fs;

use anyhow::Result;
use microsandbox::Sandbox;
use msb_tests::{PATIENCE, erofs, host, within};

use super::{fixture, kept, prints, removed, succeeds, upper};

#[tokio::test]
async fn what_is_changed_lasts_and_the_image_stays_as_it_is() -> Result<()> {
    let fixture = fixture()?;
    let disk = fixture.path().join("root.erofs");
    let before = fs::read(&disk)?;
    let sandbox = within(kept(&fixture, "root.erofs", "lasts").create()).await?;
    assert_eq!(prints(&sandbox, "cat /srv/text").await?, "from the image\n");
    prints(
        &sandbox,
        "set -e; echo more >> /srv/text; echo new > /srv/new; rm /etc/group; mv /srv/deep /srv/moved; \
         ln -s /srv/new /srv/link; chmod 700 /home; chown user /srv/new; mkdir -p /a/b/c; rm -r /root",
    )
    .await?;
    let look = "cat /srv/text /srv/link /srv/moved/down/text; stat -c '%a' /home; stat -c %U /srv/new; \
                ls -d /a/b/c; ls /etc/group /srv/deep /root 2>/dev/null; true";
    let expected = "from the image\nmore\nnew\nfrom below\n700\nuser\n/a/b/c\n";
    assert_eq!(prints(&sandbox, look).await?, expected);
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    for _ in 0..2 {
        let again = within(Sandbox::start("lasts")).await?;
        assert_eq!(prints(&again, look).await?, expected);
        within(again.stop_with_timeout(PATIENCE)).await?;
    }
    assert!(fs::read(&disk)? == before, "the image was written to");
    let layer = upper("lasts")?;
    assert!(layer.exists());
    within(sandbox.remove_persisted()).await?;
    assert!(!layer.exists());
    host::nothing_left().await
}

#[tokio::test]
async fn sandboxes_share_an_image_and_not_what_they_change() -> Result<()> {
    let fixture = fixture()?;
    let one = within(kept(&fixture, "root.erofs", "share-1").create()).await?;
    let two = within(kept(&fixture, "root.erofs", "share-2").create()).await?;
    prints(&one, "echo one > /srv/text; rm -r /srv/deep").await?;
    prints(&two, "echo two > /srv/mine").await?;
    let look = "cat /srv/text; ls /srv";
    assert_eq!(prints(&one, look).await?, "one\ntext\n");
    assert_eq!(
        prints(&two, look).await?,
        "from the image\ndeep\nmine\ntext\n"
    );
    removed(&one).await?;
    removed(&two).await?;
    // A third one finds it as it was.
    let three = within(kept(&fixture, "root.erofs", "share-3").create()).await?;
    assert_eq!(prints(&three, look).await?, "from the image\ndeep\ntext\n");
    removed(&three).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn its_file_system_may_be_named() -> Result<()> {
    let fixture = fixture()?;
    let disk = fixture.path().join("root.erofs");
    let builder = Sandbox::builder("named").memory(128u32);
    let builder = builder.image_with(|image| image.disk(&disk).fstype("erofs"));
    let sandbox = within(builder.ephemeral(true).create()).await?;
    assert!(
        succeeds(
            &sandbox,
            "touch /srv/x && grep -q '^overlay / overlay rw' /proc/mounts"
        )
        .await?
    );
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn an_image_that_lacks_nearly_everything_boots() -> Result<()> {
    let fixture = super::Fixture::new()?;
    let tree = tempfile::tempdir()?;
    fs::copy("/bin/busybox", tree.path().join("busybox"))?;
    erofs::of_directory(tree.path(), &fixture.path().join("bare.erofs"))?;
    let sandbox = within(kept(&fixture, "bare.erofs", "bare").create()).await?;
    // There is no shell; a program is executed all the same.
    let output = within(sandbox.exec("/busybox", ["ls", "/"])).await?;
    let places = output.stdout()?;
    for place in ["dev", "etc", "proc", "run", "sys", "tmp", "busybox"] {
        assert!(
            places.lines().any(|line| line == place),
            "{place}: {places}"
        );
    }
    let hosts = within(sandbox.exec("/busybox", ["cat", "/etc/hosts"]))
        .await?
        .stdout()?;
    assert!(hosts.contains("localhost"), "{hosts}");
    assert!(within(sandbox.shell("true")).await.is_err());
    removed(&sandbox).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn the_images_root_is_what_the_guests_looks_like() -> Result<()> {
    let fixture = super::Fixture::new()?;
    erofs::make(&fixture.path().join("odd.erofs"), |tree| {
        use std::os::unix::fs::{PermissionsExt, chown};
        fs::set_permissions(tree, fs::Permissions::from_mode(0o711))?;
        Ok(chown(tree, Some(0), Some(50))?)
    })?;
    let sandbox = within(kept(&fixture, "odd.erofs", "odd").create()).await?;
    assert_eq!(
        prints(&sandbox, "stat -c '%a %u %g' /").await?,
        "711 0 50\n"
    );
    prints(&sandbox, "chmod 755 /").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    let again = within(Sandbox::start("odd")).await?;
    assert_eq!(prints(&again, "stat -c '%a %u %g' /").await?, "755 0 50\n");
    removed(&again).await?;
    host::nothing_left().await
}
