//! The xDS protocol as a state machine over values: no socket, clock or task.
