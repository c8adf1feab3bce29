//! Direct access to a guest's agent.

use std::time::Duration;

use anyhow::{Context, Result};
use microsandbox::agent::{AgentClient, AgentClientError, MessageType};
use microsandbox::agent::{ExecRequest, Message, SessionAnswer, SessionCall, SessionStart};
use microsandbox::protocol::{Exit, LENGTH_BYTES, Stdin, encode};
use msb_tests::{Fixture, within};

fn cat() -> SessionStart {
    SessionStart {
        exec: ExecRequest {
            program: "cat".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            stdin: Stdin::Pipe,
            terminal: None,
            limits: Vec::new(),
        },
        detachable: false,
        limit_ms: None,
    }
}

#[tokio::test]
async fn a_sandboxs_own_client_speaks_to_its_agent() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("client").await?;
    let client = sandbox.client();
    assert!(client.supports(MessageType::Session));
    within(client.ensure_ready()).await?;
    let ready = client.ready().context("it says how it came up")?;
    assert!(
        ready.ready_ns > ready.init_ns && ready.init_ns > 0,
        "{ready:?}"
    );
    assert_eq!(client.agent_version(), ready.version);
    let pong = within(client.request(MessageType::Ping, &())).await?;
    assert_eq!(pong, Message::Pong);

    let start = SessionCall::Start(cat());
    let (id, mut stream) = within(client.stream(MessageType::Session, &start)).await?;
    let session = match within(stream.next()).await? {
        Some(Message::Started { session, .. }) => session,
        other => panic!("{other:?}"),
    };
    let bytes = bytes_of(b"through the wire");
    within(client.send(id, MessageType::Stdin, &bytes)).await?;
    let listed = within(client.request(MessageType::Session, &SessionCall::List)).await?;
    let Message::Session(SessionAnswer::Listed(entries)) = listed else {
        panic!("{listed:?}");
    };
    assert!(
        entries
            .iter()
            .any(|entry| entry.session == session && entry.command == "cat")
    );
    within(client.send(id, MessageType::StdinEof, &())).await?;
    let mut output = Vec::new();
    let exit = loop {
        match within(stream.next()).await? {
            Some(Message::Stdout(bytes)) => output.extend(bytes),
            Some(Message::StdinConsumed(_)) => {}
            Some(Message::Exited(exit)) => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (output.as_slice(), exit),
        (&b"through the wire"[..], Exit::Code(0))
    );
    sandbox.stop().await?;
    let late = within(sandbox.client_arc().request(MessageType::Ping, &())).await;
    assert!(
        matches!(late, Err(AgentClientError::SandboxNotFound(_))),
        "{late:?}"
    );
    Ok(())
}

/// A byte string, as the wire has it: its length and its bytes.
fn bytes_of(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[tokio::test]
async fn a_client_finds_a_sandbox_by_its_name_and_by_its_socket() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("found").await?;
    let named = within(AgentClient::connect_sandbox("found")).await?;
    assert!(!named.agent_version().is_empty());
    let path = AgentClient::socket_path("found")?;
    let limit = Duration::from_secs(60);
    let client = within(AgentClient::connect_with_timeout(&path, limit)).await?;
    let mut ping = Vec::new();
    encode(&microsandbox::agent::Request::Ping, &mut ping)?;
    let pong = within(client.request_raw(0, &ping[LENGTH_BYTES..])).await?;
    let mut meant = Vec::new();
    encode(&Message::Pong, &mut meant)?;
    assert_eq!(pong.body, meant[LENGTH_BYTES..]);

    // A guest that stands still does not answer, and is not waited for any longer than this.
    within(sandbox.pause()).await?;
    let brief = Duration::from_secs(1);
    let stalled = within(AgentClient::connect_sandbox_with_timeout("found", brief)).await;
    assert!(
        matches!(stalled, Err(AgentClientError::Timeout(_))),
        "{stalled:?}"
    );
    within(sandbox.resume()).await?;
    let again = within(named.request(MessageType::Ping, &())).await?;
    assert_eq!(again, Message::Pong);
    within(sandbox.stop()).await?;
    let gone = within(AgentClient::connect_sandbox("found")).await;
    assert!(
        matches!(gone, Err(AgentClientError::SandboxNotFound(_))),
        "{gone:?}"
    );
    let gone = within(AgentClient::connect(&path)).await;
    assert!(
        matches!(gone, Err(AgentClientError::Connect { .. })),
        "{gone:?}"
    );
    Ok(())
}
