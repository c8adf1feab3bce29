//! What holds when image and sandbox both say something.

use std::collections::BTreeMap;

use msb_types::RootfsSource;
use proptest::prelude::*;

use super::*;

fn plain() -> SandboxConfig {
    SandboxConfig {
        name: "web".to_owned(),
        image: RootfsSource::Oci {
            reference: "app".to_owned(),
            upper_size_mib: None,
        },
        ..SandboxConfig::default()
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()));
    pairs.collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        env: strings(&["PATH=/opt/bin:/bin", "LANG=C", "A=from=image"]),
        entrypoint: Some(strings(&["/entry"])),
        cmd: Some(strings(&["serve"])),
        working_dir: Some("/srv".to_owned()),
        user: Some("1000:1000".to_owned()),
        labels: labels(&[("org.example/a", "image"), ("b", "image")]),
        ..ImageConfig::default()
    }
}

fn env(config: &SandboxConfig) -> Vec<(&str, &str)> {
    let pairs = config
        .env
        .iter()
        .map(|var| (var.key.as_str(), var.value.as_str()));
    pairs.collect()
}

#[test]
fn what_the_sandbox_leaves_open_is_the_images() {
    let merged = with_image(plain(), image());
    assert_eq!(
        env(&merged),
        [
            ("PATH", "/opt/bin:/bin"),
            ("LANG", "C"),
            ("A", "from=image")
        ]
    );
    assert_eq!(merged.labels, image().labels);
    let runtime = &merged.runtime;
    assert_eq!(runtime.entrypoint, image().entrypoint);
    assert_eq!(runtime.cmd, image().cmd);
    assert_eq!(runtime.workdir.as_deref(), Some("/srv"));
    assert_eq!(runtime.user.as_deref(), Some("1000:1000"));
    check::check(&merged).unwrap();
}

#[test]
fn what_the_sandbox_says_holds() {
    let mut config = plain();
    config.env = vec![EnvVar {
        key: "LANG".to_owned(),
        value: "de".to_owned(),
    }];
    config.labels = labels(&[("b", "own"), ("c", "own")]);
    config.runtime.entrypoint = Some(Vec::new());
    config.runtime.cmd = Some(strings(&["own"]));
    config.runtime.workdir = Some("/own".to_owned());
    config.runtime.user = Some("root".to_owned());
    let merged = with_image(config.clone(), image());
    assert_eq!(
        env(&merged),
        [
            ("PATH", "/opt/bin:/bin"),
            ("LANG", "de"),
            ("A", "from=image")
        ]
    );
    let wanted = labels(&[("org.example/a", "image"), ("b", "own"), ("c", "own")]);
    assert_eq!(merged.labels, wanted);
    assert_eq!(merged.runtime, config.runtime);
    // Once merged, it stays so.
    assert_eq!(with_image(merged.clone(), image()), merged);
}

#[test]
fn what_is_not_the_images_to_say_is_left_out() {
    let hostile = ImageConfig {
        env: strings(&[
            "NAMELESS",
            "=x",
            "MSB_SECRET=1",
            "NUL=a\0b",
            "GOOD=",
            "GOOD=again",
        ]),
        labels: labels(&[
            ("sandbox.owner", "x"),
            ("microsandbox.x", "x"),
            ("service.x", "x"),
            ("with space", "x"),
            ("", "x"),
            ("good", "x"),
        ]),
        entrypoint: Some(strings(&["a\0b"])),
        cmd: Some(Vec::new()),
        working_dir: Some("/a\0b".to_owned()),
        user: Some(String::new()),
        ..ImageConfig::default()
    };
    let merged = with_image(plain(), hostile);
    let nowhere = ImageConfig {
        working_dir: Some("srv".to_owned()),
        ..ImageConfig::default()
    };
    assert_eq!(with_image(plain(), nowhere).runtime.workdir, None);
    assert_eq!(env(&merged), [("GOOD", "again")]);
    assert_eq!(merged.labels, labels(&[("good", "x")]));
    assert_eq!(merged.runtime, plain().runtime);
    check::check(&merged).unwrap();
}

#[test]
fn tmp_is_a_quarter_of_the_memory_unless_it_is_something_else() {
    let size = |memory_mib: u32| {
        let mut config = plain();
        config.resources.memory_mib = memory_mib;
        let merged = with_image(config, ImageConfig::default());
        let mut mounts = merged.mounts.into_iter();
        let first = mounts.next().map(|mount| (mount.guest, mount.source));
        assert!(mounts.next().is_none());
        first
    };
    let memory = |size_mib| {
        let source = MountSource::Tmpfs {
            size_mib: Some(size_mib),
        };
        Some(("/tmp".to_owned(), source))
    };
    assert_eq!(size(512), memory(128));
    assert_eq!(size(2048), memory(512));
    assert_eq!(size(65536), memory(512));
    assert_eq!(size(3), None);
    let mut config = plain();
    config.mounts.push(VolumeMount {
        guest: "/tmp/".to_owned(),
        source: MountSource::Tmpfs { size_mib: None },
        options: MountOptions::default(),
    });
    let merged = with_image(config.clone(), ImageConfig::default());
    assert_eq!(merged.mounts, config.mounts);
}

proptest! {
    /// Whatever an image says, a good configuration stays good.
    #[test]
    fn no_image_makes_a_configuration_bad(
        env in prop::collection::vec(".{0,20}", 0..20),
        cmd in prop::option::of(prop::collection::vec(".{0,20}", 0..5)),
        user in prop::option::of(".{0,20}"),
        labels in prop::collection::btree_map(".{0,20}", ".{0,20}", 0..20),
    ) {
        let image = ImageConfig {
            env,
            entrypoint: cmd.clone(),
            cmd,
            working_dir: user.clone(),
            user,
            labels,
            ..ImageConfig::default()
        };
        check::check(&with_image(plain(), image)).unwrap();
    }
}
