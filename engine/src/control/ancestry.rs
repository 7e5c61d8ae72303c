//! Who descends from whom, by the parents in `/proc`.

/// Whether `pid` is `ancestor` or descends from it, by the parents in `/proc`.
pub fn is_descendant(mut pid: i32, ancestor: i32) -> bool {
    // A bound on the depth, should /proc be strange.
    for _ in 0..1000 {
        if pid == ancestor {
            return true;
        }
        match parent_of(pid) {
            Some(parent) if parent > 0 => pid = parent,
            _ => return false,
        }
    }
    false
}

/// The parent of a process; `None` if there is no such process.
pub fn parent_of(pid: i32) -> Option<i32> {
    parent_field(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The fourth field of `/proc/PID/stat` (`proc_pid_stat(5)`). The second is the program's name in
/// parentheses, in which any bytes may stand.
fn parent_field(stat: &[u8]) -> Option<i32> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end_of_name + 1..]).ok()?;
    rest.split_whitespace().nth(1)?.parse().ok()
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

    #[test]
    fn a_name_cannot_forge_the_parent() {
        assert_eq!(parent_field(b"7 (cat) S 42 7 7"), Some(42));
        assert_eq!(parent_field(b"7 (a) S 1 (b) S 42 7"), Some(42));
        assert_eq!(parent_field(b"7 (\xff) S 42 7"), Some(42));
        assert_eq!(parent_field(b"7"), None);
    }
}
