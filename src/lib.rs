//! The root of the workspace: it owns `tests/` (the whole system, with real programs) and
//! `examples/` (epserver and epwget).
