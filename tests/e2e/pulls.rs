//! Sandboxes from images of a registry.

use anyhow::{Context, Result};
use microsandbox::sandbox::{PullPolicy, PullProgress};
use microsandbox::{ExecEvent, MicrosandboxError, Sandbox, SandboxBuilder};
use msb_image::registry::testing::{FakeRegistry, Fault};
use msb_tests::image::{busybox_layer, file_layer, serve};
use msb_tests::{host, within};

const RUN: &str = r#"{
    "Env": ["PATH=/bin:/usr/bin", "COLOUR=blue", "SHAPE=round"],
    "Cmd": ["sh"],
    "WorkingDir": "/home",
    "User": "user",
    "Labels": {"org.example/team": "a"}
}"#;

fn builder(registry: &FakeRegistry, name: &str) -> SandboxBuilder {
    Sandbox::builder(name)
        .image(format!("{}/app:1", registry.host()))
        .registry(|registry| registry.insecure())
        .memory(256u32)
        .ephemeral(true)
}

async fn says(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = within(sandbox.shell(script)).await?;
    assert!(output.status().success, "{script}: {:?}", output.stderr());
    Ok(output.stdout()?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_and_run_as_it_wants_to_be() -> Result<()> {
    let layers = [busybox_layer()?, file_layer("second", "layer")?];
    let (registry, image) = serve("1", &layers, RUN).await;
    let (mut progress, task) = builder(&registry, "pulled")
        .env("SHAPE", "square")
        .create_with_pull_progress()?;
    let mut last = None;
    while let Some(event) = within(progress.recv()).await {
        last = Some(event);
    }
    assert!(
        matches!(last, Some(PullProgress::Complete { layer_count: 2, .. })),
        "{last:?}"
    );
    let sandbox = within(task).await??;
    let config = sandbox.config();
    assert_eq!(config.manifest_digest, Some(image.manifest.to_string()));
    assert_eq!(config.labels["org.example/team"], "a");
    assert_eq!(says(&sandbox, "echo $COLOUR $SHAPE").await?, "blue square");
    assert_eq!(says(&sandbox, "id -un; pwd").await?, "user\n/home");
    assert_eq!(says(&sandbox, "cat /second").await?, "layer");
    let tmp = says(&sandbox, "grep ' /tmp ' /proc/mounts").await?;
    assert!(
        tmp.contains("tmpfs") && tmp.contains("size=65536k"),
        "{tmp}"
    );
    within(sandbox.stop()).await?;

    // The second asks nobody.
    let asked = registry.asked("").len();
    let second = builder(&registry, "second").pull_policy(PullPolicy::Never);
    let second = within(second.create()).await?;
    assert_eq!(says(&second, "cat /second").await?, "layer");
    within(second.stop()).await?;
    assert_eq!(registry.asked("").len(), asked);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_keeps_the_image_that_it_was_made_from() -> Result<()> {
    let busybox = busybox_layer()?;
    let (registry, _) = serve("1", &[busybox.clone(), file_layer("which", "old")?], "{}").await;
    let kept = builder(&registry, "kept").ephemeral(false);
    let sandbox = within(kept.create()).await?;
    within(sandbox.stop()).await?;
    registry.image("1", "amd64", &[busybox, file_layer("which", "new")?], "{}");
    let fresh = builder(&registry, "fresh").pull_policy(PullPolicy::Always);
    let fresh = within(fresh.create()).await?;
    assert_eq!(says(&fresh, "cat /which").await?, "new");
    within(fresh.stop()).await?;
    let again = within(Sandbox::start("kept")).await?;
    assert_eq!(says(&again, "cat /which").await?, "old");
    within(again.stop()).await?;
    Sandbox::remove("kept").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_runs_until_the_image_is_here() -> Result<()> {
    let (registry, _) = serve("1", &[busybox_layer()?], "{}").await;
    let first = within(builder(&registry, "replaced").create()).await?;
    registry.fail("manifests", [Fault::Status(403, Vec::new())]);
    let again = || {
        builder(&registry, "replaced")
            .replace()
            .pull_policy(PullPolicy::Always)
    };
    let refused = within(again().create()).await.map(|_| ());
    assert!(
        matches!(refused, Err(MicrosandboxError::Image(_))),
        "{refused:?}"
    );
    assert_eq!(says(&first, "echo alive").await?, "alive");
    let second = within(again().create()).await?;
    within(first.wait_until_ended()).await;
    within(second.stop()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_is_ended_while_it_pulls_leaves_no_sandbox() -> Result<()> {
    let (registry, image) = serve("1", &[busybox_layer()?], "{}").await;
    let layer = format!("blobs/{}", image.layers[0]);
    registry.fail(layer.clone(), [Fault::Stall(200_000)]);
    let (mut progress, task) = builder(&registry, "ended").create_with_pull_progress()?;
    while let Some(event) = within(progress.recv()).await {
        if matches!(
            event,
            PullProgress::LayerDownloadProgress {
                downloaded_bytes: 200_000,
                ..
            }
        ) {
            break;
        }
    }
    task.abort();
    assert!(task.await.is_err());
    let gone = Sandbox::get("ended").await.map(|_| ());
    assert!(matches!(gone, Err(MicrosandboxError::SandboxNotFound(_))));
    host::nothing_left().await?;
    let sandbox = within(builder(&registry, "ended").create()).await?;
    within(sandbox.stop()).await?;
    let ranges: Vec<_> = registry
        .asked(&layer)
        .into_iter()
        .map(|asked| asked.range)
        .collect();
    assert_eq!(ranges, [None, Some("bytes=200000-".to_owned())]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_programs_are_ended_by_the_signal_that_it_names_and_others_by_the_usual_one()
-> Result<()> {
    let run = r#"{"Env": ["PATH=/bin"], "StopSignal": "SIGUSR1"}"#;
    let (registry, _) = serve("1", &[busybox_layer()?], run).await;
    let sandbox = within(builder(&registry, "signals").create()).await?;
    let mut commands = Vec::new();
    for script in [
        "trap 'exit 4' USR1; trap 'exit 5' TERM; echo ready; sleep 1000 & wait",
        "trap '' USR1; trap 'exit 6' TERM; echo ready; sleep 1000 & wait",
    ] {
        let mut command = within(sandbox.shell_stream(script)).await?;
        loop {
            match within(command.recv()).await.context("it ended")? {
                ExecEvent::Stdout(said) if said.starts_with(b"ready") => break,
                _ => {}
            }
        }
        commands.push(command);
    }
    within(sandbox.stop()).await?;
    let mut codes = Vec::new();
    for mut command in commands {
        codes.push(within(command.wait()).await?.code);
    }
    assert_eq!(codes, [4, 6]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_image_wants_to_begin_is_made_and_where_a_sandbox_does_must_be() -> Result<()> {
    // Below a directory that nobody made, and in the memory that is empty at each start.
    for dir in ["/srv/app/run", "/tmp/run"] {
        let run = format!(r#"{{"Env": ["PATH=/bin"], "WorkingDir": "{dir}"}}"#);
        let (registry, _) = serve("1", &[busybox_layer()?], &run).await;
        let kept = builder(&registry, "begins").ephemeral(false).replace();
        let sandbox = within(kept.create()).await?;
        let look = "pwd; stat -c '%a %u %g' .";
        let wanted = format!("{dir}\n755 0 0");
        assert_eq!(says(&sandbox, look).await?, wanted);
        within(sandbox.stop()).await?;
        let again = within(Sandbox::start("begins")).await?;
        assert_eq!(says(&again, look).await?, wanted);
        within(again.stop()).await?;

        for own in ["/no/such/directory", "/bin/busybox"] {
            let refused = builder(&registry, "nowhere").workdir(own).create();
            let refused = within(refused).await.map(drop);
            assert!(
                matches!(&refused, Err(MicrosandboxError::InvalidConfig(why)) if why.contains(own)),
                "{refused:?}"
            );
            let gone = Sandbox::get("nowhere").await.map(drop);
            assert!(
                matches!(gone, Err(MicrosandboxError::SandboxNotFound(_))),
                "{gone:?}"
            );
        }
        let own = within(builder(&registry, "own").workdir("/bin").create()).await?;
        assert_eq!(says(&own, "pwd").await?, "/bin");
        within(own.stop()).await?;
        Sandbox::remove("begins").await?;
    }
    host::nothing_left().await
}
