//! Registries that ask who comes, and those that are vouched for by nobody that the host knows.

use anyhow::Result;
use microsandbox::{CredentialSource, RegistryAuth, RegistryError, Sandbox, SandboxBuilder};
use msb_tests::registry::{PASSWORD, Registry, Rules, USER};
use msb_tests::{images, within};

use super::{at_home, not_given, stop};

fn with_password(reference: &str, auth: RegistryAuth) -> SandboxBuilder {
    super::pulled("asked", reference).registry(|registry| registry.insecure().auth(auth))
}

fn basic(username: &str, password: &str) -> RegistryAuth {
    RegistryAuth::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

#[tokio::test]
async fn a_password_lets_in_and_another_does_not() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::with(Rules {
            password: true,
            ..Rules::default()
        })?;
        let reference = registry.push(&images::image("busybox")?, "private:1")?;
        for (auth, expected) in [
            (RegistryAuth::Anonymous, CredentialSource::Given),
            (basic(USER, "a wrong secret"), CredentialSource::Given),
            (basic("nobody", PASSWORD), CredentialSource::Given),
        ] {
            let anonymous = matches!(auth, RegistryAuth::Anonymous);
            let created = within(with_password(&reference, auth).create()).await;
            let error = not_given(created);
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("a wrong secret") && !text.contains(PASSWORD),
                "{text}"
            );
            match error {
                RegistryError::Unauthorized { status, tried, .. } => {
                    assert_eq!(status, 401);
                    assert!(anonymous || tried == expected, "{tried:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(microsandbox::Image::list(&home.local).await?.is_empty());

        let created = with_password(&reference, basic(USER, PASSWORD)).ephemeral(false);
        let sandbox = within(created.create()).await?;
        assert!(sandbox.exec("/bin/true", [""; 0]).await?.status().success);
        stop(&sandbox).await?;
        registry.end()?;
        // Nobody needs it once the image is here, and it is written nowhere.
        let again = within(Sandbox::start("asked")).await?;
        stop(&again).await?;
        let config = std::fs::read_to_string(home.path.join("sandboxes/asked/config.json"))?;
        assert!(
            !config.contains(PASSWORD) && !config.contains(USER),
            "{config}"
        );
        again.remove_persisted().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_given() -> Result<()> {
    at_home(async |_| {
        let registry = Registry::with(Rules {
            tls: true,
            ..Rules::default()
        })?;
        let reference = registry.push(&images::image("busybox")?, "secure:1")?;
        let builder = || {
            Sandbox::builder("secure")
                .image(reference.as_str())
                .memory(128u32)
                .ephemeral(true)
        };
        let error = not_given(within(builder().create()).await);
        assert!(
            matches!(error, RegistryError::Certificate { .. }),
            "{error:?}"
        );

        let authority = registry.authority()?;
        let trusting = builder().registry(|registry| registry.ca_certs(authority));
        let sandbox = within(trusting.create()).await?;
        assert!(sandbox.exec("/bin/true", [""; 0]).await?.status().success);
        stop(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn a_registry_without_tls_is_not_talked_to_unless_that_is_said() -> Result<()> {
    at_home(async |_| {
        let mut registry = Registry::start()?;
        let reference = registry.push(&images::image("busybox")?, "plain:1")?;
        let builder = Sandbox::builder("plain").image(reference.as_str());
        let error = not_given(within(builder.create()).await);
        assert!(matches!(error, RegistryError::NotHttps { .. }), "{error:?}");
        let downloads = registry.end()?;
        assert!(
            downloads
                .iter()
                .all(|request| request.downloaded_blob().is_none()),
            "{downloads:?}"
        );
        Ok(())
    })
    .await
}
