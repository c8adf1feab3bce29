//! Pauses in any order, with the vCPUs' part played as they do it.

use proptest::prelude::*;

use super::*;

#[test]
fn a_pause_is_done_when_the_last_one_is_out() {
    let mut pausing = Pausing::new(2);
    let [first] = pausing.ask(Verb::Pause, 1)[..] else {
        panic!("one step");
    };
    let Step::TakeOut(number) = first else {
        panic!("{first:?}");
    };
    assert_eq!(pausing.acknowledge(number), []);
    assert_eq!(pausing.acknowledge(number), [Step::Paused, Step::Done(1)]);
    assert_eq!(pausing.ask(Verb::Pause, 2), [Step::Done(2)]);
    let resumed = [Step::LetIn, Step::Resumed, Step::Done(3)];
    assert_eq!(pausing.ask(Verb::Resume, 3), resumed);
    assert_eq!(pausing.ask(Verb::Resume, 4), [Step::Done(4)]);
}

#[test]
fn a_resume_waits_for_the_pause_before_it() {
    let mut pausing = Pausing::new(1);
    let one = PauseNumber::default().next();
    assert_eq!(pausing.ask(Verb::Pause, 1), [Step::TakeOut(one)]);
    assert_eq!(pausing.ask(Verb::Resume, 2), []);
    assert_eq!(pausing.ask(Verb::Pause, 3), []);
    let two = one.next();
    assert_eq!(
        pausing.acknowledge(one),
        [
            Step::Paused,
            Step::Done(1),
            Step::LetIn,
            Step::Resumed,
            Step::Done(2),
            Step::TakeOut(two)
        ]
    );
    // Nobody acknowledges twice, but what if.
    assert_eq!(pausing.acknowledge(one), []);
    assert_eq!(pausing.acknowledge(two), [Step::Paused, Step::Done(3)]);
}

#[test]
fn the_line_is_bounded() {
    let mut pausing = Pausing::new(1);
    for who in 0..MAX_WAITING {
        assert!(!pausing.ask(Verb::Pause, who).contains(&Step::Refused(who)));
    }
    assert_eq!(pausing.ask(Verb::Resume, 999), [Step::Refused(999)]);
    let answers = pausing.end();
    assert_eq!(answers.len(), MAX_WAITING);
    assert!(answers.iter().all(|step| matches!(step, Step::Over(_))));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Ask(Verb),
    /// This vCPU thread gets to run: it looks at its orders.
    Thread(usize),
    /// The loop takes the next message of a vCPU.
    Message,
    End,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => prop_oneof![Just(Verb::Pause), Just(Verb::Resume)].prop_map(Op::Ask),
        4 => (0usize..3).prop_map(Op::Thread),
        4 => Just(Op::Message),
        1 => prop::bool::weighted(0.2).prop_map(|end| if end { Op::End } else { Op::Message }),
    ]
}

/// The machine around the state machine: threads with orders, their messages, and who was answered.
struct World {
    pausing: Pausing<usize>,
    order: Option<PauseNumber>,
    /// The pause in which each thread sleeps.
    asleep: Vec<Option<PauseNumber>>,
    messages: VecDeque<PauseNumber>,
    asked: Vec<Verb>,
    answered: usize,
    told_paused: bool,
    over: bool,
}

impl World {
    fn new(vcpus: usize) -> Self {
        Self {
            pausing: Pausing::new(vcpus),
            order: None,
            asleep: vec![None; vcpus],
            messages: VecDeque::new(),
            asked: Vec::new(),
            answered: 0,
            told_paused: false,
            over: false,
        }
    }

    fn all_asleep(&self) -> bool {
        self.order.is_some() && self.asleep.iter().all(|pause| *pause == self.order)
    }

    fn run(&mut self, op: Op) -> Result<(), TestCaseError> {
        let steps = match op {
            Op::Ask(verb) => {
                let who = self.asked.len();
                self.asked.push(verb);
                self.pausing.ask(verb, who)
            }
            Op::Thread(n) => {
                if let Some(asleep) = self.asleep.get_mut(n) {
                    if *asleep != self.order
                        && let Some(number) = self.order
                    {
                        self.messages.push_back(number);
                    }
                    *asleep = self.order;
                }
                Vec::new()
            }
            Op::Message => match self.messages.pop_front() {
                Some(number) => self.pausing.acknowledge(number),
                None => Vec::new(),
            },
            Op::End => {
                self.over = true;
                self.pausing.end()
            }
        };
        steps.into_iter().try_for_each(|step| self.take(step))
    }

    fn take(&mut self, step: Step<usize>) -> Result<(), TestCaseError> {
        match step {
            Step::TakeOut(number) => {
                prop_assert!(self.order.is_none() && !self.told_paused && !self.over);
                self.order = Some(number);
            }
            Step::LetIn => {
                prop_assert!(self.all_asleep() && self.told_paused && !self.over);
                self.order = None;
            }
            Step::Paused => {
                prop_assert!(self.all_asleep(), "a vCPU is still in the guest");
                prop_assert!(!self.told_paused);
                self.told_paused = true;
            }
            Step::Resumed => {
                prop_assert!(self.told_paused && self.order.is_none());
                self.told_paused = false;
            }
            Step::Done(who) => {
                prop_assert_eq!(who, self.answered, "out of order");
                let paused = self.asked[who] == Verb::Pause;
                prop_assert_eq!(self.told_paused, paused);
                prop_assert_eq!(self.order.is_some(), paused);
                prop_assert!(!self.over);
                self.answered += 1;
            }
            Step::Over(who) => {
                prop_assert!(self.over);
                prop_assert_eq!(who, self.answered, "out of order");
                self.answered += 1;
            }
            Step::Refused(who) => prop_assert!(false, "{} was refused", who),
        }
        Ok(())
    }

    /// Lets every thread and message have its turn until nothing is left to happen.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        // Each round ends at least one pause.
        for _ in 0..=self.asked.len() {
            for n in 0..self.asleep.len() {
                self.run(Op::Thread(n))?;
            }
            while !self.messages.is_empty() {
                self.run(Op::Message)?;
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_request_is_answered_in_order_and_truly(
        vcpus in 1usize..4,
        ops in prop::collection::vec(any_op(), 0..MAX_WAITING),
    ) {
        let mut world = World::new(vcpus);
        for op in ops {
            world.run(op)?;
        }
        world.settle()?;
        prop_assert_eq!(world.answered, world.asked.len());
        if !world.over {
            let last = world.asked.last() == Some(&Verb::Pause);
            prop_assert_eq!(world.told_paused, last);
            prop_assert_eq!(world.all_asleep(), last);
        }
    }
}
