//! Who descends from whom, by the parents in `/proc`.

use std::io;

/// Whether `pid` is `ancestor` or descends from it, by the parents in `/proc`.
pub fn is_descendant(mut pid: i32, ancestor: i32) -> bool {
    // A bound on the depth, should /proc be strange.
    for _ in 0..1000 {
        if pid == ancestor {
            return true;
        }
        match parent_of(pid) {
            Ok(parent) if parent > 0 => pid = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: i32) -> io::Result<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything; state and parent follow the last one.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_descends_from_its_parent_and_not_the_other_way_round() {
        let me = std::process::id() as i32;
        let parent = parent_of(me).unwrap();
        assert!(is_descendant(me, me));
        assert!(is_descendant(me, parent));
        assert!(!is_descendant(parent, me));
        assert!(!is_descendant(i32::MAX, me));
    }
}
