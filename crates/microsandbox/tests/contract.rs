//! The API that programs are written against: every call with the types that it promises.
//!
//! Nothing here runs. That it compiles is the test: a program that calls these goes on compiling.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use futures::{Stream, StreamExt};
use microsandbox::config::{self, RegistryAuthEntry, RegistryCredentialStore, RegistryEntry};
use microsandbox::image::{CachedImageMetadata, ImageArchiveFormat, ImageLoadOptions};
use microsandbox::isolation::{self, Isolation, Layer, LayerReport, Strength};
use microsandbox::logs::{self, LogCursor, LogEntry, LogOptions, LogSource, LogStream};
use microsandbox::logs::{LogCursorParseError, LogSnapshot, LogStreamOptions, LogStreamStart};
use microsandbox::network::{InterfaceOverrides, NetworkConfig, PublishedPort, SecretEntry};
use microsandbox::sandbox::{
    DiskImageFormat, EnvVar, HandoffInit, HostPermissions, ImageBuilder, InitOptionsBuilder,
    IntoImage, MountBuilder, NamedVolumeBuilder, NetworkSpec, Patch, PatchBuilder, PullPolicy,
    PullProgressHandle, RegistryConfigBuilder, ResourceLimit, RootfsSource, SandboxCloudState,
    SandboxFilter, SandboxHandle, SandboxHandleCloudState, SandboxHandleLocalState,
    SandboxLocalState, SandboxMetrics, SandboxStatus, SandboxStopResult, SecurityProfile,
    StatVirtualization, VolumeMount, metrics::all_sandbox_metrics,
};
use microsandbox::size::{Mebibytes, SizeExt};
use microsandbox::snapshot::{ImageRef, Manifest, UpperIntegrity, UpperLayer};
use microsandbox::{
    AgentClientError, Backend, BackendKind, BootError, BuildError, Errno, ExecFailed, ExecHandle,
    ExecOptionsBuilder, ExecOutput, ExitStatus, ExportOpts, HttpError, Image, ImageConfigDetail,
    ImageDetail, ImageError, ImageHandle, ImageLayerDetail, ImagePruneReport, IsolationLevel,
    LocalBackend, LogLevel, MicrosandboxError, MicrosandboxResult as R, NetworkPolicy,
    RegistryAuth, RlimitResource, Sandbox, SandboxBuilder, SandboxConfig, Snapshot,
    SnapshotBuilder, SnapshotConfig, SnapshotDestination, SnapshotFormat, SnapshotHandle,
    SnapshotVerifyReport, UpperVerifyStatus, validate_sandbox_name,
};
use tokio::task::JoinHandle;

type Pulled = (PullProgressHandle, JoinHandle<R<Sandbox>>);

async fn sandboxes(config: SandboxConfig) -> R<()> {
    let _: SandboxBuilder = Sandbox::builder("web");
    let _: SandboxBuilder = Sandbox::builder(String::from("web"));
    let _: Sandbox = Sandbox::create(config.clone()).await?;
    let _: Sandbox = Sandbox::create_detached(config.clone()).await?;
    let (mut progress, task): Pulled = Sandbox::create_with_pull_progress(config.clone());
    while let Some(event) = progress.recv().await {
        let _ = format!("{event:?}");
    }
    let _: Sandbox = task.await.unwrap()?;
    let (progress, _): Pulled = Sandbox::create_detached_with_pull_progress(config);
    let _ = progress.into_receiver().recv().await;
    let _: Sandbox = Sandbox::start("web").await?;
    let _: Sandbox = Sandbox::start_detached("web").await?;
    let _: SandboxHandle = Sandbox::get("web").await?;
    let _: Vec<SandboxHandle> = Sandbox::list().await?;
    let filter = SandboxFilter::new()
        .label("team", "blue")
        .labels([("a", "1")]);
    let _: bool = filter.is_empty();
    let _: Vec<SandboxHandle> = Sandbox::list_with(filter).await?;
    let () = Sandbox::remove("web").await?;
    validate_sandbox_name("web")
}

async fn sandbox(sandbox: Sandbox) -> R<()> {
    let _: &str = sandbox.name();
    let _: &SandboxConfig = sandbox.config();
    let _: BackendKind = sandbox.backend_kind();
    let _: &Arc<dyn Backend> = sandbox.backend();
    let _: Option<&SandboxLocalState> = sandbox.local();
    let _: Option<&SandboxCloudState> = sandbox.cloud();
    let _: SandboxStatus = sandbox.status().await?;
    let _: Option<String> = sandbox.last_error().await?;
    let _: Vec<LogEntry> = sandbox.logs(&LogOptions::default()).await?;
    let mut stream: LogStream = sandbox.log_stream(&LogStreamOptions::default()).await?;
    let _: Option<R<LogEntry>> = stream.next().await;
    let _: bool = sandbox.owns_lifecycle();
    let () = sandbox.stop().await?;
    let () = sandbox.stop_with_timeout(Duration::ZERO).await?;
    let () = sandbox.request_stop().await?;
    let _: ExitStatus = sandbox.stop_and_wait().await?;
    let () = sandbox.kill().await?;
    let () = sandbox.kill_with_timeout(Duration::ZERO).await?;
    let () = sandbox.request_kill().await?;
    let () = sandbox.drain().await?;
    let () = sandbox.request_drain().await?;
    let _: ExitStatus = sandbox.wait().await?;
    let stopped: SandboxStopResult = sandbox.wait_until_stopped().await?;
    let SandboxStopResult {
        name: _,
        status: _,
        exit_code,
        signal,
        observed_at,
        source,
    } = stopped;
    let _: (Option<i32>, Option<i32>, DateTime<Utc>, Option<String>) =
        (exit_code, signal, observed_at, source);
    let () = sandbox.remove_persisted().await?;
    let _: SandboxMetrics = sandbox.metrics().await?;
    measured(sandbox.metrics_stream(Duration::from_secs(1)));
    let () = sandbox.detach().await;
    Ok(())
}

fn measured(_: impl Stream<Item = R<SandboxMetrics>>) {}

async fn commands(sandbox: &Sandbox) -> R<()> {
    let options = |options: ExecOptionsBuilder| options.env("A", "1");
    let _: ExecOutput = sandbox.exec("ls", ["-l"]).await?;
    let _: ExecOutput = sandbox.exec_with("ls", options).await?;
    let _: ExecHandle = sandbox.exec_stream("ls", vec![String::new()]).await?;
    let _: ExecHandle = sandbox.exec_stream_with("ls", options).await?;
    let _: ExecOutput = sandbox.shell("ls").await?;
    let _: ExecOutput = sandbox.shell_with("ls", options).await?;
    let _: ExecHandle = sandbox.shell_stream("ls").await?;
    let _: ExecHandle = sandbox.shell_stream_with("ls", options).await?;
    Ok(())
}

async fn snapshots(out: &Path) -> R<()> {
    let builder: SnapshotBuilder = Snapshot::builder("web");
    let builder = builder
        .name("base")
        .path("/snapshots/base")
        .destination(SnapshotDestination::Name("base".to_owned()))
        .destination(SnapshotDestination::Path(PathBuf::new()))
        .label("stage", String::from("ready"))
        .force()
        .record_integrity();
    let config: SnapshotConfig = builder.build()?;
    let _: SnapshotConfig = SnapshotConfig {
        source_sandbox: "web".to_owned(),
        destination: SnapshotDestination::Name("base".to_owned()),
        labels: vec![("a".to_owned(), "b".to_owned())],
        force: false,
        record_integrity: true,
    };
    let _: Snapshot = Snapshot::create(config).await?;
    let _: Snapshot = Snapshot::builder(String::from("web"))
        .name("base")
        .create()
        .await?;
    let snapshot: Snapshot = Snapshot::open("base").await?;
    let _: Snapshot = Snapshot::open(String::from("/snapshots/base")).await?;
    let (_, _, _): (&Path, &str, u64) = (snapshot.path(), snapshot.digest(), snapshot.size_bytes());
    let manifest: &Manifest = snapshot.manifest();
    let _: (u32, SnapshotFormat, &str) = (manifest.schema, manifest.format, &manifest.fstype);
    let ImageRef {
        reference,
        manifest_digest,
    } = &manifest.image;
    let _: (&String, &String) = (reference, manifest_digest);
    let _: (&Option<String>, &String) = (&manifest.parent, &manifest.created_at);
    let _: (&BTreeMap<String, String>, &Option<String>) =
        (&manifest.labels, &manifest.source_sandbox);
    let UpperLayer {
        file,
        size_bytes,
        integrity,
    } = &manifest.upper;
    let _: (&String, &u64) = (file, size_bytes);
    if let Some(UpperIntegrity { algorithm, digest }) = integrity {
        let _: (&String, &String) = (algorithm, digest);
    }
    let SnapshotVerifyReport {
        digest,
        path,
        upper,
    } = snapshot.verify().await?;
    let _: (String, PathBuf) = (digest, path);
    match upper {
        UpperVerifyStatus::NotRecorded => {}
        UpperVerifyStatus::Verified { algorithm, digest } => {
            let _: (String, String) = (algorithm, digest);
        }
    }
    let handle: SnapshotHandle = Snapshot::get("sha256:0").await?;
    let _: Vec<SnapshotHandle> = Snapshot::list().await?;
    let _: Vec<Snapshot> = Snapshot::list_dir("/snapshots").await?;
    let () = Snapshot::remove("base", true).await?;
    let _: usize = Snapshot::reindex(PathBuf::new()).await?;
    let opts = ExportOpts {
        with_parents: true,
        with_image: true,
        plain_tar: true,
    };
    let () = Snapshot::export("base", out, opts).await?;
    let () = Snapshot::export("base", out, ExportOpts::default()).await?;
    let _: SnapshotHandle = Snapshot::import(out, None).await?;
    let _: SnapshotHandle = Snapshot::import(out, Some(out)).await?;
    let _: (&str, Option<&str>, Option<&str>) =
        (handle.digest(), handle.name(), handle.parent_digest());
    let _: (&str, SnapshotFormat, Option<u64>) =
        (handle.image_ref(), handle.format(), handle.size_bytes());
    let _: (NaiveDateTime, &Path) = (handle.created_at(), handle.path());
    let _: Snapshot = handle.open().await?;
    let () = handle.remove(false).await?;
    Ok(())
}

async fn handle(handle: SandboxHandle) -> R<()> {
    let _: &str = handle.name();
    let _: BackendKind = handle.backend_kind();
    let local: Option<&SandboxHandleLocalState> = handle.local();
    let _: Option<Option<u32>> = local.map(|local| local.pid);
    let _: Option<Option<Isolation>> = local.map(|local| local.isolation.clone());
    let host: Isolation = isolation::of_host().await?;
    let lacking: Vec<LayerReport> = isolation::lacking_for(&host, IsolationLevel::Full);
    let _: Vec<(Layer, Strength, &str)> = lacking
        .iter()
        .map(|report| (report.layer, report.strength, report.layer.advice()))
        .collect();
    let _: Option<&SandboxHandleCloudState> = handle.cloud();
    let _: SandboxStatus = handle.status_snapshot();
    let _: Option<String> = handle.last_error_snapshot();
    let _: &str = handle.config_json();
    let _: SandboxConfig = handle.config()?;
    let _: Option<DateTime<Utc>> = handle.created_at();
    let _: Option<DateTime<Utc>> = handle.updated_at();
    let _: SandboxHandle = handle.refresh().await?;
    let _: Vec<LogEntry> = handle.logs(&LogOptions::default()).await?;
    let _: LogStream = handle.log_stream(&LogStreamOptions::default()).await?;
    let _: SandboxMetrics = handle.metrics().await?;
    let _: Sandbox = handle.start().await?;
    let _: Sandbox = handle.start_detached().await?;
    let _: Sandbox = handle.connect().await?;
    let _: Sandbox = handle.connect_with_timeout(Duration::ZERO).await?;
    let snapshot: Snapshot = handle.snapshot("base").await?;
    let _: (&Path, &str, u64) = (snapshot.path(), snapshot.digest(), snapshot.size_bytes());
    let _: Snapshot = handle.snapshot_to(PathBuf::new()).await?;
    let () = handle.stop().await?;
    let () = handle.stop_with_timeout(Duration::ZERO).await?;
    let () = handle.request_stop().await?;
    let () = handle.kill().await?;
    let () = handle.kill_with_timeout(Duration::ZERO).await?;
    let () = handle.request_kill().await?;
    let () = handle.request_drain().await?;
    let _: SandboxStopResult = handle.wait_until_stopped().await?;
    let _ = format!("{handle:?}");
    handle.remove().await
}

fn image(builder: SandboxBuilder, auth: RegistryAuth) -> SandboxBuilder {
    fn takes(_: impl IntoImage) {}
    takes("python");
    takes(String::new());
    takes(PathBuf::new());
    builder
        .image("python")
        .image_with(|image: ImageBuilder| image.oci("python:3.12").upper_size(8.gib()))
        .image_with(|image| image.disk("/disk").fstype("ext4").bind(PathBuf::new()))
        .oci_upper_size(Mebibytes::new(8192))
        .pull_policy(PullPolicy::IfMissing)
        .registry(|registry: RegistryConfigBuilder| {
            registry.auth(auth).insecure().ca_certs(Vec::<u8>::new())
        })
        .from_snapshot("base")
        .snapshot_resolved("sha256:0", "/upper.ext4")
}

fn resources_and_runtime(builder: SandboxBuilder) -> SandboxBuilder {
    builder
        .cpus(1_u8)
        .memory(512)
        .memory(1.gib())
        .rlimit(RlimitResource::Nofile, 1024_u64)
        .rlimit_range(RlimitResource::Nproc, 1_u64, 2_u64)
        .workdir("/")
        .shell("/bin/sh")
        .entrypoint(["python"])
        .init("auto")
        .init_with(PathBuf::new(), |init: InitOptionsBuilder| {
            init.arg("a").args(["b"]).env("A", "1").envs([("B", "2")])
        })
        .hostname("web")
        .user("root")
        .env("A", "1")
        .envs([("B", "2")])
        .envs(HashMap::from([(String::new(), String::new())]))
        .script("up", "#!/bin/sh")
        .scripts([("down", "#!/bin/sh")])
        .log_level(LogLevel::Debug)
        .quiet_logs()
        .initial_command(["a"])
        .persistent_initial_command(["a"])
        .disable_metrics_sample()
        .metrics_sample_interval(Duration::from_secs(1))
}

fn storage(builder: SandboxBuilder) -> SandboxBuilder {
    builder
        .volume("/a", |mount: MountBuilder| {
            let mount = mount.bind("/host").readonly().noexec().nosuid().nodev();
            mount
                .stat_virtualization(StatVirtualization::Strict)
                .host_permissions(HostPermissions::Private)
                .quota(64)
        })
        .volume("/b", |mount| mount.named("cache"))
        .volume("/c", |mount| {
            mount.named_with("cache", |volume: NamedVolumeBuilder| {
                let volume = volume.existing().create().ensure_exists().name("cache");
                let volume = volume.directory().disk().quota(64).size(64);
                volume.label("a", "1")
            })
        })
        .volume("/d", |mount| mount.tmpfs().size(64))
        .volume("/e", |mount| {
            let disk = mount.disk("/disk.raw").format(DiskImageFormat::Raw);
            disk.fstype("ext4")
        })
        .patch(|patch: PatchBuilder| {
            patch
                .text("/a", "text", Some(0o644), true)
                .file("/b", vec![0_u8], None, false)
                .copy_file("/host", "/c", None, false)
                .copy_dir("/host", "/d", false)
                .symlink("/a", "/e", false)
                .mkdir("/f", Some(0o755))
                .remove("/g")
                .append("/h", "text")
        })
        .add_patch(Patch::Remove {
            path: String::new(),
        })
}

fn network(builder: SandboxBuilder, secret: SecretEntry, policy: NetworkPolicy) -> SandboxBuilder {
    let any = IpAddr::from([0, 0, 0, 0]);
    builder
        .disable_network()
        .network(|network| {
            network
                .enabled(true)
                .port(8080, 80)
                .port_udp(5353, 53)
                .port_bind(any, 8080, 80)
                .port_udp_bind(any, 5353, 53)
                .policy(policy)
                .dns(|dns| {
                    let servers = dns.rebind_protection(true).nameservers([any]);
                    servers.query_timeout_ms(5000)
                })
                .tls(|tls| {
                    let tls = tls.bypass("*.example.com").verify_upstream(true);
                    let tls = tls.intercepted_ports(vec![443]).block_quic(true);
                    let tls = tls.upstream_ca_cert("/ca.pem");
                    tls.intercept_ca_cert("/a.pem").intercept_ca_key("/k.pem")
                })
                .secret(|secret| secret.env("A").value("x").allow_host("a.example"))
                .secret_env("A", "x", "$A", "a.example")
                .on_secret_violation(|on| on.block().block_and_log().block_and_terminate())
                .max_connections(256_usize)
                .interface(InterfaceOverrides::default())
                .ipv4_pool("172.16.0.0/12".parse().unwrap())
                .ipv6_pool("fd42:6d73:62::/48".parse().unwrap())
                .trust_host_cas(false)
        })
        .port(8080, 80)
        .port_bind(any, 8080, 80)
        .port_udp(5353, 53)
        .port_udp_bind(any, 5353, 53)
        .secret(|secret| {
            let secret = secret.env("A").value("x").placeholder("$A");
            let secret = secret
                .allow_host("a.example")
                .allow_host_pattern("*.b.example");
            let secret = secret
                .allow_any_host_dangerous(true)
                .require_tls_identity(true);
            let secret = secret.inject_headers(true).inject_basic_auth(true);
            let secret = secret.inject_query(false).inject_body(false);
            secret.on_violation(|on| {
                let on = on.passthrough_host("a.example");
                on.passthrough_host_pattern("*.b.example")
                    .passthrough_all_hosts(false)
            })
        })
        .secret_entry(secret)
        .secret_env("A", "x", "a.example")
}

fn policies() -> Result<NetworkPolicy, Box<dyn std::error::Error>> {
    let _: NetworkPolicy = NetworkPolicy::none();
    let _: NetworkPolicy = NetworkPolicy::allow_all();
    let _: NetworkPolicy = NetworkPolicy::non_local();
    let _: NetworkPolicy = NetworkPolicy::public_only()
        .deny_domain("a.example")?
        .deny_domains(["a.example"])?
        .allow_domain("a.example")?
        .allow_domains(vec![String::new()])?
        .deny_domain_suffix("a.example")?
        .allow_domain_suffixes(["a.example"])?;
    let built: Result<NetworkPolicy, BuildError> = NetworkPolicy::builder()
        .default_deny()
        .default_allow()
        .egress(|rule| rule.tcp().port(443).allow_public().allow_private())
        .ingress(|rule| rule.udp().port_range(1, 2).ports([3, 4]).deny_local())
        .any(|rule| rule.deny().cidr("198.51.100.0/24"))
        .rule(|rule| rule.egress().icmpv4().icmpv6().allow().domain("a.example"))
        .rule(|rule| rule.any().deny_domains(["a.example"]))
        .build();
    Ok(built?)
}

fn lives(builder: SandboxBuilder) -> SandboxBuilder {
    builder
        .replace()
        .replace_with_timeout(Duration::from_secs(10))
        .detached(true)
        .ephemeral(true)
        .max_duration(60_u64)
        .idle_timeout(60_u64)
        .security(SecurityProfile::Restricted)
        .label("a", "1")
        .labels(BTreeMap::from([("b", "2")]))
}

async fn creations(builder: SandboxBuilder) -> R<()> {
    let config: SandboxConfig = builder.clone().build().await?;
    let _: Sandbox = builder.clone().create().await?;
    let _: Sandbox = builder.clone().create_detached().await?;
    let _: Pulled = builder.clone().create_with_pull_progress()?;
    let _: Pulled = builder.create_detached_with_pull_progress()?;
    let _: SandboxBuilder = config.into();
    let _ = SandboxBuilder::new("web");
    Ok(())
}

fn config(config: SandboxConfig) {
    let _: String = config.name;
    match config.image {
        RootfsSource::Bind(_) => {}
        RootfsSource::Oci { reference, .. } => drop::<String>(reference),
        RootfsSource::DiskImage { format, fstype, .. } => {
            let _: (DiskImageFormat, Option<String>) = (format, fstype);
        }
        _ => {}
    }
    let _: (u8, u32) = (config.resources.cpus, config.resources.memory_mib);
    let runtime = config.runtime;
    let _: [Option<String>; 4] = [
        runtime.workdir,
        runtime.shell,
        runtime.hostname,
        runtime.user,
    ];
    let _: [Option<Vec<String>>; 2] = [runtime.entrypoint, runtime.cmd];
    let _: Option<LogLevel> = runtime.log_level;
    let _: Option<&String> = runtime.scripts.get("up");
    let _: Option<u64> = runtime.metrics_sample_interval_ms.map(|ms| ms.get());
    let _: bool = runtime.disable_metrics_sample;
    let _: Vec<EnvVar> = config.env;
    let _: BTreeMap<String, String> = config.labels;
    let _: Vec<ResourceLimit> = config.rlimits;
    let _: Vec<VolumeMount> = config.mounts;
    let _: Vec<Patch> = config.patches;
    let network: NetworkSpec = config.network;
    let network: NetworkConfig = network;
    let _: (bool, bool) = (network.enabled, network.trust_host_cas);
    let _: Vec<PublishedPort> = network.ports;
    let _: NetworkPolicy = network.policy;
    let _: Option<HandoffInit> = config.init;
    let _: PullPolicy = config.pull_policy;
    let _: SecurityProfile = config.security_profile;
    let life = config.lifecycle;
    let _: (bool, Option<u64>, Option<u64>) = (
        life.ephemeral,
        life.max_duration_secs,
        life.idle_timeout_secs,
    );
    let _: Option<RegistryAuth> = config.registry_auth;
    let _: (bool, bool, Duration) = (
        config.insecure,
        config.replace_existing,
        config.replace_with_timeout,
    );
}

async fn images(local: &LocalBackend, metadata: CachedImageMetadata) -> R<()> {
    let _: i32 = Image::persist(local, "python", metadata).await?;
    let handle: ImageHandle = Image::get(local, "python").await?;
    let _: &str = handle.reference();
    let _: Option<i64> = handle.size_bytes();
    let _: [Option<&str>; 3] = [handle.manifest_digest(), handle.architecture(), handle.os()];
    let _: usize = handle.layer_count();
    let _: [Option<DateTime<Utc>>; 2] = [handle.last_used_at(), handle.created_at()];
    let _: Vec<ImageHandle> = Image::list(local).await?;
    let detail: ImageDetail = Image::inspect(local, "python").await?;
    let _: ImageHandle = detail.handle;
    let config: Option<ImageConfigDetail> = detail.config;
    if let Some(config) = config {
        let _: (String, Vec<String>) = (config.digest, config.env);
        let _: [Option<Vec<String>>; 2] = [config.cmd, config.entrypoint];
        let _: [Option<String>; 3] = [config.working_dir, config.user, config.stop_signal];
        let _: Option<serde_json::Value> = config.labels;
    }
    let layers: Vec<ImageLayerDetail> = detail.layers;
    for layer in layers {
        let _: (String, String, Option<String>) =
            (layer.diff_id, layer.blob_digest, layer.media_type);
        let _: [Option<i64>; 2] = [layer.compressed_size_bytes, layer.erofs_size_bytes];
        let _: i32 = layer.position;
    }
    let () = Image::remove(local, "python", false).await?;
    let _: u32 = Image::gc_layers(local).await?;
    let _: u32 = Image::gc(local).await?;
    let report: ImagePruneReport = Image::prune(local).await?;
    let _: [u32; 5] = [
        report.image_refs_removed,
        report.manifests_removed,
        report.layers_removed,
        report.fsmeta_removed,
        report.vmdk_removed,
    ];
    let _: Option<u64> = report.bytes_reclaimed;
    let options = ImageLoadOptions::new().tag("app:1");
    let _: Vec<ImageHandle> = Image::load(local, "app.tar", options).await?;
    Image::save(local, ["app:1"], "app.tar", ImageArchiveFormat::Docker).await
}

async fn logs_and_metrics(local: &LocalBackend) -> R<()> {
    let options = LogOptions {
        tail: Some(1),
        since: Some(Utc::now()),
        until: None,
        sources: vec![LogSource::Stdout, LogSource::Stderr, LogSource::Output],
    };
    let _: PathBuf = logs::log_dir_for("web");
    let _: Vec<LogEntry> = logs::read_logs("web", &options).await?;
    let LogSnapshot {
        entries, cursor, ..
    } = logs::read_logs_snapshot("web", &options).await?;
    let entry: Option<LogEntry> = entries.into_iter().next();
    if let Some(entry) = entry {
        let _: (DateTime<Utc>, LogSource) = (entry.timestamp, entry.source);
        let _: (Option<u64>, bytes::Bytes) = (entry.session_id, entry.data);
        let _: LogCursor = entry.cursor;
    }
    let read: Result<LogCursor, LogCursorParseError> = cursor.to_string().parse();
    let _ = (read, LogCursor::empty(), LogSource::System);
    let options = LogStreamOptions {
        sources: Vec::new(),
        start: LogStreamStart::From(cursor),
        until: None,
        follow: true,
    };
    let stream = logs::log_stream("web", &options).await?;
    let _ = std::pin::pin!(stream).next().await;
    let _ = (LogStreamStart::Beginning, LogStreamStart::Since(Utc::now()));
    let all: HashMap<String, SandboxMetrics> = all_sandbox_metrics(local).await?;
    for sample in all.into_values() {
        let _: (f32, Duration, DateTime<Utc>) =
            (sample.cpu_percent, sample.uptime, sample.timestamp);
        let _: [u64; 7] = [
            sample.vcpu_time_ns,
            sample.memory_bytes,
            sample.memory_limit_bytes,
            sample.disk_read_bytes,
            sample.disk_write_bytes,
            sample.net_rx_bytes,
            sample.net_tx_bytes,
        ];
        let _: [Option<u64>; 5] = [
            sample.memory_available_bytes,
            sample.memory_host_resident_bytes,
            sample.upper_used_bytes,
            sample.upper_free_bytes,
            sample.upper_host_allocated_bytes,
        ];
    }
    Ok(())
}

/// Each variant with what it carries.
fn errors(error: MicrosandboxError) {
    use MicrosandboxError as E;
    match error {
        E::Io(error) => drop::<std::io::Error>(error),
        E::Http(error) => drop::<HttpError>(error),
        E::CloudHttp {
            status,
            code,
            message,
        } => drop::<(u16, String, String)>((status, code, message)),
        E::Database(error) => drop(error.to_string()),
        E::Json(error) => drop(error.to_string()),
        E::Protocol(error) => drop(error.to_string()),
        E::AgentClient(error) => drop::<AgentClientError>(error),
        E::Nix(Errno(number)) => assert_ne!(number, 0_i32),
        E::BootStart { name, err } => drop::<(String, BootError)>((name, err)),
        E::LibkrunfwNotFound(text)
        | E::Runtime(text)
        | E::InvalidConfig(text)
        | E::SandboxNotFound(text)
        | E::SandboxAlreadyExists(text)
        | E::SandboxStillRunning(text)
        | E::ImageNotFound(text)
        | E::ImageInUse(text)
        | E::PatchFailed(text)
        | E::VolumeNotFound(text)
        | E::VolumeAlreadyExists(text)
        | E::SnapshotNotFound(text)
        | E::SnapshotAlreadyExists(text)
        | E::SnapshotSandboxRunning(text)
        | E::SnapshotImageMissing(text)
        | E::SnapshotIntegrity(text)
        | E::MetricsDisabled(text)
        | E::MetricsUnavailable(text)
        | E::Custom(text) => drop::<String>(text),
        E::Terminal(error) => drop(error.to_string()),
        E::SandboxFsOps(error) => drop(error.to_string()),
        E::ExecTimeout(limit) => assert_ne!(limit, Duration::ZERO),
        E::ExecFailed(failed) => drop::<ExecFailed>(failed),
        E::Image(error) => drop::<ImageError>(error),
        E::NetworkBuilder(error) => drop::<BuildError>(error),
        E::MissedRotation {
            dropped_from_offset: _,
        }
        | E::InvalidCursor => {}
        E::Unsupported {
            feature,
            available_when,
        } => drop::<(String, String)>((feature, available_when)),
        _ => {}
    }
}

async fn registries(path: PathBuf) -> R<()> {
    let () = config::set_registry_keyring_auth("ghcr.io", "ann", "password")?;
    let _: Option<RegistryAuth> = config::get_registry_keyring_auth("ghcr.io")?;
    let () = config::delete_registry_keyring_auth("ghcr.io")?;
    let auth = RegistryAuthEntry {
        username: String::new(),
        store: Some(RegistryCredentialStore::Keyring),
        password_env: None,
        secret_name: None,
    };
    let entry = RegistryEntry {
        auth: Some(auth),
        insecure: false,
    };
    let builder = LocalBackend::builder()
        .ca_certs(Some(path))
        .registry_hosts(HashMap::from([("ghcr.io".to_owned(), entry)]));
    let _: LocalBackend = builder.build().await?;
    Ok(())
}

fn process(path: PathBuf) {
    microsandbox::set_libkrunfw_path(path);
    let _: [usize; 2] = [
        microsandbox::MAX_SANDBOX_NAME_BYTES,
        microsandbox::MAX_HOSTNAME_BYTES,
    ];
}

/// Creations can be spawned, and what they give can be shared.
#[test]
fn what_is_given_can_be_sent() {
    fn sent<T: Send + Sync>() {}
    fn spawned(_: impl Future + Send) {}
    sent::<(Sandbox, SandboxHandle, SandboxBuilder, SandboxConfig)>();
    sent::<(MicrosandboxError, PullProgressHandle, Snapshot)>();
    sent::<(SnapshotBuilder, SnapshotConfig, SnapshotHandle)>();
    spawned(Sandbox::builder("web").create());
    spawned(Sandbox::start("web"));
    sent::<(ImageHandle, ImageDetail, ImagePruneReport)>();
    let local = LocalBackend::lazy();
    spawned(Image::prune(&local));
    spawned(Image::load(&local, "app.tar", ImageLoadOptions::new()));
    spawned(Image::save(
        &local,
        ["app:1"],
        "app.tar",
        ImageArchiveFormat::Oci,
    ));
}
