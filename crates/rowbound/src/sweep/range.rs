//! A part of a storage's names.

/// Names that begin with a prefix, behind one name and up to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Range {
    /// Bytes, not folders; empty: all.
    pub(super) prefix: String,
    /// Behind this one.
    pub(super) after: Option<String>,
    /// Up to this one, which is in it.
    pub(super) until: Option<String>,
}

impl Range {
    pub(super) fn contains(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| name > after)
            && self.until.as_deref().is_none_or(|until| name <= until)
    }

    /// Whether `name` and all behind it are out.
    pub(super) fn is_behind(&self, name: &str) -> bool {
        self.until.as_deref().is_some_and(|until| name > until) || name > self.prefix.as_str() && !name.starts_with(&self.prefix)
    }

    /// Two values between which every name of the range lies: behind the first, up to the second.
    pub(super) fn bounds(&self) -> (Option<String>, Option<String>) {
        // What begins with the prefix is not smaller than it; the prefix itself may be a name, so the bound is just before it.
        let before = (!self.prefix.is_empty()).then(|| just_before(&self.prefix)).flatten();
        let after = self.after.clone().max(before);
        // Behind everything that begins with it stands the prefix with the last character there is.
        let behind = (!self.prefix.is_empty()).then(|| format!("{}{}", self.prefix, char::MAX.to_string().repeat(256)));
        let until = match (self.until.clone(), behind) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        (after, until)
    }
}

/// A text that is smaller than `prefix`, and of which nothing that begins with `prefix` is.
fn just_before(prefix: &str) -> Option<String> {
    let (at, _) = prefix.char_indices().next_back()?;
    // Without its last character it is smaller; some names between the two are read for nothing.
    (at > 0).then(|| prefix[..at].to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_name_of_the_range_is_out_of_bounds(
            prefix in "[ab/é\u{10ffff}]{0,3}",
            after in proptest::option::of("[ab/é]{1,4}"),
            until in proptest::option::of("[ab/é]{1,4}"),
            name in "[ab/é\u{10ffff}]{1,6}",
        ) {
            let range = Range { prefix, after, until };
            let (low, high) = range.bounds();
            if range.contains(&name) {
                prop_assert!(low.is_none_or(|low| name > low));
                prop_assert!(high.is_none_or(|high| name <= high));
                prop_assert!(!range.is_behind(&name));
            }
        }

        #[test]
        fn behind_the_range_nothing_is_in_it(prefix in "[ab/]{0,2}", until in proptest::option::of("[ab/]{1,3}"), mut names in proptest::collection::vec("[ab/]{1,5}", 1..40)) {
            let range = Range { prefix, after: None, until };
            names.sort();
            if let Some(first) = names.iter().position(|n| range.is_behind(n)) {
                prop_assert!(names[first..].iter().all(|n| !range.contains(n)));
            }
        }
    }
}
