//! Any bytes written to the file: judged without a panic, and what is accepted says the same when written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use task_diag::protocol::Request;

fuzz_target!(|written: &[u8]| {
    match Request::parse(written) {
        Ok(request) => assert_eq!(Request::parse(&request.to_bytes()), Ok(request)),
        Err(error) => assert_eq!(error.to_errno(), 22),
    }
});
