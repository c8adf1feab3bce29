//! Describing a sandbox, step by step.

use msb_types::{
    DiskImageFormat, EnvVar, Mebibytes, Resources, RootfsSource, RuntimeOptions, SandboxConfig,
};

use super::{IntoImage, Sandbox, validate_sandbox_name};
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Environment variables that begin so belong to this library.
const RESERVED_PREFIX: &str = "MSB_";

/// Describes a sandbox. Setters never fail; [`build`](Self::build) and
/// [`create`](Self::create) tell what was wrong.
#[derive(Clone, Debug)]
pub struct SandboxBuilder {
    name: String,
    image: Option<RootfsSource>,
    resources: Resources,
    runtime: RuntimeOptions,
    env: Vec<EnvVar>,
}

impl SandboxBuilder {
    /// A sandbox of this name, with one CPU and 512 MiB of memory.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: None,
            resources: Resources::default(),
            runtime: RuntimeOptions::default(),
            env: Vec::new(),
        }
    }

    /// What its root file system is: a path to a raw disk image.
    #[must_use]
    pub fn image(mut self, image: impl IntoImage) -> Self {
        self.image = Some(image.into_image());
        self
    }

    /// The number of vCPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u8) -> Self {
        self.resources.cpus = cpus;
        self
    }

    /// The memory, in MiB.
    #[must_use]
    pub fn memory(mut self, memory: impl Into<Mebibytes>) -> Self {
        self.resources.memory_mib = memory.into().as_u32();
        self
    }

    /// The directory commands run in.
    #[must_use]
    pub fn workdir(mut self, workdir: impl Into<String>) -> Self {
        self.runtime.workdir = Some(workdir.into());
        self
    }

    /// The shell that runs scripts; `/bin/sh` when not set.
    #[must_use]
    pub fn shell(mut self, shell: impl Into<String>) -> Self {
        self.runtime.shell = Some(shell.into());
        self
    }

    /// The guest's host name; made from the sandbox's name when not set.
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.runtime.hostname = Some(hostname.into());
        self
    }

    /// Who runs commands: `name`, `uid`, `user:group`; root when not set.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.runtime.user = Some(user.into());
        self
    }

    /// Adds a variable to the environment of every command.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push(EnvVar {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Adds variables to the environment of every command.
    #[must_use]
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.env.extend(vars.into_iter().map(|(key, value)| EnvVar {
            key: key.into(),
            value: value.into(),
        }));
        self
    }

    /// The configuration, or what is wrong with it.
    pub async fn build(self) -> MicrosandboxResult<SandboxConfig> {
        let image = self.image.ok_or_else(|| {
            invalid("no image was given; name one with image(\"/path/to/disk.ext4\")")
        })?;
        let config = SandboxConfig {
            name: self.name,
            image,
            resources: self.resources,
            runtime: self.runtime,
            env: self.env,
        };
        check(&config)?;
        Ok(config)
    }

    /// Creates and boots the sandbox; it belongs to this program.
    pub async fn create(self) -> MicrosandboxResult<Sandbox> {
        Sandbox::create(self.build().await?).await
    }
}

impl From<SandboxConfig> for SandboxBuilder {
    fn from(config: SandboxConfig) -> Self {
        Self {
            name: config.name,
            image: Some(config.image),
            resources: config.resources,
            runtime: config.runtime,
            env: config.env,
        }
    }
}

/// Checks what can be told without the host or the guest.
pub(crate) fn check(config: &SandboxConfig) -> MicrosandboxResult<()> {
    validate_sandbox_name(&config.name)?;
    match &config.image {
        RootfsSource::DiskImage {
            format: DiskImageFormat::Raw,
            ..
        } => {}
        RootfsSource::DiskImage { format, .. } => {
            return Err(MicrosandboxError::Unsupported {
                feature: format!("a disk image in {format:?} format"),
                available_when: "convert it with `qemu-img convert -O raw`".to_owned(),
            });
        }
        RootfsSource::Oci { reference, .. } => {
            return Err(MicrosandboxError::Unsupported {
                feature: format!("pulling the image {reference:?}"),
                available_when: "give the path of a raw disk image (begin with / or ./)".to_owned(),
            });
        }
        _ => {
            return Err(MicrosandboxError::Unsupported {
                feature: "a directory as root file system".to_owned(),
                available_when: "make a disk image of it with `mke2fs -d`".to_owned(),
            });
        }
    }
    if config.resources.cpus == 0 {
        return Err(invalid("a sandbox needs at least one CPU"));
    }
    if config.resources.memory_mib == 0 {
        return Err(invalid(
            "a sandbox needs memory; 64 MiB is little, 512 MiB the default",
        ));
    }
    if let Some(hostname) = &config.runtime.hostname {
        msb_types::validate_hostname(hostname)
            .map_err(|error| invalid(format!("host name: {error}")))?;
    }
    for EnvVar { key, value } in &config.env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(invalid(format!(
                "{key:?} is not a usable environment variable: it may not be empty, have '=' in \
                 its name, or a zero byte anywhere"
            )));
        }
        if key.starts_with(RESERVED_PREFIX) {
            return Err(invalid(format!(
                "{key:?} is reserved: names that begin with {RESERVED_PREFIX} are this library's"
            )));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> MicrosandboxError {
    MicrosandboxError::InvalidConfig(message.into())
}
