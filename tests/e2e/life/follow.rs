//! Following a log: as it is written, from any place on, and to its end.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use futures::{Stream, StreamExt};
use microsandbox::logs::{
    LogCursor, LogEntry, LogOptions, LogStreamOptions, LogStreamStart, log_stream,
    read_logs_snapshot,
};
use microsandbox::{MicrosandboxError, Sandbox};
use msb_tests::{Fixture, within};

use super::logs::{once_logged, texts};
use super::{removed, status, stop};

fn following() -> LogStreamOptions {
    LogStreamOptions {
        follow: true,
        ..LogStreamOptions::default()
    }
}

fn from(cursor: LogCursor) -> LogStreamOptions {
    LogStreamOptions {
        start: LogStreamStart::From(cursor),
        ..LogStreamOptions::default()
    }
}

/// What comes until this has come.
async fn hear<S>(stream: &mut S, last: &str) -> Result<String>
where
    S: Stream<Item = Result<LogEntry, MicrosandboxError>> + Unpin,
{
    let mut heard = String::new();
    while !heard.contains(last) {
        let entry = within(stream.next()).await.context("it ended early")??;
        heard.push_str(std::str::from_utf8(&entry.data)?);
    }
    Ok(heard)
}

/// All that comes until the stream ends by itself.
async fn rest(
    stream: impl Stream<Item = Result<LogEntry, MicrosandboxError>>,
) -> Result<Vec<LogEntry>> {
    let entries: Vec<_> = within(stream.collect()).await;
    Ok(entries.into_iter().collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn lines_come_as_they_are_printed_until_the_sandbox_stops() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("follow")?.create().await?;
    let handle = sandbox.handle().await?;
    let mut streams = [
        sandbox.log_stream(&following()).await?,
        handle.log_stream(&following()).await?,
        log_stream("follow", &following()).await?.boxed(),
    ];
    for word in ["one\n", "two\n", "three\n"] {
        // Each is heard before the next is said.
        sandbox.exec("echo", [word.trim_end()]).await?;
        for stream in &mut streams {
            assert_eq!(hear(stream, word).await?, word);
        }
    }
    sandbox.exec("echo", ["the last"]).await?;
    stop(&sandbox).await?;
    for stream in streams {
        assert_eq!(texts(&rest(stream).await?), ["the last\n"]);
    }

    // Of one that is over there is nothing to wait for.
    let all = rest(handle.log_stream(&following()).await?).await?;
    assert_eq!(texts(&all).concat(), "one\ntwo\nthree\nthe last\n");
    removed("follow").await
}

#[tokio::test]
async fn it_ends_when_the_sandbox_is_killed_or_goes_altogether() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("follow-gone").await?;
    let mut stream = sandbox.log_stream(&following()).await?;
    sandbox.exec("echo", ["here"]).await?;
    assert_eq!(hear(&mut stream, "here").await?, "here\n");
    within(sandbox.kill_with_timeout(msb_tests::PATIENCE)).await?;
    assert_eq!(rest(stream).await?, []);
    super::nothing_of("follow-gone").await
}

#[tokio::test]
async fn a_quiet_one_ends_when_its_time_has_come() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("follow-until")?.create().await?;
    let end = SystemTime::now() + Duration::from_secs(2);
    let options = LogStreamOptions {
        until: Some(end.into()),
        ..following()
    };
    assert_eq!(rest(sandbox.log_stream(&options).await?).await?, []);
    assert!(SystemTime::now() >= end, "not before");
    let state = status("follow-until").await?;
    assert!(state.is_active(), "the sandbox itself goes on");

    // A time that has been ends it at once; so does not following.
    sandbox.exec("echo", ["later"]).await?;
    once_logged("follow-until", "later").await?;
    assert_eq!(rest(sandbox.log_stream(&options).await?).await?, []);
    let now = LogStreamOptions::default();
    let entries = rest(sandbox.log_stream(&now).await?).await?;
    assert_eq!(texts(&entries), ["later\n"]);
    let since = LogStreamOptions {
        start: LogStreamStart::Since(SystemTime::now().into()),
        ..now
    };
    assert_eq!(rest(sandbox.log_stream(&since).await?).await?, []);
    stop(&sandbox).await?;
    removed("follow-until").await
}

#[tokio::test]
async fn from_a_cursor_it_goes_on_without_loss_or_repetition() -> Result<()> {
    let fixture = Fixture::new()?;
    let name = "follow-from";
    let sandbox = fixture.kept(name)?.create().await?;
    let empty = read_logs_snapshot(name, &LogOptions::default()).await?;
    assert_eq!(empty.entries, []);
    for word in ["one", "two", "three"] {
        sandbox.exec("echo", [word]).await?;
    }
    let all = once_logged(name, "three").await?;
    assert_eq!(all.len(), 3);
    // A cursor survives being written down.
    let cursors: Vec<LogCursor> = all
        .iter()
        .map(|entry| entry.cursor.to_string().parse())
        .collect::<Result<_, _>>()?;
    for (place, cursor) in cursors.iter().enumerate() {
        let entries = rest(sandbox.log_stream(&from(*cursor)).await?).await?;
        assert_eq!(entries, all[place + 1..]);
    }
    assert_eq!(
        rest(sandbox.log_stream(&from(empty.cursor)).await?).await?,
        all
    );
    let beginning = sandbox.log_stream(&from(LogCursor::empty())).await?;
    assert_eq!(rest(beginning).await?, all);

    // And the end of the run, and the beginning of the next.
    let seen = read_logs_snapshot(name, &LogOptions::default()).await?;
    assert_eq!(seen.entries, all);
    stop(&sandbox).await?;
    let again = within(Sandbox::start(name)).await?;
    let mut stream = again
        .log_stream(&LogStreamOptions {
            follow: true,
            ..from(seen.cursor)
        })
        .await?;
    again.exec("echo", ["four"]).await?;
    assert_eq!(hear(&mut stream, "four").await?, "four\n");
    stop(&again).await?;
    assert_eq!(rest(stream).await?, []);
    removed(name).await
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let name = "follow-nowhere";
    let sandbox = fixture.kept(name)?.create().await?;
    sandbox.exec("echo", ["longer than any step below"]).await?;
    let all = once_logged(name, "below").await?;
    stop(&sandbox).await?;

    // Up to 63 bytes before the end of the line, or one behind it, is the middle of one.
    let mut text = all[0].cursor.to_string();
    let last = text.pop();
    text.push(if last == Some('A') { 'B' } else { 'A' });
    let mut stream = sandbox.log_stream(&from(text.parse()?)).await?;
    let refused = within(stream.next()).await;
    assert!(
        matches!(refused, Some(Err(MicrosandboxError::InvalidCursor))),
        "{refused:?}"
    );
    assert!(within(stream.next()).await.is_none());
    removed(name).await
}
