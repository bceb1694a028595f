//! Which request or connection pays when a thread holds too much.

use super::request::IncompleteRequest;
use super::*;

fn buffers(incomplete: usize, unread: usize) -> Buffers {
    let limits = BufferLimits::new(Bounds { incomplete, unread });
    Buffers::new(limits, Arc::new(|| 0))
}

/// Adds a request of which this many bytes have arrived.
fn incomplete(connection: &ConnectionBuffers, bytes: usize) -> Arc<IncompleteRequest> {
    let usage = &connection.usage;
    let request = Arc::<IncompleteRequest>::default();
    request.bytes.store(bytes, Relaxed);
    let number = usage.next_request.fetch_add(1, Relaxed);
    usage.requests().insert(number, Arc::clone(&request));
    usage.incomplete.fetch_add(bytes, Relaxed);
    usage.thread.incomplete.fetch_add(bytes, Relaxed);
    usage.thread.evict_requests();
    request
}

#[test]
fn the_oldest_request_of_the_largest_connection_is_rejected() {
    let buffers = buffers(100, 0);
    let (small, large) = (
        buffers.connection(1, "small"),
        buffers.connection(2, "large"),
    );
    let first = incomplete(&small, 30);
    let (second, third) = (incomplete(&large, 30), incomplete(&large, 30));
    let fourth = incomplete(&small, 20);
    assert_eq!(buffers.0.incomplete.load(Relaxed), 80);
    assert_eq!(
        [&first, &second, &third, &fourth].map(|r| r.bytes.load(Relaxed)),
        [30, 0, 30, 20]
    );
    assert_eq!(buffers.0.limits.evicted(), 1);
}

#[test]
fn a_single_request_beyond_the_bound_is_rejected() {
    let buffers = buffers(100, 0);
    let connection = buffers.connection(1, "a");
    assert_eq!(incomplete(&connection, 101).bytes.load(Relaxed), 0);
    assert_eq!(buffers.0.incomplete.load(Relaxed), 0);
}

#[tokio::test]
async fn the_connection_that_reads_the_least_is_closed() {
    let buffers = buffers(0, 100);
    let (reads, does_not) = (buffers.connection(1, "a"), buffers.connection(2, "b"));
    does_not.usage.add_unread(60);
    reads.usage.add_unread(50);
    does_not.unread().await;
    assert_eq!(buffers.0.limits.unread(), 1);
    assert_eq!(buffers.0.unread.load(Relaxed), 50);
    // The bytes of the closed connection do not count for the thread any more.
    does_not.usage.remove_unread(60);
    reads.usage.remove_unread(50);
    assert_eq!(buffers.0.unread.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_reads_nothing_for_a_while_is_closed() {
    let buffers = buffers(0, 1_000);
    let connection = buffers.connection(1, "a");
    connection.usage.add_unread(1);
    connection.unread().await;
    assert_eq!(buffers.0.limits.unread(), 1);
}
