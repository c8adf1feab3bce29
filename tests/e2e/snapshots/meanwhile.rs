//! What others do with the sandbox while a snapshot is taken, and the other way round.

use microsandbox::MicrosandboxError;
use microsandbox::sandbox::SandboxStatus;

use super::*;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, MicrosandboxError>) {
    assert!(
        matches!(&result, Err(MicrosandboxError::SnapshotSandboxRunning(_))),
        "{result:?}"
    );
}

#[tokio::test]
async fn one_that_runs_is_refused_in_every_state() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let sandbox = within(of("web").create()).await?;
        let handle = Sandbox::get("web").await?;
        refused(handle.snapshot("base").await);
        handle.pause().await?;
        refused(handle.snapshot("base").await);
        handle.resume().await?;
        let busy = sandbox.exec_stream("sleep", ["5"]).await?;
        handle.request_drain().await?;
        refused(handle.snapshot_to(home.join("elsewhere")).await);
        drop(busy);
        within(sandbox.kill()).await?;
        let taken = within(handle.snapshot("base")).await?;
        assert!(taken.path().exists() && !home.join("elsewhere").exists());
        handle.remove().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn starts_and_snapshots_of_one_at_the_same_moment() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let data = "dd if=/dev/urandom of=/srv/data bs=1M count=48 2>/dev/null; \
                    sha256sum < /srv/data > /srv/sum";
        let taken = prepared(of("web"), data, "first").await?;
        let mut made = vec![taken];
        for round in 0..4 {
            let name = format!("round{round}");
            let snapshot = Snapshot::builder("web").name(&name).create();
            let (snapshot, started) =
                within(async { tokio::join!(snapshot, Sandbox::start("web")) }).await;
            // Whoever comes second waits, or hears that it runs.
            let sandbox = started?;
            match snapshot {
                Ok(snapshot) => made.push(snapshot),
                other => refused(other),
            }
            prints(
                &sandbox,
                &format!("sha256sum < /srv/data | cmp - /srv/sum; echo {round} >> /srv/rounds"),
            )
            .await?;
            within(sandbox.stop_with_timeout(PATIENCE)).await?;
        }
        assert_eq!(
            Sandbox::get("web").await?.status_snapshot(),
            SandboxStatus::Stopped
        );
        // None of them has half of what the guest wrote.
        for snapshot in &made {
            let child = within(from(snapshot.digest(), "child").create()).await?;
            prints(&child, "sha256sum < /srv/data | cmp - /srv/sum").await?;
            removed(&child).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_snapshot_that_is_removed_while_others_begin_from_it() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        prepared(of("parent"), "echo kept > /srv/kept", "base").await?;
        let (begun, gone) = within(async {
            tokio::join!(
                from("base", "child").create(),
                Snapshot::remove("base", false)
            )
        })
        .await;
        gone?;
        match begun {
            // It had begun to read it.
            Ok(child) => {
                assert_eq!(prints(&child, "cat /srv/kept").await?, "kept\n");
                removed(&child).await?;
            }
            Err(error) => assert!(
                matches!(
                    error,
                    MicrosandboxError::SnapshotNotFound(_) | MicrosandboxError::BootStart { .. }
                ),
                "{error:?}"
            ),
        }
        let refused = within(from("base", "late").create()).await.map(drop);
        assert!(
            matches!(refused, Err(MicrosandboxError::SnapshotNotFound(_))),
            "{refused:?}"
        );
        Ok(())
    })
    .await
}
