//! One small number a slot, as wide as the largest of them needs.

/// Numbers by slot; 0 where nothing was set.
#[derive(Debug, Clone)]
pub(super) enum Codes {
    Narrow(Vec<u8>),
    Middle(Vec<u16>),
    Wide(Vec<u32>),
}

impl Default for Codes {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Codes {
    pub(super) fn at(&self, slot: u32) -> u32 {
        let slot = slot as usize;
        match self {
            Self::Narrow(codes) => codes.get(slot).copied().map_or(0, u32::from),
            Self::Middle(codes) => codes.get(slot).copied().map_or(0, u32::from),
            Self::Wide(codes) => codes.get(slot).copied().unwrap_or(0),
        }
    }

    pub(super) fn set(&mut self, slot: u32, code: u32) {
        self.widen(code);
        let slot = slot as usize;
        match self {
            Self::Narrow(codes) => put(codes, slot, code as u8),
            Self::Middle(codes) => put(codes, slot, code as u16),
            Self::Wide(codes) => put(codes, slot, code),
        }
    }

    fn widen(&mut self, code: u32) {
        match self {
            Self::Narrow(codes) if code > u32::from(u8::MAX) => {
                *self = Self::Middle(codes.iter().map(|c| u16::from(*c)).collect());
                self.widen(code);
            }
            Self::Middle(codes) if code > u32::from(u16::MAX) => {
                *self = Self::Wide(codes.iter().map(|c| u32::from(*c)).collect());
            }
            Self::Narrow(_) | Self::Middle(_) | Self::Wide(_) => {}
        }
    }
}

fn put<T: Copy + Default + PartialEq>(codes: &mut Vec<T>, slot: usize, code: T) {
    if slot >= codes.len() {
        if code == T::default() {
            return;
        }
        codes.resize(slot + 1, T::default());
    }
    if let Some(place) = codes.get_mut(slot) {
        *place = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_each_widening() {
        let mut codes = Codes::default();
        let wanted = [(3, 255), (0, 1), (9, 256), (4, 65_535), (2, 65_536), (3, 7), (70, u32::MAX), (0, 0)];
        for (slot, code) in wanted {
            codes.set(slot, code);
        }
        let found: Vec<u32> = [0, 1, 2, 3, 4, 9, 70, 71].map(|slot| codes.at(slot)).to_vec();
        assert_eq!(found, [0, 0, 65_536, 7, 65_535, 256, u32::MAX, 0]);
    }
}
