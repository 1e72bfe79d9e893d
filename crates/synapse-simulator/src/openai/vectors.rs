//! Embeddings without a model: a text is the sum of its words' random directions, so that the same text
//! always has the same vector and texts that share words lie close.

use serde::Deserialize;

use crate::text::{self, Random};

/// What may be embedded, or completed: a text, several, or their token numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum EmbeddingInput {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// One text's token numbers.
    Tokens(Vec<u32>),
    /// Several texts' token numbers.
    TokenLists(Vec<Vec<u32>>),
}

impl EmbeddingInput {
    /// The inputs as texts; each token number becomes a word.
    pub(crate) fn texts(&self) -> Vec<String> {
        let words = |tokens: &[u32]| tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Texts(texts) => texts.clone(),
            Self::Tokens(tokens) => vec![words(tokens)],
            Self::TokenLists(lists) => lists.iter().map(|tokens| words(tokens)).collect(),
        }
    }
}

/// The unit vector of `text` in `dimensions` dimensions.
pub(crate) fn embed(input: &str, dimensions: usize, seed: u64) -> Vec<f32> {
    let mut sum = vec![0.0_f64; dimensions];
    let mut add = |word: &str| {
        let mut random = Random::new(text::hash(word.to_lowercase().as_bytes()) ^ seed);
        for component in &mut sum {
            *component += random.fraction() - 0.5;
        }
    };
    input.split_whitespace().for_each(&mut add);
    if input.trim().is_empty() {
        add("");
    }
    let length = sum.iter().map(|component| component * component).sum::<f64>().sqrt();
    // Embeddings are single precision on the wire.
    sum.into_iter().map(|component| (component / length.max(f64::MIN_POSITIVE)) as f32).collect()
}

/// The cosine of the angle between two unit vectors, from -1 to 1.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_a_unit_vector_and_the_same_every_time() {
        let vector = embed("the cat sat", 64, 1);
        assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-5);
        assert_eq!(vector, embed("the cat sat", 64, 1));
        assert_ne!(vector, embed("the cat sat", 64, 2));
    }

    #[test]
    fn texts_that_share_words_lie_closer() {
        let [cat, cats, revenue] = ["the cat sat here", "the cat ran here", "quarterly revenue rose"]
            .map(|text| embed(text, 256, 0));
        assert!(cosine(&cat, &cats) > cosine(&cat, &revenue) + 0.3);
    }

    #[test]
    fn nothing_has_a_vector_too() {
        assert!(embed(" ", 8, 0).iter().all(|component| component.is_finite()));
    }
}
