//! The assignments of a batch's tokens to experts, in groups that share one.

use super::{Call, Kernel, Needs};

pub static EXPERT_GROUPS: Kernel = Kernel {
    name: "expert_groups",
    shader: include_str!("../../shaders/expert_groups.wgsl"),
    params: &["n_experts", "n_used", "n_groups", "group_size"],
    reads: &["step", "ids"],
    writes: &["groups"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 0.0,
};

/// In place of an expert or an assignment that is not there.
pub const NOBODY: u32 = u32::MAX;

fn reference(call: &mut Call<'_>) {
    let [n_experts, n_used, n_groups, group_size] = [0, 1, 2, 3].map(|i| call.count(i));
    let n_assignments = call.step().n_tokens * n_used;
    let groups = groups_of(&call.reads[1][..n_assignments], n_experts, group_size);
    call.writes[0][..groups.len()].copy_from_slice(&groups);
    for unused in groups.len() / (1 + group_size)..n_groups {
        call.writes[0][unused * (1 + group_size)] = NOBODY;
    }
}

/// (groups, 1 + group_size): the assignments to each expert, so many to a group, by the expert's id of every assignment.
pub fn groups_of(ids: &[u32], n_experts: usize, group_size: usize) -> Vec<u32> {
    let mut groups = Vec::new();
    for expert in 0..n_experts as u32 {
        let of_expert: Vec<u32> = (0..).zip(ids).filter(|(_, id)| **id == expert).map(|(a, _)| a).collect();
        for together in of_expert.chunks(group_size) {
            groups.push(expert);
            groups.extend((0..group_size).map(|i| together.get(i).copied().unwrap_or(NOBODY)));
        }
    }
    groups
}
