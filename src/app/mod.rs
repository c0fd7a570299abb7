//! Wires the modules, owns every task, drains on shutdown.
