//! Servers as people run them: with masters and workers, as daemons, reloaded and upgraded under
//! load. Each serves on the kernel's stack, which shows that the test is right, and on ours.
//!
//! Every server is started, loaded without one failed request, ended, and must leave nothing.

mod database;
mod load;
mod proxy;
mod runtime;
mod service;
mod transfer;
mod web;

/// Makes each of these a test on the kernel's stack and one on ours over a TAP device.
macro_rules! on_both_stacks {
    ($($name:ident),+ $(,)?) => {
        mod kernel {
            $(
                #[test]
                fn $name() {
                    super::$name(&testbed::Testbed::kernel_under_mtcp_run());
                }
            )+
        }

        mod stack {
            $(
                #[test]
                fn $name() {
                    super::$name(&testbed::Testbed::server_on_tap());
                }
            )+
        }
    };
}
use on_both_stacks;

/// As [`on_both_stacks`], and two more: one with the clients on our stack and the server on the
/// kernel's, and one with both on stacks of ours that a wire of shared memory joins.
macro_rules! wherever_the_stack_is {
    ($($name:ident),+ $(,)?) => {
        crate::on_both_stacks!($($name),+);

        mod client {
            $(
                #[test]
                fn $name() {
                    super::$name(&testbed::Testbed::client_on_tap());
                }
            )+
        }

        mod wire {
            $(
                #[test]
                fn $name() {
                    super::$name(&testbed::Testbed::wire());
                }
            )+
        }
    };
}
use wherever_the_stack_is;
