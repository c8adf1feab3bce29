//! The ring against a model: whatever viewers come and go, every byte is sent, in order, or
//! counted in its place.

use msb_protocol::MAX_CHUNK;
use proptest::prelude::*;

use super::*;

/// The byte at an offset, so that a wrong place shows.
fn byte(offset: u64) -> u8 {
    u8::try_from(offset % 251).unwrap()
}

fn bytes(from: u64, length: usize) -> Bytes {
    (from..from + number(length)).map(byte).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Write(bool, usize),
    Read(usize),
    Ack(u64),
    Leave,
    Come,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop_oneof![1usize..50, 1usize..65_536];
    prop_oneof![
        8 => (any::<bool>(), sizes).prop_map(|(which, length)| Step::Write(which, length)),
        6 => (1usize..12).prop_map(Step::Read),
        2 => (0u64..100_000).prop_map(Step::Ack),
        1 => Just(Step::Leave),
        1 => Just(Step::Come),
    ]
}

/// Reads one item and checks that it is what belongs at `at`.
fn read(ring: &mut Ring, at: &mut u64) -> bool {
    match ring.next() {
        None => return false,
        Some(Next::Dropped(missing)) => {
            assert!(missing > 0);
            *at += missing;
        }
        Some(Next::Output(_, data)) => {
            assert!(!data.is_empty() && data.len() <= MAX_CHUNK);
            for found in data {
                assert_eq!(found, byte(*at));
                *at += 1;
            }
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_byte_is_sent_or_counted(acks in any::<bool>(), steps in prop::collection::vec(step(), 0..120)) {
        let mut ring = Ring::new(acks);
        let (mut written, mut at, mut safe) = (0u64, 0u64, 0u64);
        let mut viewed = true;
        let mut acks = acks;
        for step in steps {
            match step {
                Step::Write(which, length) => {
                    // As the reader of a command does.
                    if !ring.has_room() {
                        continue;
                    }
                    let source = if which { OutputSource::Stdout } else { OutputSource::Stderr };
                    ring.push(source, bytes(written, length));
                    written += number(length);
                }
                Step::Read(count) if viewed => {
                    for _ in 0..count {
                        if !read(&mut ring, &mut at) {
                            break;
                        }
                    }
                    if !acks {
                        safe = at;
                    }
                }
                Step::Ack(back) if viewed && acks => {
                    let offset = at.saturating_sub(back);
                    ring.acked(offset);
                    safe = safe.max(offset);
                    // A viewer that says more than it can know is not believed.
                    let before = ring.sent;
                    prop_assert!(ring.acked <= before);
                }
                Step::Leave if viewed => {
                    ring.left();
                    viewed = false;
                }
                Step::Come if !viewed => {
                    let begin = ring.viewed();
                    prop_assert!(begin >= safe && begin <= at, "{safe} {begin} {at}");
                    at = begin;
                    safe = begin;
                    (viewed, acks) = (true, true);
                }
                _ => {}
            }
            prop_assert!(ring.held <= RING_MAX + 2 * (MAX_CHUNK + PIECE_COST), "{}", ring.held);
            let held: usize = ring.pieces.iter().map(Piece::cost).sum();
            prop_assert_eq!(held, ring.held);
            prop_assert_eq!(ring.end, written);
        }
        if !viewed {
            at = ring.viewed();
        }
        while read(&mut ring, &mut at) {}
        prop_assert_eq!(at, written);
        prop_assert!(ring.all_sent());
        ring.acked(u64::MAX);
        prop_assert_eq!(ring.held, 0);
    }
}

#[test]
fn while_nobody_looks_the_newest_stays_and_the_rest_is_counted() {
    let mut ring = Ring::new(true);
    ring.left();
    let mut written = 0;
    for _ in 0..100 {
        assert!(ring.has_room());
        ring.push(OutputSource::Stdout, bytes(written, 65_536));
        written += 65_536;
    }
    let mut at = ring.viewed();
    assert_eq!(at, 0);
    let Some(Next::Dropped(missing)) = ring.next() else {
        panic!("nothing is said to be missing");
    };
    at += missing;
    // What is kept is close to all that may be.
    assert!(
        (950_000..=RING_MAX as u64).contains(&(written - at)),
        "{at}"
    );
    while read(&mut ring, &mut at) {}
    assert_eq!(at, written);
}

#[test]
fn small_pieces_grow_together_and_sources_stay_apart() {
    let mut ring = Ring::new(true);
    ring.left();
    for at in 0..100_000u64 {
        ring.push(OutputSource::Stdout, bytes(at, 1));
    }
    assert!(ring.pieces.len() < 10, "{} pieces", ring.pieces.len());
    let (mut a, mut b) = (Ring::new(true), 0u64);
    a.left();
    for at in 0..1000u64 {
        let source = if at % 2 == 0 {
            OutputSource::Stdout
        } else {
            OutputSource::Stderr
        };
        a.push(source, bytes(at, 1));
    }
    a.viewed();
    while let Some(Next::Output(source, data)) = a.next() {
        assert_eq!(data.len(), 1);
        assert_eq!(source == OutputSource::Stdout, b % 2 == 0);
        b += 1;
    }
    assert_eq!(b, 1000);
}

#[test]
fn a_viewer_that_stops_stops_the_reading_and_loses_nothing() {
    let mut ring = Ring::new(true);
    let mut written = 0;
    while ring.has_room() {
        ring.push(OutputSource::Stdout, bytes(written, 4096));
        written += 4096;
    }
    assert_eq!(written, 4096);
    let mut at = 0;
    while read(&mut ring, &mut at) {}
    assert_eq!(at, written);
    assert!(ring.has_room());
    // It went without a word: all of that is for the next.
    ring.left();
    let mut at = ring.viewed();
    assert_eq!(at, 0);
    while read(&mut ring, &mut at) {}
    assert_eq!(at, written);
}

#[test]
fn a_detach_goes_on_in_the_middle_of_a_piece() {
    let mut ring = Ring::new(true);
    ring.push(OutputSource::Stdout, bytes(0, 1000));
    let mut at = 0;
    assert!(read(&mut ring, &mut at));
    ring.acked(300);
    ring.left();
    let mut at = ring.viewed();
    assert_eq!(at, 300);
    while read(&mut ring, &mut at) {}
    assert_eq!(at, 1000);
}

#[test]
fn nothing_is_kept_for_a_viewer_that_acknowledges_nothing() {
    let mut ring = Ring::new(false);
    for round in 0..100 {
        ring.push(OutputSource::Stdout, bytes(round * 1000, 1000));
        assert!(matches!(ring.next(), Some(Next::Output(..))));
        assert_eq!(ring.held(), 0);
    }
}
