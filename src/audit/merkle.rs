//! The Merkle tree of RFC 9162 (section 2.1.1), kept as its right edge alone: what is needed to grow it and to state its root.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf whose bytes are `parts` in a row.
pub(super) fn leaf(parts: &[&[u8]]) -> Hash {
    tagged(0, parts)
}

/// SHA-256 of a one-byte tag and `parts` in a row. The tags keep leaves, nodes and links of the chain apart.
pub(super) fn tagged(tag: u8, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new_with_prefix([tag]);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    tagged(1, &[left, right])
}

/// A growing tree: its size, and the roots of its perfect subtrees, the largest first (one for each bit set in the size).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Edge {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Edge {
    /// How many leaves there are.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds the leaf with this hash.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut grown = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                grown = node(&left, &grown);
            }
        }
        self.subtrees.push(grown);
        self.size = self.size.saturating_add(1);
    }

    /// The root; of the empty tree, the hash of nothing.
    pub(super) fn root(&self) -> Hash {
        match self.subtrees.split_last() {
            Some((last, larger)) => larger.iter().rev().fold(*last, |right, left| node(left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as section 2.1.1 of the RFC defines it, word by word: slow, and written apart from `Edge` on purpose.
    fn by_definition(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => Sha256::digest([&[0][..], one].concat()).into(),
            many => {
                let mut split = 1;
                while split * 2 < many.len() {
                    split *= 2;
                }
                let (left, right) = (by_definition(&many[..split]), by_definition(&many[split..]));
                Sha256::digest([&[1][..], &left, &right].concat()).into()
            }
        }
    }

    #[test]
    fn the_roots_are_those_of_the_public_certificate_transparency_vectors() {
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        assert_eq!(hex::encode(edge.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (data, root) in leaves.iter().zip(roots) {
            edge.push(leaf(&[&hex::decode(data).unwrap()]));
            assert_eq!(hex::encode(edge.root()), root);
        }
    }

    #[test]
    fn every_root_up_to_300_leaves_is_that_of_the_definition() {
        let mut edge = Edge::default();
        let mut leaves = Vec::new();
        for n in 0..300_u64 {
            assert_eq!(edge.size(), n);
            assert_eq!(edge.root(), by_definition(&leaves));
            let data = n.to_be_bytes().repeat(1 + (n % 5) as usize);
            edge.push(leaf(&[&data]));
            leaves.push(data);
        }
    }
}
