//! The boot conversation, which lasts as long as the machine.
//!
//! The guest dials, so that the supervisor need not guess when it is there. The supervisor
//! says what to boot, hears that it is done, and may say when it is to end. Losing it ends
//! the guest too: nobody would ever stop it otherwise.

use std::rc::Rc;
use std::time::Duration;

use msb_protocol::{
    BootRequest, GuestMessage, HostMessage, MONITOR_PORT, Ready, RefusalKind, Setting,
};
use tokio::select;
use tokio::time::timeout;

use super::wanted::Wanted;
use super::{BootError, bring_up, call, clock_ns, defaults, handoff, serve as port, start_agent};
use crate::agent::Agent;
use crate::channel::{Channel, ChannelError};
use crate::clock::Clock;
use crate::exec::Defaults;
use crate::log;
use crate::monitor::{self, Line};
use crate::shutdown::{DEFAULT_GRACE, Order, drain};

/// How long a supervisor that took the call may take to say what to boot.
const REQUEST: Duration = Duration::from_secs(60);

/// Boots as the supervisor says and serves. `None` if that did not succeed: what went wrong
/// has been told.
pub(super) async fn serve(
    channel: Channel,
    mounted: Result<(), BootError>,
    began: u64,
    order: &Rc<Order>,
) -> Option<Rc<Agent>> {
    let (request, wanted) = match timeout(REQUEST, listen(&channel)).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(error)) => return give_up(channel, error).await,
        Err(_elapsed) => return give_up(channel, ChannelError::Late).await,
    };
    match boot(mounted, request, wanted).await {
        Ok((agent, old)) => {
            // Before anybody knows that commands are served, so that none is missed.
            let line = agent.monitor.open();
            let ready = Ready {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                init_ns: began,
                ready_ns: clock_ns(),
            };
            agent.set_ready(ready.clone());
            let ready = GuestMessage::Ready(ready);
            if let Err(error) = channel.send(&ready).await {
                return give_up(channel, error).await;
            }
            if let Some(line) = line {
                report(&agent, line);
            }
            let (obeying, order) = (Rc::clone(&agent), Rc::clone(order));
            tokio::task::spawn_local(async move { obey(&channel, &obeying, &order).await });
            // After the message: the host need not wait for this.
            if let Some(old) = old {
                old.free();
            }
            Some(agent)
        }
        Err(error) => {
            error.log();
            // If the host cannot be told, the console was.
            let _ = channel.send(&GuestMessage::BootFailed(error.into())).await;
            channel.close().await;
            None
        }
    }
}

/// The supervisor's first words.
async fn listen(channel: &Channel) -> Result<(BootRequest, Wanted), ChannelError> {
    channel.greet().await?;
    channel.greeted().await?;
    let mut wanted = Wanted::default();
    loop {
        match channel.receive().await? {
            HostMessage::Setting(setting) => wanted.take(setting),
            HostMessage::Boot(request) => return Ok((request, wanted)),
            _ => {
                return Err(ChannelError::Unexpected(
                    "the boot conversation opens with settings and Boot",
                ));
            }
        }
    }
}

async fn give_up(channel: Channel, error: ChannelError) -> Option<Rc<Agent>> {
    log::error(&format!("the supervisor could not be understood: {error}"));
    channel.explain(&error).await;
    channel.close().await;
    None
}

async fn boot(
    mounted: Result<(), BootError>,
    request: BootRequest,
    mut wanted: Wanted,
) -> Result<(Rc<Agent>, Option<super::switch::OldRoot>), BootError> {
    mounted?;
    let scripts = wanted.has_scripts();
    let old = bring_up(&request, &mut wanted).await?;
    let defaults = Defaults {
        scripts,
        restricted: wanted.restricted,
        stop_signal: wanted.stop_signal,
        ..defaults(request.env)
    };
    if let Some(init) = &wanted.init {
        handoff::run(init, &defaults).await?;
    }
    let agent = start_agent(defaults)?;
    port::serve(&agent)?;
    Ok((agent, old))
}

/// Calls the supervisor once more, for the monitor. It may have no use for that, and then
/// the guest goes on without.
fn report(agent: &Rc<Agent>, line: Line) {
    let dialing = call::dial(MONITOR_PORT);
    let agent = Rc::clone(agent);
    tokio::task::spawn_local(async move {
        let answer = match dialing {
            Ok(dialing) => dialing.answer().await,
            Err(silence) => Err(silence),
        };
        match answer {
            Ok(channel) => monitor::serve(&agent, line, channel).await,
            Err(_silence) => log::info("nobody asks what sessions do: there is no monitor"),
        }
    });
}

/// Does what the supervisor says until it is gone.
async fn obey(channel: &Channel, agent: &Agent, order: &Order) {
    // How long processes get when no session is left, if that is to be the end.
    let mut draining: Option<Duration> = None;
    let clock = Clock::default();
    loop {
        let message = select! {
            message = channel.receive() => message,
            () = drain(agent, order, draining.unwrap_or(DEFAULT_GRACE)), if draining.is_some() => {
                draining = None;
                continue;
            }
        };
        match message {
            Ok(HostMessage::Shutdown { grace_ms }) => order.give(grace(grace_ms)),
            Ok(HostMessage::Drain { grace_ms }) => {
                let grace = grace(grace_ms);
                agent.drain();
                draining = Some(draining.map_or(grace, |before| before.min(grace)));
            }
            Ok(HostMessage::Setting(Setting::Clock { id, unix_ns })) => {
                if let Some(id) = clock.told(id, unix_ns) {
                    // As with the next.
                    let _ = channel.send(&GuestMessage::ClockAsked { id }).await;
                }
            }
            Ok(HostMessage::Ping) => {
                // If this fails, so does the next receive.
                let _ = channel.send(&GuestMessage::Pong).await;
            }
            Ok(_) => {
                let message = "a booted guest takes Drain, Shutdown and Clock here";
                channel.refuse(RefusalKind::Unexpected, message).await;
                break;
            }
            Err(error) => {
                log::info(&format!("the supervisor is gone: {error}"));
                break;
            }
        }
    }
    order.give(DEFAULT_GRACE);
}

fn grace(milliseconds: u32) -> Duration {
    Duration::from_millis(u64::from(milliseconds))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use msb_protocol::{BootStage, Decoder, ExecRequest, Hello, Root, Stdin, encode};
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::yield_now;

    use super::*;
    use crate::agent::Visit;
    use crate::session::Terms;
    use crate::stream::Stream;

    /// Far more than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A guest that is up, and its supervisor.
    struct Guest {
        agent: Rc<Agent>,
        order: Rc<Order>,
        supervisor: UnixStream,
    }

    impl Guest {
        fn up() -> Self {
            let (supervisor, ours) = UnixStream::pair().unwrap();
            let channel = Channel::new(Stream::new(ours.into()).unwrap());
            let agent = Agent::start(Defaults::default()).unwrap();
            let order = Rc::new(Order::default());
            let (obeying, given) = (Rc::clone(&agent), Rc::clone(&order));
            tokio::task::spawn_local(async move {
                channel.greeted().await.unwrap();
                obey(&channel, &obeying, &given).await;
            });
            let guest = Self {
                agent,
                order,
                supervisor,
            };
            guest.say(&HostMessage::Hello(Hello::ours()));
            guest
        }

        fn say(&self, message: &HostMessage) {
            let mut frame = Vec::new();
            encode(message, &mut frame).unwrap();
            (&self.supervisor).write_all(&frame).unwrap();
        }

        fn open(&self) -> Result<Visit, GuestMessage> {
            let request = ExecRequest {
                program: "sleep".into(),
                args: vec!["1000".into()],
                env: Vec::new(),
                cwd: None,
                user: None,
                stdin: Stdin::Null,
                terminal: None,
                limits: Vec::new(),
            };
            let terms = Terms {
                outlives: false,
                acks: true,
                limit: None,
                command: "sleep".into(),
            };
            let visit = self.agent.open_session(&request, terms)?;
            self.agent.run(&visit.session);
            Ok(visit)
        }

        /// Waits until a session is refused.
        async fn refusal(&self) -> RefusalKind {
            loop {
                match self.open() {
                    Ok(visit) => drop(visit),
                    Err(GuestMessage::Refused(refusal)) => return refusal.kind,
                    Err(other) => panic!("{other:?}"),
                }
                yield_now().await;
            }
        }

        async fn is_to_end(&self) -> bool {
            timeout(Duration::ZERO, self.order.given()).await.is_ok()
        }
    }

    fn in_time(test: impl Future<Output = ()>) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async { timeout(PATIENCE, test).await.unwrap() });
    }

    #[test]
    fn settings_come_before_the_boot_and_what_is_wrong_with_one_waits_for_it() {
        let boot = BootRequest {
            root: Root::Initramfs,
            hostname: None,
            env: Vec::new(),
        };
        let heard = |settings: Vec<Setting>| {
            let (supervisor, ours) = UnixStream::pair().unwrap();
            let mut frames = Vec::new();
            encode(&HostMessage::Hello(Hello::ours()), &mut frames).unwrap();
            for setting in settings {
                encode(&HostMessage::Setting(setting), &mut frames).unwrap();
            }
            encode(&HostMessage::Boot(boot.clone()), &mut frames).unwrap();
            (&supervisor).write_all(&frames).unwrap();
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())
                .unwrap();
            let (request, wanted) = runtime.block_on(async {
                let channel = Channel::new(Stream::new(ours.into()).unwrap());
                timeout(PATIENCE, listen(&channel)).await.unwrap().unwrap()
            });
            assert_eq!(request, boot);
            wanted
        };
        let mut wanted = heard(vec![Setting::Restricted]);
        assert!(wanted.restricted && wanted.check().is_ok());
        let script = Setting::Script {
            name: "..".into(),
            data: "x".into(),
        };
        let mut wanted = heard(vec![script, Setting::Restricted]);
        let error = wanted.check().unwrap_err();
        assert_eq!(error.stage, BootStage::Settings);
    }

    /// One test, for agents in one process would wait for each other's children.
    #[test]
    fn a_guest_drains_and_asks_about_its_clock() {
        in_time(async {
            let guest = Guest::up();
            let said = Stream::new(guest.supervisor.try_clone().unwrap().into()).unwrap();
            // An answer would set the clock of whoever runs this test.
            let hint = Setting::Clock { id: 0, unix_ns: 0 };
            guest.say(&HostMessage::Setting(hint));
            let mut decoder = Decoder::new();
            let asked: GuestMessage = loop {
                if let Some(message) = decoder.next_message().unwrap() {
                    break message;
                }
                let read = said.read(64, |bytes| decoder.feed(bytes));
                read.await.unwrap();
            };
            assert_eq!(asked, GuestMessage::ClockAsked { id: 1 });
        });
        in_time(async {
            let guest = Guest::up();
            guest.say(&HostMessage::Drain { grace_ms: 0 });
            guest.order.given().await;
            assert_eq!(guest.refusal().await, RefusalKind::Draining);
        });
        in_time(async {
            let guest = Guest::up();
            let running = guest.open().unwrap();
            guest.say(&HostMessage::Drain { grace_ms: 60_000 });
            assert_eq!(guest.refusal().await, RefusalKind::Draining);
            assert!(!guest.is_to_end().await, "a session runs");
            drop(running);
            guest.order.given().await;
        });
        in_time(async {
            let guest = Guest::up();
            let running = guest.open().unwrap();
            guest.say(&HostMessage::Drain { grace_ms: 0 });
            assert_eq!(guest.refusal().await, RefusalKind::Draining);
            guest.say(&HostMessage::Shutdown { grace_ms: 60_000 });
            guest.order.given().await;
            guest.agent.close();
            assert_eq!(guest.refusal().await, RefusalKind::ShuttingDown);
            guest.agent.drain();
            assert_eq!(guest.refusal().await, RefusalKind::ShuttingDown);
            drop(running);
        });
    }

    #[test]
    fn a_boot_error_becomes_the_protocols() {
        let error = BootError::new(
            BootStage::Root,
            "mounting",
            std::io::Error::from_raw_os_error(5),
        );
        let failure = msb_protocol::BootFailure::from(error);
        assert_eq!((failure.stage, failure.errno), (BootStage::Root, Some(5)));
        assert!(failure.message.starts_with("mounting: "));
    }
}
