//! Homes that cannot be used: each says why, in a type, and none is left half made.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use microsandbox::{HomeErrorKind, LocalBackend, MicrosandboxError, Sandbox, with_backend};
use msb_tests::tmpfs::Tmpfs;
use msb_tests::{Fixture, host, within};
use redb::{ReadableDatabase, TableDefinition};
use rustix::mount::{MountFlags, mount_remount};

/// The table in which the catalog says of which release it is.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Opened by the calls themselves, as a program's own would be.
fn backend(home: &Path) -> LocalBackend {
    LocalBackend::builder().home(home).lazy()
}

/// What creating a sandbox in this home gives.
async fn create(home: &Path, fixture: &Fixture) -> Result<Sandbox, MicrosandboxError> {
    let builder = fixture.builder("homeless").expect("a disk");
    let created = with_backend(Arc::new(backend(home)), builder.create());
    within(created).await
}

fn kind(result: Result<Sandbox, MicrosandboxError>) -> HomeErrorKind {
    match result {
        Err(MicrosandboxError::Database(error)) => error.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_home_that_is_not_there_is_made() -> Result<()> {
    let fixture = Fixture::new()?;
    let home = fixture.path().join("deep/er/home");
    let sandbox = create(&home, &fixture).await?;
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    sandbox.stop().await?;
    assert!(home.join("db/catalog.redb").exists());
    host::nothing_left().await
}

#[tokio::test]
async fn a_home_that_may_not_be_written() -> Result<()> {
    let fixture = Fixture::new()?;
    let home = Tmpfs::new("1m")?;
    mount_remount(home.path(), MountFlags::RDONLY, c"")?;
    let result = create(home.path(), &fixture).await;
    match result {
        // The run directory is what is made first.
        Err(MicrosandboxError::BootStart { err, .. }) => {
            assert!(err.message.contains("Read-only"), "{err}");
        }
        other => assert_eq!(kind(other), HomeErrorKind::Forbidden),
    }
    host::nothing_left().await
}

#[tokio::test]
async fn a_home_without_room() -> Result<()> {
    let fixture = Fixture::new()?;
    let home = Tmpfs::new("64k")?;
    assert_eq!(
        kind(create(home.path(), &fixture).await),
        HomeErrorKind::Full
    );
    host::nothing_left().await
}

#[tokio::test]
async fn a_home_whose_catalog_is_damaged_says_so_and_is_made_anew() -> Result<()> {
    let fixture = Fixture::new()?;
    let home = fixture.path().join("home");
    let backend = backend(&home);
    let kept = fixture.kept("kept")?.create();
    let sandbox = within(with_backend(Arc::new(backend.clone()), kept)).await?;
    sandbox.shell("echo here").await?;
    sandbox.stop().await?;

    let catalog = home.join("db/catalog.redb");
    fs::write(&catalog, "this is no catalog")?;
    assert_eq!(kind(create(&home, &fixture).await), HomeErrorKind::Damaged);
    backend.rebuild_catalog().await?;
    let handle = with_backend(Arc::new(backend.clone()), Sandbox::get("kept")).await?;
    let again = within(handle.start()).await?;
    assert_eq!(again.shell("echo again").await?.stdout()?, "again\n");
    again.stop().await?;
    let logs = handle.logs(&Default::default()).await?;
    let printed: Vec<_> = logs.iter().map(|entry| entry.data.clone()).collect();
    assert_eq!(printed, ["here\n", "again\n"]);
    handle.remove().await?;
    host::nothing_left().await
}

#[tokio::test]
async fn a_home_of_a_newer_release_is_left_as_it_is() -> Result<()> {
    let fixture = Fixture::new()?;
    let home = fixture.path().join("home");
    drop(LocalBackend::builder().home(&home).build().await?);
    // As a newer release would have left it.
    let open = || {
        redb::Builder::new()
            .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
            .create(home.join("db/catalog.redb"))
    };
    let newer = open()?.begin_write()?;
    newer.open_table(META)?.insert("schema_version", 1_000)?;
    newer.open_table(META)?.insert("what only it knows", 7)?;
    newer.commit()?;

    assert_eq!(kind(create(&home, &fixture).await), HomeErrorKind::Newer);
    let listed = with_backend(Arc::new(backend(&home)), Sandbox::list()).await;
    match listed {
        Err(MicrosandboxError::Database(error)) => {
            assert_eq!(error.kind, HomeErrorKind::Newer);
            assert!(error.to_string().contains("upgrade"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let left = open()?.begin_read()?.open_table(META)?;
    for (key, value) in [("schema_version", 1_000), ("what only it knows", 7)] {
        assert_eq!(left.get(key)?.map(|there| there.value()), Some(value));
    }
    host::nothing_left().await
}

#[tokio::test]
async fn a_home_too_deep_for_sockets() -> Result<()> {
    let fixture = Fixture::new()?;
    let home = fixture.path().join("x".repeat(100));
    let result = create(&home, &fixture).await;
    assert!(
        matches!(&result, Err(MicrosandboxError::BootStart { .. })),
        "{result:?}"
    );
    Ok(())
}
