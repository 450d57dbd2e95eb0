//! What bench/access.c, dirty.c and readers.c measure, with rust-vmm's vm-memory: the same boards, addresses and loops, and
//! the same way of answering (bench/measure.h).

use std::hint::black_box;
use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap,
    GuestMemoryRegion,
};

const RANGE_BYTES: usize = 0x10000;
const RANGE_STRIDE: u64 = 0x100000;
const RANGE_HOT_BYTES: u64 = 512;
const ADDRESSES: usize = 1024;
const BATCHES: usize = 15;
const THREAD_BATCHES: usize = 255;
const GIB: usize = 1 << 30;
const MIB: usize = 1 << 20;

type Logged = GuestMemoryMmap<AtomicBitmap>;

fn random_next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *state >> 32
}

fn addresses(count: u64) -> Vec<GuestAddress> {
    let mut state = 1;
    (0..ADDRESSES)
        .map(|_| {
            let range = random_next(&mut state) % count;
            let offset = random_next(&mut state) % (RANGE_HOT_BYTES / 8) * 8;
            GuestAddress(range * RANGE_STRIDE + offset)
        })
        .collect()
}

fn ranges(count: u64) -> Vec<(GuestAddress, usize)> {
    (0..count).map(|i| (GuestAddress(i * RANGE_STRIDE), RANGE_BYTES)).collect()
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(|a, b| a.partial_cmp(b).unwrap());
    samples[samples.len() / 2]
}

/// Nanoseconds for each of `count` times; one batch warms up.
fn time_batches<F: FnMut(u64)>(count: u64, batches: usize, mut body: F) -> f64 {
    body(count);
    let samples = (0..batches)
        .map(|_| {
            let before = Instant::now();
            body(count);
            before.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    median(samples)
}

fn time_loop<F: FnMut(u64)>(count: u64, body: F) -> f64 {
    time_batches(count, BATCHES, body)
}

fn store_all<M: GuestMemory>(memory: &M, at: &[GuestAddress], count: u64) {
    for i in 0..count as usize {
        memory.write_obj(i as u64 * 2, at[i % ADDRESSES]).unwrap();
    }
}

/// What answers a case of a board with `count` ranges.
fn time_ranges<M: GuestMemory>(memory: &M, kind: &str, count: u64) -> f64 {
    let at = addresses(count);
    let line: Vec<GuestAddress> = at.iter().map(|a| GuestAddress(a.0 & !63)).collect();
    let times = 8 * ADDRESSES as u64;
    let mut data = [0u8; 64];

    for a in &at {
        memory.write_obj(0u64, *a).unwrap();
    }
    match kind {
        "find" => time_loop(times, |n| {
            for i in 0..n as usize {
                black_box(memory.find_region(at[i % ADDRESSES]).unwrap());
            }
        }),
        "chase" => time_loop(times, |n| {
            let mut next = 0;
            for _ in 0..n {
                let region = memory.find_region(at[next % ADDRESSES]).unwrap();
                next += 1 + (region.start_addr().0 & 1) as usize;
            }
            black_box(next);
        }),
        "load" => time_loop(times, |n| {
            for i in 0..n as usize {
                black_box(memory.read_obj::<u64>(at[i % ADDRESSES]).unwrap());
            }
        }),
        "load-chase" => time_loop(times, |n| {
            let mut next = 0;
            for _ in 0..n {
                let value = memory.read_obj::<u64>(at[next % ADDRESSES]).unwrap();
                next += 1 + (value & 1) as usize;
            }
            black_box(next);
        }),
        "store" | "logged-store" => time_loop(times, |n| store_all(memory, &at, n)),
        "logged-threads" => time_batches(times / 2, THREAD_BATCHES, |n| store_all(memory, &at, n)),
        "read64" => time_loop(times, |n| {
            for i in 0..n as usize {
                memory.read_slice(&mut data, line[i % ADDRESSES]).unwrap();
                black_box(&data);
            }
        }),
        "write64" => time_loop(times, |n| {
            for i in 0..n as usize {
                memory.write_slice(black_box(&data), line[i % ADDRESSES]).unwrap();
            }
        }),
        _ => panic!("no case {kind}"),
    }
}

/// Stores of `threads` at once into one board, each to all of its addresses; time a store in each thread.
fn time_logged_threads(memory: &Logged, threads: usize, count: u64) -> f64 {
    let results: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| time_ranges(memory, "logged-threads", count)))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    results.iter().sum::<f64>() / threads as f64
}

fn time_mark() -> f64 {
    let bitmap = AtomicBitmap::new(GIB, 4096);
    time_loop(1000, |n| {
        for i in 0..n as usize {
            bitmap.set_addr_range(black_box(i % 64 * MIB), MIB);
        }
    })
}

/// The runs of a word's pages, which is what our harvests give; how many pages they are.
fn read_runs(mut word: u64) -> u32 {
    let mut pages = 0;
    while word != 0 {
        let first = word.trailing_zeros();
        let count = (word >> first).trailing_ones();
        pages += black_box(count);
        word &= u64::MAX.checked_shl(first + count).unwrap_or(0);
    }
    pages
}

/// One harvest of `gib` GiB of which one page in `every` is dirty; 0: none.
fn time_harvest(gib: usize, every: usize) -> f64 {
    let bitmap = AtomicBitmap::new(gib * GIB, 4096);
    let samples = (0..5)
        .map(|_| {
            if every != 0 {
                for page in (0..gib * GIB / 4096).step_by(every) {
                    bitmap.set_addr_range(page * 4096, 1);
                }
            }
            let before = Instant::now();
            let dirty: u32 = bitmap.get_and_reset().into_iter().map(read_runs).sum();
            let ns = before.elapsed().as_nanos() as f64;
            assert_eq!(dirty as usize, if every == 0 { 0 } else { (gib * GIB / 4096).div_ceil(every) });
            ns
        })
        .collect();
    median(samples)
}

fn atomic_board(count: u64) -> GuestMemoryAtomic<GuestMemoryMmap<()>> {
    GuestMemoryAtomic::new(GuestMemoryMmap::from_ranges(&ranges(count)).unwrap())
}

fn time_snapshot(count: u64) -> f64 {
    let atomic = atomic_board(count);
    time_loop(8 * ADDRESSES as u64, |n| {
        for _ in 0..n {
            black_box(&*atomic.memory());
        }
    })
}

/// Two threads load through snapshots while a third replaces the map 1,000 times a second, or does not.
fn time_readers(count: u64, commits: bool) -> f64 {
    let atomic = atomic_board(count);
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (writer, stopped) = (atomic.clone(), stop.clone());
        scope.spawn(move || {
            while commits && !stopped.load(Ordering::Relaxed) {
                let next = (*writer.memory()).clone();
                writer.lock().unwrap().replace(next);
                std::thread::sleep(Duration::from_micros(1000));
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = atomic.clone();
                scope.spawn(move || {
                    let at = addresses(count);
                    time_batches(4 * ADDRESSES as u64, THREAD_BATCHES, |n| {
                        for i in 0..n as usize {
                            let memory = reader.memory();
                            black_box(memory.read_obj::<u64>(at[i % ADDRESSES]).unwrap());
                        }
                    })
                })
            })
            .collect();
        let sum: f64 = readers.into_iter().map(|r| r.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        sum / 2.0
    })
}

fn answer(name: &str) -> f64 {
    let (kind, rest) = name.split_once('/').unwrap_or((name, "1"));
    let numbers: Vec<u64> = rest.split('/').map(|n| n.parse().expect("a number")).collect();

    match kind {
        "logged-store" => {
            let memory = Logged::from_ranges(&ranges(numbers[0])).unwrap();
            time_ranges(&memory, kind, numbers[0])
        }
        "logged-threads" => {
            let memory = Logged::from_ranges(&ranges(8)).unwrap();
            time_logged_threads(&memory, numbers[0] as usize, 8)
        }
        "mark" => time_mark(),
        "harvest" => time_harvest(numbers[0] as usize, numbers[1] as usize),
        "snapshot" => time_snapshot(numbers[0]),
        "readers" => time_readers(numbers[0], false),
        "readers-commits" => time_readers(numbers[0], true),
        _ => {
            let memory = GuestMemoryMmap::<()>::from_ranges(&ranges(numbers[0])).unwrap();
            time_ranges(&memory, kind, numbers[0])
        }
    }
}

fn main() {
    for name in std::env::args().skip(1) {
        println!("{name} {:.6}", answer(&name));
    }
    if std::env::args().len() == 1 {
        for line in std::io::stdin().lock().lines() {
            println!("{:.6}", answer(&line.unwrap()));
        }
    }
}
