//! Reading lists of unknown length without holding more of them than is needed.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

/// The first `N` elements of a list, and one more if there are more.
#[derive(Debug, Default)]
pub(crate) struct First<T, const N: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for First<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const N: usize>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
            type Value = First<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<T, N>, A::Error> {
                let mut first = Vec::new();
                while first.len() <= N {
                    match list.next_element()? {
                        Some(element) => first.push(element),
                        None => return Ok(First(first)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }

        deserializer.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

/// How long a list is.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0_u32;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count = count.saturating_add(1);
                }
                Ok(Count(count))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_element_beyond_the_bound_tells_that_there_are_more() {
        let read = |text: &str| serde_json::from_str::<First<u8, 3>>(text).expect("a list").0;
        assert_eq!(read("[1,2,3]"), [1, 2, 3]);
        assert_eq!(read("[1,2,3,4,5,\"any\"]"), [1, 2, 3, 4]);
        assert_eq!(serde_json::from_str::<Count>("[1,[],{}]").expect("a list").0, 3);
    }
}
