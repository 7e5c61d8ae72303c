//! Servers on our stack over a TAP device, clients on the kernel.

use testbed::Testbed;

testbed::test_every_program_on!(Testbed::server_on_tap());
