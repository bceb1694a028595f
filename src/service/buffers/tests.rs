use super::*;

fn buffers(incomplete: usize, unread: usize) -> Buffers {
    let limits = BufferLimits::new(Bounds { incomplete, unread });
    Buffers::new(limits, Arc::new(|| 0))
}

/// A request of which so many bytes have arrived.
fn arriving(connection: &ConnectionBuffers, bytes: usize) -> Arc<Arriving> {
    let held = &connection.held;
    let request = Arc::<Arriving>::default();
    request.bytes.store(bytes, Relaxed);
    held.arriving()
        .insert(held.begun.fetch_add(1, Relaxed), Arc::clone(&request));
    held.incomplete.fetch_add(bytes, Relaxed);
    held.thread.incomplete.fetch_add(bytes, Relaxed);
    held.thread.evict_requests();
    request
}

#[test]
fn the_oldest_request_of_the_largest_connection_makes_room() {
    let buffers = buffers(100, 0);
    let (small, large) = (
        buffers.connection(1, "small"),
        buffers.connection(2, "large"),
    );
    let first = arriving(&small, 30);
    let (second, third) = (arriving(&large, 30), arriving(&large, 30));
    let fourth = arriving(&small, 20);
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
    assert_eq!(arriving(&connection, 101).bytes.load(Relaxed), 0);
    assert_eq!(buffers.0.incomplete.load(Relaxed), 0);
}

#[tokio::test]
async fn the_connection_that_reads_the_least_is_closed() {
    let buffers = buffers(0, 100);
    let (reads, does_not) = (buffers.connection(1, "a"), buffers.connection(2, "b"));
    does_not.held.add_unread(60);
    reads.held.add_unread(50);
    does_not.unread().await;
    assert_eq!(buffers.0.limits.unread(), 1);
    assert_eq!(buffers.0.unread.load(Relaxed), 50);
    // What is dropped with the connection was taken off the thread's account already.
    does_not.held.remove_unread(60);
    reads.held.remove_unread(50);
    assert_eq!(buffers.0.unread.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_reads_nothing_for_a_while_is_closed() {
    let buffers = buffers(0, 1_000);
    let connection = buffers.connection(1, "a");
    connection.held.add_unread(1);
    connection.unread().await;
    assert_eq!(buffers.0.limits.unread(), 1);
}
