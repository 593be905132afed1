//! P31 and P32 for a whole node: a fixed workload, struck at every single call to the disk.
//!
//! [`work`] is the workload: some forty messages, a change of the agreement, receipts, a report. [`world`] is what does not change,
//! [`verify`] what must be so after every strike. Each step begins on the disk that the steps before it left, as a kill
//! leaves it, so that one strike costs one step and not all of them.
//!
//! | strike | then |
//! |---|---|
//! | cut | nineteen reboots: all written, 16 subsets of what was not synced, torn at 512 bytes and at 4 KiB |
//! | one error, errors for ever, a failed sync | the next step is tried; reboot without what was not synced |
//! | full once, full for ever | the next step is tried; there is room again, and work goes on without a restart; reboot |
//! | a flipped bit in what is read | what is served is right or an error; reboot |
//!
//! By default every tenth call is struck; `PAKT_MATRIX=all cargo test -p pakt-node --lib faults::` strikes every one.

mod verify;
mod work;
mod world;

use std::fmt::Debug;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Runtime};

use crate::disk::{Crash, Fault, FaultDisk, FaultPlan};
use verify::Check;
use work::{MESSAGES, Model, Step, steps};
use world::{Node, World};

/// The disk and what was acknowledged, before each step and after the last.
struct Base {
    world: World,
    before: Vec<(Arc<FaultDisk>, Model)>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The workload on a good disk, done once for all tests.
fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        runtime().block_on(async {
            let world = World::new().await;
            let disk = world.agreed.after(Crash::LostAll, 0);
            let node = world.open(&disk).await.unwrap();
            let (mut model, mut before) = (Model::default(), Vec::new());
            for (at, step) in steps().into_iter().enumerate() {
                let crash = if at.is_multiple_of(2) { Crash::LostAll } else { Crash::Clean };
                before.push((disk.after(crash, at as u64), model.clone()));
                model.step(step, &node, &world).await;
            }
            before.push((disk.after(Crash::LostAll, 0), model));
            Base { world, before }
        })
    })
}

fn strikes_all() -> bool {
    std::env::var_os("PAKT_MATRIX").is_some_and(|value| value == "all")
}

/// Whether this call of this step is struck: every tenth, another tenth in every step.
fn is_struck(step: usize, call: u64) -> bool {
    strikes_all() || (call + 7 * step as u64).is_multiple_of(10)
}

/// A node that goes on from before a step.
struct Run {
    disk: Arc<FaultDisk>,
    node: Node,
    model: Model,
}

impl Base {
    async fn at(&self, step: usize) -> Run {
        let (disk, model) = &self.before[step];
        let disk = disk.after(Crash::Clean, 0);
        let node = self.world.open(&disk).await.unwrap();
        Run { disk, node, model: model.clone() }
    }

    /// Reboots and compares.
    async fn reboot(&self, run: &Run, (crash, seed): (Crash, u64), context: &dyn Debug) {
        let disk = run.disk.crash(crash, seed);
        let node = self.world.open(&disk).await.unwrap_or_else(|error| panic!("{error} {context:?} {crash:?}"));
        let context = &(context, crash, seed);
        Check { node: &node, world: &self.world, model: &run.model, sample: seed, context }.all(&disk).await;
    }

    fn check<'a>(&'a self, run: &'a Run, sample: u64, context: &'a dyn Debug) -> Check<'a> {
        Check { node: &run.node, world: &self.world, model: &run.model, sample, context }
    }
}

impl Run {
    async fn step(&mut self, step: Step, world: &World) {
        self.model.step(step, &self.node, world).await;
    }

    fn plan(&self, at: u64, fault: Fault) {
        self.disk.plan(FaultPlan { at: self.disk.calls() + at, fault });
    }
}

/// Strikes every call of every step that is struck, and tells how many that were.
fn each_call(name: &str, least: u64, mut strike: impl AsyncFnMut(&Base, usize, u64)) {
    let (base, runtime, steps) = (base(), runtime(), steps());
    let (mut struck, mut calls) = (0u64, 0);
    runtime.block_on(async {
        for (at, step) in steps.iter().enumerate() {
            let mut run = base.at(at).await;
            let first = run.disk.calls();
            run.step(*step, &base.world).await;
            let of_step = run.disk.calls() - first;
            calls += of_step;
            for call in (1..=of_step).filter(|call| is_struck(at, *call)) {
                strike(base, at, call).await;
                struck += 1;
            }
        }
    });
    tell(&format!("{name}: {struck} of {calls} calls struck"));
    assert!(struck >= if strikes_all() { calls } else { least }, "{struck} of {calls}");
}

/// Past the capture of the test runner, for whoever runs the whole matrix.
fn tell(line: &str) {
    if strikes_all() {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

#[test]
fn the_workload_is_acknowledged_whole_on_a_good_disk() {
    let base = base();
    runtime().block_on(async {
        let run = base.at(steps().len()).await;
        let Model { sent, received, ended, amended, group, held, .. } = &run.model;
        assert_eq!((sent.len() + received.len(), ended.len(), held.len()), (usize::from(MESSAGES), 17, 22));
        assert!(sent.values().all(|sure| *sure == work::Sure::Yes) && received.values().all(Option::is_some));
        assert_eq!((amended, group), (&Some(work::Sure::Yes), &Some(work::Sure::Yes)));
        base.reboot(&run, (Crash::Clean, 0), &"no fault").await;
    });
}

#[test]
fn p32_a_cut_at_any_call_of_a_node_loses_nothing() {
    let mut crashes = vec![Crash::Clean, Crash::Torn { sector: 512 }, Crash::Torn { sector: 4096 }];
    crashes.extend([Crash::LostSome; 16]);
    each_call("cuts", 150, async |base, at, call| {
        let mut run = base.at(at).await;
        run.plan(call, Fault::Cut);
        run.step(steps()[at], &base.world).await;
        assert!(run.disk.struck_at().is_some());
        for (seed, crash) in (call..).zip(&crashes) {
            base.reboot(&run, (*crash, seed), &("cut", at, call)).await;
        }
    });
}

/// Does the struck step and the next, and looks what is served meanwhile.
async fn go_on(base: &Base, (at, call): (usize, u64), fault: Fault) -> Run {
    let mut run = base.at(at).await;
    run.plan(call, fault);
    for step in steps().into_iter().skip(at).take(2) {
        run.step(step, &base.world).await;
    }
    base.check(&run, call, &(fault, at, call)).serves_nothing_wrong();
    run
}

#[test]
fn p32_an_error_at_any_call_of_a_node_loses_nothing() {
    each_call("errors", 150, async |base, at, call| {
        for fault in [Fault::ErrorOnce, Fault::ErrorForever, Fault::SyncOnce] {
            let run = go_on(base, (at, call), fault).await;
            let crash = if call.is_multiple_of(2) { Crash::LostAll } else { Crash::LostSome };
            base.reboot(&run, (crash, call), &(fault, at, call)).await;
        }
    });
}

#[test]
fn p31_a_node_whose_disk_is_full_at_any_call_loses_nothing_and_goes_on_with_room() {
    each_call("full disks", 150, async |base, at, call| {
        for fault in [Fault::FullOnce, Fault::FullForever] {
            let (mut run, context) = (go_on(base, (at, call), fault).await, (fault, at, call));
            run.disk.heal();
            run.model.receive(&run.node, &base.world, MESSAGES).await;
            let received = run.model.received.get(&MESSAGES);
            assert!(received.is_some_and(Option::is_some), "there is room again {context:?}");
            base.check(&run, call, &context).serves_nothing_wrong();
            base.reboot(&run, (Crash::LostAll, call), &context).await;
        }
    });
}

/// Steps before which the whole start is struck as well.
fn starts() -> impl Iterator<Item = usize> {
    (5..steps().len()).step_by(if strikes_all() { 8 } else { 24 })
}

#[test]
fn p32_a_fault_at_any_call_of_a_recovery_loses_nothing() {
    let base = base();
    let mut struck = 0u64;
    runtime().block_on(async {
        for at in starts() {
            // The disk of a node that lost its power in the middle of the step.
            let mut run = base.at(at).await;
            run.plan(20, Fault::Cut);
            run.step(steps()[at], &base.world).await;
            let (dirty, model) = (run.disk.after(Crash::LostSome, at as u64), run.model);
            let undisturbed = dirty.after(Crash::Clean, 0);
            let node = base.world.open(&undisturbed).await.unwrap();
            for call in (1..=undisturbed.calls()).filter(|call| is_struck(at, *call)) {
                for fault in [Fault::Cut, Fault::ErrorOnce, Fault::SyncOnce, Fault::FullOnce, Fault::FlipOnce] {
                    let (disk, context) = (dirty.after(Crash::Clean, 0), ("recovery", fault, at, call));
                    disk.plan(FaultPlan { at: call, fault });
                    drop(base.world.open(&disk).await);
                    for crash in [Crash::LostAll, Crash::LostSome, Crash::Torn { sector: 512 }] {
                        let disk = disk.crash(crash, call);
                        let node = base.world.open(&disk).await.unwrap_or_else(|error| panic!("{error} {context:?}"));
                        Check { node: &node, world: &base.world, model: &model, sample: call, context: &context }
                            .all(&disk)
                            .await;
                    }
                    struck += 1;
                }
            }
            drop(node);
        }
    });
    tell(&format!("recoveries: {struck} strikes"));
    assert!(struck > 50, "{struck} strikes");
}

#[test]
fn p32_a_flipped_bit_in_any_read_is_never_served_and_loses_nothing() {
    let base = base();
    let mut struck = 0u64;
    runtime().block_on(async {
        for at in starts() {
            for call in (1..).filter(|call| is_struck(at, *call)) {
                let (disk, mut model) = (base.before[at].0.after(Crash::Clean, 0), base.before[at].1.clone());
                let context = ("flipped", at, call);
                disk.plan(FaultPlan { at: call, fault: Fault::FlipOnce });
                if let Ok(node) = base.world.open(&disk).await {
                    for step in
                        [Step::Slots, Step::Receive(MESSAGES)].into_iter().chain(steps().into_iter().skip(at).take(2))
                    {
                        model.step(step, &node, &base.world).await;
                    }
                    let check =
                        Check { node: &node, world: &base.world, model: &model, sample: call, context: &context };
                    check.serves_nothing_wrong();
                }
                if disk.struck_at().is_none() {
                    break;
                }
                struck += 1;
                let disk = disk.crash(Crash::LostAll, call);
                let node = base.world.open(&disk).await.unwrap_or_else(|error| panic!("{error} {context:?}"));
                Check { node: &node, world: &base.world, model: &model, sample: call, context: &context }
                    .all(&disk)
                    .await;
            }
        }
    });
    tell(&format!("flipped bits: {struck} strikes"));
    assert!(struck > 50, "{struck} strikes");
}
