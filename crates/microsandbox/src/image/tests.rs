//! Images of a home, as a program sees them.

use std::fs;
use std::path::PathBuf;

use chrono::Utc;
use msb_image::Digest;
use msb_runtime::sandbox_dir::{ConfigFile, RunFile};
use serde_json::json;

use super::*;
use crate::sandbox::SandboxConfig;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What `docker save` writes of an image with two layers.
fn archive(tag: Option<&str>) -> Vec<u8> {
    let layers = [
        tar(&[("etc/os-release", b"NAME=base"), ("bin/tool", &[7; 9000])]),
        tar(&[("app/main", b"print(1)")]),
    ];
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {
            "Env": ["PATH=/bin"], "Entrypoint": ["python"], "Cmd": ["main"], "WorkingDir": "/app",
            "User": "1000", "Labels": {"team": "blue"}, "StopSignal": "SIGINT",
        },
        "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(|tar| Digest::of(tar))},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!([{
        "Config": "config.json", "RepoTags": tag.map(|tag| [tag]), "Layers": ["0/layer.tar", "1/layer.tar"],
    }]);
    tar(&[
        ("0/layer.tar", &layers[0]),
        ("1/layer.tar", &layers[1]),
        ("config.json", &config),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

struct Home {
    dir: tempfile::TempDir,
    local: LocalBackend,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalBackend::builder().home(dir.path().join("home")).lazy();
        Self { dir, local }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn load(&self, tag: Option<&str>) -> MicrosandboxResult<Vec<ImageHandle>> {
        let path = self.file("app.tar", &archive(tag));
        Image::load(&self.local, path, ImageLoadOptions::new()).await
    }

    /// A sandbox that does not run.
    fn sandbox(&self, manifest_digest: &str) {
        let config = ConfigFile {
            created_at: Utc::now(),
            config: SandboxConfig {
                name: "web".to_owned(),
                manifest_digest: Some(manifest_digest.to_owned()),
                ..SandboxConfig::default()
            },
        };
        let run = RunFile {
            id: 1,
            pid: 1,
            started_at: Utc::now(),
            ended: None,
            isolation: Default::default(),
        };
        let dir = self.local.sandbox_dir("web").unwrap();
        dir.prepare(&config, &run).unwrap().complete().unwrap();
    }
}

#[tokio::test]
async fn an_image_from_an_archive_is_listed_and_can_be_looked_into() {
    let home = Home::new();
    assert!(Image::list(&home.local).await.unwrap().is_empty());
    let before = Utc::now();
    let loaded = home.load(Some("team/app:1")).await.unwrap();
    assert_eq!(loaded.len(), 1);
    let listed = Image::list(&home.local).await.unwrap();
    let got = Image::get(&home.local, "team/app:1").await.unwrap();
    for image in [&loaded[0], &listed[0], &got] {
        assert_eq!(image.reference(), "docker.io/team/app:1");
        assert_eq!(
            (image.architecture(), image.os()),
            (Some("amd64"), Some("linux"))
        );
        assert_eq!(image.layer_count(), 2);
        assert!(image.manifest_digest().unwrap().starts_with("sha256:"));
        assert!(image.created_at().unwrap() >= before && image.last_used_at().unwrap() >= before);
    }
    let detail = Image::inspect(&home.local, "docker.io/team/app:1")
        .await
        .unwrap();
    let config = detail.config.unwrap();
    assert!(config.digest.starts_with("sha256:"));
    assert_eq!(config.env, ["PATH=/bin"]);
    assert_eq!(config.entrypoint.unwrap(), ["python"]);
    assert_eq!(config.cmd.unwrap(), ["main"]);
    assert_eq!(config.working_dir.as_deref(), Some("/app"));
    assert_eq!(config.user.as_deref(), Some("1000"));
    assert_eq!(config.labels, Some(json!({"team": "blue"})));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    let positions: Vec<_> = detail.layers.iter().map(|layer| layer.position).collect();
    assert_eq!(positions, [0, 1]);
    assert_eq!(detail.layers[0].erofs_size_bytes, Some(4 * 4096));
    assert_eq!(
        detail.layers[0].diff_id, detail.layers[0].blob_digest,
        "not compressed"
    );
    let sizes = detail
        .layers
        .iter()
        .map(|layer| layer.compressed_size_bytes.unwrap());
    assert_eq!(detail.handle.size_bytes(), Some(sizes.sum()));
}

#[tokio::test]
async fn what_is_not_there_or_no_reference_is_said() {
    let home = Home::new();
    for found in [
        Image::get(&home.local, "nobody").await.err(),
        Image::inspect(&home.local, "nobody").await.err(),
        Image::remove(&home.local, "nobody", true).await.err(),
        Image::save(
            &home.local,
            ["nobody"],
            home.dir.path().join("out.tar"),
            ImageArchiveFormat::Docker,
        )
        .await
        .err(),
    ] {
        assert!(matches!(
            found,
            Some(MicrosandboxError::ImageNotFound(name)) if name == "docker.io/library/nobody:latest"
        ));
    }
    assert_eq!(
        fs::read_dir(home.dir.path()).unwrap().count(),
        1,
        "no archive is left"
    );
    assert!(matches!(
        Image::get(&home.local, "No Name").await,
        Err(MicrosandboxError::Image(
            ImageError::InvalidReference { .. }
        ))
    ));
    assert!(matches!(
        home.load(None).await,
        Err(MicrosandboxError::Image(ImageError::Archive(error)))
            if matches!(*error, ImageArchiveError::Unnamed)
    ));
    let path = home.file("none.tar", b"no archive");
    assert!(matches!(
        Image::load(&home.local, path, ImageLoadOptions::new()).await,
        Err(MicrosandboxError::Image(ImageError::Archive(_)))
    ));
}

#[tokio::test]
async fn an_image_that_a_sandbox_needs_cannot_be_removed() {
    let home = Home::new();
    let loaded = home.load(Some("app:1")).await.unwrap();
    let digest = loaded[0].manifest_digest().unwrap();
    home.sandbox(digest);
    assert!(matches!(
        Image::remove(&home.local, "app:1", false).await,
        Err(MicrosandboxError::ImageInUse(name)) if name == "docker.io/library/app:1"
    ));
    let report = Image::prune(&home.local).await.unwrap();
    assert_eq!(report.image_refs_removed, 0);
    Image::remove(&home.local, "app:1", true).await.unwrap();
    assert!(Image::list(&home.local).await.unwrap().is_empty());
    assert_eq!(Image::gc(&home.local).await.unwrap(), 0);
    assert_eq!(Image::gc_layers(&home.local).await.unwrap(), 0);
    let store = images::open(&home.local.home().unwrap()).unwrap();
    store.verify(&digest.parse().unwrap()).unwrap();
    home.local.sandbox_dir("web").unwrap().remove().unwrap();
    // Manifest, configuration, two layers and their blobs, the disk, the record.
    assert_eq!(Image::gc(&home.local).await.unwrap(), 8);
    assert!(store.verify(&digest.parse().unwrap()).is_err());
}

#[tokio::test]
async fn pruning_says_all_that_went() {
    let home = Home::new();
    home.load(Some("app:1")).await.unwrap();
    let report = Image::prune(&home.local).await.unwrap();
    let ImagePruneReport {
        image_refs_removed,
        manifests_removed,
        layers_removed,
        fsmeta_removed,
        blobs_removed,
        bytes_reclaimed,
        ..
    } = report;
    assert_eq!((image_refs_removed, manifests_removed), (1, 1));
    assert_eq!((layers_removed, fsmeta_removed, blobs_removed), (2, 1, 4));
    assert!(bytes_reclaimed.unwrap() > 16_384);
    assert_eq!(
        Image::prune(&home.local).await.unwrap().bytes_reclaimed,
        Some(0)
    );
    // A configuration that cannot be read may need anything.
    home.load(Some("app:1")).await.unwrap();
    home.sandbox(&Digest::of(b"").to_string());
    let config = home
        .local
        .sandbox_dir("web")
        .unwrap()
        .path()
        .join("config.json");
    fs::write(config, "{").unwrap();
    assert!(matches!(
        Image::prune(&home.local).await,
        Err(MicrosandboxError::Image(ImageError::Store(error)))
            if matches!(*error, ImageStoreError::InUseUnknown(_))
    ));
    assert_eq!(Image::list(&home.local).await.unwrap().len(), 1);
}

#[tokio::test]
async fn images_go_from_home_to_home() {
    let home = Home::new();
    let loaded = home.load(Some("app:1")).await.unwrap();
    let digest = loaded[0].manifest_digest().unwrap();
    for (format, name) in [
        (ImageArchiveFormat::Docker, "docker.tar"),
        (ImageArchiveFormat::Oci, "oci.tar"),
        (ImageArchiveFormat::OciDir, "layout"),
    ] {
        let path = home.dir.path().join(name);
        Image::save(&home.local, ["app:1"], &path, format)
            .await
            .unwrap();
        let other = Home::new();
        let options = ImageLoadOptions::new().tag("copy");
        let copied = Image::load(&other.local, &path, options).await.unwrap();
        assert_eq!(copied[0].reference(), "docker.io/library/copy:latest");
        assert_eq!(copied[0].manifest_digest(), Some(digest));
        let again = Image::save(&home.local, ["app:1"], &path, format).await;
        assert_eq!(
            again.is_ok(),
            format != ImageArchiveFormat::OciDir,
            "{again:?}"
        );
    }
}

#[tokio::test]
async fn an_image_can_be_named_by_what_is_known_of_it() {
    let home = Home::new();
    home.load(Some("app:1")).await.unwrap();
    let detail = Image::inspect(&home.local, "app:1").await.unwrap();
    let store = images::open(&home.local.home().unwrap()).unwrap();
    let digest = detail.handle.manifest_digest().unwrap();
    let record = store.image(&digest.parse().unwrap()).unwrap().unwrap();
    let layers = detail.layers.iter().map(|layer| CachedLayerMetadata {
        digest: layer.blob_digest.clone(),
        media_type: layer.media_type.clone(),
        size_bytes: None,
        diff_id: layer.diff_id.clone(),
    });
    let known = CachedImageMetadata {
        manifest_digest: digest.to_owned(),
        config_digest: detail.config.unwrap().digest,
        config: store.image_config(&record).unwrap(),
        layers: layers.collect(),
    };
    let number = Image::persist(&home.local, "app:2", known.clone())
        .await
        .unwrap();
    assert!(number > 0);
    let again = Image::persist(&home.local, "docker.io/library/app:2", known.clone());
    assert_eq!(again.await.unwrap(), number);
    assert_eq!(Image::list(&home.local).await.unwrap().len(), 2);
    let mut other = known.clone();
    other.layers.pop();
    assert!(matches!(
        Image::persist(&home.local, "app:3", other).await,
        Err(MicrosandboxError::Image(ImageError::Mismatch { .. }))
    ));
    let elsewhere = CachedImageMetadata {
        manifest_digest: Digest::of(b"").to_string(),
        ..known
    };
    assert!(matches!(
        Image::persist(&home.local, "app:3", elsewhere).await,
        Err(MicrosandboxError::ImageNotFound(_))
    ));
}

#[tokio::test]
async fn an_image_is_found_by_its_digest_whatever_it_is_called() {
    let home = Home::new();
    let loaded = home.load(Some("app:1.0")).await.unwrap();
    let digest = loaded[0].manifest_digest().unwrap().to_owned();
    for name in ["app", "app:2.0", "registry.example/other"] {
        let pinned = format!("{name}@{digest}");
        let found = Image::get(&home.local, &pinned).await.unwrap();
        assert!(found.reference().ends_with(&digest), "{found:?}");
        assert_eq!(found.manifest_digest(), Some(digest.as_str()));
        assert_eq!(found.layer_count(), 2);
        assert_eq!(found.last_used_at(), loaded[0].last_used_at());
        let detail = Image::inspect(&home.local, &pinned).await.unwrap();
        assert_eq!(detail.layers.len(), 2);
    }
    let other = format!("app@{}", Digest::of(b"other"));
    let error = Image::get(&home.local, &other).await.unwrap_err();
    assert!(matches!(error, MicrosandboxError::ImageNotFound(_)));
    // It is no name that could be removed, and none more in a list.
    assert_eq!(Image::list(&home.local).await.unwrap().len(), 1);
}
