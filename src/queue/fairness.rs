//! Whose turn it is, over a long time: what the queue promises, held against the simulation.
//!
//! A light key here sends its next request when it has the answer to the last; a heavy one always has many waiting.

use std::cmp::Reverse;

use super::simulation::{Event, Given, World, account, bounded};
use super::{Load, Phase};

#[test]
fn a_heavy_key_takes_no_turn_before_a_light_one() {
    for (seed, slots, weights) in
        [(1, 1, [1, 1]), (2, 4, [1, 1]), (3, 1, [10, 10]), (4, 4, [10, 10]), (5, 1, [2, 7]), (6, 4, [1, 100])]
    {
        let mut world = World::new(seed, slots, 200, &weights);
        let (heavy, light) = (0, 1);
        (0..50).for_each(|_| world.comes(heavy));
        world.poll(100);
        // When the heavy one is no longer new.
        world.events.push(Reverse((100, 0, Event::Comes(light))));
        while world.turns[light] < 1_000 {
            match world.next() {
                Event::Comes(key) => world.comes(key),
                Event::Ends(id) => {
                    let key = world.ends(id);
                    // The light one often at once, often after a pause of some turns.
                    let pause = if key == heavy { 1 } else { [1, 30, 1_000][world.random.index(3)] };
                    world.later(pause, Event::Comes(key));
                }
            }
            for Given { key, meanwhile } in world.poll(100) {
                let others: usize = meanwhile.iter().sum();
                assert!(key == heavy || others == 0, "waited for {others} turns: {slots} slots, {weights:?}");
            }
            world.check();
        }
    }
}

#[test]
fn among_light_keys_a_heavy_one_takes_at_most_one_turn_before_each() {
    for (seed, slots, weight) in [(11, 1, 1), (12, 4, 1), (13, 1, 5), (14, 4, 5)] {
        let mut world = World::new(seed, slots, 200, &[weight; 6]);
        (0..50).for_each(|_| world.comes(0));
        world.poll(100);
        (1..6).for_each(|key| world.later(500, Event::Comes(key)));
        for _ in 0..6_000 {
            match world.next() {
                Event::Comes(key) => world.comes(key),
                Event::Ends(id) => {
                    let key = world.ends(id);
                    world.later(if key == 0 { 1 } else { 600 }, Event::Comes(key));
                }
            }
            for Given { key, meanwhile } in world.poll(100) {
                assert!(key == 0 || meanwhile[0] <= 1, "{} turns before it", meanwhile[0]);
            }
            world.check();
        }
    }
}

#[test]
fn heavy_keys_get_turns_in_proportion_to_their_weights() {
    for (seed, slots, weights) in
        [(21, 1, vec![1, 1]), (22, 4, vec![1, 2, 5]), (23, 1, vec![100, 1, 10]), (24, 4, vec![3, 3, 3, 1, 0])]
    {
        let mut world = World::new(seed, slots, 1_000, &weights);
        // Who comes first has most waiting, and gets no more for it.
        for key in 0..weights.len() {
            (0..40 / (key + 1)).for_each(|_| world.comes(key));
        }
        world.poll(50);
        world.turns.fill(0);
        world.waiting.values_mut().for_each(|waiter| waiter.before.fill(0));
        for _ in 0..2_000 {
            let Event::Ends(id) = world.next() else { panic!("nobody comes by itself") };
            world.ends(id);
            for given in world.poll(50) {
                world.comes(given.key);
            }
            world.poll(50);
            world.check();
            let rounds = |key: usize| (world.turns[key], weights[key].max(1) as usize);
            let over = (0..weights.len()).map(|key| rounds(key).0 / rounds(key).1).min().unwrap();
            for key in 0..weights.len() {
                let (turns, weight) = rounds(key);
                assert!(turns <= (over + 1) * weight, "{:?} of {weights:?}", world.turns);
            }
        }
    }
}

/// Five keys, of which some may have few turns at once, where `bounds` says so.
fn five(seed: u64, slots: Option<usize>, bounds: bool) -> World {
    let weights = [1, 1, 3, 1, 7];
    let most = [Some(1), None, Some(2), Some(3), Some(1)];
    let key = |n: usize| match most[n].filter(|_| bounds) {
        Some(most) => bounded(&n.to_string(), weights[n], most),
        None => account(&n.to_string(), weights[n]),
    };
    World::of(seed, slots, 12, (0..5).map(key).collect())
}

#[test]
fn no_slot_is_lost_whoever_leaves_and_places_are_true() {
    for seed in 0..40 {
        let (slots, bounds) = (if seed % 2 == 0 { 1 } else { 4 }, seed >= 20);
        let mut world = five(seed, Some(slots), bounds);
        for _ in 0..1_000 {
            match world.random.below(5) {
                0 | 1 => {
                    let key = world.random.index(world.keys.len());
                    world.comes(key);
                }
                2 if !world.running.is_empty() => {
                    // With bounds, places hold for turns that end in the order in which they began.
                    let nth = if bounds { 0 } else { world.random.index(world.running.len()) };
                    let id = world.order[nth];
                    let waiting: Vec<_> =
                        world.waiting.values().map(|w| (w.progress.get(), w.flag.clone())).collect();
                    world.ends(id);
                    let woken: Vec<_> =
                        waiting.iter().filter(|(_, flag)| flag.take()).map(|(place, _)| *place).collect();
                    let nobody = woken.is_empty() && (bounds || waiting.is_empty());
                    assert!(nobody || woken == [Phase::Queue(1)], "{woken:?} and not the first in line");
                }
                _ => {}
            }
            // Anybody may leave, also who has a turn and does not know.
            while !world.waiting.is_empty() && world.random.below(4) == 0 {
                let nth = world.random.index(world.waiting.len());
                let id = *world.waiting.keys().nth(nth).unwrap();
                drop(world.waiting.remove(&id));
            }
            // Everybody, and once more: a place is told to whoever asks, and some came or left since the last.
            for _ in 0..2 {
                world.waiting.values().for_each(|waiter| waiter.flag.set());
                world.poll(1);
            }
            world.check();
            let mut places: Vec<_> = world.waiting.values().map(|waiter| waiter.progress.get()).collect();
            places.sort_by_key(|phase| if let Phase::Queue(place) = phase { *place } else { 0 });
            assert!(places.iter().zip(1..).all(|(phase, place)| *phase == Phase::Queue(place)), "{places:?}");
        }
        world.waiting.clear();
        world.running.clear();
        assert!(world.keys.iter().all(|key| key.running.get() == 0));
        assert_eq!(world.slots.load(), Load { waiting: 0, running: 0, slots: Some(slots) });
    }
}

#[test]
fn the_largest_makes_room_and_never_a_light_one() {
    for (seed, slots) in [(31, 1), (32, 4), (33, 1), (34, 4)] {
        // The first two are heavy and flood a queue of eight; four are light.
        let mut world = World::new(seed, slots, 8, &[1, 4, 1, 1, 1, 4]);
        (0..6).for_each(|key| world.later(100, Event::Comes(key)));
        while world.turns.iter().sum::<usize>() < 1_000 {
            match world.next() {
                Event::Comes(key) => {
                    let heavy = world.waits(0) + world.waits(1);
                    let waiting = world.waiting.len();
                    world.comes(key);
                    world.poll(100);
                    let full = waiting == 8 && heavy > 2;
                    assert!(key < 2 || !full || world.waits(0) + world.waits(1) == heavy - 1, "no room");
                    if key < 2 {
                        world.later(20, Event::Comes(key));
                    }
                }
                Event::Ends(id) => {
                    let key = world.ends(id);
                    if key >= 2 {
                        world.later(300, Event::Comes(key));
                    }
                    world.poll(100);
                }
            }
            world.check();
        }
        assert_eq!(world.full[2..], [0; 4], "a light one was refused");
        assert!(world.full[0] > 100 && world.full[1] > 100, "the heavy ones were: {:?}", world.full);
    }
}

#[test]
fn a_key_at_its_bound_is_passed_by_and_holds_nobody_up() {
    for (seed, slots) in [(41, Some(2)), (42, Some(4)), (43, None)] {
        // The first is heavy and may have one turn at once; two are light, and one is heavy without a bound where slots are few.
        let heavy = if slots.is_some() { account("3", 1) } else { bounded("3", 1, 3) };
        let keys = vec![bounded("0", 1, 1), account("1", 1), account("2", 1), heavy];
        let mut world = World::of(seed, slots, 400, keys);
        for key in [0, 3] {
            (0..50).for_each(|_| world.comes(key));
        }
        world.poll(100);
        (1..3).for_each(|key| world.later(200, Event::Comes(key)));
        for _ in 0..4_000 {
            match world.next() {
                Event::Comes(key) => world.comes(key),
                Event::Ends(id) => {
                    let key = world.ends(id);
                    world.later(if matches!(key, 0 | 3) { 1 } else { 400 }, Event::Comes(key));
                }
            }
            for Given { key, meanwhile } in world.poll(100) {
                // One turn of each other at most.
                assert!(matches!(key, 0 | 3) || meanwhile[0] <= 1 && meanwhile[3] <= 1, "{meanwhile:?}");
            }
            world.check();
        }
        if slots == Some(2) {
            // One slot each, since nobody has the other's: the bound costs the heavy one nothing that it could have.
            assert!(world.turns[0] * 3 > world.turns[3] * 2, "{:?}", world.turns);
        }
    }
}

#[test]
fn a_bound_gains_nothing() {
    // Both heavy, one with a bound: it gets half of the turns at most, and about its bound's worth, as rounds alternate.
    for (seed, slots, most) in [(51, 2, 1), (52, 4, 1), (53, 4, 2), (54, 8, 3)] {
        let mut world = World::of(seed, Some(slots), 1_000, vec![bounded("0", 1, most), account("1", 1)]);
        for key in 0..2 {
            (0..40).for_each(|_| world.comes(key));
        }
        world.poll(50);
        world.turns.fill(0);
        world.waiting.values_mut().for_each(|waiter| waiter.before.fill(0));
        for _ in 0..4_000 {
            let Event::Ends(id) = world.next() else { panic!("nobody comes by itself") };
            world.ends(id);
            for given in world.poll(50) {
                world.comes(given.key);
            }
            world.poll(50);
            world.check();
        }
        let share = world.turns[0] * 1_000 / (world.turns[0] + world.turns[1]);
        let fair = most as usize * 1_000 / slots;
        assert!(share <= 510 && share + 100 >= fair.min(500), "{share} of 1000, and {most} of {slots} slots");
    }
}
