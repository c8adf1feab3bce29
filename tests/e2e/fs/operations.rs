//! Each operation, as both sides see it.

use anyhow::Result;
use microsandbox::MicrosandboxError;
use microsandbox::fs::{FsEntryKind, FsErrorKind as K, FsSetAttrs};
use microsandbox::sandbox::SandboxStatus;
use msb_tests::{Fixture, within};

use super::{failure, script};

#[tokio::test]
async fn what_one_side_writes_the_other_reads() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-both").await?;
    let fs = sandbox.fs();
    fs.write("/root/from-host", "hello\n").await?;
    assert_eq!(script(&sandbox, "cat /root/from-host").await?, "hello\n");
    assert_eq!(
        script(&sandbox, "stat -c '%a %U' /root/from-host").await?,
        "644 root\n"
    );
    script(&sandbox, "printf 'from the guest' > /root/from-guest").await?;
    assert_eq!(
        fs.read_to_string("/root/from-guest").await?,
        "from the guest"
    );

    let sink = fs.write_stream("/root/stream").await?;
    for n in 0..100 {
        sink.write(format!("{n}\n")).await?;
    }
    sink.close().await?;
    assert_eq!(script(&sandbox, "wc -l < /root/stream").await?, "100\n");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn files_that_do_not_know_their_size_are_read() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-proc").await?;
    let fs = sandbox.fs();
    assert_eq!(fs.stat("/proc/cpuinfo").await?.size, 0);
    assert!(
        fs.read_to_string("/proc/cpuinfo")
            .await?
            .contains("processor")
    );
    let mut stream = fs.read_stream("/dev/zero").await?;
    let mut seen = 0;
    while seen < 1 << 20 {
        let piece = within(stream.recv()).await?.expect("it has no end");
        assert!(piece.iter().all(|byte| *byte == 0));
        seen += piece.len();
    }
    drop(stream);
    fs.write("/proc/sys/kernel/hostname", "renamed").await?;
    assert_eq!(script(&sandbox, "hostname").await?, "renamed\n");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn directories_links_and_metadata() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-meta").await?;
    let fs = sandbox.fs();
    fs.mkdir("/root/a/b").await?;
    fs.write("/root/a/file", "12345").await?;
    fs.symlink("file", "/root/a/link").await?;
    script(&sandbox, "mkfifo /root/a/pipe").await?;
    let seen: Vec<_> = fs
        .list("/root/a")
        .await?
        .into_iter()
        .map(|entry| (entry.path, entry.kind))
        .collect();
    let expected = [
        ("/root/a/b", FsEntryKind::Directory),
        ("/root/a/file", FsEntryKind::File),
        ("/root/a/link", FsEntryKind::Symlink),
        ("/root/a/pipe", FsEntryKind::Other),
    ];
    assert_eq!(seen, expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!(fs.read_link("/root/a/link").await?, "file");
    assert_eq!(fs.stat("/root/a/link").await?.kind, FsEntryKind::File);
    let link = fs.stat_with_follow("/root/a/link", false).await?;
    assert_eq!(link.kind, FsEntryKind::Symlink);

    let attrs = FsSetAttrs {
        mode: Some(0o400),
        uid: Some(1000),
        gid: Some(1000),
        size: Some(3),
        mtime: Some(1_000_000_000),
        ..FsSetAttrs::default()
    };
    fs.set_stat("/root/a/link", true, attrs).await?;
    assert_eq!(
        script(&sandbox, "stat -c '%a %u %g %s %Y' /root/a/file").await?,
        "400 1000 1000 3 1000000000\n"
    );
    assert!(fs.stat("/root/a/file").await?.readonly);

    fs.rename("/root/a/file", "/root/moved").await?;
    assert!(!fs.exists("/root/a/link").await?, "it leads nowhere now");
    fs.copy("/root/a", "/root/copy").await?;
    assert_eq!(fs.list("/root/copy").await?.len(), 2, "no pipe is copied");
    fs.remove("/root/moved").await?;
    fs.remove_dir("/root/a").await?;
    fs.remove_dir("/root/copy").await?;
    assert_eq!(script(&sandbox, "ls /root").await?, "");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn each_failure_has_its_kind() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-fail").await?;
    let fs = sandbox.fs();
    script(
        &sandbox,
        "mkdir -p /root/full/of /root/small /root/ro; ln -s loop /root/loop; echo > /root/file
         mount -t tmpfs -o size=64k tmpfs /root/small; mount -t tmpfs -o ro tmpfs /root/ro",
    )
    .await?;
    assert_eq!(failure(fs.read("/none").await).kind, K::NotFound);
    assert_eq!(failure(fs.read("/root").await).kind, K::IsADirectory);
    assert_eq!(failure(fs.read("/root/loop").await).kind, K::Loop);
    assert_eq!(failure(fs.read("").await).kind, K::InvalidName);
    assert_eq!(failure(fs.read("/a\0b").await).kind, K::InvalidName);
    let long = format!("/{}", "n".repeat(300));
    assert_eq!(failure(fs.read(&long).await).kind, K::NameTooLong);
    assert_eq!(failure(fs.list("/root/file").await).kind, K::NotADirectory);
    assert_eq!(failure(fs.mkdir("/root/file").await).kind, K::AlreadyExists);
    assert_eq!(failure(fs.remove("/root/full").await).kind, K::IsADirectory);
    let over = fs.rename("/root/file", "/root/small/file").await;
    assert_eq!(failure(over).kind, K::CrossDevice);
    fs.mkdir("/root/empty").await?;
    let over = fs.rename("/root/empty", "/root/full").await;
    assert_eq!(failure(over).kind, K::NotEmpty);
    assert_eq!(failure(fs.write("/root/ro/x", "x").await).kind, K::ReadOnly);
    let big = vec![1; 1 << 20];
    assert_eq!(
        failure(fs.write("/root/small/x", &big).await).kind,
        K::NoSpace
    );
    let error = failure(fs.remove_dir("/root").await);
    assert_eq!(error.kind, K::Busy, "something is mounted below: {error}");
    let text = fs.read_to_string("/bin/busybox").await;
    assert_eq!(failure(text).kind, K::NotUtf8);
    let tight = fs.clone().with_memory_limit(1000);
    assert_eq!(failure(tight.read("/bin/busybox").await).kind, K::TooLarge);
    assert!(script(&sandbox, "echo alive").await? == "alive\n");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_pipe_that_nobody_writes_holds_up_nobody() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-pipe").await?;
    script(&sandbox, "mkfifo /root/pipe").await?;
    let fs = sandbox.fs();
    let mut stream = fs.read_stream("/root/pipe").await?;
    assert_eq!(
        failure(fs.write("/root/none/x", "").await).kind,
        K::NotFound
    );
    script(&sandbox, "echo words > /root/pipe").await?;
    assert_eq!(
        within(stream.recv()).await?.as_deref(),
        Some(&b"words\n"[..])
    );
    assert_eq!(within(stream.recv()).await?, None);
    // And one that is dropped while it waits is no longer a reader.
    drop(fs.read_stream("/root/pipe").await?);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_sandbox_that_has_ended_says_so() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-ended").await?;
    sandbox.stop().await?;
    let status = match sandbox.fs().read("/etc/passwd").await {
        Err(MicrosandboxError::SandboxNotRunning { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status, Some(SandboxStatus::Stopped));
    Ok(())
}
