//! What TCP_INFO tells, as Linux counts it.

use super::*;

/// Milliseconds since data was sent, data came, and an ACK came.
fn since(host: &Host, now: Instant) -> [u64; 3] {
    let info = host.tcb.info(now);
    [info.last_sent, info.last_received, info.last_acked].map(Duration::as_millis)
}

#[test]
fn before_there_is_data_the_times_count_from_the_end_of_the_handshake() {
    let (client, server) = established(&TcpConfig::default(), &SocketOptions::default());
    assert_eq!(since(&client, after(105)), [105; 3]);
    assert_eq!(since(&server, after(105)), [100; 3]);
}

#[test]
fn data_from_a_peer_that_only_sends_is_no_ack() {
    let (mut client, mut server) = established(&TcpConfig::default(), &SocketOptions::default());
    client.write(10);
    server.receive_all(after(50), &client.poll(after(40)));
    assert_eq!(since(&client, after(100))[0], 60);
    assert_eq!(since(&server, after(100)), [95, 50, 95]);
    client.receive_all(after(60), &server.poll(after(60)));
    assert_eq!(since(&client, after(100)), [60, 100, 40]);
    server.write(10);
    client.receive_all(after(80), &server.poll(after(70)));
    assert_eq!(since(&client, after(100)), [60, 20, 40]);
    assert_eq!(since(&server, after(100)), [30, 50, 95]);
}

#[test]
fn a_fin_is_no_data() {
    let (mut client, mut server) = established(&TcpConfig::default(), &SocketOptions::default());
    client.tcb.shutdown_write(after(40));
    server.receive_all(after(50), &client.poll(after(40)));
    assert_eq!(since(&client, after(100))[0], 100);
    assert_eq!(since(&server, after(100))[1], 95);
}

#[test]
fn of_a_connection_opened_early_data_counts_from_the_syn() {
    let cfg = TcpConfig::default();
    let opts = SocketOptions::default();
    let mut client = Host::connect(T0, &cfg, &opts);
    let syn = client.poll(T0);
    let mut server = Host::accept(T0, &cfg, &opts, &syn[0]);
    server.rx.limit = server.tcb.recv_buffer().into();
    server
        .tcb
        .accept_fast(T0, &syn[0].segment(), None, &mut server.rx);
    client.receive_all(T0, &server.poll(T0));
    server.receive_all(after(50), &client.poll(after(50)));
    assert_eq!(server.state(), State::Established);
    assert_eq!(since(&server, after(100)), [50, 100, 50]);
}

#[test]
fn a_syn_without_data_is_nothing_to_be_busy_with() {
    let (cfg, opts) = (TcpConfig::default(), SocketOptions::default());
    let mut client = Host::connect(T0, &cfg, &opts);
    let syn = client.poll(T0);
    let mut server = Host::accept(after(50), &cfg, &opts, &syn[0]);
    client.receive_all(after(100), &server.poll(after(50)));
    client.poll(after(100));
    assert_eq!(client.tcb.info(after(200)).busy, Duration::ZERO);
    client.write(10);
    client.poll(after(200));
    assert_eq!(client.tcb.info(after(230)).busy.as_millis(), 30);
}

/// Milliseconds of busy, and of these held back by the peer's window and by the send buffer.
fn held_back(host: &Host, now: Instant) -> [u64; 3] {
    let info = host.tcb.info(now);
    [info.busy, info.window_limited, info.buffer_limited].map(Duration::as_millis)
}

#[test]
fn the_send_buffer_limits_while_a_writer_waits_and_the_network_would_take_more() {
    let (mut client, mut server) = established(&TcpConfig::default(), &SocketOptions::default());
    client.write(1000);
    let segments = client.poll(after(100));
    client.tcb.set_writer_waits(after(100), true);
    assert_eq!(held_back(&client, after(120)), [20, 0, 20]);
    server.receive_all(after(120), &segments);
    client.receive_all(after(160), &server.poll(after(160)));
    client.poll(after(160));
    assert_eq!(
        held_back(&client, after(200)),
        [60, 0, 60],
        "nothing in flight"
    );
    client.write(1000);
    client.poll(after(200));
    client.tcb.set_writer_waits(after(210), false);
    assert_eq!(held_back(&client, after(230)), [90, 0, 70], "there is room");
}

#[test]
fn a_full_congestion_window_is_no_lack_of_buffer() {
    let (mut client, _) = established(&TcpConfig::default(), &SocketOptions::default());
    client.write(client.tcb.cwnd().into());
    client.poll(after(100));
    client.tcb.set_writer_waits(after(100), true);
    assert_eq!(held_back(&client, after(120)), [20, 0, 0]);
}
