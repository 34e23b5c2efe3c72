//! A grant says that Cedar allowed an action: nobody else may say so.

use std::marker::PhantomData;

use wardkeep::{
    authn::{Caller, Origin},
    engine::{Circumstances, Erase, Grant},
};

fn forged(caller: Caller, origin: Origin) -> Grant<Erase> {
    let circumstances = Circumstances::default();
    Grant { caller, origin, circumstances, patient: None, policies: vec![], action: PhantomData } //~ E0451 private
}

fn main() {}
