//! The rule for topic names.
//!
//! Owns what a name may be; knows nothing of where names are kept. A name never becomes a path, and could not hurt as one.

/// Longest name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 100;

/// Checks a topic's name: 1 to 100 of `A-Z a-z 0-9 . _ -`, not starting with a dot or a dash.
///
/// # Errors
/// The rule that is broken, as a sentence for the person who typed the name.
pub fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(String::from("a topic name must not be empty"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(format!(
            "a topic name has at most {TOPIC_NAME_BYTES_MAX} characters, this one has {}",
            name.len()
        ));
    }
    if let Some(odd) = name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'))
    {
        return Err(format!(
            "a topic name consists of A-Z, a-z, 0-9, '.', '_' and '-', not {odd:?}"
        ));
    }
    if name.starts_with(['.', '-']) {
        return Err(String::from(
            "a topic name starts with a letter, a digit or '_'",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn ordinary_names_pass() {
        for name in [
            "a",
            "orders",
            "orders.v2",
            "_internal",
            "A-b_c.9",
            &"x".repeat(100),
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_would_be_paths_or_options_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "../etc",
            "a/b",
            "a\\b",
            "-rf",
            ".hidden",
            "a b",
            "a\0b",
            "a\n",
            "ü",
            &"x".repeat(101),
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn reason_names_the_character_at_fault() {
        assert!(check("a/b").unwrap_err().contains("'/'"));
        assert!(check(&"x".repeat(101)).unwrap_err().contains("101"));
    }
}
