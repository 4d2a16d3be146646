//! Requests in, packed buffers out. Knows nothing of how the bytes travel.

mod packer;
mod transaction;

pub use transaction::{EngineError, Transaction};
