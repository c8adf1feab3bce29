//! Names: which are none, and which are nobody's.

use anyhow::Result;
use microsandbox::logs::{LogOptions, log_stream, read_logs};
use microsandbox::{MicrosandboxError, Sandbox};
use msb_tests::{Fixture, home, host};

use super::not_found;

#[track_caller]
fn invalid<T: std::fmt::Debug>(result: Result<T, MicrosandboxError>) {
    assert!(
        matches!(result, Err(MicrosandboxError::InvalidConfig(_))),
        "{result:?}"
    );
}

#[tokio::test]
async fn what_is_no_name_is_refused_everywhere() -> Result<()> {
    let fixture = Fixture::new()?;
    let long = "x".repeat(129);
    for name in [
        "", ".", "..", "a/b", "/etc", ".hidden", "-x", "a b", "a\0b", "é", &long,
    ] {
        invalid(Sandbox::get(name).await);
        invalid(Sandbox::start(name).await);
        invalid(Sandbox::start_detached(name).await);
        invalid(Sandbox::remove(name).await);
        invalid(fixture.kept(name)?.build().await);
        invalid(fixture.kept(name)?.create().await);
        invalid(fixture.kept(name)?.replace().create_detached().await);
        invalid(read_logs(name, &LogOptions::default()).await);
        assert!(log_stream(name, &Default::default()).await.is_err());
    }
    // Nothing was made on the way, here or a level above.
    assert!(!home()?.join("b").exists());
    host::nothing_left().await
}

#[tokio::test]
async fn a_name_that_nobody_has_is_not_found() -> Result<()> {
    let fixture = Fixture::new()?;
    let name = "nobody";
    not_found(Sandbox::get(name).await, name);
    not_found(Sandbox::start(name).await, name);
    not_found(Sandbox::start_detached(name).await, name);
    not_found(Sandbox::remove(name).await, name);
    not_found(read_logs(name, &LogOptions::default()).await, name);

    // A handle may outlive what it is of.
    let sandbox = fixture.sandbox(name).await?;
    let handle = sandbox.handle().await?;
    sandbox.stop().await?;
    not_found(handle.refresh().await, name);
    not_found(handle.start().await, name);
    not_found(handle.connect().await, name);
    not_found(handle.stop().await, name);
    not_found(handle.kill().await, name);
    not_found(handle.pause().await, name);
    not_found(handle.request_drain().await, name);
    not_found(handle.wait_until_stopped().await, name);
    not_found(handle.metrics().await, name);
    not_found(handle.logs(&LogOptions::default()).await, name);
    not_found(handle.remove().await, name);
    super::nothing_of(name).await
}

#[tokio::test]
async fn the_longest_name_and_the_oddest_are_names_like_others() -> Result<()> {
    let fixture = Fixture::new()?;
    for name in ["x".repeat(128), "0.a_B-9".to_owned()] {
        let sandbox = fixture.kept(&name)?.create().await?;
        assert!(sandbox.exec("true", [""; 0]).await?.status().success);
        assert_eq!(Sandbox::get(&name).await?.name(), name);
        sandbox.stop().await?;
        super::removed(&name).await?;
    }
    Ok(())
}
