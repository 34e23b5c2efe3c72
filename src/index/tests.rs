use super::*;

fn by_slot(a: Slot, b: Slot) -> Ordering {
    a.cmp(&b)
}

#[test]
fn the_nearest_permitted_live_rows_are_found_in_order() {
    let mut index = VectorIndex::new(2, Metric::Euclidean, Isolation::Strict);
    let at = |x: f32| Embedding::new(vec![x, 0.0], 2, Metric::Euclidean).unwrap();
    let slots: Vec<Slot> = (0..10).map(|i| index.push(&at(i as f32))).collect();
    assert_eq!(slots, (0..10).map(Slot).collect::<Vec<_>>());
    index.remove(Slot(4));
    let permitted: RoaringBitmap = [1, 3, 4, 5, 9, 77].into_iter().collect();
    let found = index.search(&at(4.0), &permitted, 3, &|a, b| b.cmp(&a));
    let hits: Vec<_> = found.hits.iter().map(|h| (h.slot.0, h.score)).collect();
    assert_eq!(hits, [(5, -1.0), (3, -1.0), (1, -9.0)]);
    assert_eq!((found.path, found.scored), (Path::Scan, 4));
    assert_eq!(index.vector(Slot(4)), None);
    assert_eq!(index.search(&at(4.0), &RoaringBitmap::new(), 3, &by_slot).path, Path::Empty);
}
