//! What a guest is to be, from the sandbox's configuration to the messages of the boot.
//!
//! The configuration may have been written by another release or by hand, so what this one cannot
//! do is an error here and not left out.

use bytes::Bytes;
use msb_protocol::{
    BootRequest, HostMessage, InitProgram, MAX_CHUNK, MAX_FRAME, MAX_TMPFS, MAX_TMPFS_PATH, Root,
    Setting, Tmpfs, encode,
};
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_types::{
    EnvVar, HandoffInit, MAX_SCRIPTS, MountSource, SandboxConfig, SecurityProfile, VolumeMount,
    derived_hostname, validate_script,
};
use msb_vmapi::ErrorKind;

use super::root::Wishes;

/// What the guest's agent is told before its machine is anything: the settings, and then to boot.
pub(crate) fn messages(
    config: &SandboxConfig,
    root: Root,
    wishes: &Wishes,
) -> Result<Vec<HostMessage>, BootError> {
    let mut messages = Vec::new();
    if config.security_profile == SecurityProfile::Restricted {
        messages.push(Setting::Restricted);
    }
    if config.mounts.len() > MAX_TMPFS {
        return Err(refused(format!("at most {MAX_TMPFS} mounts are possible")));
    }
    for mount in &config.mounts {
        messages.push(Setting::Tmpfs(tmpfs(mount)?));
    }
    // What a sandbox says itself has to be there, and is nobody's to make. No directory has a longer path, and an
    // image could say one that fits no message.
    let dir = wishes.dir.as_deref();
    if let Some(dir) = dir.filter(|dir| dir.len() <= MAX_TMPFS_PATH)
        && config.runtime.workdir.as_deref() == Some(dir)
    {
        messages.push(Setting::WorkingDir(dir.to_owned()));
    }
    messages.extend(wishes.stop_signal.map(Setting::StopSignal));
    let scripts = &config.runtime.scripts;
    if scripts.len() > MAX_SCRIPTS {
        return Err(refused(format!(
            "at most {MAX_SCRIPTS} scripts are possible"
        )));
    }
    for (name, content) in scripts {
        validate_script(name, content).map_err(|error| refused(error.to_string()))?;
        messages.extend(script(name, content));
    }
    if let Some(init) = &config.init {
        messages.push(Setting::Init(program(init)?));
    }
    let settings = messages.into_iter().map(HostMessage::Setting);
    let messages: Vec<_> = settings
        .chain([HostMessage::Boot(boot_request(config, root))])
        .collect();
    messages.iter().try_for_each(fits)?;
    Ok(messages)
}

/// Whether a message can be sent. Scripts are cut so that they can.
fn fits(message: &HostMessage) -> Result<(), BootError> {
    let what = match message {
        HostMessage::Setting(Setting::Init(_)) => "the init's arguments and environment",
        HostMessage::Boot(_) => "the environment",
        _ => return Ok(()),
    };
    encode(message, &mut Vec::new())
        .map_err(|_too_long| refused(format!("{what} cannot have more than {MAX_FRAME} bytes")))
}

/// A script in pieces that each fit a message; one that is empty is one piece.
fn script(name: &str, content: &str) -> Vec<Setting> {
    let part = |data: &[u8]| Setting::Script {
        name: name.to_owned(),
        data: Bytes::copy_from_slice(data),
    };
    match content.is_empty() {
        true => vec![part(&[])],
        false => content.as_bytes().chunks(MAX_CHUNK).map(part).collect(),
    }
}

fn tmpfs(mount: &VolumeMount) -> Result<Tmpfs, BootError> {
    match &mount.source {
        MountSource::Tmpfs { size_mib } => Ok(Tmpfs {
            path: mount.guest.clone(),
            size_bytes: size_mib.map(|mib| u64::from(mib) << 20),
            read_only: mount.options.readonly,
            noexec: mount.options.noexec,
            nosuid: mount.options.nosuid,
            nodev: mount.options.nodev,
        }),
        _ => Err(refused(format!(
            "the mount at {} is of a kind that cannot be mounted: only memory (tmpfs) can",
            mount.guest
        ))),
    }
}

fn program(init: &HandoffInit) -> Result<InitProgram, BootError> {
    let Some(program) = init.cmd.to_str() else {
        let path = init.cmd.display();
        return Err(refused(format!("the init's path {path} is not UTF-8")));
    };
    Ok(InitProgram {
        program: program.to_owned(),
        args: init.args.clone(),
        env: pairs(&init.env),
    })
}

/// What becomes the root, and what every guest is given.
fn boot_request(config: &SandboxConfig, root: Root) -> BootRequest {
    BootRequest {
        root,
        hostname: Some(
            config
                .runtime
                .hostname
                .clone()
                .unwrap_or_else(|| derived_hostname(&config.name)),
        ),
        env: pairs(&config.env),
    }
}

fn pairs(env: &[EnvVar]) -> Vec<(String, String)> {
    env.iter()
        .map(|var| (var.key.clone(), var.value.clone()))
        .collect()
}

fn refused(message: impl Into<String>) -> BootError {
    let kind = BootErrorKind::Vmm(ErrorKind::InvalidConfig);
    BootError::new(BootStage::Supervisor, kind, message)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use msb_types::MountOptions;

    use super::*;

    fn config() -> SandboxConfig {
        SandboxConfig {
            name: "web".to_owned(),
            ..SandboxConfig::default()
        }
    }

    fn settings(config: &SandboxConfig) -> Vec<Setting> {
        let mut messages = messages(config, Root::Initramfs, &Wishes::default()).unwrap();
        assert!(matches!(messages.pop(), Some(HostMessage::Boot(_))));
        let settings = messages.into_iter().map(|message| match message {
            HostMessage::Setting(setting) => setting,
            other => panic!("{other:?}"),
        });
        settings.collect()
    }

    #[test]
    fn a_plain_sandbox_has_none() {
        assert_eq!(settings(&config()), []);
    }

    #[test]
    fn a_working_directory_is_made_if_it_is_the_images_own() {
        let mut config = config();
        let told = |config: &SandboxConfig| {
            let wishes = Wishes {
                dir: Some("/app".into()),
                ..Wishes::default()
            };
            let messages = messages(config, Root::Initramfs, &wishes).unwrap();
            messages.contains(&HostMessage::Setting(Setting::WorkingDir("/app".into())))
        };
        assert!(!told(&config));
        config.runtime.workdir = Some("/app".into());
        assert!(told(&config));
        assert_eq!(settings(&config), [], "the image says nothing");
        let long = "/a".repeat(MAX_FRAME);
        config.runtime.workdir = Some(long.clone());
        let mut wishes = Wishes {
            dir: Some(long),
            ..Wishes::default()
        };
        let told_of = |wishes: &Wishes| messages(&config, Root::Initramfs, wishes).unwrap();
        assert_eq!(told_of(&wishes).len(), 1, "no more than the boot");
        wishes.stop_signal = Some(3);
        assert!(told_of(&wishes).contains(&HostMessage::Setting(Setting::StopSignal(3))));
        config.runtime.workdir = Some("/own".into());
        assert!(!told(&config));
    }

    #[test]
    fn a_script_comes_whole_whatever_its_length() {
        for length in [0, 1, MAX_CHUNK, MAX_CHUNK + 1, 256 * 1024] {
            let mut config = config();
            let content = "x".repeat(length);
            config
                .runtime
                .scripts
                .insert("tool".into(), content.clone());
            let mut whole: Vec<u8> = Vec::new();
            for setting in settings(&config) {
                match &setting {
                    Setting::Script { name, data } if name == "tool" => whole.extend(data),
                    other => panic!("{other:?}"),
                }
                let mut frame = Vec::new();
                encode(&HostMessage::Setting(setting), &mut frame).unwrap();
            }
            assert_eq!(whole, content.as_bytes());
        }
    }

    #[test]
    fn every_setting_is_handed_on() {
        let mut config = config();
        config.security_profile = SecurityProfile::Restricted;
        config.mounts.push(VolumeMount {
            guest: "/cache".into(),
            source: MountSource::Tmpfs { size_mib: Some(64) },
            options: MountOptions {
                noexec: true,
                ..MountOptions::default()
            },
        });
        config.init = Some(HandoffInit {
            cmd: PathBuf::from("auto"),
            args: vec!["a".into()],
            env: vec![EnvVar {
                key: "K".into(),
                value: "v".into(),
            }],
        });
        let expected = [
            Setting::Restricted,
            Setting::Tmpfs(Tmpfs {
                path: "/cache".into(),
                size_bytes: Some(64 << 20),
                read_only: false,
                noexec: true,
                nosuid: false,
                nodev: false,
            }),
            Setting::Init(InitProgram {
                program: "auto".into(),
                args: vec!["a".into()],
                env: vec![("K".into(), "v".into())],
            }),
        ];
        assert_eq!(settings(&config), expected);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let refusal = |config: &SandboxConfig| {
            messages(config, Root::Initramfs, &Wishes::default())
                .unwrap_err()
                .message
        };
        let mut bound = config();
        bound.mounts.push(VolumeMount {
            guest: "/data".into(),
            source: MountSource::Disk {
                host: "/disk".into(),
                format: msb_types::DiskImageFormat::Raw,
                fstype: None,
            },
            options: MountOptions::default(),
        });
        assert!(refusal(&bound).contains("/data"));
        let mut script = config();
        script.runtime.scripts.insert("a/b".into(), String::new());
        assert!(refusal(&script).contains("a/b"));
        let mut long = config();
        long.init = Some(HandoffInit {
            cmd: "/init".into(),
            args: vec!["x".repeat(MAX_FRAME)],
            env: Vec::new(),
        });
        assert!(refusal(&long).contains("the init's arguments"));
        let mut many = config();
        let scripts = (0..=MAX_SCRIPTS).map(|n| (n.to_string(), String::new()));
        many.runtime.scripts = scripts.collect();
        assert!(refusal(&many).contains("scripts"));
    }
}
