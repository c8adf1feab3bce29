//! Downloads that are cut, stand still, or are wrong.

use super::*;

const SIZE: usize = 3 << 20;

async fn serving() -> (FakeRegistry, Digest) {
    let registry = FakeRegistry::new().await;
    let digest = registry.blob(bytes(SIZE));
    (registry, digest)
}

fn read(blob: &Blob) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut blob.open().unwrap(), &mut content).unwrap();
    content
}

/// Where each request that was answered well began.
fn beginnings(registry: &FakeRegistry) -> Vec<u64> {
    let asked = registry.asked("blobs");
    let begins = |range: Option<String>| {
        let range = range.unwrap_or("bytes=0-".to_owned());
        range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .unwrap()
    };
    asked.into_iter().map(|asked| begins(asked.range)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_fetches_the_rest() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    registry.fail(
        "blobs",
        [Fault::Cut(1_000_000), Fault::Cut(1_000_001), Fault::Cut(0)],
    );
    let blob = host
        .blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap();
    assert_eq!(read(&blob), bytes(SIZE));
    assert_eq!(beginnings(&registry), [0, 1_000_000, 2_000_001, 2_000_001]);
    let seen = host.seen.lock().unwrap().clone();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(SIZE as u64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_parts_is_asked_for_all() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    registry.fail(
        "blobs",
        [
            Fault::Cut(1_000_000),
            Fault::WholeCut(500_000),
            Fault::Whole,
        ],
    );
    let blob = host
        .blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap();
    assert_eq!(read(&blob), bytes(SIZE));
    assert_eq!(beginnings(&registry), [0, 1_000_000, 500_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_begins_elsewhere_is_not_taken() {
    let (registry, digest) = serving().await;
    for other in [Fault::OtherPart, Fault::Status(416, Vec::new())] {
        registry.fail("blobs", [Fault::Cut(1_000_000), other]);
        let host = Host::new();
        let blob = host
            .blob(&repository(&registry, options()), digest, SIZE)
            .await
            .unwrap();
        assert_eq!(read(&blob), bytes(SIZE));
    }
    assert_eq!(beginnings(&registry), [0, 1_000_000, 0, 0, 1_000_000, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_does_not_get_on_ends() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    // The same piece time and again: the tries are not counted anew.
    registry.fail("blobs", std::iter::repeat_n(Fault::WholeCut(2 << 20), 50));
    let error = host
        .blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap_err();
    assert!(matches!(refused(error), RegistryError::Cut { .. }));
    let asked = registry.asked("blobs").len();
    assert!((4..10).contains(&asked), "{asked}");

    registry.behave();
    registry.fail("blobs", std::iter::repeat_n(Fault::Stall(1000), 50));
    let patience = RegistryOptions {
        timing: impatient(),
        ..options()
    };
    let error = host
        .blob(&repository(&registry, patience), digest, SIZE)
        .await
        .unwrap_err();
    assert!(matches!(refused(error), RegistryError::Stalled { .. }));
    assert!(registry.asked("blobs").len() < 20);
    // What came is there for the next.
    assert!(std::fs::metadata(host.partial(&digest)).unwrap().len() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_in_many_pieces_is_not_given_up() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    registry.fail("blobs", std::iter::repeat_n(Fault::Cut(400_000), 50));
    let blob = host
        .blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap();
    assert_eq!(read(&blob), bytes(SIZE));
    assert_eq!(registry.asked("blobs").len(), SIZE.div_ceil(400_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_not_kept() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    registry.fail("blobs", [Fault::Other(SIZE)]);
    let error = host
        .blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap_err();
    assert!(matches!(refused(error), RegistryError::Digest { expected, .. } if expected == digest));
    assert!(!host.partial(&digest).exists());
    assert!(host.claim.store().blob(&digest).unwrap().is_none());
    // It was once; the next time it is right.
    host.blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_and_is_wrong_is_fetched_anew_once() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    std::fs::write(host.partial(&digest), vec![7; 1_000_000]).unwrap();
    let blob = host
        .blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap();
    assert_eq!(read(&blob), bytes(SIZE));
    assert_eq!(beginnings(&registry), [1_000_000, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_is_gone_on_with() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    std::fs::write(host.partial(&digest), &bytes(SIZE)[..2_000_000]).unwrap();
    host.blob(&repository(&registry, options()), digest, SIZE)
        .await
        .unwrap();
    assert_eq!(beginnings(&registry), [2_000_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_another_size_is_refused() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    for size in [SIZE - 1, SIZE + 1] {
        let tried = host
            .blob(&repository(&registry, options()), digest, size)
            .await;
        let error = refused(tried.unwrap_err());
        let RegistryError::Size {
            expected, found, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!((expected, found), (size as u64, SIZE as u64));
    }
    assert_eq!(registry.asked("blobs").len(), 2);
    assert_eq!(
        std::fs::metadata(host.partial(&digest)).map_or(0, |found| found.len()),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_want_it_fetch_it_once() {
    let (registry, digest) = serving().await;
    let (one, other) = (
        repository(&registry, options()),
        repository(&registry, options()),
    );
    let host = Host::new();
    let store = host.claim.store().clone();
    let second = Host {
        claim: Arc::new(store.claim().unwrap()),
        dir: tempfile::tempdir().unwrap(),
        seen: Arc::default(),
    };
    let (first, second) = futures::join!(
        host.blob(&one, digest, SIZE),
        second.blob(&other, digest, SIZE)
    );
    assert_eq!(read(&first.unwrap()), read(&second.unwrap()));
    assert_eq!(registry.asked("blobs").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_goes_on_where_the_other_was_ended() {
    let (registry, digest) = serving().await;
    let host = Arc::new(Host::new());
    let follower = Host {
        claim: Arc::new(host.claim.store().clone().claim().unwrap()),
        dir: tempfile::tempdir().unwrap(),
        seen: Arc::default(),
    };
    registry.fail("blobs", [Fault::Stall(1_500_000)]);
    let repository = repository(&registry, options());
    let (theirs, leader) = (repository.clone(), Arc::clone(&host));
    let downloading = tokio::spawn(async move { leader.blob(&theirs, digest, SIZE).await });
    until(|| host.seen.lock().unwrap().last() == Some(&1_500_000)).await;
    let watch = follower.blob(&repository, digest, SIZE);
    let ends = async {
        // The follower sees how far the other is.
        until(|| follower.seen.lock().unwrap().last() == Some(&1_500_000)).await;
        downloading.abort();
    };
    let (blob, ()) = futures::join!(watch, ends);
    assert_eq!(read(&blob.unwrap()), bytes(SIZE));
    assert_eq!(beginnings(&registry), [0, 1_500_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_somebody_who_stands_still_is_told() {
    let (registry, digest) = serving().await;
    let host = Host::new();
    let turn = host.claim.begin_blob(&digest, SIZE as u64).unwrap();
    let timing = Timing {
        elsewhere: Duration::from_millis(600),
        ..timing()
    };
    let repository = repository(
        &registry,
        RegistryOptions {
            timing,
            ..options()
        },
    );
    let error = host.blob(&repository, digest, SIZE).await.unwrap_err();
    assert!(matches!(error, PullError::Elsewhere { .. }), "{error:?}");
    assert!(registry.asked("").is_empty());
    drop(turn);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_is_asked_of_nobody() {
    let registry = FakeRegistry::new().await;
    let host = Host::new();
    host.blob(&repository(&registry, options()), Digest::of(b""), 0)
        .await
        .unwrap();
    let error = host
        .blob(&repository(&registry, options()), Digest::of(b"x"), 0)
        .await;
    assert!(matches!(
        refused(error.unwrap_err()),
        RegistryError::Digest { .. }
    ));
    assert!(registry.asked("").is_empty());
}
