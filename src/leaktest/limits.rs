//! Bounds of what the kit takes in and asks at once; `model::limits` has the server's.

use std::io::{BufRead, Read};

use super::target::Trouble;

/// Connections over which a throw-away store is asked at once.
pub const CONNECTIONS: usize = 16;
/// Connections over which a store in use is asked at once.
pub const CONNECTIONS_LIVE: usize = 4;
/// Connections that may be asked for.
pub const CONNECTIONS_MAX: usize = 64;
/// Questions to each server at each start of the timing probe.
pub const QUESTIONS_MAX: u64 = 100_000;
/// Requests whose answers are held at once.
pub const HELD_ANSWERS: usize = 64;
/// Stores with one caller's records alone that are kept for the next probe.
pub const TWINS: usize = 16;
/// Bytes of one answer over HTTP.
pub const ANSWER_BYTES: u64 = 256 << 20;
/// Bytes of one line from an adapter.
pub const LINE_BYTES: u64 = 256 << 20;
/// Bytes of one file of a world, and of one that a store left behind.
pub const FILE_BYTES: u64 = 4 << 30;
/// Records of a world.
pub const RECORDS: usize = 10_000_000;
/// Callers of a world.
pub const CALLERS: usize = 10_000;
/// Files that a store left behind.
pub const TRACES: usize = 100_000;
/// Fields of answers that are listed as not known.
pub const FIELDS: usize = 64;
/// Bytes of the record of what was planted.
pub const PLANTED_BYTES: u64 = 16 << 20;

/// Refuses more than `most` of something.
pub(super) fn within(what: &str, count: usize, most: usize) -> Result<(), Trouble> {
    if count > most {
        return Err(Trouble::Broken(format!("{count} {what} are more than the {most} that the kit takes")));
    }
    Ok(())
}

/// Everything in `from`, or a refusal where that is more than `most` bytes.
pub fn read_whole(what: &str, from: impl Read, most: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let broken = |e: std::io::Error| Trouble::Broken(format!("{what} cannot be read: {e}"));
    from.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > most {
        return Err(Trouble::Broken(format!("{what} is longer than the {most} bytes that the kit takes")));
    }
    Ok(bytes)
}

/// One line of `from`, its end included; empty where there is none.
pub(super) fn read_line(what: &str, from: &mut impl BufRead, most: u64) -> Result<String, Trouble> {
    let mut line = String::new();
    let broken = |e: std::io::Error| Trouble::Broken(format!("{what} cannot be read: {e}"));
    from.take(most.saturating_add(1)).read_line(&mut line).map_err(broken)?;
    if line.len() as u64 > most {
        return Err(Trouble::Broken(format!("{what} is longer than the {most} bytes that the kit takes")));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_a_bound_is_taken_and_one_more_is_refused() {
        assert!(within("callers", CALLERS, CALLERS).is_ok() && within("callers", CALLERS + 1, CALLERS).is_err());
        assert_eq!(read_whole("a file", &b"abcd"[..], 4).unwrap(), b"abcd");
        assert!(read_whole("a file", &b"abcde"[..], 4).is_err());
        assert_eq!(read_line("an answer", &mut &b"abc\nd"[..], 4).unwrap(), "abc\n");
        assert!(read_line("an answer", &mut &b"abcd\n"[..], 4).is_err());
    }
}
