//! More than fits anywhere: many entries, large files, holes.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use anyhow::Result;
use microsandbox::fs::FsErrorKind as K;
use msb_tests::Fixture;
use msb_tests::bulk::hex;
use sha2::{Digest, Sha256};

use super::{failure, script};

const GIB: u64 = 1 << 30;

#[tokio::test]
async fn a_directory_of_a_hundred_thousand_entries_is_listed() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("fs-many")?.memory(512u32).create().await?;
    script(
        &sandbox,
        "mount -t tmpfs -o size=400m,nr_inodes=200000 tmpfs /tmp; mkdir /tmp/many; cd /tmp/many
         i=0; while [ $i -lt 100000 ]; do : > entry-$i; i=$((i+1)); done",
    )
    .await?;
    // Emulated machines take their time; the guest goes on all the while.
    let fs = sandbox.fs().with_stall_timeout(Duration::from_secs(300));
    let entries = fs.list("/tmp/many").await?;
    assert_eq!(entries.len(), 100_000);
    assert!(entries.windows(2).all(|two| two[0].path < two[1].path));
    assert!(
        entries
            .iter()
            .any(|entry| entry.path == "/tmp/many/entry-99999")
    );
    let tight = fs.clone().with_memory_limit(1 << 20);
    assert_eq!(failure(tight.list("/tmp/many").await).kind, K::TooLarge);
    fs.remove_dir("/tmp/many").await?;
    assert_eq!(script(&sandbox, "ls -A /tmp").await?, "");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_sparse_file_of_five_gibibytes_goes_there_and_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-sparse").await?;
    script(
        &sandbox,
        "truncate -s 5G /root/sparse; printf begin | dd of=/root/sparse conv=notrunc
         printf past-four | dd of=/root/sparse bs=1M seek=4500 conv=notrunc",
    )
    .await?;
    let fs = sandbox.fs();
    assert_eq!(fs.stat("/root/sparse").await?.size, 5 * GIB);
    let copy = fixture.path().join("sparse");
    fs.copy_to_host("/root/sparse", &copy).await?;
    let file = File::open(&copy)?;
    let metadata = file.metadata()?;
    assert_eq!(metadata.len(), 5 * GIB);
    assert!(
        metadata.blocks() * 512 < 4 << 20,
        "{} blocks",
        metadata.blocks()
    );
    let mut text = [0; 9];
    file.read_exact_at(&mut text, 4500 << 20)?;
    assert_eq!(&text, b"past-four");

    fs.copy_from_host(&copy, "/root/again").await?;
    assert_eq!(
        script(
            &sandbox,
            "stat -c %s /root/again; du -k /root/again | cut -f1 | awk '$1 > 4096'
             dd if=/root/again bs=1M skip=4500 count=1 2> /dev/null | head -c 9",
        )
        .await?,
        format!("{}\npast-four", 5 * GIB)
    );
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_file_larger_than_the_guests_memory_is_streamed() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-stream").await?;
    script(
        &sandbox,
        "truncate -s 200M /root/long; printf end >> /root/long",
    )
    .await?;
    let mut stream = sandbox.fs().read_stream("/root/long").await?;
    let (mut digest, mut seen) = (Sha256::new(), 0);
    while let Some(piece) = stream.recv().await? {
        digest.update(&piece);
        seen += piece.len();
    }
    assert_eq!(seen, (200 << 20) + 3);
    let expected = script(&sandbox, "sha256sum < /root/long | cut -d' ' -f1").await?;
    assert_eq!(hex(digest.finalize()), expected.trim());
    sandbox.stop().await?;
    Ok(())
}
