//! The queue against a model: whatever happens in whatever order, each session's story is
//! whole, in order, and its bytes all counted.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What was told of one session.
#[derive(Debug, Default, PartialEq)]
struct Story {
    written: usize,
    told: usize,
    dropped: usize,
    ended: bool,
}

#[derive(Default)]
struct Reader {
    stories: HashMap<u64, Story>,
}

impl Reader {
    /// Takes a message, and checks that it may come here.
    fn hear(&mut self, message: GuestMessage) {
        match message {
            GuestMessage::SessionStarted { session, .. } => {
                assert_eq!(self.stories.insert(session, Story::default()), None);
            }
            GuestMessage::SessionEnded { session, .. } => self.of(session).ended = true,
            GuestMessage::SessionOutput { session, data, .. } => {
                let story = self.of(session);
                // Each byte tells its place, so a wrong order or a gap in the wrong place shows.
                for byte in data {
                    assert_eq!(usize::from(byte), (story.told + story.dropped) % 251);
                    story.told += 1;
                }
            }
            GuestMessage::OutputDropped { session, bytes } => {
                self.of(session).dropped += usize::try_from(bytes).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    fn of(&mut self, session: u64) -> &mut Story {
        let story = self.stories.get_mut(&session).expect("it started");
        assert!(!story.ended, "nothing comes after the end");
        story
    }
}

fn bytes(from: usize, length: usize) -> Bytes {
    (from..from + length)
        .map(|place| u8::try_from(place % 251).unwrap())
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    Write(usize, usize),
    End(usize),
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Start),
        12 => (0usize..8, 0usize..65_536).prop_map(|(who, length)| Step::Write(who, length)),
        1 => (0usize..8).prop_map(Step::End),
        2 => (0usize..20).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_story_is_whole(steps in prop::collection::vec(step(), 0..200)) {
        let mut queue = Queue::default();
        let mut reader = Reader::default();
        let mut live: Vec<(u64, usize)> = Vec::new();
        let mut written = HashMap::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Start => {
                    last += 1;
                    queue.started(last, 1, "sh".to_owned());
                    live.push((last, 0));
                    written.insert(last, 0);
                }
                Step::Write(who, length) => {
                    let Some((session, from)) = live.get_mut(who) else { continue };
                    queue.output(*session, OutputSource::Stdout, &bytes(*from, length));
                    *from += length;
                    written.insert(*session, *from);
                }
                Step::End(who) if who < live.len() => {
                    queue.ended(live.remove(who).0, Exit::Code(0));
                }
                Step::End(_) => {}
                Step::Read(count) => {
                    for message in std::iter::from_fn(|| queue.pop()).take(count) {
                        reader.hear(message);
                    }
                }
            }
            prop_assert!(queue.bytes <= BYTES_MAX && queue.outputs <= OUTPUTS_MAX);
        }
        for (session, _) in live {
            queue.ended(session, Exit::Code(0));
        }
        while let Some(message) = queue.pop() {
            reader.hear(message);
        }
        prop_assert_eq!((queue.bytes, queue.outputs, queue.notices), (0, 0, 0));
        prop_assert!(queue.all_ended() && !queue.overrun());
        prop_assert_eq!(reader.stories.len(), written.len());
        for (session, story) in reader.stories {
            prop_assert!(story.ended);
            prop_assert_eq!(story.told + story.dropped, written[&session]);
        }
    }
}

#[test]
fn what_finds_no_room_is_counted_in_its_place() {
    let mut queue = Queue::default();
    queue.started(1, 10, "a".to_owned());
    queue.started(2, 20, "b".to_owned());
    let piece = Bytes::from(vec![0; BYTES_MAX / 2]);
    queue.output(1, OutputSource::Stdout, &piece);
    queue.output(1, OutputSource::Stdout, &piece);
    for _ in 0..10_000 {
        queue.output(1, OutputSource::Stderr, &Bytes::from_static(b"xyz"));
        queue.output(2, OutputSource::Stdout, &Bytes::from_static(b"z"));
    }
    assert_eq!(queue.entries.len(), 6, "gaps in a row are one");
    let told: Vec<_> = std::iter::from_fn(|| queue.pop()).skip(4).collect();
    let gap = |session, bytes| GuestMessage::OutputDropped { session, bytes };
    assert_eq!(told, [gap(1, 30_000), gap(2, 10_000)]);
    // A gap that was told does not grow any more.
    queue.output(1, OutputSource::Stdout, &piece);
    assert_eq!(queue.entries.len(), 1);
}

#[test]
fn small_pieces_are_bounded_by_their_number() {
    let mut queue = Queue::default();
    queue.started(1, 10, "a".to_owned());
    for _ in 0..2 * OUTPUTS_MAX {
        queue.output(1, OutputSource::Stdout, &Bytes::from_static(b"x"));
    }
    assert_eq!((queue.outputs, queue.bytes), (OUTPUTS_MAX, OUTPUTS_MAX));
    assert_eq!(queue.entries.len(), OUTPUTS_MAX + 2);
}

#[test]
fn a_session_that_did_not_start_has_no_story() {
    let mut queue = Queue::default();
    queue.output(1, OutputSource::Stdout, &Bytes::from_static(b"x"));
    queue.ended(1, Exit::Code(0));
    assert_eq!(queue.pop(), None);
}

#[test]
fn more_sessions_than_one_can_tell_end_the_telling_and_not_the_memory() {
    let mut queue = Queue::default();
    let mut told = 0u64;
    while !queue.overrun() {
        told += 1;
        assert!(told < 1_000_000, "no bound");
        queue.started(told, 1, "p".repeat(256));
        queue.ended(told, Exit::Code(0));
    }
    let entries = queue.entries.len();
    queue.started(u64::MAX, 1, String::new());
    queue.output(told, OutputSource::Stdout, &Bytes::from_static(b"x"));
    assert_eq!(queue.entries.len(), entries);
    assert!(queue.notices <= NOTICES_MAX);
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), entries);
    assert_eq!(queue.pop(), None);
}
