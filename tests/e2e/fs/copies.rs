//! Trees to the guest and back, compared entry by entry.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use microsandbox::fs::{FsErrorKind as K, FsSide};
use msb_tests::Fixture;
use sha2::{Digest, Sha256};

use super::{failure, script};

/// What is compared of each entry: permissions and kind, times, contents or where a link leads.
type Seen = (u32, i64, i64, Vec<u8>);

fn look(root: &Path) -> Result<BTreeMap<PathBuf, Seen>> {
    let mut seen = BTreeMap::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let metadata = path.symlink_metadata()?;
        let content = if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                rest.push(entry?.path());
            }
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path)?.into_os_string().into_encoded_bytes()
        } else {
            Sha256::digest(fs::read(&path)?).to_vec()
        };
        let entry = (
            metadata.mode(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            content,
        );
        seen.insert(path.strip_prefix(root)?.to_owned(), entry);
    }
    Ok(seen)
}

/// A few thousand files of all sizes, with links and modes.
fn make_tree(root: &Path) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    for directory in 0..60 {
        let path = root.join(format!("d{}/e{directory}", directory % 7));
        fs::create_dir_all(&path)?;
        for file in 0..50 {
            let size = match file % 10 {
                0 => 0,
                9 => random.usize(..40_000),
                _ => random.usize(..600),
            };
            let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
                .take(size)
                .collect();
            let path = path.join(format!("file {file}"));
            fs::write(&path, content)?;
            let mode = [0o644, 0o600, 0o755, 0o444][file % 4];
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
            let age = Duration::new(random.u64(..1_700_000_000), random.u32(..1_000_000_000));
            let opened = File::open(&path)?;
            opened.set_modified(SystemTime::UNIX_EPOCH + age)?;
        }
        symlink("file 1", path.join("link"))?;
        symlink("/no/such/place", path.join("dangling"))?;
        fs::set_permissions(
            &path,
            Permissions::from_mode([0o755, 0o700, 0o555][directory % 3]),
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn a_tree_of_thousands_of_files_goes_there_and_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("fs-tree")?.memory(256u32).create().await?;
    script(&sandbox, "mount -t tmpfs tmpfs /tmp").await?;
    let (tree, back) = (fixture.path().join("tree"), fixture.path().join("back"));
    make_tree(&tree)?;
    let before = look(&tree)?;
    assert!(before.len() > 3000, "{} entries", before.len());

    let files = sandbox.fs();
    files.copy_from_host(&tree, "/tmp/tree").await?;
    assert_eq!(
        script(&sandbox, "find /tmp/tree | wc -l").await?.trim(),
        before.len().to_string()
    );
    assert_eq!(
        script(&sandbox, "stat -c '%a %Y' '/tmp/tree/d0/e0/file 3'").await?,
        format!("444 {}\n", before[Path::new("d0/e0/file 3")].1)
    );
    files.copy("/tmp/tree", "/tmp/copy").await?;
    files.copy_to_host("/tmp/copy", &back).await?;
    let after = look(&back)?;
    assert_eq!(before.len(), after.len());
    for (path, entry) in &before {
        assert_eq!(Some(entry), after.get(path), "{}", path.display());
    }
    files.remove_dir("/tmp/tree").await?;
    assert!(!files.exists("/tmp/tree").await?);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn names_that_are_not_text_are_kept() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-names").await?;
    script(
        &sandbox,
        "mkdir /root/names; cd /root/names; echo 1 > \"$(printf 'a\\377b')\"
         echo 2 > \"$(printf 'new\\nline')\"; echo 3 > '...'; echo 4 > '-rf'",
    )
    .await?;
    let listed = sandbox.fs().list("/root/names").await?;
    let paths: Vec<_> = listed.iter().map(|entry| entry.path.as_str()).collect();
    assert!(paths.contains(&"/root/names/a\u{fffd}b"), "{paths:?}");
    let copy = fixture.path().join("copy");
    sandbox.fs().copy_to_host("/root/names", &copy).await?;
    assert_eq!(fs::read(copy.join(OsStr::from_bytes(b"a\xffb")))?, b"1\n");
    assert_eq!(fs::read(copy.join("new\nline"))?, b"2\n");
    sandbox.fs().copy_from_host(&copy, "/root/again").await?;
    let script_text = "cat /root/again/*; diff -r /root/names /root/again";
    assert_eq!(script(&sandbox, script_text).await?.len(), 6);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_copy_that_fails_leaves_both_sides_as_they_were() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-half").await?;
    let files = sandbox.fs();
    script(
        &sandbox,
        "mkdir /root/small; mount -t tmpfs -o size=256k tmpfs /root/small; echo old > /root/small/x",
    )
    .await?;
    let big = fixture.path().join("big");
    fs::write(&big, vec![1; 4 << 20])?;
    let error = failure(files.copy_from_host(&big, "/root/small/x").await);
    assert_eq!((error.kind, error.side), (K::NoSpace, FsSide::Guest));
    assert_eq!(
        script(&sandbox, "ls -A /root/small; cat /root/small/x").await?,
        "x\nold\n"
    );

    let error = failure(
        files
            .copy_from_host(fixture.path().join("none"), "/root/y")
            .await,
    );
    assert_eq!((error.kind, error.side), (K::NotFound, FsSide::Host));
    let room = fixture.path().join("room");
    fs::create_dir(&room)?;
    let limited = files.clone().with_copy_limit(100_000);
    let error = failure(limited.copy_to_host("/bin/busybox", room.join("x")).await);
    assert_eq!(error.kind, K::TooLarge);
    let error = failure(files.copy_to_host("/none", room.join("x")).await);
    assert_eq!((error.kind, error.side), (K::NotFound, FsSide::Guest));
    assert_eq!(fs::read_dir(&room)?.count(), 0);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_set_user_id_bit_does_not_leave_the_guest() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-suid").await?;
    script(&sandbox, "cp /bin/busybox /root/su; chmod 6755 /root/su").await?;
    let copy = fixture.path().join("su");
    sandbox.fs().copy_to_host("/root/su", &copy).await?;
    assert_eq!(copy.metadata()?.mode() & 0o7777, 0o755);
    sandbox.stop().await?;
    Ok(())
}
