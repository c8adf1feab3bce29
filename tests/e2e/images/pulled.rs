//! An image from its registry to Python in it, and what it says of how it is run.

use anyhow::Result;
use microsandbox::{Image, Sandbox};
use msb_tests::registry::{Registry, downloads};
use msb_tests::{PATIENCE, images, in_time, within};

use super::{at_home, prints, pulled, stop};

/// What a Debian may take to be pulled and unpacked on a machine that is emulated.
const PULL: std::time::Duration = PATIENCE.saturating_mul(4);

/// What a command sees that is told nothing.
const LOOK: &str = "import os, pwd; print(os.getcwd(), os.environ['GREETING'], os.environ['LANG'], \
    pwd.getpwuid(os.getuid()).pw_name, os.getgid())";

#[tokio::test]
async fn a_debian_runs_python_and_needs_its_registry_no_more() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        let image = images::image("debian")?;
        let reference = registry.push(&image, "team/debian:12")?;
        let builder = || pulled("python", &reference).memory(256u32);
        let sandbox = in_time(PULL, builder().create()).await?;
        let output = within(sandbox.exec("python3", ["-c", LOOK])).await?;
        assert_eq!(
            output.stdout()?,
            "/srv/work hello from the image C.UTF-8 www-data 33\n",
            "{output:?}"
        );
        // It has what the small layer brought, and may write where that says.
        let answer = "python3 answer.py | tee result && cat result";
        assert_eq!(within(sandbox.shell(answer)).await?.stdout()?, "42\n42\n");
        assert_eq!(
            sandbox.config().manifest_digest,
            Some(image.digest()?),
            "the image that was pushed"
        );

        let layers = image.layers()?;
        let downloads = downloads(&registry.end()?, &layers);
        assert!(downloads.values().all(|times| *times == 1), "{downloads:?}");
        // The registry is gone, and the image is here: beside the first, and after it.
        let second = pulled("second", &reference).memory(256u32);
        let second = in_time(PULL, second.create()).await?;
        assert_eq!(
            within(second.shell("ls; python3 answer.py"))
                .await?
                .stdout()?,
            "answer.py\n42\n"
        );
        stop(&sandbox).await?;
        stop(&second).await?;
        let again = in_time(PULL, builder().create()).await?;
        assert_eq!(within(again.shell("ls")).await?.stdout()?, "answer.py\n");
        stop(&again).await?;
        assert_eq!(Image::list(&home.local).await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_the_sandbox_says_holds_over_what_its_image_says() -> Result<()> {
    at_home(async |home| {
        let registry = Registry::start()?;
        let reference = registry.push(&images::image("configured")?, "configured:1")?;
        let look = "id -un; pwd; echo $GREETING $LANG $OWN";
        let plain = pulled("plain", &reference).ephemeral(false);
        let plain = within(plain.create()).await?;
        assert_eq!(
            within(plain.shell(look)).await?.stdout()?,
            "www-data\n/srv/work\nhello from the image C.UTF-8\n"
        );
        let runtime = &plain.config().runtime;
        assert_eq!(runtime.entrypoint, Some(vec!["/usr/bin/env".to_owned()]));
        assert_eq!(runtime.cmd, Some(vec!["id".to_owned()]));
        // Memory, a quarter of the sandbox's at most.
        assert_eq!(
            prints(&plain, "df -m /tmp | awk 'END { print $1, $2 }'").await?,
            "tmpfs 32\n"
        );
        stop(&plain).await?;

        let told = pulled("told", &reference)
            .user("user")
            .workdir("/home")
            .env("GREETING", "hello from me")
            .env("OWN", "mine")
            .entrypoint(["/bin/sh", "-c"])
            .label("org.example.stage", "sandbox");
        let told = within(told.create()).await?;
        assert_eq!(
            within(told.shell(look)).await?.stdout()?,
            "user\n/home\nhello from me C.UTF-8 mine\n"
        );
        let config = told.config();
        let entrypoint = config.runtime.entrypoint.as_deref();
        assert_eq!(
            entrypoint,
            Some(&["/bin/sh".to_owned(), "-c".to_owned()][..])
        );
        let label = |key: &str| config.labels.get(key).map(String::as_str);
        assert_eq!(label("org.example.stage"), Some("sandbox"));
        assert_eq!(label("org.example.title"), Some("An image for tests"));
        stop(&told).await?;

        // It is all part of the sandbox, and holds when it starts anew without a registry.
        drop(registry);
        let again = within(Sandbox::start("plain")).await?;
        let (user, rest) = ("www-data\n/srv/work\n", "hello from the image C.UTF-8\n");
        assert_eq!(
            within(again.shell(look)).await?.stdout()?,
            format!("{user}{rest}")
        );
        stop(&again).await?;
        again.remove_persisted().await?;

        let detail = Image::inspect(&home.local, &reference).await?;
        let config = detail.config.as_ref().expect("a configuration");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.user.as_deref(), Some("www-data"));
        assert_eq!(config.working_dir.as_deref(), Some("/srv/work"));
        let labels = config.labels.as_ref().expect("labels");
        assert_eq!(labels["org.example.stage"], "image");
        assert!(
            config.env.contains(&"LANG=C.UTF-8".to_owned()),
            "{config:?}"
        );
        assert_eq!(detail.layers.len(), 2);
        assert!(
            detail
                .layers
                .iter()
                .all(|layer| layer.erofs_size_bytes > Some(0))
        );
        assert_eq!(detail.handle.architecture(), Some("amd64"));
        Ok(())
    })
    .await
}
