//! The replica against a map that follows the rules in the plainest way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEY: HashKey = HashKey([3, 4]);

fn flow(number: u16, mark: u32) -> Flow {
    let mut flow = Flow {
        mark,
        ..Flow::default()
    };
    flow.orig.src_id = number;
    flow
}

fn hash(number: u16) -> u64 {
    KEY.of_key(&flow(number, 0).key())
}

#[derive(Clone, Debug)]
enum Op {
    Store {
        number: u16,
        mark: u32,
        stamp: u64,
        helper: bool,
    },
    Remove {
        number: u16,
        stamp: u64,
    },
    Sweep {
        stamp: u64,
    },
    Rehash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..24u16, 0..3u32, 1..60u64, any::<bool>()).prop_map(|(number, mark, stamp, helper)| {
            Op::Store { number, mark, stamp, helper }
        }),
        4 => (0..24u16, 1..60u64).prop_map(|(number, stamp)| Op::Remove { number, stamp }),
        1 => (1..30u64).prop_map(|stamp| Op::Sweep { stamp }),
        1 => Just(Op::Rehash),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_map_of_stamped_values(ops in prop::collection::vec(op(), 1..200)) {
        const FLOWS_MAX: usize = 16;
        let mut replica = Replica::new(KEY, FLOWS_MAX as u32);
        let mut model: BTreeMap<u16, (u64, Flow, Rare)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Store { number, mark, stamp, helper } => {
                    let name = crate::flow::rare::HelperName::new(b"ftp").filter(|_| helper);
                    let rare = Rare { helper: name, ..Rare::default() };
                    let expected = match model.get(&number) {
                        Some((held, ..)) if *held >= stamp => Stored::Stale,
                        None if model.len() >= FLOWS_MAX => Stored::Full,
                        _ => {
                            model.insert(number, (stamp, flow(number, mark), rare));
                            Stored::Yes
                        }
                    };
                    let key_hash = replica.hash_key().of_key(&flow(number, mark).key());
                    let stored = replica.store(key_hash, &flow(number, mark), &rare, stamp, 0);
                    prop_assert_eq!(stored, expected);
                }
                Op::Remove { number, stamp } => {
                    let old = model.get(&number).is_some_and(|(held, ..)| *held < stamp);
                    if old {
                        model.remove(&number);
                    }
                    let key_hash = replica.hash_key().of_key(&flow(number, 0).key());
                    prop_assert_eq!(replica.remove(key_hash, stamp), u32::from(old));
                }
                Op::Sweep { stamp } => {
                    let before = model.len();
                    model.retain(|_, (held, ..)| *held >= stamp);
                    let (swept, next) = replica.sweep(stamp, Slot(0), u32::MAX);
                    prop_assert_eq!((swept as usize, next), (before - model.len(), None));
                }
                Op::Rehash => replica.rehash(HashKey([replica.hash_key().0[0] + 1, 9])),
            }
            let mut held = BTreeMap::new();
            for slot in 0..replica.slots() {
                if let Some((flow, rare)) = replica.flow(Slot(slot)) {
                    let value = (replica.stamp(Slot(slot)), *flow, rare.copied().unwrap_or_default());
                    prop_assert!(held.insert(flow.orig.src_id, value).is_none());
                }
            }
            prop_assert_eq!(&held, &model);
            let key = replica.hash_key();
            let root = model.values().fold(0u64, |root, (_, flow, rare)| {
                root.wrapping_add(key.of_value(key.of_key(&flow.key()), flow, Some(rare)))
            });
            prop_assert_eq!(replica.digest().root(), root);
            prop_assert_eq!(replica.digest().flows() as usize, model.len());
        }
    }
}

#[test]
fn a_timeout_runs_on_and_never_below_zero() {
    let mut replica = Replica::new(KEY, 4);
    let stored = replica.store(
        hash(1),
        &Flow {
            timeout_secs: 100,
            ..flow(1, 0)
        },
        &Rare::default(),
        1,
        50,
    );
    assert_eq!(stored, Stored::Yes);
    let slot = replica.find(&flow(1, 0).key()).expect("was just stored");
    assert_eq!(replica.timeout_left(slot, 60), 90);
    assert_eq!(replica.timeout_left(slot, 500), 0);
}
