//! The scripts of the fuzz targets, shared with the tests of the engine's worker.

#![allow(dead_code)]

#[path = "../../engine/tests/worker/app.rs"]
mod app;
#[path = "../../engine/tests/worker/bed.rs"]
mod bed;
#[path = "../../engine/tests/worker/conversation.rs"]
mod conversation;
#[path = "../../engine/tests/worker/dice.rs"]
mod dice;
#[path = "../../engine/tests/worker/frames.rs"]
mod frames;
#[path = "../../engine/tests/worker/hostile_application.rs"]
mod hostile_application;
#[path = "../../engine/tests/worker/hostile_network.rs"]
mod hostile_network;
#[path = "../../engine/tests/worker/scripts.rs"]
pub mod scripts;
