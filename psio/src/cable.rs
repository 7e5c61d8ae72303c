//! Tests of interfaces: a network namespace with a veth pair for each, which needs root.
#![allow(unsafe_code)]

use std::io;
use std::process::Command;
use std::time::Duration;

use crate::sys::wait_readable;
use crate::{BURST, Error, Queue, RxMeta, TxMeta};

/// Long enough for anything that will happen at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// ip(8), which succeeds.
pub fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a program to its end, which succeeds.
pub fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}(8): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `test` in a thread with a network namespace in which `west` and `east` are the two ends of
/// a cable.
pub fn with_cable(test: impl FnOnce() + Send + 'static) {
    with_wide_cable(1, test);
}

/// As [`with_cable`], with as many queues at each end.
pub fn with_wide_cable(queues: usize, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: changes the namespace of this thread alone, which has opened nothing yet.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        let error = io::Error::last_os_error();
        assert_eq!(
            result, 0,
            "tests of interfaces need CAP_SYS_ADMIN to make a network namespace: {error}"
        );
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        ip(&format!(
            "link add west {queues} type veth peer name east {queues}"
        ));
        ip("link set west up");
        ip("link set east up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Queues a frame.
pub fn send(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) {
    queue.reserve(frame.len()).unwrap().copy_from_slice(frame);
    queue.commit(frame.len(), meta);
}

/// Receives until `enough` of our test's TCP frames have come; the kernel sends others.
pub fn receive(queue: &mut dyn Queue, enough: usize) -> Vec<(Vec<u8>, RxMeta)> {
    let mut frames = Vec::new();
    while frames.len() < enough {
        let mut sink = |frame: &[u8], meta: RxMeta| {
            if frame[6..12] == [2, 0, 0, 0, 0, 2] {
                frames.push((frame.to_vec(), meta));
            }
        };
        if queue.receive(BURST, &mut sink).unwrap() == 0 && queue.arm() {
            let [woken] = wait_readable([queue.wait_fd().unwrap()], Some(PATIENCE)).unwrap();
            queue.disarm(woken);
            assert!(woken, "{} of {enough} frames came", frames.len());
        }
    }
    frames
}

/// Removes the interface of a queue, which wakes who waits for frames and then says that it is gone.
pub fn take_away(interface: &str, queue: &mut dyn Queue) {
    ip(&format!("link del {interface}"));
    let error = loop {
        let [woken] = wait_readable([queue.wait_fd().unwrap()], Some(PATIENCE)).unwrap();
        assert!(woken, "nobody says that the interface is gone");
        queue.arm();
        if let Err(error) = queue.receive(BURST, &mut |_, _| {}) {
            break error;
        }
    };
    assert!(matches!(error, Error::Gone(_)), "{error:?}");
}
