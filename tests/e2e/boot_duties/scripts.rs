//! Scripts that a sandbox brings along.

use anyhow::Result;
use msb_tests::{Fixture, PATIENCE, within};

use super::{create, prepare, prints};

#[tokio::test]
async fn scripts_are_commands_for_everyone() -> Result<()> {
    let fixture = Fixture::new()?;
    // More than a kernel's command line, or one message, could carry.
    let long = format!("#!/bin/sh\n# {}\necho long\n", "x".repeat(200_000));
    let scripts = [
        ("greet", "#!/bin/sh\necho hello $1\n"),
        ("long", long.as_str()),
        ("empty", ""),
    ];
    let sandbox = create(fixture.kept("scripts")?.scripts(scripts)).await?;
    for round in 0..2 {
        let running = match round {
            0 => None,
            // They are part of what it is, and there again after a start.
            _ => Some(within(sandbox.handle().await?.start()).await?),
        };
        let sandbox = running.as_ref().unwrap_or(&sandbox);
        let output = sandbox.exec("greet", ["you"]).await?;
        assert_eq!(output.stdout()?, "hello you\n");
        let output = sandbox
            .exec_with("long", |options| options.user("user").env("PATH", "/bin"))
            .await?;
        assert_eq!(output.stdout()?, "long\n");
        let output = sandbox
            .exec_with("greet", |options| options.arg("tty").tty(true))
            .await?;
        assert_eq!(output.stdout()?, "hello tty\r\n");
        let looks = prints(sandbox, "stat -c '%a %u:%g %s' /.msb/scripts/*").await?;
        let expected = format!("755 0:0 0\n755 0:0 24\n755 0:0 {}\n", long.len());
        assert_eq!(looks, expected);
        assert!(
            prints(sandbox, "cat /proc/mounts")
                .await?
                .contains(" /.msb tmpfs ")
        );
        within(sandbox.stop_with_timeout(PATIENCE)).await?;
    }
    sandbox.remove_persisted().await?;
    Ok(())
}

#[tokio::test]
async fn login_shells_find_them_where_the_image_has_profiles() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "mkdir -p /etc/profile.d; printf '%s\\n' 'PATH=/bin' \
                  'for piece in /etc/profile.d/*.sh; do . $piece; done' > /etc/profile";
    prepare(fixture.builder("login")?, script).await?;
    let builder = fixture.builder("login")?;
    let sandbox = create(builder.script("greet", "#!/bin/sh\necho hello\n")).await?;
    let output = sandbox
        .exec("sh", ["-l", "-c", "greet; echo $PATH"])
        .await?;
    assert_eq!(output.stdout()?, "hello\n/.msb/scripts:/bin\n");
    sandbox.stop_with_timeout(PATIENCE).await?;

    // Without scripts the piece says nothing.
    let sandbox = fixture.sandbox("login").await?;
    let output = sandbox.exec("sh", ["-l", "-c", "echo $PATH"]).await?;
    assert_eq!(output.stdout()?, "/bin\n");
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}
