//! Who does not listen holds nobody up, and misses nothing that matters.

use msb_image::Digest;

use super::*;

#[tokio::test]
async fn nobody_waits_for_who_does_not_listen() {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let reporter = PullReporter {
        events: Some(sender),
    };
    let progress = reporter.of("app");
    let digest = Digest::of(b"layer");
    progress(PullEvent::Resolving);
    for bytes in 0..100_000 {
        let layer = usize::try_from(bytes % 200).unwrap();
        let total = 100_000;
        progress(PullEvent::Downloading {
            layer,
            digest,
            bytes,
            total,
        });
    }
    for layer in 0..msb_image::limits::MAX_LAYERS {
        progress(PullEvent::Downloaded {
            layer,
            digest,
            total: 1,
        });
        progress(PullEvent::Unpacked {
            layer,
            diff_id: digest,
        });
    }
    let layers = msb_image::limits::MAX_LAYERS;
    progress(PullEvent::Complete { layers });
    drop((progress, reporter));
    let (mut unpacked, mut last) = (0, None);
    while let Some(event) = events.recv().await {
        unpacked += usize::from(matches!(
            event,
            PullProgress::LayerMaterializeComplete { .. }
        ));
        last = Some(event);
    }
    assert_eq!(unpacked, layers);
    let wanted = PullProgress::Complete {
        reference: "app".into(),
        layer_count: layers,
    };
    assert_eq!(last, Some(wanted));
}

#[test]
fn a_listener_who_went_is_no_reason_to_stop() {
    let (sender, events) = mpsc::channel(EVENTS);
    drop(events);
    let reporter = PullReporter {
        events: Some(sender),
    };
    reporter.of("app")(PullEvent::Resolving);
    PullReporter::default().of("app")(PullEvent::Resolving);
}
