//! Describing a sandbox, step by step.

use std::num::NonZeroU64;
use std::time::Duration;

use msb_types::{
    DiskImageFormat, EnvVar, LogLevel, Mebibytes, ResourceLimit, RootfsSource, SandboxConfig,
};

use super::{IntoImage, Sandbox, validate_sandbox_name};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::RlimitResource;

/// Environment variables that begin so belong to this library.
const RESERVED_PREFIX: &str = "MSB_";

/// Describes a sandbox. Setters never fail; [`build`](Self::build) and
/// [`create`](Self::create) tell what was wrong.
#[derive(Clone, Debug)]
pub struct SandboxBuilder {
    config: SandboxConfig,
    image: Option<RootfsSource>,
    detached: bool,
}

impl SandboxBuilder {
    /// A sandbox of this name, with one CPU and 512 MiB of memory.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            config: SandboxConfig {
                name: name.into(),
                ..SandboxConfig::default()
            },
            image: None,
            detached: false,
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
        self.config.resources.cpus = cpus;
        self
    }

    /// The memory, in MiB.
    #[must_use]
    pub fn memory(mut self, memory: impl Into<Mebibytes>) -> Self {
        self.config.resources.memory_mib = memory.into().as_u32();
        self
    }

    /// Limits a resource of every command, soft and hard alike.
    #[must_use]
    pub fn rlimit(self, resource: RlimitResource, limit: u64) -> Self {
        self.rlimit_range(resource, limit, limit)
    }

    /// Limits a resource of every command.
    #[must_use]
    pub fn rlimit_range(mut self, resource: RlimitResource, soft: u64, hard: u64) -> Self {
        self.config.rlimits.push(ResourceLimit {
            resource,
            soft,
            hard,
        });
        self
    }

    /// The directory commands run in.
    #[must_use]
    pub fn workdir(mut self, workdir: impl Into<String>) -> Self {
        self.config.runtime.workdir = Some(workdir.into());
        self
    }

    /// The shell that runs scripts; `/bin/sh` when not set.
    #[must_use]
    pub fn shell(mut self, shell: impl Into<String>) -> Self {
        self.config.runtime.shell = Some(shell.into());
        self
    }

    /// The guest's host name; made from the sandbox's name when not set.
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.config.runtime.hostname = Some(hostname.into());
        self
    }

    /// Who runs commands: `name`, `uid`, `user:group`; root when not set.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.config.runtime.user = Some(user.into());
        self
    }

    /// Adds a variable to the environment of every command.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.env.push(EnvVar {
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
        self.config
            .env
            .extend(vars.into_iter().map(|(key, value)| EnvVar {
                key: key.into(),
                value: value.into(),
            }));
        self
    }

    /// Files it under a label, by which it can be listed.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.labels.insert(key.into(), value.into());
        self
    }

    /// Files it under labels.
    #[must_use]
    pub fn labels(
        mut self,
        labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.config.labels.extend(
            labels
                .into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        self
    }

    /// How much its supervisor writes to this program's standard error.
    #[must_use]
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.config.runtime.log_level = Some(level);
        self
    }

    /// Its supervisor writes nothing to this program's standard error. This is the default.
    #[must_use]
    pub fn quiet_logs(mut self) -> Self {
        self.config.runtime.log_level = None;
        self
    }

    /// No metrics are sampled.
    #[must_use]
    pub fn disable_metrics_sample(mut self) -> Self {
        self.config.runtime.disable_metrics_sample = true;
        self
    }

    /// How often metrics are sampled; every second when not set, and not at all when zero.
    #[must_use]
    pub fn metrics_sample_interval(mut self, interval: Duration) -> Self {
        let ms = match u64::try_from(interval.as_millis()).unwrap_or(u64::MAX) {
            // Less than a millisecond is no reason for none.
            0 if !interval.is_zero() => 1,
            ms => ms,
        };
        self.config.runtime.metrics_sample_interval_ms = NonZeroU64::new(ms);
        self.config.runtime.disable_metrics_sample = ms == 0;
        self
    }

    /// Stops and removes a sandbox of this name, if there is one; it has 10 seconds to stop.
    #[must_use]
    pub fn replace(mut self) -> Self {
        self.config.replace_existing = true;
        self
    }

    /// Stops and removes a sandbox of this name, if there is one; it has `timeout` to stop.
    #[must_use]
    pub fn replace_with_timeout(mut self, timeout: Duration) -> Self {
        self.config.replace_existing = true;
        self.config.replace_with_timeout = timeout;
        self
    }

    /// Whether it outlives this program.
    #[must_use]
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = detached;
        self
    }

    /// Whether nothing of it stays when it ends: no record, no logs.
    #[must_use]
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.config.lifecycle.ephemeral = ephemeral;
        self
    }

    /// Stops it after so many seconds.
    #[must_use]
    pub fn max_duration(mut self, secs: u64) -> Self {
        self.config.lifecycle.max_duration_secs = Some(secs);
        self
    }

    /// Stops it when for so many seconds no command has run, no conversation with it was open, and
    /// its guest had no work.
    #[must_use]
    pub fn idle_timeout(mut self, secs: u64) -> Self {
        self.config.lifecycle.idle_timeout_secs = Some(secs);
        self
    }

    /// The configuration, or what is wrong with it.
    pub async fn build(self) -> MicrosandboxResult<SandboxConfig> {
        let image = self.image.ok_or_else(|| {
            invalid("no image was given; name one with image(\"/path/to/disk.ext4\")")
        })?;
        let config = SandboxConfig {
            image,
            ..self.config
        };
        check(&config)?;
        Ok(config)
    }

    /// Creates and boots the sandbox; it belongs to this program unless it is
    /// [`detached`](Self::detached).
    pub async fn create(self) -> MicrosandboxResult<Sandbox> {
        match self.detached {
            true => self.create_detached().await,
            false => Sandbox::create(self.build().await?).await,
        }
    }

    /// Creates and boots the sandbox; it outlives this program.
    pub async fn create_detached(self) -> MicrosandboxResult<Sandbox> {
        Sandbox::create_detached(self.build().await?).await
    }
}

impl From<SandboxConfig> for SandboxBuilder {
    fn from(config: SandboxConfig) -> Self {
        Self {
            image: Some(config.image.clone()),
            config,
            detached: false,
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
    for (key, value) in &config.labels {
        msb_types::validate_label(key, value).map_err(|error| invalid(error.to_string()))?;
    }
    for limit in &config.rlimits {
        if limit.soft > limit.hard {
            return Err(invalid(format!(
                "the soft limit {} of {:?} is above its hard limit {}",
                limit.soft, limit.resource, limit.hard
            )));
        }
    }
    let lifecycle = &config.lifecycle;
    for (what, secs) in [
        ("max_duration", lifecycle.max_duration_secs),
        ("idle_timeout", lifecycle.idle_timeout_secs),
    ] {
        if secs == Some(0) {
            return Err(invalid(format!(
                "{what} is 0, which would end the sandbox at once; leave it out for no limit"
            )));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn built(
        describe: impl FnOnce(SandboxBuilder) -> SandboxBuilder,
    ) -> MicrosandboxResult<SandboxConfig> {
        let builder = describe(SandboxBuilder::new("web").image("/disk.ext4"));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(builder.build())
    }

    #[test]
    fn an_interval_of_nothing_turns_metrics_off() {
        let interval = |interval: Duration| {
            let config = built(|builder| builder.metrics_sample_interval(interval)).unwrap();
            config.runtime.metrics_interval()
        };
        assert_eq!(interval(Duration::ZERO), None);
        let ms = Duration::from_millis(1);
        assert_eq!(interval(Duration::from_micros(3)), Some(ms));
        assert_eq!(interval(ms * 250), Some(ms * 250));
        let default = built(|builder| builder).unwrap().runtime.metrics_interval();
        assert_eq!(default, Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        use RlimitResource::Nofile;
        type Describe = fn(SandboxBuilder) -> SandboxBuilder;
        let wrong: [(Describe, &str); 6] = [
            (|builder| builder.max_duration(0), "max_duration is 0"),
            (|builder| builder.idle_timeout(0), "idle_timeout is 0"),
            (|builder| builder.label("sandbox.x", "1"), "reserved"),
            (|builder| builder.label("", "1"), "1 to 128 bytes"),
            (
                |builder| builder.rlimit_range(Nofile, 2, 1),
                "above its hard limit",
            ),
            (|builder| builder.env("MSB_X", "1"), "reserved"),
        ];
        for (describe, why) in wrong {
            match built(describe) {
                Err(MicrosandboxError::InvalidConfig(text)) => {
                    assert!(text.contains(why), "{text}")
                }
                other => panic!("{why}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_configuration_survives_being_stored() {
        let config = built(|builder| {
            builder
                .label("team", "blue")
                .ephemeral(true)
                .max_duration(60)
                .rlimit(RlimitResource::Core, 0)
                .replace()
        })
        .unwrap();
        let json = serde_json::to_string(&config).unwrap();
        let stored: SandboxConfig = serde_json::from_str(&json).unwrap();
        // To be a replacement is a matter of one creation.
        assert!(config.replace_existing && !stored.replace_existing);
        let again = SandboxConfig {
            replace_existing: true,
            ..stored
        };
        assert_eq!(again, config);
        assert!(serde_json::from_str::<SandboxConfig>("{\"name\": \"web\"}").is_err());
        let unknown = json.replacen('{', "{\"surprise\": 1, ", 1);
        assert!(serde_json::from_str::<SandboxConfig>(&unknown).is_err());
    }
}
